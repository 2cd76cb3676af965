//! What is told of a person by its form: addresses, telephone, card and account numbers.
//!
//! Every check knows what only looks like it: a checksum that does not hold, a version with four parts, a file name
//! with an `@`. All look at no more than a [`WINDOW`](super::hit::WINDOW) of text.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use super::hit::View;

/// Longest local part of an e-mail address (RFC 5321 section 4.5.3.1.1).
const MAX_LOCAL: usize = 64;

/// Longest domain (RFC 5321 section 4.5.3.1.2).
const MAX_DOMAIN: usize = 255;

/// Longest text of an IPv6 address: eight groups, the last two written as an IPv4 address.
const MAX_IPV6: usize = 45;

/// Longest telephone number with what separates its digits: 15 (ITU-T E.164 section 6.2) and one between each two.
const MAX_PHONE: usize = 32;

/// Ends of file names that stand where a domain's would: `logo@2x.png`.
const FILES: [&str; 10] = ["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "json", "html"];

/// The e-mail address around the `@` at `at`.
pub(super) fn email(view: View<'_>, at: usize) -> Option<Range<usize>> {
    let local = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&*+-/=?^_{|}~.".contains(&b);
    let mut start = view.run_back(at, MAX_LOCAL, local);
    // Not an address: the letter of an escape, the name before `=`, the path before `/`, the scheme's slashes.
    if view.before(start) == Some(b'\\') && view.byte(start).is_some_and(|b| b"nrt".contains(&b)) {
        start += 1;
    }
    start += view.slice(start..at).rfind(['=', '/', '?', '&', '{', '|']).map_or(0, |mark| mark + 1);
    start = view.run(start, MAX_LOCAL, |b| !b.is_ascii_alphanumeric() && b != b'_').min(at);
    // Where `git` lives is no person.
    if start == at || view.slice(start..at) == "git" {
        return None;
    }
    let domain = view.run(at + 1, MAX_DOMAIN, |b| b.is_ascii_alphanumeric() || !b.is_ascii() || b"-.".contains(&b));
    let domain = view.text.floor_char_boundary(domain);
    let mut end = None;
    let mut label_start = at + 1;
    for (n, label) in view.slice(at + 1..domain).split('.').enumerate() {
        if label.is_empty() || label.starts_with('-') {
            break;
        }
        let letters = label.bytes().take_while(u8::is_ascii_alphabetic).count();
        let is_file = FILES.iter().any(|file| label.eq_ignore_ascii_case(file));
        if n > 0 && (2..=24).contains(&letters) && !is_file {
            end = Some(label_start + letters);
        }
        label_start += label.len() + 1;
    }
    end.map(|end| start..end)
}

/// The card's number that begins at `at`, a digit that no digit precedes.
///
/// Grouped as it is printed or not at all, of a known network, and its check digit holds (ISO/IEC 7812-1 annex B).
pub(super) fn card(view: View<'_>, at: usize) -> Option<Range<usize>> {
    const GROUPS: [&[usize]; 4] = [&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3]];
    if view.before(at).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_')) {
        return None;
    }
    let plain = view.run(at, 20, |b| b.is_ascii_digit());
    let whole = (13..=19).contains(&(plain - at)).then_some(plain);
    let separator = view.byte(plain).filter(|&b| plain - at == 4 && matches!(b, b' ' | b'-'));
    let grouped = separator
        .into_iter()
        .flat_map(|separator| GROUPS.iter().filter_map(move |groups| grouped(view, at, groups, separator)));
    whole.into_iter().chain(grouped).find_map(|end| {
        let number: Vec<u8> = view.slice(at..end).bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
        let alone = view.byte(end).is_none_or(|b| !b.is_ascii_alphanumeric() && b != b'_');
        let decimal = view.byte(end) == Some(b'.') && view.byte(end + 1).is_some_and(|b| b.is_ascii_digit());
        (alone && !decimal && is_issued(&number) && luhn(&number)).then_some(at..end)
    })
}

/// Where groups of so many digits with `separator` between them end.
fn grouped(view: View<'_>, at: usize, groups: &[usize], separator: u8) -> Option<usize> {
    let mut end = at;
    for (n, &len) in groups.iter().enumerate() {
        if n > 0 {
            end = (view.byte(end) == Some(separator)).then_some(end + 1)?;
        }
        end = Some(view.run(end, len + 1, |b| b.is_ascii_digit())).filter(|&stop| stop - end == len)?;
    }
    Some(end)
}

