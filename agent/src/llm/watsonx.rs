//! `watsonx.generate`: `/text/generation` and `/text/generation_stream` of IBM watsonx. Its chat has OpenAI's shape.

use super::{
    api::{Draft, WireApi},
    choice::Choice,
    content::Clipped,
    openai::{embeddings::text, error::ErrorReader, stop_sequence},
    value,
};
use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Watsonx {
    streams: bool,
    text: Clipped,
    finish: Option<String>,
    has_text: bool,
    error: ErrorReader,
}

impl Watsonx {
    /// A call of which nothing has been read.
    pub fn new(streams: bool) -> Self {
        Self { streams, ..Self::default() }
    }
}

impl WireApi for Watsonx {
    fn name(&self) -> &'static str {
        "watsonx.generate"
    }

    fn operation(&self) -> &'static str {
        "text_completion"
    }

    fn default_provider(&self) -> &'static str {
        "ibm.watsonx.ai"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let request = &mut draft.request;
        request.stream = Some(self.streams);
        match path {
            [Key("input")] => {
                draft.request_hint |= matches!(token, Token::String { .. });
                text(token, draft);
            }
            [Key("model_id")] => request.model = value::name(token).or(request.model.take()),
            [Key("parameters"), Key("max_new_tokens")] => request.max_tokens = value::count(token),
            [Key("parameters"), Key("temperature")] => request.temperature = value::float(token),
            [Key("parameters"), Key("top_p")] => request.top_p = value::float(token),
            [Key("parameters"), Key("top_k")] => request.top_k = value::float(token),
            [Key("parameters"), Key("random_seed")] => request.seed = value::integer(token),
            [Key("parameters"), Key("stop_sequences"), Index(_)] => stop_sequence(token, request),
            _ => {}
        }
        draft.request_proof |= draft.request_hint && draft.request.model.is_some();
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let usage = &mut draft.usage;
        match (path, token) {
            ([Key("model_id")], _) => draft.response.model = value::name(token).or(draft.response.model.take()),
            ([Key("results"), Index(0), Key("generated_text")], Token::String { .. } | Token::Piece(_)) => {
                draft.response_proof = true;
                self.text.push_token(token, &mut draft.choices.budget.clone());
                self.has_text |= self.text.heard.is_any();
            }
            ([Key("results"), Index(0), Key("stop_reason")], Token::String { text, .. }) => {
                self.finish = (text != "not_finished").then(|| value::name(token)).flatten();
            }
            // A stream repeats the prompt's tokens as zero after the first event, and counts what is put out so far.
            ([Key("results"), Index(0), Key("input_token_count")], _) => {
                usage.input = usage.input.max(value::count(token));
            }
            ([Key("results"), Index(0), Key("generated_token_count")], _) => {
                usage.output = value::count(token).or(usage.output);
            }
            ([Key("errors"), Index(0)], Token::ObjectStart) => self.error.value(&[], token),
            ([Key("errors"), Index(0), rest @ ..], _) => self.error.value(rest, token),
            _ => {}
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        if let Some(failure) = std::mem::take(&mut self.error).end() {
            draft.failure.get_or_insert(failure);
        }
        let (text, finish) = (std::mem::take(&mut self.text), self.finish.take());
        let carries = std::mem::take(&mut self.has_text);
        if carries || finish.is_some() {
            draft.choices.absorb(0, Choice { text, finish, carries, ..Choice::default() });
        }
        carries
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        body_ended && draft.choices.all_finished(1)
    }
}
