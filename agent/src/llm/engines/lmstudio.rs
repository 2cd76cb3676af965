//! `lmstudio.chat`: `/api/v1/chat` of LM Studio. Its `/api/v0` is OpenAI's API with `stats`.
//!
//! Source: LM Studio's REST documents (`rest/chat`, `rest/streaming-events`). Events have their type in the data. Loading
//! the model and reading the prompt have events of their own, which are no tokens; `chat.end` repeats the whole answer
//! beside its statistics.

use super::{sampling, single::Single};
use crate::{
    llm::{
        api::{Draft, WireApi},
        arguments::ValueWriter,
        content::Part,
        engines,
        openai::error::ErrorReader,
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct LmStudio {
    has_model: bool,
    has_input: bool,
    has_own: bool,
    answer: Single,
    /// The event, or the item of a plain answer, that is being read.
    item: Item,
    arguments: ValueWriter,
    error: ErrorReader,
    /// Tool calls that events began.
    tools: u32,
    has_output: bool,
    finished: bool,
}

/// An event, or an item of a plain answer. What its text is depends on its type, which may come later.
#[derive(Debug, Default)]
struct Item {
    kind: Kind,
    /// Its text, when content is on, and whether there was more. Not longer than what a scanner hands out.
    text: Option<(String, bool)>,
    has_text: bool,
    tool: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    Message,
    Reasoning,
    ToolStart,
    ToolArguments,
    Failure,
    End,
    #[default]
    Other,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            "message" | "message.delta" => Self::Message,
            "reasoning" | "reasoning.delta" => Self::Reasoning,
            "tool_call.start" => Self::ToolStart,
            "tool_call.arguments" => Self::ToolArguments,
            "error" => Self::Failure,
            "chat.end" => Self::End,
            _ => Self::Other,
        }
    }
}

impl LmStudio {
    /// One value of an event or item at `path`; the first `from` steps lead to it.
    fn item_value(&mut self, path: &[Step<'_>], from: usize, position: u32, token: Token<'_>, draft: &Draft) {
        match (path.get(from..).unwrap_or_default(), token) {
            ([Key("type")], Token::String { text, .. }) => self.item.kind = Kind::of(text),
            ([Key("content")], Token::String { text, truncated }) => {
                self.item.has_text = !text.is_empty();
                self.item.text = draft.choices.budget.is_on().then(|| (text.to_owned(), truncated));
            }
            ([Key("tool")], _) => self.item.tool = value::name(token),
            ([Key("arguments"), ..], _) => {
                if let Some((tool, budget)) = self.answer.tool(position, draft) {
                    self.arguments.push(from + 1, path, token, &mut tool.arguments, budget);
                }
            }
            _ => {}
        }
    }

    fn item_end(&mut self, position: u32, draft: &Draft) {
        let Item { kind, text, has_text, tool: name } = std::mem::take(&mut self.item);
        let (text, truncated) = text.unwrap_or_default();
        let token = Token::String { text: &text, truncated };
        self.answer.mark(has_text && matches!(kind, Kind::Message | Kind::Reasoning));
        match kind {
            Kind::Message => self.answer.text(token, draft),
            Kind::Reasoning => self.answer.reasoning(token, draft),
            Kind::ToolStart => {
                let index = self.tools;
                self.tools = self.tools.saturating_add(1);
                if let Some((tool, _)) = self.answer.tool(position, draft) {
                    (tool.index, tool.name) = (Some(index), name);
                }
            }
            Kind::ToolArguments => {
                if let Some((tool, _)) = self.answer.tool(position, draft) {
                    tool.index = self.tools.checked_sub(1);
                }
            }
            Kind::End => self.finished = true,
            Kind::Failure | Kind::Other => {
                if let Some(name) = name.filter(|_| self.has_output)
                    && let Some((tool, _)) = self.answer.tool(position, draft)
                {
                    (tool.index, tool.name) = (Some(position), Some(name));
                }
            }
        }
    }
}

impl WireApi for LmStudio {
    fn name(&self) -> &'static str {
        "lmstudio.chat"
    }

    fn operation(&self) -> &'static str {
        "chat"
    }

    fn default_provider(&self) -> &'static str {
        engines::LM_STUDIO
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("model")], Token::String { .. }) => {
                self.has_model = true;
                draft.request.model = value::name(token);
            }
            ([Key("system_prompt")], _) => draft.instructions.add_text(token, Part::Text),
            ([Key("input")], Token::String { .. }) => {
                self.has_input = true;
                draft.input.add_message("user", token);
            }
            ([Key("input")], Token::ArrayStart) => self.has_input = true,
            ([Key("input"), Index(_), Key("content")], _) => draft.input.add_message("user", token),
            _ => sampling::parameter(path, token, &mut draft.request),
        }
        self.has_own |= matches!(path, [Key("system_prompt" | "integrations" | "context_length")]);
        draft.request_hint |= self.has_model && self.has_input;
        draft.request_proof |= self.has_model && self.has_input && self.has_own;
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        // At the end of a stream the answer comes again as a whole.
        let (rest, repeats) = match path {
            [Key("result"), rest @ ..] => (rest, true),
            _ => (path, false),
        };
        match (rest, token) {
            ([Key("model_instance_id")], Token::String { .. }) => {
                draft.response_proof = true;
                draft.response.model = value::name(token);
            }
            ([Key("response_id")], _) => draft.response.id = value::name(token),
            ([Key("stats"), Key("input_tokens")], _) => draft.usage.input = value::count(token),
            ([Key("stats"), Key("total_output_tokens")], _) => draft.usage.output = value::count(token),
            ([Key("stats"), Key("reasoning_output_tokens")], _) => draft.usage.reasoning = value::count(token),
            ([Key("stats"), Key(key)], _) => draft.timings.named(key, token),
            ([Key("load_time_seconds")], _) => draft.timings.named("model_load_time_seconds", token),
            ([Key("error"), rest @ ..], _) => self.error.value(rest, token),
            ([Key("output")], Token::ArrayStart) if !repeats => self.has_output = true,
            ([Key("output"), Index(position)], Token::ObjectEnd) if !repeats => self.item_end(*position, draft),
            ([Key("output"), Index(position), ..], _) if !repeats => {
                self.item_value(path, 2, *position, token, draft);
            }
            _ if !repeats => self.item_value(path, 0, 0, token, draft),
            _ => {}
        }
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.finished |= self.has_output && !streamed;
        self.item_end(0, draft);
        if let Some(failure) = std::mem::take(&mut self.error).end() {
            draft.failure.get_or_insert(failure);
        }
        self.answer.end(0, draft)
    }

    fn is_finished(&self, _body_ended: bool, _draft: &Draft) -> bool {
        self.finished
    }
}
