//! Calls whose bodies are gRPC messages ("gRPC over HTTP2", length-prefixed messages).
//!
//! Owns how such a body is cut into messages and how a message becomes what a JSON document is: values with paths, by a
//! table of the fields that are wanted. So an API's one reader takes both. A message that is compressed is not read. The
//! status of the call stands in trailers, which are HTTP's.

use super::{
    api::{Draft, WireApi},
    body::Framing,
    session::ResponseEvent,
};
use crate::protocol::{
    json::{Step, Token},
    protobuf::{Field, Scanner},
};

/// What the messages of a method hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    /// Of the request's messages.
    pub request: &'static [Field],
    /// Of the response's messages.
    pub response: &'static [Field],
    /// Whether a response may have several.
    pub streams: bool,
}

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What a body says.
pub(crate) enum Read<'a> {
    /// A value of the message.
    Value(&'a [Step<'a>], Token<'a>),
    /// The message is over.
    End,
}

/// Reads one body.
#[derive(Debug)]
pub(crate) struct Messages {
    scanner: Scanner,
    prefix: Vec<u8>,
    /// Bytes of the message that are still to come; absent in a prefix.
    left: Option<u32>,
    compressed: bool,
    lost: bool,
    malformed: Option<&'static str>,
}

impl Messages {
    /// A reader of messages with these fields, that takes at most `max_text` bytes of a text.
    pub fn new(fields: &'static [Field], max_text: usize) -> Self {
        Self {
            scanner: Scanner::new(fields, max_text),
            prefix: Vec::with_capacity(PREFIX),
            left: None,
            compressed: false,
            lost: false,
            malformed: None,
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Read<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.lost {
            let wanted = self.left.map_or(PREFIX.saturating_sub(self.prefix.len()), |left| left as usize);
            let (taken, tail) = rest.split_at(wanted.min(rest.len()));
            rest = tail;
            match self.left {
                None => {
                    self.prefix.extend_from_slice(taken);
                    self.begin();
                }
                Some(left) => {
                    if !self.compressed {
                        self.scanner.push(taken, &mut |path, token| sink(Read::Value(path, token)));
                    }
                    self.left = Some(left.saturating_sub(taken.len() as u32));
                }
            }
            if self.left == Some(0) {
                self.end_message(sink);
            }
        }
    }

    /// Bytes are missing: where the next message begins cannot be told.
    pub fn gap(&mut self) {
        self.lost = true;
    }

    /// The body is over.
    pub fn end(&mut self) {
        if !self.lost && (self.left.is_some() || !self.prefix.is_empty()) {
            self.malformed.get_or_insert("the body ends inside a message");
        }
    }

    /// Whether every message so far is whole.
    pub fn is_whole(&self) -> bool {
        !self.lost && self.malformed.is_none() && self.left.is_none() && self.prefix.is_empty()
    }

    /// Why something of the body could not be read.
    pub fn malformed(&self) -> Option<&'static str> {
        self.malformed
    }

    fn begin(&mut self) {
        if let [flag, length @ ..] = self.prefix.as_slice()
            && let Ok(length) = <[u8; 4]>::try_from(length)
        {
            self.compressed = *flag != 0;
            self.left = Some(u32::from_be_bytes(length));
            self.prefix.clear();
            self.scanner.reset();
        }
    }

    fn end_message(&mut self, sink: &mut dyn FnMut(Read<'_>)) {
        self.left = None;
        if self.compressed {
            self.malformed.get_or_insert("a compressed message is not read");
        } else {
            self.scanner.finish(&mut |path, token| sink(Read::Value(path, token)));
            self.malformed = self.malformed.or(self.scanner.malformed());
        }
        sink(Read::End);
    }
}

/// The messages of a response.
pub(crate) struct Responses {
    messages: Messages,
    streams: bool,
}

impl Responses {
    /// A reader of what `method` answers.
    pub fn new(method: Method, max_text: usize) -> Self {
        Self { messages: Messages::new(method.response, max_text), streams: method.streams }
    }
}

impl Framing for Responses {
    fn push(&mut self, bytes: &[u8], api: &mut dyn WireApi, draft: &mut Draft, sink: &mut dyn FnMut(ResponseEvent)) {
        let streams = self.streams;
        self.messages.push(bytes, &mut |read| match read {
            Read::Value(path, token) => api.response_value(path, token, draft),
            Read::End => {
                let content = api.response_document(streams, draft);
                if streams {
                    sink(ResponseEvent::Event { content });
                }
            }
        });
    }

    fn gap(&mut self, _api: &mut dyn WireApi, _draft: &mut Draft) {
        self.messages.gap();
    }

    fn end(&mut self, _api: &mut dyn WireApi, _draft: &mut Draft, _sink: &mut dyn FnMut(ResponseEvent)) {
        self.messages.end();
    }

    fn is_stream(&self) -> bool {
        self.streams
    }

    fn malformed(&self) -> Option<&'static str> {
        self.messages.malformed()
    }
}
