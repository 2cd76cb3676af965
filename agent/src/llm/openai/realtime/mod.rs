//! `openai.realtime`: responses on a socket of OpenAI's Realtime API, and of those who copied it (Azure, xAI).
//!
//! A response rests on what the socket said before it: the session's settings and the conversation's items. `socket/`
//! tells all of them in the form of one request of the Responses API, whose members nearly all have the same names.
//!
//! To read one more member: of a request, in `request_value`, by its path below `session` or `response`; of a response,
//! in `responses/output.rs`, which reads both APIs' events.

pub(crate) mod transcript;

use super::{
    Elements, request_parameter,
    responses::{input::InputReader, output::OutputReader},
};
use crate::{
    llm::{
        api::{Draft, WireApi},
        content::Part,
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one response.
#[derive(Debug, Default)]
pub(crate) struct Realtime {
    input: InputReader,
    tools: Elements,
    output: OutputReader,
}

impl WireApi for Realtime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn operation(&self) -> &'static str {
        "chat"
    }

    fn default_provider(&self) -> &'static str {
        "openai"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let request = &mut draft.request;
        match path {
            // The transcript of an item that was spoken and counted before.
            [Key("input"), Index(_)] if matches!(token, Token::String { .. }) => draft.input.add_message("user", token),
            [Key("input"), rest @ ..] => {
                if let ([Index(_)], Token::ObjectStart) = (rest, token) {
                    request.message_count = Some(request.message_count.unwrap_or(0).saturating_add(1));
                }
                if draft.input.budget.is_on() {
                    self.input.value(rest, token, &mut draft.input);
                }
            }
            [Key("instructions")] => draft.instructions.add_text(token, Part::Text),
            [Key("tools"), rest @ ..] => {
                self.tools.take(rest, token, &mut request.tool_count);
                draft.tools.take(2, path, token);
            }
            // The older name is the beta's; no limit is spelt `inf`.
            [Key("max_output_tokens" | "max_response_output_tokens")] => request.max_tokens = value::count(token),
            [Key("output_modalities"), Index(_)] => {
                if let Token::String { text: "audio", .. } = token {
                    request.output_type = Some("speech");
                }
            }
            _ => request_parameter(path, token, draft),
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        if let [Key("response"), Key("conversation_id")] = path {
            // Null for a response apart from the conversation.
            draft.request.conversation_id = value::name(token);
        }
        self.output.value(path, token, draft);
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.output.end(streamed, draft)
    }

    fn is_finished(&self, _body_ended: bool, _draft: &Draft) -> bool {
        self.output.is_over()
    }
}

/// `inferscope.api` of all that a realtime socket carries.
pub(crate) const NAME: &str = "openai.realtime";