/// Whether a network issues numbers that begin so and are of this length.
fn is_issued(number: &[u8]) -> bool {
    let head = number.iter().take(4).fold(0u32, |sum, &digit| sum * 10 + u32::from(digit));
    match head {
        4000..=4999 => matches!(number.len(), 13 | 16 | 19),
        5100..=5599 | 2221..=2720 => number.len() == 16,
        3400..=3499 | 3700..=3799 => number.len() == 15,
        3000..=3059 | 3600..=3699 | 3800..=3999 => matches!(number.len(), 14 | 16),
        3528..=3589 | 6011 | 6200..=6299 | 6440..=6599 => (16..=19).contains(&number.len()),
        _ => false,
    }
}

fn luhn(number: &[u8]) -> bool {
    let of = |(place, &digit): (usize, &u8)| match (place % 2, u32::from(digit) * 2) {
        (0, _) => u32::from(digit),
        (_, double) => double / 10 + double % 10,
    };
    number.iter().rev().enumerate().map(of).sum::<u32>() % 10 == 0
}

/// Countries with the length of their account numbers (ISO 13616, registry of SWIFT).
const IBANS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29ES24FI18FO18FR27\
                     GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21MC27MD24\
                     ME22MK19MR27MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SE24SI19SK24SM27ST25SV28TL23TN24\
                     TR26UA29VA22VG24XK20";

/// The account number whose check digits begin at `at`: of a known country, of its length, and the remainder modulo
/// 97 is 1 (ISO 7064). Written in one, or in groups of four.
pub(super) fn iban(view: View<'_>, at: usize) -> Option<Range<usize>> {
    let start = at.checked_sub(2).filter(|&start| start >= view.free)?;
    let country = view.slice(start..at);
    if !country.bytes().all(|b| b.is_ascii_uppercase()) || view.continues_word(start) {
        return None;
    }
    let (_, len) = IBANS
        .as_bytes()
        .chunks_exact(4)
        .filter_map(|row| row.split_first_chunk::<2>())
        .find(|(name, _)| country.as_bytes() == *name)?;
    let len: usize = str::from_utf8(len).ok()?.parse().ok()?;
    let (mut end, mut n) = (start, 0);
    while n < len {
        match view.byte(end)? {
            b' ' if n % 4 == 0 && n > 0 && view.before(end) != Some(b' ') => {}
            b if b.is_ascii_uppercase() || b.is_ascii_digit() => n += 1,
            _ => return None,
        }
        end += 1;
    }
    let number: Vec<u8> = view.slice(start..end).bytes().filter(|&b| b != b' ').collect();
    let (head, tail) = number.split_at_checked(4)?;
    let remainder = tail.iter().chain(head).fold(0u32, |sum, &b| match b {
        b'0'..=b'9' => (sum * 10 + u32::from(b - b'0')) % 97,
        _ => (sum * 100 + u32::from(b.to_ascii_uppercase() - b'A') + 10) % 97,
    });
    let alone = view.byte(end).is_none_or(|b| !b.is_ascii_alphanumeric());
    (alone && remainder == 1).then_some(start..end)
}

/// The telephone number that begins at `at`, a digit that no digit precedes: international with its `+`, or as North
/// America writes it. A plain run of digits is anything.
pub(super) fn phone(view: View<'_>, at: usize) -> Option<Range<usize>> {
    match view.before(at) {
        Some(b'+') => international(view, at),
        _ => north_american(view, at),
    }
}

fn international(view: View<'_>, at: usize) -> Option<Range<usize>> {
    let start = at - 1;
    if view.before(start).is_some_and(|b| b.is_ascii_alphanumeric()) || view.byte(at) == Some(b'0') {
        return None;
    }
    let is_separator = |b: u8| matches!(b, b' ' | b'-' | b'.' | b'/' | b'(' | b')');
    let (mut end, mut n, mut separators) = (at, 0, 0);
    for offset in at..at + MAX_PHONE {
        match view.byte(offset) {
            Some(b) if b.is_ascii_digit() => (end, n) = (offset + 1, n + 1),
            // Two in a row only around brackets.
            Some(b) if is_separator(b) && offset < end + 2 => separators += 1,
            _ => break,
        }
    }
    // Ten zeros are an amount.
    let is_round = view.slice(at..end).ends_with("000000");
    let alone = view.byte(end).is_none_or(|b| !b.is_ascii_alphanumeric());
    let min = if separators > 0 { 8 } else { 9 };
    (alone && !is_round && (min..=15).contains(&n)).then_some(start..end)
}

