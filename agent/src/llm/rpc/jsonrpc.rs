//! One JSON-RPC 2.0 message, as MCP and A2A send them.
//!
//! Owns what is taken of a message of either direction, whatever carried it: a body, an event of a stream, or a line of a
//! pipe. Feed [`Reader`] the values of one document and take the [`Message`]; nothing is kept from one message to the
//! next. Source: the JSON-RPC 2.0 specification, and the schemas of MCP and A2A for what lies below `params` and `result`.

use crate::{
    llm::value,
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// What one message said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// `jsonrpc` is `2.0`.
    pub is_rpc: bool,
    /// `id`, a number as it is written. Absent of a notification.
    pub id: Option<String>,
    /// `method`. Absent of a response.
    pub method: Option<String>,
    /// There is a `result`.
    pub has_result: bool,
    /// `error.code`.
    pub error: Option<i64>,
    /// There is an `error`, whether or not its code could be read.
    pub has_error: bool,
    /// `result.isError`: the call succeeded and the tool did not (MCP).
    pub tool_error: bool,
    /// `params.name`: tool or prompt (MCP).
    pub name: Option<String>,
    /// `params.uri`: resource (MCP).
    pub uri: Option<String>,
    /// `params.taskId` (MCP), `params.id` (A2A): which of the two has it.
    pub task: Option<TaskKey>,
    /// The version that the message names: in `initialize`, in its answer, or in `_meta`.
    pub protocol_version: Option<String>,
    /// `params._meta.traceparent` (MCP).
    pub traceparent: Option<String>,
    /// State of the task that the message tells of (A2A).
    pub task_state: Option<String>,
    /// The message carries parts of an answer (A2A).
    pub has_parts: bool,
}

/// How a message names a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskKey {
    /// `taskId`, as in MCP.
    TaskId,
    /// `id`, as in A2A.
    Id,
}

/// Reads messages one after the other.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    message: Message,
}

impl Reader {
    /// Takes one value. Of a batch the first message is read.
    pub fn value(&mut self, path: &[Step<'_>], token: Token<'_>) {
        let path = match path {
            [Index(0), rest @ ..] => rest,
            path => path,
        };
        let message = &mut self.message;
        match (path, token) {
            ([Key("jsonrpc")], Token::String { text, .. }) => message.is_rpc = text == "2.0",
            ([Key("id")], Token::Number(digits)) => message.id = Some(digits.to_owned()),
            ([Key("id")], _) => message.id = value::name(token),
            ([Key("method")], _) => message.method = value::name(token),
            ([Key("result")], _) => message.has_result = true,
            ([Key("error")], Token::ObjectStart) => message.has_error = true,
            ([Key("error"), Key("code")], _) => message.error = value::integer(token),
            ([Key("params"), rest @ ..], _) => message.param(rest, token),
            ([Key("result"), rest @ ..], _) => message.result(rest, token),
            _ => {}
        }
    }

    /// Takes one value of an answer without an envelope (A2A's plain binding).
    pub fn plain(&mut self, path: &[Step<'_>], token: Token<'_>) {
        match (path, token) {
            ([Key("error")], Token::ObjectStart) => self.message.has_error = true,
            ([Key("error"), Key("code")], _) => self.message.error = value::integer(token),
            _ => self.message.agent_answer(path, token),
        }
    }

    /// The document is over.
    pub fn end(&mut self) -> Message {
        std::mem::take(&mut self.message)
    }
}

impl Message {
    /// Whether it answers a request.
    pub fn is_response(&self) -> bool {
        self.method.is_none() && (self.has_result || self.has_error)
    }

    fn param(&mut self, rest: &[Step<'_>], token: Token<'_>) {
        match rest {
            [Key("name")] => self.name = value::name(token),
            [Key("uri")] => self.uri = value::name(token),
            [Key("taskId")] => self.task = Some(TaskKey::TaskId),
            [Key("id")] => self.task = Some(TaskKey::Id),
            [Key("protocolVersion")] | [Key("_meta"), Key("io.modelcontextprotocol/protocolVersion")] => {
                self.protocol_version = value::name(token);
            }
            [Key("_meta"), Key("traceparent")] => self.traceparent = value::name(token),
            _ => {}
        }
    }

    fn result(&mut self, rest: &[Step<'_>], token: Token<'_>) {
        match (rest, token) {
            ([Key("isError")], Token::Bool(failed)) => self.tool_error = failed,
            ([Key("protocolVersion")], _) => self.protocol_version = value::name(token),
            _ => self.agent_answer(rest, token),
        }
    }

    /// One value of what an agent answers (A2A): a task, a message, or an update of either. Version 1.0 wraps it in a member
    /// that says which, 0.3 gives it as it is.
    fn agent_answer(&mut self, rest: &[Step<'_>], token: Token<'_>) {
        let rest = match rest {
            [Key("task" | "message" | "statusUpdate" | "artifactUpdate"), rest @ ..] if !rest.is_empty() => rest,
            rest => rest,
        };
        match (rest, token) {
            ([Key("status"), Key("state")], _) => self.task_state = value::name(token),
            (
                [Key("parts"), Index(_)]
                | [Key("status"), Key("message"), Key("parts"), Index(_)]
                | [Key("artifact"), Key("parts"), Index(_)]
                | [Key("artifacts"), Index(_), Key("parts"), Index(_)],
                Token::ObjectStart,
            ) => self.has_parts = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Scanner;

    fn read(text: &str) -> Message {
        let mut reader = Reader::default();
        Scanner::new(256).push(text.as_bytes(), &mut |path, token| reader.value(path, token));
        reader.end()
    }

    #[test]
    fn requests_notifications_and_responses() {
        let request = read(
            r#"{"method":"tools/call","params":{"name":"f","_meta":{"traceparent":"00-a"}},"id":7,"jsonrpc":"2.0"}"#,
        );
        assert_eq!((request.id.as_deref(), request.method.as_deref()), (Some("7"), Some("tools/call")));
        assert_eq!((request.name.as_deref(), request.traceparent.as_deref()), (Some("f"), Some("00-a")));
        assert!(request.is_rpc && !request.is_response());
        let notification = read(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!((notification.id, notification.method.is_some()), (None, true));
        let response = read(r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"m"}}"#);
        assert_eq!((response.error, response.is_response()), (Some(-32602), true));
        assert!(read(r#"{"jsonrpc":"2.0","id":1,"result":null}"#).is_response());
        assert_eq!(
            read(r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"id":2,"method":"b"}]"#).method.as_deref(),
            Some("a")
        );
    }

    #[test]
    fn nothing_stays_from_one_message_to_the_next() {
        let mut reader = Reader::default();
        reader.value(&[Key("method")], Token::String { text: "a", truncated: false });
        reader.end();
        assert_eq!(reader.end(), Message::default());
    }
}
