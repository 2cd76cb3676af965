//! `openai.completions`: the legacy `/completions`, which local engines and code completion still use.

use super::{
    api::{Draft, WireApi},
    content::Part,
    openai::{ResponseReader, request_parameter},
};
use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};

/// Reads one completion call.
#[derive(Debug, Default)]
pub(crate) struct OpenAiCompletions {
    response: ResponseReader,
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
                draft.request_proof = true;
                prompt(token, draft);
            }
            ([Key("prompt"), Index(_)], _) => prompt(token, draft),
            _ => request_parameter(path, token, draft),
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        self.response.value(path, token, |object| object.starts_with("text_completion"), draft);
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.response.end(streamed, draft)
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        draft.choices.all_finished(draft.request.choice_count.unwrap_or(1)) && (body_ended || draft.usage.is_reported())
    }
}

/// One prompt is one message.
fn prompt(token: Token<'_>, draft: &mut Draft) {
    if !matches!(token, Token::String { .. }) || !draft.input.budget.is_on() {
        return;
    }
    draft.input.begin_as("user");
    draft.input.add_text(token, Part::Text);
}
