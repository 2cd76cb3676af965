//! What answers that are one document have in common, in the APIs around OpenAI's shape that do not chat.

use super::{error::ErrorReader, usage::UsageReader};
use crate::{
    llm::{api::Draft, cohere::usage::usage_value, value},
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};

/// Reads response documents.
#[derive(Debug, Default)]
pub(crate) struct PlainReader {
    usage: UsageReader,
    error: ErrorReader,
}

impl PlainReader {
    /// Takes one value.
    pub fn value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let response = &mut draft.response;
        match path {
            [Key("id")] if response.id.is_none() => response.id = value::name(token),
            [Key("model")] => response.model = value::name(token).or(response.model.take()),
            [Key("provider")] => response.upstream_provider = value::name(token),
            [Key("usage"), rest @ ..] => self.usage.value(rest, token),
            // Cohere's usage.
            [Key("meta"), rest @ ..] => usage_value(rest, token, draft),
            [Key("error"), rest @ ..] => self.error.value(rest, token),
            [Key("object" | "message" | "code" | "type")] => self.error.root(path, token),
            _ => {}
        }
    }

    /// Adds the document to the call.
    pub fn end(&mut self, draft: &mut Draft) {
        let Self { usage, error } = std::mem::take(self);
        usage.end(draft);
        if let Some(failure) = error.end() {
            draft.failure.get_or_insert(failure);
        }
    }
}
