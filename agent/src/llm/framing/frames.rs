//! A response as an AWS event stream of JSON documents.
//!
//! Bedrock wraps what a model's own API streams: the document of a `chunk` event holds the API's document as base64,
//! beside padding. That inner document is what the API gets.

use super::{Framing, MAX_EVENT, OVERSIZE};
use crate::{
    llm::{
        api::{Draft, EventName, WireApi},
        base64,
        session::ResponseEvent,
    },
    protocol::{
        event_stream::{Item, Kind, Message, Parser},
        json::{Scanner, Status, Step, Token},
    },
};

/// The event that wraps an API's own document (Amazon Bedrock API reference, `PayloadPart`).
const CHUNK: &str = "chunk";

/// The member of its document that holds it.
const BYTES: &str = "bytes";

/// Reads the stream.
pub(crate) struct Frames {
    parser: Parser,
    seen: Seen,
}

struct Seen {
    /// Reads the payload of a `chunk`.
    wrapper: Scanner,
    /// Reads one document after the other.
    scanner: Scanner,
    malformed: Option<&'static str>,
}

impl Frames {
    /// A reader that takes at most `max_text` bytes of a string.
    pub fn new(max_text: usize) -> Self {
        // What a `chunk` wraps is taken whole, which a message's limit bounds.
        let (wrapper, scanner) = (Scanner::new(MAX_EVENT), Scanner::new(max_text).with_pieces());
        Self { parser: Parser::new(MAX_EVENT), seen: Seen { wrapper, scanner, malformed: None } }
    }
}

impl Framing for Frames {
    fn push(&mut self, bytes: &[u8], api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent)) {
        let Self { parser, seen } = self;
        parser.push(bytes, &mut |item| seen.item(item, api, draft, sink));
    }

    fn gap(&mut self, _api: &mut dyn WireApi, _draft: &mut Draft) {
        self.parser.gap();
    }

    fn end(&mut self, api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent)) {
        let Self { parser, seen } = self;
        parser.finish(&mut |item| seen.item(item, api, draft, sink));
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn malformed(&self) -> Option<&'static str> {
        self.seen.malformed
    }
}

impl Seen {
    fn item(&mut self, item: Item<'_>, api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent)) {
        let content = match item {
            Item::Message(message) => self.message(message, api, draft),
            Item::Oversize(_) => {
                self.fault(OVERSIZE);
                false
            }
            Item::Malformed(reason) => return self.fault(reason),
            Item::Unfinished => return self.fault("the stream ends inside a message"),
        };
        sink(ResponseEvent::Event { content });
    }

    /// Reads a message and says whether it carries content.
    fn message(&mut self, message: Message<'_>, api: &mut dyn WireApi, draft: &mut Draft) -> bool {
        let Message { kind, name, payload } = message;
        if let Some(name) = name {
            api.event_name(
                if kind == Kind::Event { EventName::Event(name) } else { EventName::Exception(name) },
                draft,
            );
        }
        let Self { wrapper, scanner, .. } = self;
        let mut take = |path: &[Step<'_>], token: Token<'_>| draft.response_value(api, path, token);
        let mut reason = None;
        scanner.reset();
        if (kind, name) == (Kind::Event, Some(CHUNK)) {
            wrapper.reset();
            wrapper.push(payload, &mut |path, token| {
                if let ([Step::Key(BYTES)], Token::String { text, .. }) = (path, token)
                    && !base64::decode(text, &mut |bytes| scanner.push(bytes, &mut take))
                {
                    reason = Some("a chunk is not base64");
                }
            });
        } else {
            scanner.push(payload, &mut take);
        }
        scanner.finish(&mut take);
        if let Status::Broken(broken) = scanner.status() {
            reason = reason.or(Some(broken));
        }
        reason.into_iter().for_each(|reason| self.fault(reason));
        api.response_document(true, draft)
    }

    fn fault(&mut self, reason: &'static str) {
        self.malformed.get_or_insert(reason);
    }
}
