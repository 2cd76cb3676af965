//! Whether a credential stands where its fixed part, or a sign before a value, was found.

use std::ops::Range;

use super::{
    hit::{Hit, Kind, LOOKBACK, Rest, View, WINDOW},
    shapes::{
        AZURE_MARK, GENERIC_PREFIX, JWT_START, MARKS, OPENAI_MARK, PEM_START, SHAPES, TELEGRAM_MARK, alnum, assigned,
        azure, dotted, parameter, token, upper, userinfo,
    },
};

/// Fewest characters of what may be a key where the text ends: what comes of one that was cut off.
const MIN_CUT: usize = 6;

/// Fewest characters of a URL parameter's value: shorter ones are examples in prose.
const MIN_PARAMETER: usize = 6;

/// Longest name of a URL parameter or of a variable that is looked at.
const MAX_NAME: usize = 48;

/// The credential whose fixed part is at `found`, if it is one.
pub(super) fn literal(view: View<'_>, found: Range<usize>) -> Option<Hit> {
    match view.slice(found.clone()) {
        GENERIC_PREFIX => generic(view, found),
        OPENAI_MARK => {
            let start = view.run_back(found.start, LOOKBACK, token);
            let end = view.run(found.end, WINDOW, token);
            (end - start >= 24).then(|| Hit::run("openai", start..end, token))
        }
        AZURE_MARK => {
            let start = found.start.checked_sub(4).filter(|&start| start >= view.free)?;
            let head = view.slice(start..found.start).as_bytes();
            let end = view.run(found.end, WINDOW, azure);
            let fits = head.iter().all(|&b| azure(b)) && head.last().is_some_and(u8::is_ascii_digit);
            (fits && end - found.end >= 16).then(|| Hit::run("azure", start..end, azure))
        }
        TELEGRAM_MARK => {
            let start = view.run_back(found.start, 11, |b| b.is_ascii_digit());
            let end = view.run(found.end, WINDOW, token);
            let fits = (8..=10).contains(&(found.start - start)) && end - found.end >= 30;
            fits.then(|| Hit::run("telegram", start..end, token))
        }
        JWT_START => jwt(view, found),
        PEM_START => pem(view, found),
        prefix => {
            let shape = SHAPES.iter().find(|shape| shape.prefix == prefix)?;
            let end = view.run(found.end, WINDOW, shape.class);
            let key = view.slice(found.end..end);
            let fits = match shape.edge {
                false => key.len() >= shape.min || (is_cut(view, end) && !key.is_empty()),
                true if view.continues_word(found.start) || !has_digit(key) => false,
                true => key.len() >= shape.min || (is_cut(view, end) && key.len() >= MIN_CUT),
            };
            fits.then(|| Hit::run(shape.kind, found.start..end, shape.class))
        }
    }
}

/// Whether what ends at `end` may have gone on: the text was cut there, or its sender broke off.
fn is_cut(view: View<'_>, end: usize) -> bool {
    view.last && end == view.text.len()
}

fn has_digit(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit())
}

/// `sk-` and letters and digits alone, enough of them; or fewer with dashes among them, if no words are like it.
fn generic(view: View<'_>, found: Range<usize>) -> Option<Hit> {
    if view.continues_word(found.start) {
        return None;
    }
    let end = view.run(found.end, WINDOW, alnum);
    let key = view.slice(found.end..end);
    if key.len() >= 32 {
        let kind = match key {
            key if key.contains(OPENAI_MARK) => "openai",
            key if key.len() == 32 && key.bytes().all(|b| b.is_ascii_hexdigit()) => "deepseek",
            _ => "api_key",
        };
        return Some(Hit::run(kind, found.start..end, alnum));
    }
    let end = view.run(found.end, WINDOW, token);
    let key = view.slice(found.end..end);
    let mixed =
        has_digit(key) && key.bytes().any(|b| b.is_ascii_lowercase()) && key.bytes().any(|b| b.is_ascii_uppercase());
    let fits = (key.len() >= 20 && mixed) || (is_cut(view, end) && key.len() >= MIN_CUT && has_digit(key));
    let kind = if key.contains(OPENAI_MARK) { "openai" } else { "api_key" };
    fits.then(|| Hit::run(kind, found.start..end, token))
}

/// A JSON web token (RFC 7519): parts with dots between; the signature may be missing where the text was cut.
fn jwt(view: View<'_>, found: Range<usize>) -> Option<Hit> {
    // In base64 these three letters come by chance.
    if view.continues_word(found.start) {
        return None;
    }
    let header = view.run(found.end, WINDOW, token);
    let end = view.run(header, WINDOW, dotted);
    // A header that is longer than is looked at holds certificates. Nothing else in base64 begins so and is a secret,
    // but neither is anything else of this length worth reading.
    let is_long = header - found.start + 16 >= WINDOW;
    let has_payload = header - found.end >= 10 && end - header > 10;
    let fits = is_long || has_payload || (is_cut(view, end) && end - found.end >= MIN_CUT);
    fits.then(|| Hit::run("jwt", found.start..end.min(found.start + WINDOW), dotted))
}

/// A private key, to its last line; without one, as far as it can be key material.
fn pem(view: View<'_>, found: Range<usize>) -> Option<Hit> {
    let label = view.run(found.end, 64, |b| upper(b) || b == b' ');
    let is_cut = is_cut(view, label) && label > found.end;
    if !view.slice(found.end..label).contains("PRIVATE KEY") && !is_cut {
        return None;
    }
    let body = view.run(label, 5, |b| b == b'-');
    Some(Hit { kind: Kind::Credential("private_key"), range: found.start..body, rest: Some(Rest::PEM) })
}

