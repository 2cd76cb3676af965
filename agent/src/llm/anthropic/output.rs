//! Responses in Anthropic's form: a whole message, or the events of a stream.
//!
//! Events are told apart by `type` in their data and not by the event's name: a gateway exists that names them all
//! `data`. What a value means follows from where it stands, so its event's type need not come first.

use super::usage::AnthropicUsage;
use crate::{
    llm::{
        api::Draft,
        arguments::ValueWriter,
        choice::Choice,
        content::{Budget, Clipped},
        openai::error::ErrorReader,
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads response documents.
#[derive(Debug, Default)]
pub(crate) struct OutputReader {
    document: Document,
    usage: AnthropicUsage,
    over: bool,
}

#[derive(Debug, Default)]
struct Document {
    kind: Option<String>,
    role: Option<String>,
    stop: Option<String>,
    /// Place of the block that an event is about.
    index: Option<u32>,
    block: Block,
    /// A piece of a block's JSON.
    json: Option<Clipped>,
    /// What the document's blocks and pieces add up to.
    choice: Choice,
    error: ErrorReader,
    /// A copy of the call's budget for this document.
    budget: Option<Budget>,
}

/// A content block.
#[derive(Debug, Default)]
struct Block {
    kind: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Clipped,
    writer: ValueWriter,
}

impl OutputReader {
    /// Takes one value.
    pub fn value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let (rest, is_start) = match path {
            // The first event holds the message in its beginning.
            [Key("message"), rest @ ..] => (rest, true),
            path => (path, false),
        };
        let (document, response) = (&mut self.document, &mut draft.response);
        match (rest, token) {
            ([Key("type")], _) => document.kind = value::name(token).or(document.kind.take()),
            ([Key("role")], _) => document.role = value::name(token),
            ([Key("id")], _) if response.id.is_none() => response.id = value::name(token),
            ([Key("model")], _) => response.model = value::name(token).or(response.model.take()),
            ([Key("stop_reason")] | [Key("delta"), Key("stop_reason")], _) => document.stop = value::name(token),
            ([Key("index")], _) => document.index = value::index(token),
            ([Key("error"), rest @ ..], _) => document.error.value(rest, token),
            // A placeholder, and not what a stream that is cut has put out.
            ([Key("usage"), Key("output_tokens")], _) if is_start => {}
            ([Key("usage"), rest @ ..], _) => self.usage.value(rest, token, draft),
            // The answer of `count_tokens`, and no usage.
            ([Key("input_tokens")], _) => response.counted_tokens = value::count(token),
            ([Key("content"), Index(at), rest @ ..], _) => {
                let budget = document.budget.get_or_insert_with(|| draft.choices.budget.clone());
                document.block.value((Some(*at), 2), path, rest, token, &mut document.choice, budget);
            }
            ([Key("content_block"), rest @ ..], _) => {
                let budget = document.budget.get_or_insert_with(|| draft.choices.budget.clone());
                document.block.value((None, 1), path, rest, token, &mut document.choice, budget);
            }
            ([Key("delta"), Key(key)], Token::String { .. } | Token::Piece(_)) => {
                document.delta(key, token, &draft.choices.budget);
            }
            _ => {}
        }
    }

    /// Adds the document to the call and says whether it carried content.
    pub fn end(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        let Document { kind, role, stop, index, block: _, json, mut choice, error, budget } =
            std::mem::take(&mut self.document);
        let kind = kind.unwrap_or_default();
        draft.response_proof |= match kind.as_str() {
            "message" => role.as_deref() == Some("assistant"),
            "message_start" | "content_block_start" | "content_block_delta" | "message_delta" => true,
            _ => false,
        };
        if let Some(failure) = error.end() {
            draft.failure.get_or_insert(failure);
        }
        for tool in choice.tools.iter_mut().filter(|tool| streamed && tool.index.is_none()) {
            tool.index = index;
            // The block begins with an empty object, and its pieces follow.
            if tool.arguments.heard.is("{}") {
                tool.arguments = Clipped::default();
            }
        }
        // The input of a tool that the provider runs itself is no call.
        if let (Some(json), Some(mut budget)) = (json, budget)
            && draft.choices.has_tool(0, index)
            && let Some(tool) = choice.tool(None, &mut budget)
        {
            (tool.index, tool.arguments) = (index, json);
        }
        self.over |= kind == "message_stop" || !streamed;
        let carries = choice.carries;
        choice.finish = stop;
        if carries || choice.finish.is_some() || !choice.tools.is_empty() {
            draft.choices.absorb(0, choice);
        }
        carries
    }

    /// Whether the response has come to its end.
    pub fn is_over(&self) -> bool {
        self.over
    }
}

impl Document {
    /// A member of a piece.
    fn delta(&mut self, key: &str, token: Token<'_>, budget: &Budget) {
        let budget = self.budget.get_or_insert_with(|| budget.clone());
        match key {
            "text" => {
                self.choice.say(token, budget);
            }
            "thinking" => {
                self.choice.think(token, budget);
            }
            // The first piece of a call is often empty, and the call has begun all the same.
            "partial_json" => {
                self.choice.carries = true;
                self.json.get_or_insert_default().push_token(token, budget);
            }
            _ => {}
        }
    }
}

impl Block {
    /// Takes one value of the block. `place` is its place in the message, where it has one, and the steps to it.
    fn value(
        &mut self,
        place: (Option<u32>, usize),
        path: &[Step<'_>],
        rest: &[Step<'_>],
        token: Token<'_>,
        choice: &mut Choice,
        budget: &mut Budget,
    ) {
        let (at, above) = place;
        match (rest, token) {
            ([], Token::ObjectEnd) => {
                let Self { kind, id, name, input, writer: _ } = std::mem::take(self);
                if kind.as_deref() == Some("tool_use") {
                    // In a stream the call's first piece is the content.
                    choice.carries |= at.is_some();
                    if let Some(tool) = choice.tool(at, budget) {
                        (tool.index, tool.id, tool.name, tool.arguments) = (at, id, name, input);
                    }
                }
            }
            ([Key("type")], _) => self.kind = value::name(token),
            ([Key("id")], _) => self.id = value::name(token),
            ([Key("name")], _) => self.name = value::name(token),
            ([Key("input"), ..], _) => self.writer.push(above + 1, path, token, &mut self.input, budget),
            ([Key("text")], _) => choice.say(token, budget),
            ([Key("thinking")], _) => choice.think(token, budget),
            _ => {}
        }
    }
}
