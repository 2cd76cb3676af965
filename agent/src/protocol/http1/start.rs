//! Whether bytes begin a message.
//!
//! Owns the decisions that joining in the middle of a connection needs. Looks at [`PROBE`] bytes at most.

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

/// Where in an event stream a parser joins that has seen nothing of it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joins {
    /// At the beginning of a chunk of the chunked encoding, that begins with an event.
    Chunk,
    /// It might; more bytes will tell.
    Unsure,
    /// At the beginning of an event. What frames it is unknown.
    Event,
    /// Behind the last chunk.
    End,
    /// This is no event stream, or not a place to join it.
    Nowhere,
}

/// What a chunk of an event stream begins with (WHATWG HTML 9.2.5). The fields that come first in practice.
const FIELDS: [&[u8]; 4] = [b"data:", b"event:", b"id:", b": "];

/// Most digits of a chunk's size; an event of 64 KiB and more is no token.
const MAX_DIGITS: usize = 4;

/// Whether an event stream can be joined at `bytes`. Programs write one event at a time, so that one in the middle of
/// which a connection is joined shows a beginning soon.
pub(super) fn joins(bytes: &[u8]) -> Joins {
    if bytes == b"0\r\n\r\n" {
        return Joins::End;
    }
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if (1..=MAX_DIGITS).contains(&digits)
        && let Some(data) = bytes[digits..].strip_prefix(b"\r\n")
    {
        return match field(data) {
            Look::Message => Joins::Chunk,
            Look::Unsure => Joins::Unsure,
            _ => Joins::Nowhere,
        };
    }
    // Node writes the digits, their end and the data one after another.
    if (2..=MAX_DIGITS).contains(&digits) && matches!(&bytes[digits..], b"" | b"\r") {
        return Joins::Unsure;
    }
    // Without the encoding around it less is certain: only what a model's event can begin with.
    match bytes {
        [b'd', b'a', b't', b'a', b':', b'{' | b'[', ..] | [b'd', b'a', b't', b'a', b':', b' ', b'{' | b'[', ..] => {
            Joins::Event
        }
        [b'e', b'v', b'e', b'n', b't', b':', b' ', ..] => Joins::Event,
        _ => Joins::Nowhere,
    }
}

fn field(bytes: &[u8]) -> Look {
    let looks = FIELDS.map(|name| prefix(bytes, name));
    if looks.contains(&Look::Message) {
        Look::Message
    } else if looks.contains(&Look::Unsure) {
        Look::Unsure
    } else {
        Look::Other
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
    fn an_event_stream_is_joined_where_an_event_begins() {
        for (bytes, expect) in [
            ("1a\r\ndata: {", Joins::Chunk),
            ("8\r\n: ping\n\n", Joins::Chunk),
            ("FFFF\r\nevent: x", Joins::Chunk),
            ("1a\r\n", Joins::Unsure),
            ("1a\r\nda", Joins::Unsure),
            ("1a\r", Joins::Unsure),
            ("e3", Joins::Unsure),
            ("data: {\"id\"", Joins::Event),
            ("data:[", Joins::Event),
            ("event: message_stop\n", Joins::Event),
            ("0\r\n\r\n", Joins::End),
            ("data: hello", Joins::Nowhere),
            ("da", Joins::Unsure),
            ("1a\r\n{\"a\"", Joins::Nowhere),
            ("10000\r\ndata: {", Joins::Nowhere),
            (": ping", Joins::Nowhere),
            ("", Joins::Nowhere),
        ] {
            assert_eq!(joins(bytes.as_bytes()), expect, "{bytes:?}");
        }
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
