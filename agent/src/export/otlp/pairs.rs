//! Lists of `name=value` as the standard variables write them.
//!
//! Owns the syntax of `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_RESOURCE_ATTRIBUTES`: comma-separated, values
//! percent-encoded. Errors name the pair by its place and never quote it: the values of headers are secrets.

/// Why a list was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// A pair has no `=`, or nothing before it.
    #[error("pair {0} is not name=value")]
    Shape(usize),
    /// A value's percent-encoding is broken.
    #[error("the value of pair {0} is not percent-encoded text")]
    Encoding(usize),
}

/// The pairs of `text` in their order. Spaces around names and values do not count, empty pairs are skipped.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, PairError> {
    let mut pairs = Vec::new();
    for (n, pair) in text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
        match pair.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            None | Some(("", _)) => return Err(PairError::Shape(n + 1)),
            Some((name, value)) => {
                pairs.push((name.to_owned(), percent_decode(value).ok_or(PairError::Encoding(n + 1))?));
            }
        }
    }
    Ok(pairs)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => out.push(digit(bytes.next())? << 4 | digit(bytes.next())?),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&[(&str, &str)], PairError>) {
        let expect = expect.map(|pairs| pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>());
        assert_eq!(parse(text), expect, "{text}");
    }

    #[test]
    fn lists() {
        check("", Ok(&[]));
        check("a=1,b=2", Ok(&[("a", "1"), ("b", "2")]));
        check(" a = 1 , , b=x%3Dy%2Cz=,", Ok(&[("a", "1"), ("b", "x=y,z=")]));
        check("a=Bearer%20t+t", Ok(&[("a", "Bearer t+t")]));
        check("a=%C3%BC", Ok(&[("a", "ü")]));
        check("a=1,b", Err(PairError::Shape(2)));
        check("=1", Err(PairError::Shape(1)));
        check("a=%C3", Err(PairError::Encoding(1)));
        check("a=%2", Err(PairError::Encoding(1)));
        check("a=%zz", Err(PairError::Encoding(1)));
    }
}
