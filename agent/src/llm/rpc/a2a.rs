//! `a2a`: the Agent2Agent protocol, over JSON-RPC and over plain HTTP.
//!
//! Owns which messages are A2A's. Source: the specification's versions 0.3 and 1.0, which spell methods and states
//! differently. The plain binding names the method in its path and has no envelope. A stream tells of a task until that
//! is in a state that ends it.

use super::{
    jsonrpc::{Message, Reader, TaskKey},
    mcp::{RpcFacts, answer},
};
use crate::{
    llm::{
        api::{Draft, Part, WireApi},
        value,
    },
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};

/// Methods of version 1.0.
const METHODS: &[&str] = &[
    "SendMessage",
    "SendStreamingMessage",
    "GetTask",
    "ListTasks",
    "CancelTask",
    "SubscribeToTask",
    "CreateTaskPushNotificationConfig",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "DeleteTaskPushNotificationConfig",
    "GetExtendedAgentCard",
];

/// Whether a message is one of A2A's requests. `named` says that a header names the protocol.
fn is_request(message: &Message, named: bool) -> bool {
    let Some(method) = message.method.as_deref().filter(|_| message.is_rpc) else { return false };
    match method.split_once('/') {
        _ if named => true,
        None => METHODS.contains(&method),
        Some(("message", "send" | "stream") | ("tasks", "resubscribe" | "send" | "sendSubscribe")) => true,
        // MCP has tasks as well, under another key.
        Some(("tasks", "get" | "cancel")) => message.task == Some(TaskKey::Id),
        Some(("tasks", rest)) => rest.starts_with("pushNotificationConfig/"),
        Some(("agent", "getAuthenticatedExtendedCard")) => true,
        Some(_) => false,
    }
}

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct A2a {
    /// What the path calls, in the binding without an envelope.
    method: Option<&'static str>,
    reader: Reader,
    named: bool,
    version: Option<String>,
    has_message: bool,
    answered: bool,
    streams: bool,
}

impl A2a {
    /// A call of which nothing has been read. `method` is what the path says in the plain binding.
    pub fn new(method: Option<&'static str>) -> Self {
        Self { method, ..Self::default() }
    }
}

/// Whether a task in this state goes on without anybody's doing.
fn goes_on(state: &str) -> bool {
    matches!(state, "submitted" | "working" | "TASK_STATE_SUBMITTED" | "TASK_STATE_WORKING")
}

impl WireApi for A2a {
    fn name(&self) -> &'static str {
        "a2a"
    }

    fn operation(&self) -> &'static str {
        "invoke_agent"
    }

    fn default_provider(&self) -> &'static str {
        "a2a"
    }

    fn header(&mut self, part: Part, name: &'static str, value: &str, _draft: &mut Draft) {
        if part == Part::Request && name == "a2a-version" {
            (self.named, self.version) = (true, value::clean(value));
        }
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        self.reader.value(path, token);
        if let Some(method) = self.method {
            self.has_message |= matches!(path, [Key("message"), Key("parts" | "messageId" | "content")]);
            if self.has_message && !draft.request_proof {
                draft.request_proof = true;
                self.streams = method == "SendStreamingMessage";
                let (method, protocol_version) = (method.to_owned(), self.version.clone());
                draft.rpc = Some(RpcFacts { method, protocol_version, ..RpcFacts::default() });
            }
        } else if path.is_empty() && token == Token::ObjectEnd {
            let message = self.reader.end();
            if is_request(&message, self.named) {
                draft.request_proof = true;
                let Message { id, method, .. } = message;
                let method = method.unwrap_or_default();
                self.streams = matches!(
                    method.as_str(),
                    "SendStreamingMessage"
                        | "SubscribeToTask"
                        | "message/stream"
                        | "tasks/resubscribe"
                        | "tasks/sendSubscribe"
                );
                let protocol_version = self.version.clone();
                draft.rpc = Some(RpcFacts { method, request_id: id, protocol_version, ..RpcFacts::default() });
            }
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, _draft: &mut Draft) {
        match self.method {
            Some(_) => self.reader.plain(path, token),
            None => self.reader.value(path, token),
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        let message = self.reader.end();
        let Some(mut facts) = draft.rpc.take() else { return false };
        answer(&mut facts, &message, draft);
        let ends = message.task_state.as_deref().is_none_or(|state| !goes_on(state));
        self.answered |= match self.streams {
            // A message is a whole answer, an artifact is a part of one.
            true => message.has_error || (message.task_state.is_some() && ends),
            false => message.is_response() || self.method.is_some(),
        };
        facts.task_state = message.task_state.or(facts.task_state);
        draft.rpc = Some(facts);
        message.has_parts
    }

    fn is_finished(&self, body_ended: bool, _draft: &Draft) -> bool {
        self.answered || (body_ended && self.streams)
    }
}
