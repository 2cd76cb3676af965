//! `llamacpp.completion`: `/completion`, `/completions` and `/infill` of llama.cpp's server.
//!
//! Source: `tools/server/README.md` of ggml-org/llama.cpp. A stream has no sentinel: its last event has `stop: true`.
//! Several prompts in one request are answered by an array. `tokens_evaluated` is the whole prompt, what of it came from
//! the cache is `timings.cache_n`.

use super::{sampling, single::Single};
use crate::{
    llm::{
        api::{Draft, WireApi},
        engines,
        facts::Usage,
        openai::error::ErrorReader,
        results::Results,
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct LlamaCpp {
    has_prompt: bool,
    /// A member that no other API with such a path has.
    has_own: bool,
    answer: Single,
    seen: Seen,
    results: Results,
    error: ErrorReader,
    /// The last result is made.
    stopped: bool,
}

/// Members of one result.
#[derive(Debug, Default)]
struct Seen {
    content: bool,
    stop: Option<bool>,
    own: bool,
    index: Option<u32>,
    usage: Usage,
}

impl LlamaCpp {
    fn result_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("content")], Token::String { .. }) => {
                self.seen.content = true;
                self.answer.text(token, draft);
            }
            ([Key("stop")], Token::Bool(stop)) => self.seen.stop = Some(stop),
            ([Key("index")], _) => self.seen.index = value::index(token),
            ([Key("model")], _) => draft.response.model = value::name(token).or(draft.response.model.take()),
            ([Key("stop_type")], Token::String { text, .. }) if text != "none" => self.answer.finish(token),
            // How older versions say it.
            ([Key(key @ ("stopped_eos" | "stopped_limit" | "stopped_word"))], Token::Bool(true)) => {
                let text = key.trim_start_matches("stopped_");
                self.answer.finish(Token::String { text, truncated: false });
            }
            ([Key("tokens_evaluated")], _) => self.seen.usage.input = value::count(token),
            ([Key("tokens_predicted")], _) => {
                self.seen.own = true;
                self.seen.usage.output = value::count(token);
            }
            ([Key("timings"), Key("cache_n")], _) => self.seen.usage.cache_read = value::count(token),
            ([Key("timings"), Key(key)], _) => draft.timings.named(key, token),
            ([Key("id_slot" | "slot_id" | "generation_settings")], _) => self.seen.own = true,
            ([Key("error"), rest @ ..], _) => self.error.value(rest, token),
            _ => {}
        }
    }

    /// One result is over. `place` is its place in an array of them.
    fn result_end(&mut self, place: Option<u32>, draft: &mut Draft) -> bool {
        let Seen { content, stop, own, index, usage } = std::mem::take(&mut self.seen);
        if !(content && stop.is_some() && own) {
            return false;
        }
        draft.response_proof = true;
        self.stopped = stop == Some(true);
        let index = place.or(index).unwrap_or(0);
        self.results.report(index, usage);
        draft.usage = self.results.total(draft.request.choice_count.unwrap_or(1));
        self.answer.end(index, draft)
    }
}

impl WireApi for LlamaCpp {
    fn name(&self) -> &'static str {
        "llamacpp.completion"
    }

    fn operation(&self) -> &'static str {
        "text_completion"
    }

    fn default_provider(&self) -> &'static str {
        engines::LLAMA_CPP
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("prompt")], Token::String { .. } | Token::ArrayStart | Token::ObjectStart) => {
                self.has_prompt = true;
                draft.input.add_message("user", token);
            }
            ([Key("prompt"), Index(_)] | [Key("prompt"), Key("prompt_string")], _) => {
                draft.input.add_message("user", token);
            }
            ([Key("input_prefix" | "input_suffix")], Token::String { .. }) => {
                (self.has_prompt, self.has_own) = (true, true);
                draft.input.add_message("user", token);
            }
            ([Key("model")], _) => draft.request.model = value::name(token).or(draft.request.model.take()),
            _ => sampling::parameter(path, token, &mut draft.request),
        }
        self.has_own |= matches!(path, [Key("n_predict" | "cache_prompt" | "id_slot" | "n_probs" | "n_keep")]);
        draft.request_hint |= self.has_prompt;
        draft.request_proof |= self.has_prompt && self.has_own;
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Index(place)], Token::ObjectEnd) => {
                self.result_end(Some(*place), draft);
            }
            ([Index(_), rest @ ..], _) => self.result_value(rest, token, draft),
            _ => self.result_value(path, token, draft),
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        if let Some(failure) = std::mem::take(&mut self.error).end() {
            draft.failure.get_or_insert(failure);
        }
        self.result_end(None, draft)
    }

    fn is_finished(&self, _body_ended: bool, _draft: &Draft) -> bool {
        self.stopped
    }
}
