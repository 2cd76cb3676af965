//! Calls whose bodies are gRPC messages ("gRPC over HTTP2", length-prefixed messages).
//!
//! Owns how a message becomes what a JSON document is: values with paths, by a table of the fields that are wanted. So an
//! API's one reader takes both. How a body is cut into messages and how these are compressed is `protocol::grpc`'s. The
//! status of the call stands in trailers, which are HTTP's.
//!
//! To add a method: its table in `grpc_tables`, and its path where its API is registered.

pub(crate) mod tables;

use super::{
    api::{Draft, WireApi},
    framing::Framing,
    session::ResponseEvent,
};
use crate::protocol::{
    grpc::{Event, Parser},
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

/// Names of the status codes, in their order (gRPC, "Status codes and their use").
const STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of the status with this number, if it says that the call failed. A number that has no name is unknown, as it
/// is for gRPC's own clients.
pub(crate) fn failed(number: &str) -> Option<&'static str> {
    let number: usize = number.trim().parse().ok()?;
    (number != 0).then(|| STATUS.get(number).copied().unwrap_or("UNKNOWN"))
}

/// What a body says.
pub(crate) enum Read<'a> {
    /// A value of the message.
    Value(&'a [Step<'a>], Token<'a>),
    /// The message is over.
    End,
}

/// Reads one body.
pub(crate) struct Messages {
    parser: Parser,
    scanner: Scanner,
    malformed: Option<&'static str>,
}

impl Messages {
    /// A reader of messages with these fields, compressed as `coding` says, that takes at most `max_text` bytes of a text.
    pub fn new(fields: &'static [Field], coding: Option<&str>, max_text: usize) -> Self {
        Self { parser: Parser::new(coding), scanner: Scanner::new(fields, max_text), malformed: None }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Read<'_>)) {
        let Self { parser, scanner, malformed } = self;
        parser.push(bytes, &mut |event| match event {
            Event::Data(bytes) => scanner.push(bytes, &mut |path, token| sink(Read::Value(path, token))),
            Event::End { is_whole } => {
                if is_whole {
                    scanner.finish(&mut |path, token| sink(Read::Value(path, token)));
                    *malformed = malformed.or(scanner.malformed());
                }
                scanner.reset();
                sink(Read::End);
            }
        });
    }

    /// Bytes are missing: where the next message begins cannot be told.
    pub fn gap(&mut self) {
        self.parser.gap(&mut |_| {});
    }

    /// The body is over.
    pub fn end(&mut self) {
        self.parser.end(&mut |_| {});
    }

    /// Whether every message so far is whole.
    pub fn is_whole(&self) -> bool {
        self.malformed().is_none() && self.parser.is_between_messages()
    }

    /// Why something of the body could not be read.
    pub fn malformed(&self) -> Option<&'static str> {
        self.malformed.or(self.parser.malformed())
    }
}

/// The messages of a response.
pub(crate) struct Responses {
    messages: Messages,
    streams: bool,
}

impl Responses {
    /// A reader of what `method` answers, compressed as `coding` says.
    pub fn new(method: Method, coding: Option<&str>, max_text: usize) -> Self {
        Self { messages: Messages::new(method.response, coding, max_text), streams: method.streams }
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
