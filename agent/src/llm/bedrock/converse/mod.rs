//! `bedrock.converse`: `/model/{id}/converse` and `/model/{id}/converse-stream` of Bedrock, and `bedrock.count_tokens`.
//!
//! Amazon's own models take and give nearly the same bodies under `/invoke`.

pub(crate) mod input;
pub(crate) mod output;

use crate::{
    llm::{
        api::{Draft, Part as Half, WireApi},
        bedrock,
        content::Part,
        openai::{Elements, stop_sequence},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};
use input::InputReader;
use output::OutputReader;

/// What is done with the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Task {
    /// They are answered, at once.
    #[default]
    Answer,
    /// They are answered in a stream.
    Stream,
    /// Their tokens are counted: `/model/{id}/count-tokens`.
    Count,
}

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Converse {
    task: Task,
    input: InputReader,
    messages: Elements,
    tools: Elements,
    output: OutputReader,
}

impl Converse {
    /// A call of which nothing has been read.
    pub fn new(task: Task) -> Self {
        Self { task, ..Self::default() }
    }
}

impl WireApi for Converse {
    fn name(&self) -> &'static str {
        match self.task {
            Task::Answer | Task::Stream => "bedrock.converse",
            Task::Count => "bedrock.count_tokens",
        }
    }

    fn operation(&self) -> &'static str {
        match self.task {
            Task::Answer | Task::Stream => "chat",
            Task::Count => "count_tokens",
        }
    }

    fn default_provider(&self) -> &'static str {
        "aws.bedrock"
    }

    fn header(&mut self, part: Half, name: &'static str, value: &str, draft: &mut Draft) {
        if part == Half::Response {
            bedrock::error_header(name, value, draft);
        }
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let request = &mut draft.request;
        // The path says it, not the body.
        request.stream = Some(self.task == Task::Stream);
        let path = match path {
            [Key("input"), Key("converse"), rest @ ..] => rest,
            // A body of `/invoke` is counted too, packed as text.
            [Key("input"), Key("invokeModel")] => {
                draft.request_proof = true;
                return;
            }
            path => path,
        };
        match path {
            [Key("messages"), rest @ ..] => {
                draft.request_proof |= matches!((rest, token), ([], Token::ArrayStart));
                self.messages.take(rest, token, &mut request.message_count);
                if draft.input.budget.is_on() {
                    self.input.message(path, token, &mut draft.input);
                }
            }
            [Key("system"), Index(_), Key("text")] => draft.instructions.add_text(token, Part::Text),
            [Key("toolConfig"), Key("tools"), rest @ ..] => {
                self.tools.take(rest, token, &mut request.tool_count);
                draft.tools.take(3, path, token);
            }
            [Key("inferenceConfig"), rest @ ..] => match rest {
                // The second spellings are those of Amazon's models under `/invoke`.
                [Key("maxTokens" | "max_new_tokens")] => request.max_tokens = value::count(token),
                [Key("temperature")] => request.temperature = value::float(token),
                [Key("topP" | "top_p")] => request.top_p = value::float(token),
                [Key("topK" | "top_k")] => request.top_k = value::float(token),
                [Key("stopSequences"), Index(_)] => stop_sequence(token, request),
                _ => {}
            },
            [Key("additionalModelRequestFields"), Key("top_k" | "topK")]
            | [Key("additionalModelRequestFields"), Key("inferenceConfig"), Key("topK")] => {
                request.top_k = value::float(token);
            }
            [Key("serviceTier"), Key("type")] => request.service_tier = value::name(token),
            _ => {}
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        bedrock::error_value(path, token, draft);
        self.output.value(path, token, draft);
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.output.end(streamed, draft)
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        match self.task {
            Task::Count => body_ended,
            // Usage is in the last frame of a stream.
            Task::Answer | Task::Stream => {
                draft.choices.all_finished(1) && (body_ended || draft.usage.output.is_some())
            }
        }
    }
}
