//! A response as JSON documents: one, lines of them, or the elements of an array.
//!
//! A body that nobody declared to be lines is taken for one document until a second begins. The first one's event is
//! told then, when it was seen to be one.

use super::Framing;
use crate::{
    llm::{
        api::{Draft, WireApi},
        session::ResponseEvent,
    },
    protocol::json::{self, Form, Item},
};

/// Reads the body.
pub(crate) struct Documents {
    parser: json::Documents,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    /// Every document is an event.
    streamed: bool,
    /// Whether the first document carried content, once it is over and while it may be the only one.
    first: Option<bool>,
    /// Where the next document begins cannot be told.
    lost: bool,
    malformed: Option<&'static str>,
}

impl Documents {
    /// One document, until a second begins. Takes at most `max_text` bytes of a string.
    pub fn one(max_text: usize) -> Self {
        Self { parser: json::Documents::new(Form::Lines, max_text).with_pieces(), seen: Seen::default() }
    }

    /// Documents that are events.
    pub fn stream(form: Form, max_text: usize) -> Self {
        let seen = Seen { streamed: true, ..Seen::default() };
        Self { parser: json::Documents::new(form, max_text).with_pieces(), seen }
    }
}

impl Framing for Documents {
    fn push(&mut self, bytes: &[u8], api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent)) {
        let Self { parser, seen } = self;
        parser.push(bytes, &mut |item| seen.item(item, api, draft, sink));
    }

    fn gap(&mut self, api: &mut dyn WireApi, draft: &mut Draft) {
        if self.parser.gap() && !self.seen.lost {
            api.response_document(self.seen.streamed, draft);
        }
        self.seen.lost |= !self.seen.streamed;
    }

    fn end(&mut self, api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent)) {
        let Self { parser, seen } = self;
        parser.finish(&mut |item| seen.item(item, api, draft, sink));
    }

    fn is_stream(&self) -> bool {
        self.seen.streamed
    }

    fn is_whole(&self) -> bool {
        self.seen.first.is_some() || self.parser.is_over()
    }

    fn malformed(&self) -> Option<&'static str> {
        self.seen.malformed
    }
}

impl Seen {
    fn item(&mut self, item: Item<'_>, api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent)) {
        match item {
            _ if self.lost => {}
            Item::Value(path, token) => {
                if let Some(content) = self.first.take() {
                    self.streamed = true;
                    sink(ResponseEvent::Event { content });
                }
                draft.response_value(api, path, token);
            }
            Item::End(reason) => {
                self.fault(reason);
                // Something that is no document behind the only one does not make it an event.
                if self.first.is_none() {
                    let content = api.response_document(self.streamed, draft);
                    match self.streamed {
                        true => sink(ResponseEvent::Event { content }),
                        false => self.first = Some(content),
                    }
                }
                self.lost = reason.is_some() && !self.streamed;
            }
            Item::Broken(reason) => self.fault(Some(reason)),
        }
    }

    fn fault(&mut self, reason: Option<&'static str>) {
        self.malformed = self.malformed.or(reason);
    }
}
