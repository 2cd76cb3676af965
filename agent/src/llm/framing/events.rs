//! A response as an event stream of JSON documents.

use memchr::memchr2;

use super::{Framing, MAX_EVENT, OVERSIZE};
use crate::{
    llm::{
        api::{Draft, EventName, WireApi},
        session::ResponseEvent,
    },
    protocol::{
        json::{Scanner, Status, Step, Token},
        sse,
    },
};

/// How the APIs that have a sentinel spell it.
const SENTINEL: &[u8] = b"[DONE]";

/// Longest beginning of an event that is compared with the one before. Half of it is usual.
const MAX_HEAD: usize = 512;

/// Reads the stream.
pub(crate) struct Events {
    parser: sse::Parser,
    /// Reads the data of one event after the other.
    scanner: Scanner,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    done: bool,
    /// How the event before began: its first members, as far as they are settled.
    head: Vec<u8>,
    malformed: Option<&'static str>,
}

impl Events {
    /// A reader that takes at most `max_text` bytes of a string.
    pub fn new(max_text: usize) -> Self {
        Self {
            parser: sse::Parser::new(MAX_EVENT),
            scanner: Scanner::new(max_text).with_pieces(),
            seen: Seen::default(),
        }
    }
}

impl Framing for Events {
    fn push(&mut self, bytes: &[u8], api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent)) {
        let Self { parser, scanner, seen } = self;
        parser.push(bytes, &mut |item| seen.item(item, scanner, api, draft, sink));
    }

    fn end(&mut self, api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent)) {
        let Self { parser, scanner, seen } = self;
        parser.finish(&mut |item| seen.item(item, scanner, api, draft, sink));
    }

    /// The next event is whole again.
    fn gap(&mut self, _api: &mut dyn WireApi, _draft: &mut Draft) {
        self.parser.gap();
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn is_done(&self) -> bool {
        self.seen.done
    }

    fn malformed(&self) -> Option<&'static str> {
        self.seen.malformed
    }
}

impl Seen {
    fn item(
        &mut self,
        item: sse::Item<'_>,
        scanner: &mut Scanner,
        api: &mut dyn WireApi,
        draft: &mut Draft,
        sink: &mut dyn FnMut(ResponseEvent),
    ) {
        match item {
            sse::Item::Event(event) => match event.data.trim_ascii() {
                SENTINEL => {
                    self.done = true;
                    sink(ResponseEvent::Done);
                }
                [] => sink(ResponseEvent::Event { content: false }),
                data => {
                    if let Some(name) = event.event {
                        api.event_name(EventName::Event(name), draft);
                    }
                    sink(ResponseEvent::Event { content: self.document(data, scanner, api, draft) });
                }
            },
            sse::Item::Comment => {}
            sse::Item::Oversize(_) => {
                self.malformed.get_or_insert(OVERSIZE);
                sink(ResponseEvent::Event { content: false });
            }
            sse::Item::Unfinished => {
                self.malformed.get_or_insert("the stream ends inside an event");
            }
        }
    }

    /// Reads an event's data and says whether it carries content.
    fn document(&mut self, data: &[u8], scanner: &mut Scanner, api: &mut dyn WireApi, draft: &mut Draft) -> bool {
        let behind =
            data.strip_prefix(self.head.as_slice()).filter(|rest| !self.head.is_empty() && rest.starts_with(b","));
        let mut take = |path: &[Step<'_>], token: Token<'_>| draft.response_value(api, path, token);
        if behind.is_some() {
            scanner.reset_behind_member();
        } else {
            scanner.reset();
        }
        scanner.push(behind.unwrap_or(data), &mut take);
        scanner.finish(&mut take);
        if let Status::Broken(reason) = scanner.status() {
            self.malformed.get_or_insert(reason);
        }
        if behind.is_none() {
            self.head.clear();
            let head = settled(data, |key, value| api.is_settled(key, value));
            self.head.extend_from_slice(Some(head).filter(|head| head.len() <= MAX_HEAD).unwrap_or_default());
        }
        api.response_document(true, draft)
    }
}

/// The beginning of an object up to the comma behind its last member of those that come first and are all settled.
fn settled(data: &[u8], is_settled: impl Fn(&str, &str) -> bool) -> &[u8] {
    let (mut settled, mut at) = (0, 1);
    if !data.starts_with(b"{") {
        return &[];
    }
    while let Some((key, value, end)) = data.get(at..).and_then(member)
        && is_settled(key, value)
    {
        settled = at + end;
        at = settled + 1;
    }
    data.get(..settled).unwrap_or_default()
}

/// A member that is a plain value with a comma behind it: its key, its value, and where the comma is.
fn member(bytes: &[u8]) -> Option<(&str, &str, usize)> {
    let (key, rest) = string(bytes.trim_ascii_start())?;
    let value = rest.strip_prefix(b":")?.trim_ascii_start();
    let rest = match string(value) {
        Some((_, rest)) => rest,
        None => value.get(value.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'.' | b'-'))?..)?,
    };
    let value = str::from_utf8(value.get(..value.len() - rest.len())?).ok()?;
    rest.starts_with(b",").then_some((key, value, bytes.len() - rest.len()))
}

/// A string without escapes, and what follows it.
fn string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let text = bytes.strip_prefix(b"\"")?;
    let end = memchr2(b'"', b'\\', text)?;
    let rest = text.get(end..)?.strip_prefix(b"\"")?;
    Some((str::from_utf8(text.get(..end)?).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_ends_at_the_first_member_that_is_not() {
        let of = |text: &'static str| str::from_utf8(settled(text.as_bytes(), |key, _| key.len() == 1)).unwrap();
        assert_eq!(of(r#"{"a":"x","b":12,"c":null,"other":1,"d":1}"#), r#"{"a":"x","b":12,"c":null"#);
        assert_eq!(of("{ \"a\" : 1}"), "", "a blank before the colon is nobody's way to write");
        assert_eq!(of(r#"{"a": "x", "b": -1.5, "other": 1}"#), r#"{"a": "x", "b": -1.5"#);
        for text in [
            "",
            "[",
            "{",
            "{}",
            r#"{"a":1}"#,
            r#"{"a":{"b":1},"c":1}"#,
            r#"{"a":"\"","b":1}"#,
            r#"{"a":"x"#,
            r#"{"a":"#,
        ] {
            assert_eq!(of(text), "", "{text}");
        }
    }
}
