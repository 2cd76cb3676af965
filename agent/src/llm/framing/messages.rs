//! A response as messages of a WebSocket, each a JSON document.

use super::Framing;
use crate::{
    llm::{
        api::{Draft, WireApi},
        session::ResponseEvent,
    },
    protocol::json::{Scanner, Status, Step, Token},
};

/// Reads the messages. Each push is a whole one: where it ends, the socket says.
pub(crate) struct Messages {
    scanner: Scanner,
    malformed: Option<&'static str>,
}

impl Messages {
    /// A reader that takes at most `max_text` bytes of a string.
    pub fn new(max_text: usize) -> Self {
        Self { scanner: Scanner::new(max_text).with_pieces(), malformed: None }
    }
}

impl Framing for Messages {
    fn push(&mut self, message: &[u8], api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent)) {
        let Self { scanner, malformed } = self;
        scanner.reset();
        let mut take = |path: &[Step<'_>], token: Token<'_>| draft.response_value(api, path, token);
        scanner.push(message, &mut take);
        scanner.finish(&mut take);
        if let Status::Broken(reason) = scanner.status() {
            malformed.get_or_insert(reason);
        }
        sink(ResponseEvent::Event { content: api.response_document(true, draft) });
    }

    /// The next message is whole again.
    fn gap(&mut self, _api: &mut dyn WireApi, _draft: &mut Draft) {}

    fn end(&mut self, _api: &mut dyn WireApi, _draft: &mut Draft, _sink: &mut dyn FnMut(ResponseEvent)) {}

    fn is_stream(&self) -> bool {
        true
    }

    fn malformed(&self) -> Option<&'static str> {
        self.malformed
    }
}
