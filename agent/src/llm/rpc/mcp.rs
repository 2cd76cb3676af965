//! `mcp`: the Model Context Protocol over HTTP, and what its messages mean whatever carries them.
//!
//! Owns which messages are MCP's and what a span of one says. Source: the specification's versions 2024-11-05 to
//! 2026-07-28. A request is one POST, answered by one message or by a stream whose last message answers it; with the
//! oldest version the answer comes on another connection and only the request is seen. The newest names method and
//! target in headers as well. Over pipes see [`mcp_stdio`](super::mcp_stdio).

use super::jsonrpc::{Message, Reader, TaskKey};
use crate::{
    llm::{
        api::{Draft, Failure, Part, WireApi},
        value,
    },
    protocol::json::{Step, Token},
};

/// What a remote procedure call was, of MCP or A2A.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcFacts {
    /// Method, as the protocol spells it.
    pub method: String,
    /// Id of the request; absent of a notification.
    pub request_id: Option<String>,
    /// Tool that is called.
    pub tool: Option<String>,
    /// Prompt that is asked for.
    pub prompt: Option<String>,
    /// Resource that is read.
    pub resource: Option<String>,
    /// Version of the protocol.
    pub protocol_version: Option<String>,
    /// Code of the error that answered.
    pub error_code: Option<i64>,
    /// Trace context that the message itself carries (W3C Trace Context section 3.2).
    pub traceparent: Option<String>,
    /// State of the agent's task, the last that was told.
    pub task_state: Option<String>,
}

/// What a tool's failure is called.
const TOOL_ERROR: &str = "tool_error";

/// Whether a message is one of MCP's requests or notifications. `named` says that a header names the protocol; without,
/// what other protocols have as well is none.
pub(crate) fn is_request(message: &Message, named: bool) -> bool {
    let Some(method) = message.method.as_deref().filter(|_| message.is_rpc) else { return false };
    match method.split_once('/') {
        _ if named => true,
        // The language server protocol begins so too, with a number for its version.
        None => method == "initialize" && message.protocol_version.is_some(),
        // A2A has tasks as well, under another key.
        Some(("tasks", "get" | "cancel")) => message.task == Some(TaskKey::TaskId),
        Some(("tasks", "list" | "result")) => true,
        Some((group, _)) => matches!(
            group,
            "tools"
                | "resources"
                | "prompts"
                | "completion"
                | "logging"
                | "notifications"
                | "sampling"
                | "elicitation"
                | "roots"
                | "server"
                | "subscriptions"
        ),
    }
}

/// What a request says of its call.
pub(crate) fn facts_of(request: Message) -> RpcFacts {
    let Message { id, method, name, uri, protocol_version, traceparent, .. } = request;
    let method = method.unwrap_or_default();
    let (tool, prompt) = match method.as_str() {
        "tools/call" => (name, None),
        "prompts/get" => (None, name),
        _ => (None, None),
    };
    RpcFacts {
        method,
        request_id: id,
        tool,
        prompt,
        resource: uri,
        protocol_version,
        traceparent,
        ..RpcFacts::default()
    }
}

/// Adds what the answer says.
pub(crate) fn answer(facts: &mut RpcFacts, response: &Message, draft: &mut Draft) {
    facts.error_code = response.error;
    if response.protocol_version.is_some() {
        facts.protocol_version.clone_from(&response.protocol_version);
    }
    if let Some(failure) = failure_of(response) {
        draft.failure.get_or_insert(failure);
    }
}

/// The error that an answer is.
pub(crate) fn failure_of(response: &Message) -> Option<Failure> {
    let kind = match response {
        Message { error: Some(code), .. } => Some(code.to_string()),
        Message { has_error: true, .. } => None,
        Message { tool_error: true, .. } => Some(TOOL_ERROR.to_owned()),
        _ => return None,
    };
    Some(Failure { kind, shaped: true })
}

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Mcp {
    reader: Reader,
    /// A header names the protocol.
    named: bool,
    /// What the headers say of the call, for a body that is not seen.
    headers: RpcFacts,
    facts: Option<RpcFacts>,
    /// A notification has no answer.
    is_notification: bool,
    answered: bool,
}

impl WireApi for Mcp {
    fn name(&self) -> &'static str {
        "mcp"
    }

    fn operation(&self) -> &'static str {
        match &self.facts {
            Some(RpcFacts { tool: Some(_), .. }) => "execute_tool",
            _ => "mcp",
        }
    }

    fn default_provider(&self) -> &'static str {
        "mcp"
    }

    fn header(&mut self, part: Part, name: &'static str, value: &str, draft: &mut Draft) {
        match (part, name) {
            (Part::Request, "mcp-protocol-version") => self.headers.protocol_version = value::clean(value),
            (Part::Request, "mcp-method") => self.headers.method = value::clean(value).unwrap_or_default(),
            _ => return,
        }
        self.named = true;
        // The method says all that makes a span; the version alone does not.
        if !self.headers.method.is_empty() {
            draft.request_proof = true;
            draft.rpc = Some(self.headers.clone());
        }
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        self.reader.value(path, token);
        if path.is_empty() && matches!(token, Token::ObjectEnd | Token::ArrayEnd) {
            let message = self.reader.end();
            if is_request(&message, self.named) {
                self.is_notification = message.id.is_none();
                let mut facts = facts_of(message);
                facts.protocol_version = facts.protocol_version.or(self.headers.protocol_version.take());
                draft.request_proof = true;
                draft.rpc = Some(facts.clone());
                self.facts = Some(facts);
            }
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, _draft: &mut Draft) {
        self.reader.value(path, token);
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        let message = self.reader.end();
        if let Some(mut facts) = draft.rpc.take() {
            // A stream also brings progress and, in some versions, requests of the server's own.
            if message.is_response() {
                self.answered = true;
                answer(&mut facts, &message, draft);
            }
            draft.rpc = Some(facts);
        }
        false
    }

    fn is_finished(&self, body_ended: bool, _draft: &Draft) -> bool {
        self.answered || (body_ended && self.is_notification)
    }
}
