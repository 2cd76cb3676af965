//! How a response's body is cut into documents.
//!
//! Owns what every framing of a response has to do, and how a response's framing is found. The
//! framings: one document, lines or an array (`documents.rs`), an event stream (`events.rs`), an AWS event stream
//! (`frames.rs`), a WebSocket's messages (`messages.rs`). A request's body is read by `request.rs`.
//!
//! To add a framing: a type that implements [`Framing`], its variant of [`Kind`], its content type in
//! [`Kind::declared`] or its beginning in [`sniff`], and its branch in `Session::set_kind`.

pub(crate) mod documents;
pub(crate) mod events;
pub(crate) mod frames;
pub(crate) mod messages;
pub(crate) mod request;

use super::{
    api::{Draft, WireApi},
    session::ResponseEvent,
};

/// Largest event that is read, where one is held until it is whole. The largest seen in recordings is 100 KB; pictures
/// inside a stream are larger and carry nothing that is counted.
pub(crate) const MAX_EVENT: usize = 1 << 20;

/// Why an event beyond that is not read.
pub(crate) const OVERSIZE: &str = "an event is larger than is read";

/// How a response's body is cut into documents.
pub(crate) trait Framing: Send {
    /// Takes the next bytes. The sink hears of a stream's events.
    fn push(&mut self, bytes: &[u8], api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent));

    /// Bytes are missing: the document that they are in is lost.
    fn gap(&mut self, api: &mut dyn WireApi, draft: &mut Draft);

    /// The body is over.
    fn end(&mut self, api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent));

    /// Whether the body is a stream of events.
    fn is_stream(&self) -> bool;

    /// Whether the stream's own sentinel came.
    fn is_done(&self) -> bool {
        false
    }

    /// Whether the body can hold nothing more, whatever says where it ends.
    fn is_whole(&self) -> bool {
        false
    }

    /// Why something of the body could not be read.
    fn malformed(&self) -> Option<&'static str>;
}

/// What kind of body a response has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One JSON document, as far as is known.
    Document,
    /// JSON documents one after the other.
    Lines,
    /// A JSON array whose elements are documents.
    Array,
    /// An event stream.
    Events,
    /// An AWS event stream.
    Frames,
    /// Something else.
    Neither,
}

impl Kind {
    /// The stream that a content type without parameters stands for.
    pub fn declared(content_type: &str) -> Option<Self> {
        const TYPES: [(&str, Kind); 7] = [
            ("text/event-stream", Kind::Events),
            ("application/x-ndjson", Kind::Lines),
            ("application/ndjson", Kind::Lines),
            ("application/jsonl", Kind::Lines),
            ("application/x-jsonlines", Kind::Lines),
            ("application/stream+json", Kind::Lines),
            ("application/vnd.amazon.eventstream", Kind::Frames),
        ];
        TYPES.iter().find(|(name, _)| content_type.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind)
    }
}

/// What an event stream can begin with: a comment or a field.
const FIELDS: [&[u8]; 5] = [b":", b"data:", b"event:", b"id:", b"retry:"];

/// Decides from a body's first bytes what it is and gives back the bytes not looked at. `held` keeps what was
/// looked at, leading whitespace and byte order mark left out.
///
/// A content type is believed (`declared`), but not against a brace where none can stand: some servers label their
/// JSON errors with the content type of the stream that was asked for.
pub(crate) fn sniff<'a>(
    held: &mut Vec<u8>,
    bytes: &'a [u8],
    declared: Option<Kind>,
    streams_array: bool,
) -> (Option<Kind>, &'a [u8]) {
    for (at, &byte) in bytes.iter().enumerate() {
        if held.is_empty() && (byte.is_ascii_whitespace() || b"\xef\xbb\xbf".contains(&byte)) {
            continue;
        }
        held.push(byte);
        let kind = match (held.as_slice(), declared) {
            ([b'['], _) if streams_array => Kind::Array,
            ([b'{' | b'['], Some(Kind::Lines)) => Kind::Lines,
            ([b'{' | b'['], _) => Kind::Document,
            (_, Some(kind)) => kind,
            (start, None) if FIELDS.contains(&start) => Kind::Events,
            (start, None) if FIELDS.iter().any(|field| field.starts_with(start)) => continue,
            (_, None) => Kind::Neither,
        };
        return (Some(kind), bytes.get(at + 1..).unwrap_or_default());
    }
    (None, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, declared: Option<Kind>, streams_array: bool, expect: Option<Kind>) {
        let mut held = Vec::new();
        assert_eq!(sniff(&mut held, text.as_bytes(), declared, streams_array).0, expect, "{text}");
        let mut held = Vec::new();
        let bytewise = text.as_bytes().chunks(1).find_map(|byte| sniff(&mut held, byte, declared, streams_array).0);
        assert_eq!(bytewise, expect, "{text} byte by byte");
    }

    #[test]
    fn first_bytes_tell_the_kind() {
        let check = |text, declared, expect| check(text, declared, false, expect);
        check("\n {\"a\":1}", None, Some(Kind::Document));
        check("{\"error\":1}", Some(Kind::Events), Some(Kind::Document));
        check("{\"error\":1}", Some(Kind::Frames), Some(Kind::Document));
        check("{\"error\":1}", Some(Kind::Lines), Some(Kind::Lines));
        check("\u{feff}data: x", None, Some(Kind::Events));
        check(": OPENROUTER PROCESSING", None, Some(Kind::Events));
        check("event: x", None, Some(Kind::Events));
        check("<html>", None, Some(Kind::Neither));
        check("date: x", None, Some(Kind::Neither));
        check("x", Some(Kind::Events), Some(Kind::Events));
        check("\0\0", Some(Kind::Frames), Some(Kind::Frames));
        check("dat", None, None);
        check("  ", Some(Kind::Events), None);
    }

    #[test]
    fn an_array_is_a_stream_only_where_the_api_says_so() {
        check("\n[{", None, false, Some(Kind::Document));
        check("\n[{", None, true, Some(Kind::Array));
        check("{", None, true, Some(Kind::Document));
    }

    #[test]
    fn content_types_declare_streams() {
        assert_eq!(Kind::declared("Application/X-NDJSON"), Some(Kind::Lines));
        assert_eq!(Kind::declared("application/vnd.amazon.eventstream"), Some(Kind::Frames));
        assert_eq!(Kind::declared("application/json"), None);
    }
}
