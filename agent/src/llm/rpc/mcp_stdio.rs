//! The Model Context Protocol over a server's standard input and output: one message of JSON-RPC a line.
//!
//! Owns which lines are its messages and what each says. Both directions carry requests: a server asks its client for
//! a sample, the roots or its user. Which answer belongs to which request is `call`'s business, what a message means is
//! [`mcp`](super::mcp)'s. Source: the specification's section on transports, stdio, versions 2024-11-05 to 2026-07-28;
//! arrays of messages are of 2025-03-26.

use std::borrow::Cow;

use super::{
    jsonrpc::{Message, Reader},
    mcp::{facts_of, failure_of, is_request},
};
use crate::{
    llm::{
        MAX_NAME, RpcFacts,
        assemble::{OTHER, redact_call},
        facts::Facts,
    },
    privacy::Redactor,
    protocol::{
        json::{Step, Token},
        lines::{Item, Lines},
    },
};

/// Notifications that tell of another call while it runs, or are output: they have no span of their own.
const UNDER_WAY: [&str; 2] = ["notifications/progress", "notifications/message"];

/// Messages that speak for nothing, after which a direction is taken for another program's. Servers greet with some
/// lines at most, and what precedes an answer is other requests' notifications.
const MAX_FOREIGN: u32 = 32;

/// Bytes that speak for nothing, likewise. The first message that is seen whole may carry an image.
const MAX_FOREIGN_BYTES: u64 = 4 << 20;

/// What a direction says.
#[derive(Debug)]
pub(crate) enum Said {
    /// The first byte of a line.
    Begin,
    /// A request, by its id.
    Request(String, RpcFacts),
    /// A notification that has a span.
    Notification(RpcFacts),
    /// An answer to the request with this id.
    Answer(String, Answer),
    /// A line is no JSON, or not all of it.
    Stray,
    /// It is none of the protocol's, as far as can be told.
    Foreign,
}

/// What answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer(Box<Message>);

/// One direction of a conversation with a server.
pub(crate) struct Speech {
    lines: Lines,
    reader: Reader,
    standing: Standing,
}

/// Whose a direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Not known; so many messages and bytes spoke for nothing.
    Open { messages: u32, bytes: u64 },
    /// The protocol's.
    Ours,
    /// Another program's.
    Foreign,
}

impl Standing {
    /// So much more spoke for nothing.
    fn doubt(&mut self, more_messages: u32, more_bytes: u64) {
        let Self::Open { messages, bytes } = self else { return };
        *messages = messages.saturating_add(more_messages);
        *bytes = bytes.saturating_add(more_bytes);
        if *messages >= MAX_FOREIGN || *bytes > MAX_FOREIGN_BYTES {
            *self = Self::Foreign;
        }
    }
}

impl Default for Speech {
    fn default() -> Self {
        let standing = Standing::Open { messages: 0, bytes: 0 };
        Self { lines: Lines::new(MAX_NAME), reader: Reader::default(), standing }
    }
}

impl Speech {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Said)) {
        let Self { lines, reader, standing } = self;
        if *standing == Standing::Foreign {
            return;
        }
        lines.push(bytes, &mut |item| match item {
            Item::Begin => sink(Said::Begin),
            Item::Value(path, token) => {
                // Of an array each element is a message.
                let (path, is_element) = match path {
                    [Step::Index(_), rest @ ..] => (rest, true),
                    path => (path, false),
                };
                if path.is_empty() && !is_element && matches!(token, Token::ArrayStart | Token::ArrayEnd) {
                    return;
                }
                reader.value(path, token);
                if path.is_empty() && token == Token::ObjectEnd {
                    let said = said(reader.end(), *standing == Standing::Ours);
                    match &said {
                        Some(Said::Request(..) | Said::Notification(_)) => *standing = Standing::Ours,
                        _ => standing.doubt(1, 0),
                    }
                    said.into_iter().for_each(&mut *sink);
                }
            }
            Item::End(reason) => {
                reader.end();
                if reason.is_some() {
                    standing.doubt(1, 0);
                    sink(Said::Stray);
                }
            }
        });
        standing.doubt(0, bytes.len() as u64);
        if *standing == Standing::Foreign {
            sink(Said::Foreign);
        }
    }

    /// Bytes are missing.
    pub fn gap(&mut self) {
        self.lines.gap(&mut |_| ());
        self.reader.end();
    }

    /// It answered a request of the protocol's: what it says is the protocol's too.
    pub fn prove(&mut self) {
        self.standing = Standing::Ours;
    }
}

impl Answer {
    /// The facts of the call that is answered by it.
    pub fn facts(self, request: RpcFacts, redactor: &Redactor) -> Facts {
        let Self(message) = self;
        let mut rpc = request;
        rpc.error_code = message.error;
        rpc.protocol_version = message.protocol_version.clone().or(rpc.protocol_version);
        let failure = failure_of(&message).map(|failure| failure.kind);
        let kind = failure.map(|kind| {
            let known = kind.filter(|kind| matches!(redactor.credentials(kind), Cow::Borrowed(_)));
            known.unwrap_or_else(|| OTHER.to_owned())
        });
        Facts { error: kind, ..facts(rpc, redactor) }
    }
}

/// The facts of a call without an answer.
pub(crate) fn facts(mut rpc: RpcFacts, redactor: &Redactor) -> Facts {
    redact_call(&mut rpc, redactor);
    let operation = if rpc.tool.is_some() { "execute_tool" } else { "mcp" };
    Facts { api: "mcp", operation, provider: "mcp", rpc: Some(rpc), ..Facts::default() }
}

/// What a message says; nothing if it is none of the protocol's or has no span.
fn said(message: Message, proven: bool) -> Option<Said> {
    if message.is_rpc && message.is_response() {
        return message.id.clone().map(|id| Said::Answer(id, Answer(Box::new(message))));
    }
    if !is_request(&message, proven) {
        return None;
    }
    let facts = facts_of(message);
    match &facts.request_id {
        Some(id) => Some(Said::Request(id.clone(), facts)),
        None if UNDER_WAY.contains(&facts.method.as_str()) => None,
        None => Some(Said::Notification(facts)),
    }
}

#[cfg(test)]
#[path = "mcp_stdio_tests.rs"]
mod tests;
