//! Whether bytes begin a message.
//!
//! Owns the one decision that joining in the middle of a connection needs. Looks at [`PROBE`] bytes at most.

/// As many bytes as it may take to decide: the longest method that is accepted and its space, or `PRI * HTTP/2.0`.
pub(super) const PROBE: usize = 32;

/// Start of the HTTP/2 connection preface (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Methods of RFC 9110 and RFC 5789. No API uses another one.
const METHODS: [&[u8]; 9] = [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE"];

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A message begins here.
    Message,
    /// It might; more bytes will tell.
    Unsure,
    /// No message begins here.
    Other,
    /// HTTP/2 begins here.
    Http2,
}

/// Whether `bytes` begin a response: `HTTP/1.`.
pub(super) fn response(bytes: &[u8]) -> Look {
    prefix(bytes, b"HTTP/1.")
}

/// Whether `bytes` begin a request, for a parser that does not know whether a message begins here: a known
/// method, a space, and the start of a target.
pub(super) fn request(bytes: &[u8]) -> Look {
    let preface = prefix(bytes, PREFACE);
    if preface == Look::Message {
        return Look::Http2;
    }
    let mut unsure = preface == Look::Unsure;
    for method in METHODS {
        let answer = match prefix(bytes, method) {
            Look::Message => target(method, &bytes[method.len()..]),
            other => other,
        };
        match answer {
            Look::Unsure => unsure = true,
            Look::Other => {}
            decided => return decided,
        }
    }
    if unsure { Look::Unsure } else { Look::Other }
}

/// Whether `bytes` begin a request, for a parser that knows that a message ended just before: any token and a
/// space (RFC 9112 section 3).
pub(super) fn request_in_sync(bytes: &[u8]) -> Look {
    match prefix(bytes, PREFACE) {
        Look::Message => return Look::Http2,
        Look::Unsure => return Look::Unsure,
        _ => {}
    }
    let token = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte));
    match (token.count(), bytes) {
        (0, [_, ..]) => Look::Other,
        (PROBE.., _) => Look::Other,
        (n, _) => match bytes.get(n) {
            None => Look::Unsure,
            Some(b' ') => Look::Message,
            Some(_) => Look::Other,
        },
    }
}

/// What follows a method: a space and a path, a URL or `*`; behind `CONNECT` a host.
fn target(method: &[u8], bytes: &[u8]) -> Look {
    match bytes {
        [] | [b' '] => Look::Unsure,
        [b' ', first, ..] if method == b"CONNECT" => {
            if first.is_ascii_alphanumeric() || *first == b'[' {
                Look::Message
            } else {
                Look::Other
            }
        }
        [b' ', b'/' | b'*', ..] => Look::Message,
        [b' ', rest @ ..] => prefix(rest, b"http"),
        _ => Look::Other,
    }
}

fn prefix(bytes: &[u8], expect: &[u8]) -> Look {
    let n = bytes.len().min(expect.len());
    match bytes[..n] == expect[..n] {
        true if n == expect.len() => Look::Message,
        true => Look::Unsure,
        false => Look::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_and_a_target_begin_a_request() {
        for line in ["GET /", "POST /v1", "OPTIONS *", "PUT http://h/", "CONNECT h:443", "CONNECT [::1]:443"] {
            assert_eq!(request(line.as_bytes()), Look::Message, "{line}");
        }
        for line in ["", "P", "PR", "PO", "POST", "POST ", "POST h", "POST htt", "CONNECT "] {
            assert_eq!(request(line.as_bytes()), Look::Unsure, "{line}");
        }
        for line in ["get /", "GETS /", "PURGE /", "GET x", "POST hello", "{\"a\":1}", "\x16\x03\x01", "PRx"] {
            assert_eq!(request(line.as_bytes()), Look::Other, "{line}");
        }
        assert_eq!(request(b"PRI * HTTP/2.0\r\n\r\nSM"), Look::Http2);
    }

    #[test]
    fn between_messages_any_method_will_do() {
        for (line, look) in [
            ("PURGE /", Look::Message),
            ("PURGE", Look::Unsure),
            ("GET /", Look::Message),
            ("PRI * HTTP/2.0", Look::Http2),
            ("\x16\x03", Look::Other),
            (" GET", Look::Other),
            ("{}", Look::Other),
        ] {
            assert_eq!(request_in_sync(line.as_bytes()), look, "{line}");
        }
        assert_eq!(request_in_sync(&[b'x'; PROBE]), Look::Other);
    }
}
