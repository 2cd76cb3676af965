//! `anthropic.complete`: the legacy `/v1/complete`, whose answer counts no tokens.

use crate::{
    llm::{
        api::{Draft, WireApi},
        choice::Choice,
        content::Part,
        openai::{error::ErrorReader, request_parameter, stop_sequence},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct AnthropicComplete {
    has_prompt: bool,
    choice: Choice,
    error: ErrorReader,
}

impl WireApi for AnthropicComplete {
    fn name(&self) -> &'static str {
        "anthropic.complete"
    }

    fn operation(&self) -> &'static str {
        "text_completion"
    }

    fn default_provider(&self) -> &'static str {
        "anthropic"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("prompt")], Token::String { .. }) => {
                self.has_prompt = true;
                draft.input.begin_as("user");
                draft.input.add_text(token, Part::Text);
            }
            ([Key("max_tokens_to_sample")], _) => draft.request.max_tokens = value::count(token),
            ([Key("stop_sequences"), Index(_)], _) => stop_sequence(token, &mut draft.request),
            _ => request_parameter(path, token, draft),
        }
        draft.request_proof |= self.has_prompt && draft.request.max_tokens.is_some() && draft.request.model.is_some();
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let response = &mut draft.response;
        match (path, token) {
            ([Key("type")], Token::String { text, .. }) => draft.response_proof |= text == "completion",
            ([Key("id")], _) if response.id.is_none() => response.id = value::name(token),
            ([Key("model")], _) => response.model = value::name(token).or(response.model.take()),
            ([Key("stop_reason")], _) => self.choice.finish = value::name(token),
            ([Key("completion")], _) => self.choice.say(token, &mut draft.choices.budget.clone()),
            ([Key("error"), rest @ ..], _) => self.error.value(rest, token),
            _ => {}
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        if let Some(failure) = std::mem::take(&mut self.error).end() {
            draft.failure.get_or_insert(failure);
        }
        let choice = std::mem::take(&mut self.choice);
        let carries = choice.carries;
        if carries || choice.finish.is_some() {
            draft.choices.absorb(0, choice);
        }
        carries
    }

    fn is_finished(&self, _body_ended: bool, draft: &Draft) -> bool {
        draft.choices.all_finished(1)
    }
}
