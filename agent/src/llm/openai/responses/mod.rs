//! `openai.responses`: `/responses` of OpenAI and of those who copied it, with the calls that compact a conversation or
//! count its tokens.

pub(crate) mod input;
pub(crate) mod output;

use super::{Elements, output_type, request_parameter, response_header};
use crate::{
    llm::{
        api::{Draft, Part as Half, WireApi},
        content::Part,
        value,
    },
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};
use input::InputReader;
use output::OutputReader;

/// What is done with the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Task {
    /// It is answered.
    #[default]
    Answer,
    /// It is made shorter: `/responses/compact`.
    Compact,
    /// Its tokens are counted: `/responses/input_tokens`.
    Count,
}

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    task: Task,
    has_input: bool,
    /// The request names what answers: a model, a stored prompt or an earlier response.
    has_target: bool,
    input: InputReader,
    messages: Elements,
    tools: Elements,
    output: OutputReader,
}

impl Responses {
    /// A call of which nothing has been read.
    pub fn new(task: Task) -> Self {
        Self { task, ..Self::default() }
    }
}

impl WireApi for Responses {
    fn name(&self) -> &'static str {
        "openai.responses"
    }

    fn operation(&self) -> &'static str {
        match self.task {
            Task::Answer => "chat",
            Task::Compact => "compact",
            Task::Count => "count_tokens",
        }
    }

    fn default_provider(&self) -> &'static str {
        "openai"
    }

    fn header(&mut self, part: Half, name: &'static str, value: &str, draft: &mut Draft) {
        response_header(part, name, value, draft);
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let request = &mut draft.request;
        match path {
            [Key("input"), rest @ ..] => {
                if let ([], Token::String { .. }) = (rest, token) {
                    request.message_count = Some(1);
                    self.has_input = true;
                }
                self.has_input |= matches!((rest, token), ([], Token::ArrayStart));
                self.messages.take(rest, token, &mut request.message_count);
                if draft.input.budget.is_on() {
                    self.input.value(rest, token, &mut draft.input);
                }
            }
            [Key("instructions")] => draft.instructions.add_text(token, Part::Text),
            [Key("tools"), rest @ ..] => {
                self.tools.take(rest, token, &mut request.tool_count);
                draft.tools.take(2, path, token);
            }
            [Key("max_output_tokens")] => request.max_tokens = value::count(token).or(request.max_tokens),
            [Key("text"), Key("format"), rest @ ..] => {
                request.output_type = output_type(rest, token).or(request.output_type);
            }
            [Key("previous_response_id")] => {
                request.previous_response_id = value::name(token);
                self.has_target |= request.previous_response_id.is_some();
            }
            [Key("conversation")] | [Key("conversation"), Key("id")] => {
                request.conversation_id = value::name(token).or(request.conversation_id.take());
            }
            [Key("prompt"), Key("id")] => self.has_target |= matches!(token, Token::String { .. }),
            _ => request_parameter(path, token, draft),
        }
        draft.request_hint |= self.has_input;
        draft.request_proof |= self.has_input && (self.has_target || draft.request.model.is_some());
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        self.output.value(path, token, draft);
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.output.end(streamed, draft)
    }

    fn is_finished(&self, _body_ended: bool, _draft: &Draft) -> bool {
        self.output.is_over()
    }
}
