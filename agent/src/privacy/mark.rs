//! What is written in place of what was found.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv6Addr},
};

use super::{
    hit::Kind,
    policy::{Operator, Policy},
};

/// Characters of a number that a mask leaves, which is what receipts print.
const LEFT: usize = 4;

/// Shortest match of a pattern of which a mask leaves anything: of less the rest would be too easy to guess.
const MIN_MASKED: usize = 12;

/// What is written in place of a value of which only the name of its field tells what it is.
pub(super) const FIELD: &str = "[REDACTED:field]";

/// The mark for `value`.
pub(super) fn mark(policy: &Policy, kind: Kind, value: &str) -> Cow<'static, str> {
    let (label, operator) = match kind {
        Kind::Credential(of) => return format!("[REDACTED:{of}]").into(),
        Kind::Email => (Cow::Borrowed("EMAIL"), policy.email),
        Kind::Phone => ("PHONE".into(), policy.phone),
        Kind::Card => ("CARD".into(), policy.card),
        Kind::Iban => ("IBAN".into(), policy.iban),
        Kind::Ip => ("IP".into(), policy.ip),
        Kind::Pattern(index) => match policy.patterns.get(index) {
            Some(pattern) => (pattern.name.to_ascii_uppercase().into(), pattern.operator),
            None => ("PATTERN".into(), Operator::Replace),
        },
    };
    match (operator, &policy.hash_key) {
        (Operator::Mask, _) => mask(kind, value).into(),
        (Operator::Hash, Some(key)) => format!("[{label}:{}]", key.mark(&canonical(kind, value))).into(),
        (Operator::Off | Operator::Replace | Operator::Hash, _) => format!("[{label}]").into(),
    }
}

/// What a mask leaves.
fn mask(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Email => format!("****{}", value.find('@').and_then(|at| value.get(at..)).unwrap_or_default()),
        Kind::Ip => match value.parse() {
            Ok(IpAddr::V4(address)) => {
                let [a, b, c, _] = address.octets();
                format!("{a}.{b}.{c}.*")
            }
            Ok(IpAddr::V6(address)) => {
                let [a, b, c, ..] = address.segments();
                format!("{}:*", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_string().trim_end_matches(':'))
            }
            Err(_) => "****".to_owned(),
        },
        Kind::Pattern(_) | Kind::Credential(_) if value.chars().count() < MIN_MASKED => "****".to_owned(),
        Kind::Phone | Kind::Card | Kind::Iban | Kind::Pattern(_) | Kind::Credential(_) => {
            let mut left: Vec<char> = value.chars().rev().filter(|c| c.is_alphanumeric()).take(LEFT).collect();
            left.reverse();
            format!("****{}", String::from_iter(left))
        }
    }
}

/// One spelling of a value that is written in several, so that its hash is the same.
fn canonical(kind: Kind, value: &str) -> Cow<'_, str> {
    match kind {
        Kind::Email => value.to_ascii_lowercase().into(),
        Kind::Phone | Kind::Card | Kind::Iban => value.chars().filter(char::is_ascii_alphanumeric).collect(),
        Kind::Ip => value.parse().map_or(value.into(), |address: IpAddr| address.to_string().into()),
        Kind::Pattern(_) | Kind::Credential(_) => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::HashKey;

    fn check(kind: Kind, operator: Operator, value: &str, expect: &str) {
        let policy = Policy {
            email: operator,
            phone: operator,
            card: operator,
            iban: operator,
            ip: operator,
            ..Policy::default()
        };
        assert_eq!(mark(&policy, kind, value), expect);
    }

    #[test]
    fn a_mask_leaves_what_names_nobody() {
        check(Kind::Email, Operator::Mask, "ann@example.org", "****@example.org");
        check(Kind::Card, Operator::Mask, "4111 1111 1111 1234", "****1234");
        check(Kind::Ip, Operator::Mask, "192.0.2.7", "192.0.2.*");
        check(Kind::Ip, Operator::Mask, "2001:db8:7:1::9", "2001:db8:7:*");
    }

    #[test]
    fn equal_values_have_equal_hashes_and_no_key_none() {
        let hash = |key: &[u8], kind, value| {
            mark(
                &Policy {
                    email: Operator::Hash,
                    card: Operator::Hash,
                    hash_key: Some(HashKey::new(key)),
                    ..Policy::default()
                },
                kind,
                value,
            )
            .into_owned()
        };
        let one = hash(b"k", Kind::Email, "Ann@Example.org");
        assert_eq!(one, hash(b"k", Kind::Email, "ann@example.org"));
        assert_ne!(one, hash(b"other", Kind::Email, "ann@example.org"));
        assert!(one.starts_with("[EMAIL:") && one.len() == "[EMAIL:]".len() + 16, "{one}");
        assert_eq!(hash(b"k", Kind::Card, "4111-1111-1111-1111"), hash(b"k", Kind::Card, "4111111111111111"));
        check(Kind::Email, Operator::Hash, "ann@example.org", "[EMAIL]");
    }
}
