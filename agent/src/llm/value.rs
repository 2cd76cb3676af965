//! What is taken from single JSON values, each within a bound.

use super::MAX_NAME;
use crate::protocol::json::Token;

/// A count: absent for null, for negative numbers and for anything that is no number.
pub(crate) fn count(token: Token<'_>) -> Option<u64> {
    let Token::Number(digits) = token else { return None };
    digits.parse().ok().or_else(|| {
        // Some gateways pass counts through a language that has one number type and write `12.0`.
        let value: f64 = digits.parse().ok()?;
        (value >= 0.0 && value.fract() == 0.0 && value <= (1u64 << 53) as f64).then_some(value as u64)
    })
}

/// A whole number with sign.
pub(crate) fn integer(token: Token<'_>) -> Option<i64> {
    let Token::Number(digits) = token else { return None };
    digits.parse().ok()
}

/// A finite number.
pub(crate) fn float(token: Token<'_>) -> Option<f64> {
    let Token::Number(digits) = token else { return None };
    digits.parse().ok().filter(|value: &f64| value.is_finite())
}

/// `true` or `false`; also spelt as text, as forms do.
pub(crate) fn boolean(token: Token<'_>) -> Option<bool> {
    match token {
        Token::Bool(value) => Some(value),
        Token::String { text, .. } => text.parse().ok(),
        _ => None,
    }
}

/// A count, also spelt as text, as forms do.
pub(crate) fn spelt_count(token: Token<'_>) -> Option<u64> {
    match token {
        Token::String { text, .. } => count(Token::Number(text)),
        token => count(token),
    }
}

/// A finite number, also spelt as text.
pub(crate) fn spelt_float(token: Token<'_>) -> Option<f64> {
    match token {
        Token::String { text, .. } => float(Token::Number(text)),
        token => float(token),
    }
}

/// A place in a list.
pub(crate) fn index(token: Token<'_>) -> Option<u32> {
    count(token).and_then(|index| u32::try_from(index).ok())
}

/// A string that may become an `error.type`.
pub(crate) fn code(token: Token<'_>) -> Option<String> {
    let Token::String { text, .. } = token else { return None };
    is_code(text).then(|| text.to_owned())
}

/// A name, id or other short string; absent when empty.
pub(crate) fn name(token: Token<'_>) -> Option<String> {
    let Token::String { text, .. } = token else { return None };
    clean(text)
}

/// Puts a name into `slot`, where most often the same one is already; what is no name leaves it.
pub(crate) fn rename(token: Token<'_>, slot: &mut Option<String>) {
    if !matches!(token, Token::String { text, .. } if slot.as_deref() == Some(text)) {
        *slot = name(token).or(slot.take());
    }
}

/// A string that may be white space alone, cut to [`MAX_NAME`] bytes; absent when empty.
pub(crate) fn verbatim(token: Token<'_>) -> Option<String> {
    let Token::String { text, .. } = token else { return None };
    let end = text.floor_char_boundary(MAX_NAME);
    (end > 0).then(|| text[..end].to_owned())
}

/// `text` without control characters and cut to [`MAX_NAME`] bytes; absent when nothing is left.
pub(crate) fn clean(text: &str) -> Option<String> {
    let mut out = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if out.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        out.push(c);
    }
    (!out.trim().is_empty()).then_some(out)
}

/// Whether `text` may become an `error.type`: a word out of a small alphabet, never a sentence.
pub(crate) fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_whole_and_not_negative() {
        let of = |digits| count(Token::Number(digits));
        assert_eq!((of("12"), of("12.0"), of("1e3")), (Some(12), Some(12), Some(1_000)));
        assert_eq!((of("-1"), of("1.5"), of("1e400"), count(Token::Null)), (None, None, None, None));
    }

    #[test]
    fn names_are_sanitised_and_capped() {
        assert_eq!(clean("gpt\u{1b}[31m-4\n"), Some("gpt[31m-4".to_owned()));
        assert_eq!((clean(""), clean(" \n")), (None, None));
        let long = clean(&"é".repeat(MAX_NAME)).unwrap();
        assert_eq!(long.len(), MAX_NAME);
    }

    #[test]
    fn messages_are_no_codes() {
        assert!(is_code("rate_limit_exceeded") && is_code("invalid-request.v2"));
        assert!(!is_code("") && !is_code("Client specified an invalid argument") && !is_code(&"a".repeat(65)));
    }
}
