//! `tgi.generate`: `/generate`, `/generate_stream` and `/` of Hugging Face's Text Generation Inference.
//!
//! Source: `docs/openapi.json` of huggingface/text-generation-inference. A stream has one token an event; the last one
//! repeats the whole text beside its token. `/` answers with an array of one. Token counts of a plain answer are in its
//! details, which must be asked for, and always in the head.

use super::{sampling, single::Single};
use crate::{
    llm::{
        api::{Draft, Failure, Part, WireApi},
        engines, value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Tgi {
    /// Other tasks of Hugging Face's endpoints have the same path and request.
    is_shared: bool,
    has_inputs: bool,
    has_parameters: bool,
    answer: Single,
    seen: Seen,
    finished: bool,
}

/// Members of one document.
#[derive(Debug, Default)]
struct Seen {
    token: bool,
    special: Option<bool>,
    whole: bool,
    error: bool,
    error_type: Option<String>,
}

impl Tgi {
    /// A call of which nothing has been read. `is_shared` says that its path and request prove nothing.
    pub fn new(is_shared: bool) -> Self {
        Self { is_shared, ..Self::default() }
    }
}

impl WireApi for Tgi {
    fn name(&self) -> &'static str {
        "tgi.generate"
    }

    fn operation(&self) -> &'static str {
        "text_completion"
    }

    fn default_provider(&self) -> &'static str {
        engines::TGI
    }

    fn header(&mut self, part: Part, name: &'static str, value: &str, draft: &mut Draft) {
        match (part, name) {
            (Part::Response, "x-prompt-tokens") => draft.usage.input = value.parse().ok(),
            (Part::Response, "x-generated-tokens") => draft.usage.output = value.parse().ok(),
            _ => {}
        }
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("inputs")], Token::String { .. }) => {
                self.has_inputs = true;
                draft.input.add_message("user", token);
            }
            ([Key("parameters")], Token::ObjectStart) => self.has_parameters = true,
            ([Key("parameters"), rest @ ..], _) => sampling::parameter(rest, token, &mut draft.request),
            ([Key("stream")], _) => sampling::parameter(path, token, &mut draft.request),
            _ => {}
        }
        draft.request_hint |= self.has_inputs;
        draft.request_proof |= self.has_inputs && self.has_parameters && !self.is_shared;
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let rest = match path {
            [Index(0), rest @ ..] => rest,
            _ => path,
        };
        match (rest, token) {
            ([Key("token")], Token::ObjectStart) => self.seen.token = true,
            ([Key("token"), Key("text")], _) => self.answer.text(token, draft),
            ([Key("token"), Key("special")], Token::Bool(special)) => self.seen.special = Some(special),
            ([Key("generated_text")], Token::String { .. }) => {
                self.seen.whole = true;
                // In a stream it follows the token.
                if !self.seen.token {
                    self.answer.text(token, draft);
                }
            }
            ([Key("details"), Key("finish_reason")], _) => self.answer.finish(token),
            ([Key("details"), Key("generated_tokens")], _) => {
                draft.usage.output = value::count(token).or(draft.usage.output);
            }
            ([Key("details"), Key("input_length")], _) => {
                draft.usage.input = value::count(token).or(draft.usage.input);
            }
            ([Key("error")], Token::String { .. }) => self.seen.error = true,
            ([Key("error_type")], Token::String { text, .. }) => {
                self.seen.error_type = value::is_code(text).then(|| text.to_owned());
            }
            _ => {}
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        let Seen { token, special, whole, error, error_type } = std::mem::take(&mut self.seen);
        let token = token && special.is_some();
        draft.response_proof |= token || whole;
        self.finished |= whole;
        if error {
            let shaped = error_type.is_some();
            draft.failure.get_or_insert(Failure { kind: error_type, shaped });
        }
        if special == Some(true) {
            // Such a token ends the text and is no part of it.
            self.answer.drop_text();
        }
        match token || whole {
            true => self.answer.end(0, draft),
            false => false,
        }
    }

    fn is_finished(&self, _body_ended: bool, _draft: &Draft) -> bool {
        self.finished
    }
}