/// The credential that follows the sign at `at`, if one does: a URL's parameter or password, or something that is
/// assigned to a name which says what it is.
pub(super) fn sign(view: View<'_>, at: usize) -> Option<Hit> {
    match view.byte(at)? {
        b'?' | b'&' => parameter_value(view, at + 1),
        b':' if view.slice(at..at + 3) == "://" => password_in_url(view, at + 3),
        _ => assignment(view, at),
    }
}

/// Names of URL parameters that carry credentials; the value goes, the name stays.
const PARAMETERS: [&str; 19] = [
    "key",
    "api_key",
    "api-key",
    "apikey",
    "access_token",
    "refresh_token",
    "id_token",
    "token",
    "access_key",
    "client_secret",
    "secret",
    "password",
    "sig",
    "signature",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "x-goog-signature",
    "x-goog-credential",
];

fn parameter_value(view: View<'_>, from: usize) -> Option<Hit> {
    // As HTML writes it.
    let from = if view.slice(from..from + 4) == "amp;" { from + 4 } else { from };
    let name_end = view.run(from, MAX_NAME, |b| b != b'=' && b.is_ascii_graphic());
    let name = view.slice(from..name_end);
    if view.byte(name_end) != Some(b'=') || !PARAMETERS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return None;
    }
    let value = name_end + 1;
    let end = view.run(value, WINDOW, parameter);
    shaped(view, value).or_else(|| (end - value >= MIN_PARAMETER).then(|| Hit::run("url", value..end, parameter)))
}

/// `scheme://user:password@host`
fn password_in_url(view: View<'_>, from: usize) -> Option<Hit> {
    let run = view.slice(from..view.run(from, WINDOW / 2, userinfo));
    let (user, _host) = run.rsplit_once('@')?;
    let (_name, password) = user.split_once(':')?;
    (!password.is_empty()).then(|| Hit::new(Kind::Credential("url"), from..from + user.len()))
}

/// How names of secrets end, in small letters and without what separates words, and the fewest characters of a value
/// in free text that is taken for one. Passwords are made by people and are shorter than keys.
const SECRET_NAMES: [(&str, usize); 23] = [
    ("password", 6),
    ("passwd", 6),
    ("passphrase", 6),
    ("secret", 16),
    ("apikey", 16),
    ("secretkey", 16),
    ("accesskey", 16),
    ("accountkey", 16),
    ("privatekey", 16),
    ("signingkey", 16),
    ("encryptionkey", 16),
    ("masterkey", 16),
    ("accesstoken", 16),
    ("refreshtoken", 16),
    ("authtoken", 16),
    ("sessiontoken", 16),
    ("bearertoken", 16),
    ("bottoken", 16),
    ("idtoken", 16),
    ("authorization", 16),
    ("setcookie", 16),
    ("sessioncookie", 16),
    ("credentials", 16),
];

/// Whether `name` says that its value is a secret (`AWS_SECRET_ACCESS_KEY`, `clientSecret`, `x-api-key`), and how long
/// such a one is at least.
pub(super) fn secret_name(name: &str) -> Option<usize> {
    // Most names end otherwise, and every colon and equals sign is asked.
    if !matches!(name.bytes().next_back()?.to_ascii_lowercase(), b'd' | b'e' | b't' | b'y' | b'n' | b's') {
        return None;
    }
    let mut tail = [0; 16];
    let letters = name.bytes().rev().filter(|b| b.is_ascii_alphanumeric());
    let len = tail.iter_mut().rev().zip(letters).map(|(place, b)| *place = b.to_ascii_lowercase()).count();
    let tail = tail.get(tail.len() - len..)?;
    SECRET_NAMES.iter().find(|(known, _)| tail.ends_with(known.as_bytes())).map(|&(_, min)| min)
}

/// The credential at `at` by its shape, which says more of it than the name before it does.
fn shaped(view: View<'_>, at: usize) -> Option<Hit> {
    let mut prefixes = SHAPES.iter().map(|shape| shape.prefix).chain(MARKS);
    let prefix = prefixes.find(|prefix| view.slice(at..at + prefix.len()) == *prefix)?;
    literal(view, at..at + prefix.len())
}

/// `name = value`, `name: value` and `"name": "value"`.
fn assignment(view: View<'_>, at: usize) -> Option<Hit> {
    let is_quote = |b| matches!(b, b'"' | b'\'' | b'`' | b'\\');
    let spaces = view.run_back(at, 3, |b| b == b' ');
    let name_end = view.run_back(spaces, 2, is_quote);
    let min = secret_name(view.slice(view.run_back(name_end, MAX_NAME, dotted)..name_end))?;
    // `==` compares.
    if view.byte(at + 1) == Some(b'=') {
        return None;
    }
    let gap = view.run(at + 1, 4, |b| matches!(b, b' ' | b'>'));
    let quote = view.run(gap, 2, is_quote);
    let scheme = ["Bearer ", "Basic ", "Token "]
        .iter()
        .find(|scheme| view.slice(quote..quote + scheme.len()).eq_ignore_ascii_case(scheme));
    let value = quote + scheme.map_or(0, |scheme| scheme.len());
    let text = view.slice(value..view.run(value, WINDOW, assigned));
    let fits = text.len() >= min && has_digit(text) && text.bytes().any(|b| b.is_ascii_alphabetic());
    shaped(view, value).or_else(|| fits.then(|| Hit::run("secret", value..value + text.len(), assigned)))
}
