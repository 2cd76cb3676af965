//! How a body is cut into documents.

use super::events::Events;
use crate::protocol::json::{Scanner, Status, Step, Token};

/// A body that is one JSON document.
pub(crate) struct Reader {
    scanner: Scanner,
    lost: bool,
    malformed: Option<&'static str>,
}

impl Reader {
    /// A reader that takes at most `max_text` bytes of a string, and longer ones in pieces too.
    pub fn new(max_text: usize) -> Self {
        Self { scanner: Scanner::new(max_text).with_pieces(), lost: false, malformed: None }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[Step<'_>], Token<'_>)) {
        if !self.lost {
            self.scanner.push(bytes, sink);
            self.note();
        }
    }

    /// Bytes are missing: where in the document the next ones belong cannot be told.
    pub fn gap(&mut self) {
        self.lost = true;
    }

    /// The body is over.
    pub fn end(&mut self, sink: &mut dyn FnMut(&[Step<'_>], Token<'_>)) {
        if !self.lost {
            self.scanner.finish(sink);
            self.note();
        }
    }

    /// Whether every value of the document has been seen.
    pub fn is_whole(&self) -> bool {
        !self.lost && self.scanner.status() == Status::Complete
    }

    /// Why the document is not JSON, or not all of it.
    pub fn malformed(&self) -> Option<&'static str> {
        self.malformed
    }

    fn note(&mut self) {
        if let Status::Broken(reason) = self.scanner.status() {
            self.malformed.get_or_insert(reason);
        }
    }
}

/// What kind of body a response has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One JSON document.
    Document,
    /// An event stream.
    Events,
    /// Something else.
    Neither,
}

/// How the response's body is read.
pub(crate) enum Framing {
    /// Not known yet; the first bytes, less than the longest field name of an event stream.
    Undecided(Vec<u8>),
    /// As one document.
    Document(Box<Reader>),
    /// As an event stream.
    Events(Box<Events>),
    /// Not at all.
    Opaque,
}

/// What an event stream can begin with: a comment or a field.
const FIELDS: [&[u8]; 5] = [b":", b"data:", b"event:", b"id:", b"retry:"];

/// Decides from a body's first bytes what it is and gives back the bytes not looked at. `held` keeps what was
/// looked at, leading whitespace and byte order mark left out.
///
/// A content type is believed (`declared`), but not against a brace: some servers label their JSON errors with
/// the content type of the stream that was asked for.
pub(crate) fn sniff<'a>(held: &mut Vec<u8>, bytes: &'a [u8], declared: bool) -> (Option<Kind>, &'a [u8]) {
    for (at, &byte) in bytes.iter().enumerate() {
        if held.is_empty() && (byte.is_ascii_whitespace() || b"\xef\xbb\xbf".contains(&byte)) {
            continue;
        }
        held.push(byte);
        let kind = match held.as_slice() {
            [b'{' | b'[', ..] => Kind::Document,
            _ if declared => Kind::Events,
            start if FIELDS.contains(&start) => Kind::Events,
            start if FIELDS.iter().any(|field| field.starts_with(start)) => continue,
            _ => Kind::Neither,
        };
        return (Some(kind), &bytes[at + 1..]);
    }
    (None, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, declared: bool, expect: Option<Kind>) {
        let mut held = Vec::new();
        assert_eq!(sniff(&mut held, text.as_bytes(), declared).0, expect, "{text}");
        let mut held = Vec::new();
        let bytewise = text.as_bytes().chunks(1).find_map(|byte| sniff(&mut held, byte, declared).0);
        assert_eq!(bytewise, expect, "{text} byte by byte");
    }

    #[test]
    fn first_bytes_tell_the_kind() {
        check("\n {\"a\":1}", false, Some(Kind::Document));
        check("{\"error\":1}", true, Some(Kind::Document));
        check("\u{feff}data: x", false, Some(Kind::Events));
        check(": OPENROUTER PROCESSING", false, Some(Kind::Events));
        check("event: x", false, Some(Kind::Events));
        check("<html>", false, Some(Kind::Neither));
        check("date: x", false, Some(Kind::Neither));
        check("x", true, Some(Kind::Events));
        check("dat", false, None);
        check("  ", true, None);
    }
}
