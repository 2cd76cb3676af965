//! `openai.completions`: the legacy `/completions`, which local engines and code completion still use.

use super::{ResponseReader, is_settled, request_parameter};
use crate::{
    llm::api::{Draft, WireApi},
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one completion call.
#[derive(Debug, Default)]
pub(crate) struct OpenAiCompletions {
    /// Another API has the path, whose requests have a prompt as well.
    is_shared: bool,
    has_prompt: bool,
    has_other: bool,
    response: ResponseReader,
}

impl OpenAiCompletions {
    /// A call of which nothing has been read. `is_shared` says that the path is llama.cpp's too.
    pub fn new(is_shared: bool) -> Self {
        Self { is_shared, ..Self::default() }
    }
}

impl WireApi for OpenAiCompletions {
    fn name(&self) -> &'static str {
        "openai.completions"
    }

    fn operation(&self) -> &'static str {
        "text_completion"
    }

    fn default_provider(&self) -> &'static str {
        "openai"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            // A string, a list of strings, or token numbers.
            ([Key("prompt")], Token::String { .. } | Token::ArrayStart) => {
                self.has_prompt = true;
                draft.input.add_message("user", token);
            }
            ([Key("prompt"), Index(_)], _) => draft.input.add_message("user", token),
            _ => request_parameter(path, token, draft),
        }
        self.has_other |= matches!(path, [Key("n_predict")]);
        draft.request_hint |= self.has_prompt;
        draft.request_proof |= self.has_prompt
            && match self.is_shared {
                false => true,
                // Only the whole request tells that it has nothing of the other's.
                true => path.is_empty() && draft.request.model.is_some() && !self.has_other,
            };
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        self.response.value(path, token, |object| object.starts_with("text_completion"), draft);
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.response.end(streamed, draft)
    }

    fn is_settled(&self, key: &str, value: &str) -> bool {
        is_settled(key, value)
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        draft.choices.all_finished(draft.request.choice_count.unwrap_or(1)) && (body_ended || draft.usage.is_reported())
    }
}
