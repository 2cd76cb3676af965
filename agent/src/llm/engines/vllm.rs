//! What vLLM serves beside the APIs that it took from others: `vllm.generate`, and tasks that generate nothing.
//!
//! Source: `vllm/entrypoints` of vllm-project/vllm. `/inference/v1/generate` takes token numbers and gives them, or text;
//! it is what is left of a completion when another server renders and parses. `/pooling`, `/classify` and `/tokenize`
//! share their paths with many programs, so that only their answers prove them.

use super::sampling;
use crate::{
    llm::{
        api::{Draft, WireApi},
        engines,
        openai::{ResponseReader, error::ErrorReader},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call of `/inference/v1/generate`.
#[derive(Debug, Default)]
pub(crate) struct VllmGenerate {
    has_tokens: bool,
    has_sampling: bool,
    response: ResponseReader,
}

impl WireApi for VllmGenerate {
    fn name(&self) -> &'static str {
        "vllm.generate"
    }

    fn operation(&self) -> &'static str {
        "text_completion"
    }

    fn default_provider(&self) -> &'static str {
        engines::VLLM
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("token_ids")], Token::ArrayStart) => self.has_tokens = true,
            ([Key("sampling_params")], Token::ObjectStart) => self.has_sampling = true,
            ([Key("model")], _) => draft.request.model = value::name(token),
            ([Key("stream")], _) => sampling::parameter(path, token, &mut draft.request),
            ([Key("sampling_params"), rest @ ..], _) => sampling::parameter(rest, token, &mut draft.request),
            _ => {}
        }
        draft.request_hint |= self.has_tokens;
        draft.request_proof |= self.has_tokens && self.has_sampling;
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match path {
            [Key("request_id")] if draft.response.id.is_none() => draft.response.id = value::name(token),
            [Key("output_mode")] | [Key("choices"), Index(_), Key("token_ids")] => draft.response_proof = true,
            _ => {}
        }
        self.response.value(path, token, |_| false, draft);
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.response.end(streamed, draft)
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        draft.choices.all_finished(draft.request.choice_count.unwrap_or(1)) && (body_ended || draft.usage.is_reported())
    }
}

/// A task that generates nothing; the name of the operation is that of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// `/pooling`
    Pooling,
    /// `/classify`
    Classify,
    /// `/tokenize`
    Tokenize,
}

/// Reads one call of such a task.
#[derive(Debug)]
pub(crate) struct VllmTask {
    task: Task,
    /// The members that together are the mark of an answer.
    marks: [bool; 2],
    error: ErrorReader,
}

impl VllmTask {
    /// A call of which nothing has been read.
    pub fn new(task: Task) -> Self {
        Self { task, marks: [false; 2], error: ErrorReader::default() }
    }
}

impl WireApi for VllmTask {
    fn name(&self) -> &'static str {
        self.operation()
    }

    fn operation(&self) -> &'static str {
        match self.task {
            Task::Pooling => "pooling",
            Task::Classify => "classify",
            Task::Tokenize => "tokenize",
        }
    }

    fn default_provider(&self) -> &'static str {
        engines::VLLM
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        if let [Key("model")] = path {
            draft.request.model = value::name(token);
            draft.request_hint |= draft.request.model.is_some();
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let [first, second] = &mut self.marks;
        match (self.task, path, token) {
            (Task::Pooling, [Key("data"), Index(_), Key("object")], Token::String { text: "pooling", .. }) => {
                (*first, *second) = (true, true);
            }
            (Task::Classify, [Key("data"), Index(_), Key("probs")], Token::ArrayStart)
            | (Task::Tokenize, [Key("count")], Token::Number(_)) => *first = true,
            (Task::Classify, [Key("data"), Index(_), Key("num_classes")], Token::Number(_))
            | (Task::Tokenize, [Key("max_model_len")], Token::Number(_)) => *second = true,
            (_, [Key("id")], _) => draft.response.id = value::name(token),
            (_, [Key("model")], _) => draft.response.model = value::name(token),
            (_, [Key("usage"), Key("prompt_tokens")], _) => draft.usage.input = value::count(token),
            (_, [Key("error"), rest @ ..], _) => self.error.value(rest, token),
            _ => {}
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        draft.response_proof |= self.marks == [true; 2];
        if let Some(failure) = std::mem::take(&mut self.error).end() {
            draft.failure.get_or_insert(failure);
        }
        false
    }

    fn is_finished(&self, body_ended: bool, _draft: &Draft) -> bool {
        body_ended
    }
}
