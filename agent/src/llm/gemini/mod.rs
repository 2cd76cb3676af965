//! `gemini.generate`: `:generateContent` and `:streamGenerateContent` of Gemini and Vertex, and `gemini.count_tokens`.
//!
//! The path names the model. Members are written in camel case or in snake case, as JSON of protocol buffers may be.

pub(crate) mod embed;
pub(crate) mod input;
pub(crate) mod interactions;
pub(crate) mod output;
pub(crate) mod usage;

use super::{
    api::{Draft, WireApi},
    openai::{Elements, stop_sequence},
    value,
};
use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};
use input::InputReader;
use output::OutputReader;

/// What is done with the contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Task {
    /// They are answered, at once.
    #[default]
    Generate,
    /// They are answered in a stream.
    Stream,
    /// Their tokens are counted.
    Count,
}

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Gemini {
    task: Task,
    input: InputReader,
    contents: Elements,
    output: OutputReader,
}

impl Gemini {
    /// A call of which nothing has been read.
    pub fn new(task: Task) -> Self {
        Self { task, ..Self::default() }
    }
}

impl WireApi for Gemini {
    fn name(&self) -> &'static str {
        match self.task {
            Task::Generate | Task::Stream => "gemini.generate",
            Task::Count => "gemini.count_tokens",
        }
    }

    fn operation(&self) -> &'static str {
        match self.task {
            Task::Generate | Task::Stream => "generate_content",
            Task::Count => "count_tokens",
        }
    }

    fn default_provider(&self) -> &'static str {
        "gcp.gemini"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let request = &mut draft.request;
        // The path says it, not the body.
        request.stream = Some(self.task == Task::Stream);
        let path = match path {
            [Key("generateContentRequest" | "generate_content_request"), rest @ ..] => rest,
            path => path,
        };
        match path {
            [Key("contents"), rest @ ..] => {
                // One content may stand for the list.
                if let ([], Token::ObjectStart) = (rest, token) {
                    request.message_count = Some(1);
                }
                draft.request_proof |= matches!((rest, token), ([], Token::ArrayStart | Token::ObjectStart));
                self.contents.take(rest, token, &mut request.message_count);
                if draft.input.budget.is_on() {
                    self.input.content(path, token, &mut draft.input);
                }
            }
            [Key("systemInstruction" | "system_instruction"), rest @ ..] => {
                self.input.system(rest, token, &mut draft.instructions);
            }
            [Key("tools"), Index(_), rest @ ..] => {
                tool(rest, token, &mut request.tool_count);
                if let [Key("functionDeclarations" | "function_declarations"), ..] = rest {
                    draft.tools.take(4, path, token);
                }
            }
            [Key("generationConfig" | "generation_config"), rest @ ..] => parameter(rest, token, draft),
            _ => {}
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        self.output.value(path, token, draft);
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        self.output.end(draft)
    }

    fn streams_array(&self) -> bool {
        self.task == Task::Stream
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        body_ended && (self.task == Task::Count || draft.choices.all_finished(1))
    }
}

/// Reads one value of a tool: a list of functions, or one that the provider has.
fn tool(rest: &[Step<'_>], token: Token<'_>, count: &mut Option<u64>) {
    let is_one = match rest {
        [Key("functionDeclarations" | "function_declarations"), Index(_)] => token == Token::ObjectStart,
        [Key("functionDeclarations" | "function_declarations")] => false,
        [Key(_)] => token == Token::ObjectStart,
        _ => false,
    };
    if is_one {
        *count = Some(count.unwrap_or(0).saturating_add(1));
    }
}

/// Reads one value of the generation's configuration.
fn parameter(rest: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
    let request = &mut draft.request;
    match rest {
        [Key("temperature")] => request.temperature = value::float(token),
        [Key("topP" | "top_p")] => request.top_p = value::float(token),
        [Key("topK" | "top_k")] => request.top_k = value::float(token),
        [Key("maxOutputTokens" | "max_output_tokens")] => request.max_tokens = value::count(token),
        [Key("stopSequences" | "stop_sequences"), Index(_)] => stop_sequence(token, request),
        [Key("seed")] => request.seed = value::integer(token),
        [Key("candidateCount" | "candidate_count")] => request.choice_count = value::count(token),
        [Key("presencePenalty" | "presence_penalty")] => request.presence_penalty = value::float(token),
        [Key("frequencyPenalty" | "frequency_penalty")] => request.frequency_penalty = value::float(token),
        [Key("responseMimeType" | "response_mime_type")] => {
            if let Token::String { text, .. } = token {
                request.output_type = Some(if text == "application/json" { "json" } else { "text" });
            }
        }
        [Key("responseModalities" | "response_modalities"), Index(_)] => {
            if let Token::String { text, .. } = token {
                request.output_type = match text {
                    "IMAGE" | "image" => Some("image"),
                    "AUDIO" | "audio" => Some("speech"),
                    _ => request.output_type,
                };
            }
        }
        _ => {}
    }
}
