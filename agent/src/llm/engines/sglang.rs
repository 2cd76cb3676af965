//! `sglang.generate`: `/generate` of SGLang.
//!
//! Source: `srt/managers/io_struct.py` and `tokenizer_manager.py` of sgl-project/sglang. Every event of a stream has the
//! whole text so far, unless the server was started to give increments; the first event that does not go on from the
//! last one tells. `meta_info` has counts that grow with the text. Several prompts are answered by an array.

use super::{sampling, single::Single};
use crate::{
    llm::{
        api::{Draft, Failure, WireApi},
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
pub(crate) struct Sglang {
    has_prompt: bool,
    has_sampling: bool,
    answer: Single,
    seen: Seen,
    results: Results,
    /// The text of an event is only what is new.
    increments: bool,
    error: ErrorReader,
    /// The last result is made.
    stopped: bool,
}

/// Members of one result.
#[derive(Debug, Default)]
struct Seen {
    meta: bool,
    body: bool,
    /// Its text, when content is on, and whether there was more. Not longer than what a scanner hands out.
    text: Option<(String, bool)>,
    has_text: bool,
    index: Option<u32>,
    usage: Usage,
    stopped: bool,
    abort: Option<Failure>,
}

impl Sglang {
    fn result_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("text")], Token::String { text, truncated }) => {
                (self.seen.body, self.seen.has_text) = (true, !text.is_empty());
                self.seen.text = draft.choices.budget.is_on().then(|| (text.to_owned(), truncated));
            }
            ([Key("output_ids")], Token::ArrayStart) => self.seen.body = true,
            ([Key("index")], _) => self.seen.index = value::index(token),
            ([Key("meta_info")], Token::ObjectStart) => self.seen.meta = true,
            ([Key("meta_info"), Key(key)], _) => self.meta(key, token, draft),
            ([Key("meta_info"), Key("finish_reason"), Key("type")], Token::String { text, .. }) => {
                self.seen.stopped = true;
                self.answer.finish(token);
                if text == "abort" {
                    self.seen.abort.get_or_insert_default();
                }
            }
            ([Key("meta_info"), Key("finish_reason"), Key("err_type")], Token::String { text, .. }) => {
                self.seen.abort.get_or_insert_default().kind = value::is_code(text).then(|| text.to_owned());
            }
            ([Key("error"), rest @ ..], _) => self.error.value(rest, token),
            _ => {}
        }
    }

    fn meta(&mut self, key: &str, token: Token<'_>, draft: &mut Draft) {
        let Seen { usage, .. } = &mut self.seen;
        match key {
            "id" if draft.response.id.is_none() => draft.response.id = value::name(token),
            "prompt_tokens" => usage.input = value::count(token),
            "completion_tokens" => usage.output = value::count(token),
            "cached_tokens" => usage.cache_read = value::count(token),
            "reasoning_tokens" => usage.reasoning = value::count(token),
            _ => draft.timings.named(key, token),
        }
    }

    /// One result is over. `place` is its place in an array of them.
    fn result_end(&mut self, place: Option<u32>, draft: &mut Draft) -> bool {
        let Seen { meta, body, text, has_text, index, usage, stopped, abort } = std::mem::take(&mut self.seen);
        if !(meta && body) {
            return false;
        }
        draft.response_proof = true;
        self.stopped = stopped;
        if let Some(failure) = abort {
            draft.failure.get_or_insert(failure);
        }
        let index = place.or(index).unwrap_or(0);
        let before = self.results.report(index, usage);
        draft.usage = self.results.total(draft.request.choice_count.unwrap_or(1));
        if let Some((text, truncated)) = text {
            let fresh = match text.strip_prefix(draft.choices.text(index)) {
                Some(fresh) if !self.increments => fresh,
                _ => {
                    self.increments = true;
                    &text
                }
            };
            self.answer.text(Token::String { text: fresh, truncated }, draft);
        }
        self.answer.end(index, draft);
        // The text alone does not tell: it repeats, and waits for the rest of a character.
        usage.output.map_or(has_text, |output| output > before.unwrap_or(0))
    }
}

impl WireApi for Sglang {
    fn name(&self) -> &'static str {
        "sglang.generate"
    }

    fn operation(&self) -> &'static str {
        "text_completion"
    }

    fn default_provider(&self) -> &'static str {
        engines::SGLANG
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("text")], Token::String { .. } | Token::ArrayStart) | ([Key("text"), Index(_)], _) => {
                self.has_prompt = true;
                draft.input.add_message("user", token);
            }
            ([Key("input_ids" | "input_embeds")], Token::ArrayStart) => self.has_prompt = true,
            // Several prompts may have parameters of their own, one after the other: the last are kept.
            ([Key("sampling_params")], Token::ObjectStart | Token::ArrayStart) => self.has_sampling = true,
            ([Key("stream")], _) => sampling::parameter(path, token, &mut draft.request),
            ([Key("sampling_params"), Index(_), rest @ ..] | [Key("sampling_params"), rest @ ..], _) => {
                sampling::parameter(rest, token, &mut draft.request);
            }
            _ => {}
        }
        draft.request_hint |= self.has_prompt;
        draft.request_proof |= self.has_prompt && self.has_sampling;
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
