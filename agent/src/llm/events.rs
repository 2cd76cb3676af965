//! A response as an event stream of JSON documents.

use super::{
    api::{Draft, EventName, WireApi},
    body::{Framing, MAX_EVENT, OVERSIZE},
    session::ResponseEvent,
};
use crate::protocol::{
    json::{Scanner, Status, Step, Token},
    sse,
};

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
        scanner.reset();
        let mut take = |path: &[Step<'_>], token: Token<'_>| draft.response_value(api, path, token);
        scanner.push(data, &mut take);
        scanner.finish(&mut take);
        if let Status::Broken(reason) = scanner.status() {
            self.malformed.get_or_insert(reason);
        }
        api.response_document(true, draft)
    }
}
