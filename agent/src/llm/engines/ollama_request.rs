//! The requests of Ollama's native API.

use super::{ollama::Kind, sampling};
use crate::{
    llm::{
        api::Draft,
        block::Block,
        content::{Part, Transcript},
        openai::Elements,
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one request.
#[derive(Debug)]
pub(crate) struct Request {
    kind: Kind,
    has_model: bool,
    has_body: bool,
    /// A member that only this API has.
    has_own: bool,
    messages: Elements,
    tools: Elements,
    call: Block,
}

impl Request {
    /// A request of which nothing has been read.
    pub fn new(kind: Kind) -> Self {
        let (messages, tools) = (Elements::default(), Elements::default());
        Self { kind, has_model: false, has_body: false, has_own: false, messages, tools, call: Block::default() }
    }

    /// Takes one value.
    pub fn value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let request = &mut draft.request;
        match (path, token) {
            ([Key("model")], Token::String { .. }) => {
                self.has_model = true;
                request.model = value::name(token);
            }
            ([Key("stream")], _) => sampling::parameter(path, token, request),
            ([Key("options"), rest @ ..], _) => sampling::parameter(rest, token, request),
            ([Key("format")], Token::String { text: "json", .. } | Token::ObjectStart) => {
                request.output_type = Some("json")
            }
            ([Key("messages"), rest @ ..], _) if self.kind == Kind::Chat => {
                self.has_body |= matches!((rest, token), ([], Token::ArrayStart));
                self.messages.take(rest, token, &mut request.message_count);
                if draft.input.budget.is_on() {
                    message(path, token, &mut self.call, &mut draft.input);
                }
            }
            ([Key("tools"), rest @ ..], _) => {
                self.tools.take(rest, token, &mut request.tool_count);
                draft.tools.take(2, path, token);
            }
            ([Key("prompt")], Token::String { .. }) if self.kind == Kind::Generate => {
                self.has_body = true;
                draft.input.add_message("user", token);
            }
            ([Key("system")], _) if self.kind == Kind::Generate => draft.instructions.add_text(token, Part::Text),
            // The end of the whole: what it did not say, it did not say.
            ([], Token::ObjectEnd) => {
                request.stream.get_or_insert(true);
            }
            _ => {}
        }
        self.has_own |= matches!(path, [Key("options" | "keep_alive" | "think" | "raw" | "template" | "context")]);
        // Many a web program has a path /api/chat that takes a model and messages. What answers it must tell then.
        draft.request_hint |= self.has_model && self.has_body;
        draft.request_proof |= self.has_model && self.has_body && self.has_own;
    }
}

/// Reads one value of the message list for content.
fn message(path: &[Step<'_>], token: Token<'_>, call: &mut Block, input: &mut Transcript) {
    match (path.get(1..).unwrap_or_default(), token) {
        ([Index(_)], Token::ObjectStart) => input.begin(),
        ([Index(_), Key("role")], _) => {
            if let Some((message, budget)) = input.current() {
                message.role = budget.name(token);
            }
        }
        ([Index(_), Key("content")], _) => input.add_text(token, Part::Text),
        ([Index(_), Key("thinking")], _) => input.add_text(token, Part::Reasoning),
        ([Index(_), Key("images"), Index(_)], Token::String { .. }) => input.add_blob("image", None),
        ([Index(_), Key("tool_calls"), Index(_)], Token::ObjectStart) => call.start(),
        ([Index(_), Key("tool_calls"), Index(_), Key("function"), rest @ ..], _) => match rest {
            [Key("name")] => call.call_name(token, input),
            [Key("arguments"), ..] => call.call_value(6, path, token, input),
            _ => {}
        },
        _ => {}
    }
}
