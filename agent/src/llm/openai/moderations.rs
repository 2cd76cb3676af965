//! `openai.moderations`: `/moderations` of OpenAI and Mistral. It counts no tokens.

use super::{embeddings::text, plain::PlainReader, request_parameter};
use crate::{
    llm::api::{Draft, WireApi},
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Moderations {
    has_input: bool,
    plain: PlainReader,
}

impl WireApi for Moderations {
    fn name(&self) -> &'static str {
        "openai.moderations"
    }

    fn operation(&self) -> &'static str {
        "moderation"
    }

    fn default_provider(&self) -> &'static str {
        "openai"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match path {
            [Key("input")] => {
                self.has_input |= matches!(token, Token::ArrayStart | Token::String { .. });
                text(token, draft);
            }
            [Key("input"), Index(_)] | [Key("input"), Index(_), Key("text" | "content")] => text(token, draft),
            _ => request_parameter(path, token, draft),
        }
        // OpenAI has a default model.
        draft.request_hint |= self.has_input;
        draft.request_proof |= self.has_input && draft.request.model.is_some();
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            // Mistral has no `flagged`.
            ([Key("results"), Index(_), Key("flagged")], Token::Bool(_))
            | ([Key("results"), Index(_), Key("category_scores")], Token::ObjectStart) => draft.response_proof = true,
            _ => self.plain.value(path, token, draft),
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        self.plain.end(draft);
        false
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        body_ended && draft.response_proof
    }
}
