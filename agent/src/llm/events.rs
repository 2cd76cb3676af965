//! A response as an event stream of JSON documents.

use super::{
    any_api::AnyApi,
    api::{Draft, WireApi},
    session::ResponseEvent,
};
use crate::protocol::{
    json::{Scanner, Status, Step, Token},
    sse,
};

/// Largest event that is read. The largest seen in recordings is 100 KB; pictures inside a stream are larger and
/// carry nothing that is counted.
const MAX_EVENT: usize = 1 << 20;

/// How the APIs that have a sentinel spell it.
const SENTINEL: &[u8] = b"[DONE]";

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
    malformed: Option<&'static str>,
}

impl Events {
    /// A reader that takes at most `max_text` bytes of a string, and longer ones in pieces too.
    pub fn new(max_text: usize) -> Self {
        Self {
            parser: sse::Parser::new(MAX_EVENT),
            scanner: Scanner::new(max_text).with_pieces(),
            seen: Seen::default(),
        }
    }

    /// Takes the next bytes.
    pub fn push(
        &mut self,
        bytes: &[u8],
        api: &mut dyn WireApi,
        any: &mut AnyApi,
        draft: &mut Draft,
        sink: &mut dyn FnMut(ResponseEvent),
    ) {
        let Self { parser, scanner, seen } = self;
        parser.push(bytes, &mut |item| seen.item(item, scanner, api, any, draft, sink));
    }

    /// The body is over.
    pub fn end(
        &mut self,
        api: &mut dyn WireApi,
        any: &mut AnyApi,
        draft: &mut Draft,
        sink: &mut dyn FnMut(ResponseEvent),
    ) {
        let Self { parser, scanner, seen } = self;
        parser.finish(&mut |item| seen.item(item, scanner, api, any, draft, sink));
    }

    /// Bytes are missing: the event that they are in is lost, the next one is not.
    pub fn gap(&mut self) {
        self.parser.gap();
    }

    /// Whether the sentinel came.
    pub fn is_done(&self) -> bool {
        self.seen.done
    }

    /// Why an event could not be read.
    pub fn malformed(&self) -> Option<&'static str> {
        self.seen.malformed
    }
}

impl Seen {
    fn item(
        &mut self,
        item: sse::Item<'_>,
        scanner: &mut Scanner,
        api: &mut dyn WireApi,
        any: &mut AnyApi,
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
                data => sink(ResponseEvent::Event { content: self.document(data, scanner, api, any, draft) }),
            },
            sse::Item::Comment => {}
            sse::Item::Oversize(_) => {
                self.malformed.get_or_insert("an event is larger than is read");
                sink(ResponseEvent::Event { content: false });
            }
            sse::Item::Unfinished => {
                self.malformed.get_or_insert("the stream ends inside an event");
            }
        }
    }

    /// Reads an event's data and says whether it carries content.
    fn document(
        &mut self,
        data: &[u8],
        scanner: &mut Scanner,
        api: &mut dyn WireApi,
        any: &mut AnyApi,
        draft: &mut Draft,
    ) -> bool {
        scanner.reset();
        let mut take = |path: &[Step<'_>], token: Token<'_>| {
            any.response_value(path, token);
            api.response_value(path, token, draft);
        };
        scanner.push(data, &mut take);
        scanner.finish(&mut take);
        if let Status::Broken(reason) = scanner.status() {
            self.malformed.get_or_insert(reason);
        }
        api.response_document(true, draft)
    }
}