/// `(415) 555-2671`, `415-555-2671`, `415.555.2671`, each with a `1` before it or not. Area and exchange begin with 2
/// to 9.
fn north_american(view: View<'_>, at: usize) -> Option<Range<usize>> {
    let open = usize::from(view.before(at) == Some(b'('));
    let start = at - open;
    if view.before(start).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'/')) {
        return None;
    }
    let area = match view.slice(at..at + 2) {
        "1-" | "1." | "1 " => at + 2,
        _ => at,
    };
    let bracket = usize::from(area > at && view.byte(area) == Some(b'('));
    let area = area + bracket;
    let group = |from: usize, len: usize| {
        let end = view.run(from, len + 1, |b| b.is_ascii_digit());
        (end - from == len).then_some(end)
    };
    let starts = |from: usize| view.byte(from).is_some_and(|b| (b'2'..=b'9').contains(&b));
    let end = group(area, 3)?;
    let (exchange, separators): (usize, &[u8]) = match (open + bracket, view.byte(end)?, view.byte(end + 1)?) {
        (1, b')', b' ') => (end + 2, b"-. "),
        (1, b')', _) => (end + 1, b"-. "),
        (0, b'-', _) => (end + 1, b"-"),
        (0, b'.', _) => (end + 1, b"."),
        _ => return None,
    };
    let line = group(exchange, 3)?;
    let end = separators.contains(&view.byte(line)?).then(|| group(line + 1, 4))??;
    let alone = view.byte(end).is_none_or(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'-' | b'_'));
    (alone && starts(area) && starts(exchange)).then_some(start..end)
}

/// The IPv4 address that begins at `at`, a digit that no digit precedes. Addresses that are nobody's stay: loopback,
/// `0.0.0.0`, broadcast. So does what is called a version.
pub(super) fn ipv4(view: View<'_>, at: usize) -> Option<Range<usize>> {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let first = view.run(at, 4, |b| b.is_ascii_digit());
    if view.byte(first) != Some(b'.') || view.before(at).is_some_and(is_part) {
        return None;
    }
    let run = view.run(at, 16, |b| b.is_ascii_digit() || b == b'.');
    let text = view.slice(at..run).trim_end_matches('.');
    let end = at + text.len();
    let address: Ipv4Addr = text.parse().ok()?;
    let nobodys = address.octets().first() == Some(&0) || address.is_loopback() || address.is_broadcast();
    let alone = view.byte(run).is_none_or(|b| !is_part(b));
    (alone && !nobodys && !follows_version(view, at)).then_some(at..end)
}

/// Whether the word before `at` says that a version follows.
fn follows_version(view: View<'_>, at: usize) -> bool {
    let gap = view.run_back(at, 4, |b| !b.is_ascii_alphanumeric());
    let word = view.slice(view.run_back(gap, 16, |b| b.is_ascii_alphanumeric())..gap);
    ["version", "versions", "ver", "v", "release", "build", "revision"].iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// The IPv6 address whose first colon is at `at`. Paths of programs (`std::fs`) and times have its form only by
/// chance: a digit must be among it, and it must parse.
pub(super) fn ipv6(view: View<'_>, at: usize) -> Option<Range<usize>> {
    let start = view.run_back(at, 5, |b| b.is_ascii_hexdigit());
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'_' | b'-');
    if view.before(start).is_some_and(is_part) {
        return None;
    }
    let run = view.run(start, MAX_IPV6 + 1, |b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    let text = view.slice(start..run);
    let text = text.strip_suffix(['.', ':']).filter(|text| !text.ends_with(':')).unwrap_or(text);
    let end = start + text.len();
    let address: Ipv6Addr = text.parse().ok()?;
    let alone = view.byte(run).is_none_or(|b| !is_part(b));
    let nobodys = address.is_loopback() || address.is_unspecified();
    (alone && !nobodys && text.bytes().any(|b| b.is_ascii_digit())).then_some(start..end)
}
