//! `rerank`: `/rerank` of Cohere, Voyage, Jina and local engines, and `/score` of vLLM.

use super::{
    api::{Draft, WireApi},
    content::Part,
    openai::{plain::PlainReader, request_parameter},
};
use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Rerank {
    has_query: bool,
    has_documents: bool,
    plain: PlainReader,
}

impl WireApi for Rerank {
    fn name(&self) -> &'static str {
        "rerank"
    }

    fn operation(&self) -> &'static str {
        "rerank"
    }

    fn default_provider(&self) -> &'static str {
        "openai"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let starts = matches!(token, Token::ArrayStart | Token::String { .. });
        match path {
            // Two texts to compare have other names in several versions of vLLM.
            [Key("query" | "text_1" | "queries" | "data_1")] => {
                self.has_query |= starts;
                if let Token::String { .. } = token {
                    draft.input.begin_as("user");
                    draft.input.add_text(token, Part::Text);
                }
            }
            [Key("documents" | "texts" | "text_2" | "data_2" | "items")] => self.has_documents |= starts,
            _ => request_parameter(path, token, draft),
        }
        draft.request_hint |= self.has_query && self.has_documents;
        draft.request_proof |= self.has_query && self.has_documents && draft.request.model.is_some();
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("results" | "data"), Index(_), Key("relevance_score")], Token::Number(_)) => {
                draft.response_proof = true;
            }
            // vLLM's scores and the bare list of text-embeddings-inference are like many other answers.
            ([Key("data"), Index(_), Key("score")] | [Index(_), Key("score")], Token::Number(_)) => {
                draft.response_proof |= self.has_query && self.has_documents;
            }
            _ => self.plain.value(path, token, draft),
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        self.plain.end(draft);
        // Nothing is put out: all tokens are the input's.
        draft.usage.input = draft.usage.input.or(draft.usage.total);
        false
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        body_ended && draft.response_proof
    }
}
