//! `anthropic.messages`: `/v1/messages` of Anthropic and of those who copied it, and `anthropic.count_tokens`.
//!
//! The same bodies go to Anthropic's models on Vertex and on Bedrock, where the path names the model and a member of the
//! body stands for the header with the API's version.

pub(crate) mod complete;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod usage;

use super::{
    api::{Draft, Part, WireApi},
    openai::{Elements, output_type, request_parameter, stop_sequence},
};
use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};
use input::InputReader;
use output::OutputReader;

/// What is done with the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Task {
    /// They are answered.
    #[default]
    Answer,
    /// Their tokens are counted: `/v1/messages/count_tokens`.
    Count,
}

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    task: Task,
    /// The path names the model, so the body need not.
    model_in_path: bool,
    has_messages: bool,
    /// What no other API with messages has: the version of Anthropic's.
    has_version: bool,
    input: InputReader,
    messages: Elements,
    tools: Elements,
    output: OutputReader,
}

impl Messages {
    /// A call of which nothing has been read.
    pub fn new(task: Task, model_in_path: bool) -> Self {
        Self { task, model_in_path, ..Self::default() }
    }
}

impl WireApi for Messages {
    fn name(&self) -> &'static str {
        match self.task {
            Task::Answer => "anthropic.messages",
            Task::Count => "anthropic.count_tokens",
        }
    }

    fn operation(&self) -> &'static str {
        match self.task {
            Task::Answer => "chat",
            Task::Count => "count_tokens",
        }
    }

    fn default_provider(&self) -> &'static str {
        "anthropic"
    }

    fn header(&mut self, part: Part, name: &'static str, _value: &str, _draft: &mut Draft) {
        self.has_version |= part == Part::Request && name == "anthropic-version";
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match path {
            [Key("messages"), rest @ ..] => {
                self.has_messages |= matches!((rest, token), ([], Token::ArrayStart));
                self.messages.take(rest, token, &mut draft.request.message_count);
                if draft.input.budget.is_on() {
                    self.input.message(rest, token, &mut draft.input);
                }
            }
            [Key("system"), rest @ ..] => self.input.system(rest, token, &mut draft.instructions),
            [Key("tools"), rest @ ..] => {
                self.tools.take(rest, token, &mut draft.request.tool_count);
                draft.tools.take(2, path, token);
            }
            [Key("stop_sequences"), Index(_)] => stop_sequence(token, &mut draft.request),
            [Key("output_config"), Key("format"), rest @ ..] | [Key("output_format"), rest @ ..] => {
                draft.request.output_type = output_type(rest, token).or(draft.request.output_type);
            }
            [Key("anthropic_version")] => self.has_version = true,
            _ => request_parameter(path, token, draft),
        }
        let Draft { request, request_hint, request_proof, .. } = draft;
        let has_limit = self.task == Task::Count || request.max_tokens.is_some();
        *request_hint |= self.has_messages;
        *request_proof |=
            self.has_messages && (self.has_version || has_limit) && (self.model_in_path || request.model.is_some());
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        self.output.value(path, token, draft);
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.output.end(streamed, draft)
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        self.output.is_over() || (body_ended && draft.choices.all_finished(1))
    }
}
