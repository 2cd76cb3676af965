//! `cohere.chat` and `cohere.generate` as `/v1/chat` and `/v1/generate` have them, and Cohere's models on Bedrock.
//!
//! A stream is a line of JSON for each event; the last one holds the whole answer again.

use super::{parameter, usage::usage_value};
use crate::{
    llm::{
        api::{Draft, WireApi},
        arguments::ValueWriter,
        choice::Choice,
        content::{Budget, Clipped, Part},
        openai::{Elements, error::ErrorReader},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// What is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Task {
    /// A message is answered.
    #[default]
    Chat,
    /// A prompt is continued.
    Generate,
}

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct CohereV1 {
    task: Task,
    has_prompt: bool,
    history: Elements,
    /// Messages of the history.
    before: Option<u64>,
    tools: Elements,
    document: Document,
    /// Tool calls came before the last event.
    has_calls: bool,
    over: bool,
}

#[derive(Debug, Default)]
struct Document {
    kind: Option<String>,
    finish: Option<String>,
    choice: Choice,
    name: Option<String>,
    arguments: Clipped,
    writer: ValueWriter,
    error: ErrorReader,
    /// A copy of the call's budget for this document.
    budget: Option<Budget>,
}

impl CohereV1 {
    /// A call of which nothing has been read.
    pub fn new(task: Task) -> Self {
        Self { task, ..Self::default() }
    }
}

impl WireApi for CohereV1 {
    fn name(&self) -> &'static str {
        match self.task {
            Task::Chat => "cohere.chat",
            Task::Generate => "cohere.generate",
        }
    }

    fn operation(&self) -> &'static str {
        match self.task {
            Task::Chat => "chat",
            Task::Generate => "text_completion",
        }
    }

    fn default_provider(&self) -> &'static str {
        "cohere"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let input = &mut draft.input;
        match (path, token) {
            ([Key("message" | "prompt")], Token::String { .. }) => {
                self.has_prompt = true;
                input.begin_as("user");
                input.add_text(token, Part::Text);
            }
            ([Key("preamble")], _) => draft.instructions.add_text(token, Part::Text),
            ([Key("chat_history"), Index(_)], Token::ObjectStart) => input.begin(),
            ([Key("chat_history"), Index(_), Key("role")], _) => {
                if let Some((message, budget)) = input.current() {
                    message.role = budget.name(token).map(|role| role.to_ascii_lowercase());
                }
            }
            ([Key("chat_history"), Index(_), Key("message")], _) => input.add_text(token, Part::Text),
            ([Key("tools"), rest @ ..], _) => {
                self.tools.take(rest, token, &mut draft.request.tool_count);
                draft.tools.take(2, path, token);
            }
            ([Key("num_generations")], _) => draft.request.choice_count = value::count(token),
            _ => parameter(path, token, draft),
        }
        if let [Key("chat_history"), rest @ ..] = path {
            self.history.take(rest, token, &mut self.before);
        }
        if self.has_prompt {
            draft.request.message_count = Some(self.before.unwrap_or(0).saturating_add(1));
        }
        // There is a default model.
        draft.request_hint |= self.has_prompt;
        draft.request_proof |= self.has_prompt && draft.request.model.is_some();
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let document = &mut self.document;
        let (path, repeats) = match path {
            [Key("response"), rest @ ..] => (rest, true),
            path => (path, false),
        };
        let budget = document.budget.get_or_insert_with(|| draft.choices.budget.clone());
        match (path, token) {
            ([Key("event_type")], _) => document.kind = value::name(token),
            ([Key("generation_id")], _) => {
                draft.response_proof |= matches!(token, Token::String { .. });
                draft.response.id = draft.response.id.take().or_else(|| value::name(token));
            }
            ([Key("id")], _) => draft.response.id = draft.response.id.take().or_else(|| value::name(token)),
            ([Key("finish_reason")] | [Key("generations"), Index(0), Key("finish_reason")], _) => {
                document.finish = value::name(token).or(document.finish.take());
            }
            ([Key("text")] | [Key("generations"), Index(0), Key("text")], _) => {
                draft.response_proof |= path.len() > 1 && matches!(token, Token::String { .. });
                document.choice.say(token, budget);
            }
            ([Key("meta"), rest @ ..], _) => usage_value(rest, token, draft),
            // An error is a message that is text.
            ([Key("message")], Token::String { .. }) => {
                document.error.is_document();
                document.error.root(path, token);
            }
            ([Key("tool_calls"), Index(_), ..], _) if repeats && self.has_calls => {}
            ([Key("tool_calls"), Index(at)], Token::ObjectEnd) => {
                let (name, arguments) = (document.name.take(), std::mem::take(&mut document.arguments));
                document.writer = ValueWriter::default();
                if let Some(tool) = document.choice.tool(Some(*at), budget) {
                    (tool.name, tool.arguments) = (name, arguments);
                }
                document.choice.carries = true;
            }
            ([Key("tool_calls"), Index(_), Key("name")], _) => document.name = value::name(token),
            ([Key("tool_calls"), Index(_), Key("parameters"), ..], _) => {
                document.writer.push(3, path, token, &mut document.arguments, budget);
            }
            _ => {}
        }
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        let Document { kind, finish, mut choice, error, .. } = std::mem::take(&mut self.document);
        let kind = kind.unwrap_or_default();
        draft.response_proof |= matches!(kind.as_str(), "stream-start" | "text-generation" | "stream-end");
        if let Some(failure) = error.end() {
            draft.failure.get_or_insert(failure);
        }
        let is_end = kind == "stream-end";
        self.over |= is_end || !streamed;
        self.has_calls |= !choice.tools.is_empty();
        if is_end {
            draft.choices.take_out_known(0, &mut choice);
        }
        let carries = choice.carries && !is_end;
        choice.finish = finish;
        if choice.carries || choice.finish.is_some() {
            draft.choices.absorb(0, choice);
        }
        carries
    }

    fn is_finished(&self, _body_ended: bool, _draft: &Draft) -> bool {
        self.over
    }
}
