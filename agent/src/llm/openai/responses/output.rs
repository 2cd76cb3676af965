//! Documents of the Responses API: a whole response, or an event of a stream.
//!
//! An event holds a response in some state, an item of its output or a piece of one. The event that ends a stream holds
//! the whole response again: what the pieces gave is not taken twice.

use crate::{
    llm::{
        api::Draft,
        choice::Choice,
        content::{Budget, Clipped},
        openai::{error::ErrorReader, usage::UsageReader},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// What an event's `delta` is a piece of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delta {
    Text,
    Reasoning,
    Arguments,
}

/// The types of events whose `delta` is kept. Any other that ends in `.delta` carries content all the same.
const DELTAS: &[(&str, Delta)] = &[
    ("response.output_text.delta", Delta::Text),
    ("response.refusal.delta", Delta::Text),
    ("response.audio.transcript.delta", Delta::Text),
    // The Realtime API's, and the names of its beta.
    ("response.output_audio_transcript.delta", Delta::Text),
    ("response.audio_transcript.delta", Delta::Text),
    ("response.text.delta", Delta::Text),
    ("response.reasoning_text.delta", Delta::Reasoning),
    ("response.reasoning_summary_text.delta", Delta::Reasoning),
    ("response.function_call_arguments.delta", Delta::Arguments),
    ("response.custom_tool_call_input.delta", Delta::Arguments),
];

/// An item of the output.
#[derive(Debug, Default)]
struct Item {
    kind: Option<String>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Clipped,
    text: Clipped,
    summary: Clipped,
}

/// Reads response documents.
#[derive(Debug, Default)]
pub(crate) struct OutputReader {
    /// State of the document at hand.
    document: Document,
    /// An earlier document carried content.
    carried: bool,
    /// The response has come to its end.
    over: bool,
}

#[derive(Debug, Default)]
struct Document {
    kind: Option<String>,
    status: Option<String>,
    incomplete: Option<String>,
    output_index: Option<u32>,
    delta: Clipped,
    /// Whether the delta holds anything, kept or not.
    has_delta: bool,
    item: Item,
    /// What the document's whole items add up to.
    choice: Choice,
    usage: UsageReader,
    error: ErrorReader,
    /// A copy of the call's budget for this document.
    budget: Option<Budget>,
}

impl OutputReader {
    /// Takes one value.
    pub fn value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let document = &mut self.document;
        match (path, token) {
            ([Key("type")], Token::String { text, .. }) => {
                draft.response_proof |= text.starts_with("response.");
                document.kind = value::name(token);
            }
            ([Key("output_index")], _) => document.output_index = value::index(token),
            ([Key("delta")], _) => {
                let budget = document.budget.get_or_insert_with(|| draft.choices.budget.clone());
                document.delta.push_token(token, budget);
                document.has_delta |= document.delta.heard.is_any();
            }
            ([Key("item"), rest @ ..], _) => document.item(None, rest, token, draft),
            // An `error` event holds the error's members itself, or one step down.
            ([Key("code" | "message")], _) => document.error.root(path, token),
            ([Key("response"), rest @ ..], _) => document.response(rest, token, draft),
            _ => document.response(path, token, draft),
        }
    }

    /// Adds the document to the call and says whether it carried content.
    pub fn end(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        let mut document = std::mem::take(&mut self.document);
        document.place();
        let Document { kind, status, incomplete, delta, has_delta, output_index, choice, usage, mut error, .. } =
            document;
        let kind = kind.unwrap_or_default();
        usage.end(draft);
        if kind == "error" {
            error.is_document();
        }
        if let Some(failure) = error.end() {
            draft.failure.get_or_insert(failure);
        }
        let finish = match status.as_deref() {
            Some("incomplete") => incomplete.or(status),
            Some("completed" | "failed" | "cancelled") => status,
            // Created, queued, under way.
            _ => None,
        };
        self.over |= finish.is_some() || !streamed;
        let carries = if has_delta && kind.ends_with(".delta") {
            draft.choices.absorb(0, piece(&kind, output_index, delta, &draft.choices.budget));
            true
        } else {
            let mut choice = Choice { finish, ..choice };
            // An item that is added holds nothing yet, one that is done repeats its pieces.
            let carries = choice.carries && !self.carried && !kind.ends_with(".added");
            if choice.finish.is_some() || choice.carries {
                draft.choices.take_out_known(0, &mut choice);
                draft.choices.absorb(0, choice);
            }
            carries
        };
        self.carried |= carries;
        carries
    }

    /// Whether the response has come to its end.
    pub fn is_over(&self) -> bool {
        self.over
    }
}

/// The piece that an event with a `delta` brings.
fn piece(kind: &str, output_index: Option<u32>, delta: Clipped, budget: &Budget) -> Choice {
    let mut piece = Choice { carries: true, refused: kind == "response.refusal.delta", ..Choice::default() };
    match DELTAS.iter().find(|(name, _)| *name == kind).map(|(_, what)| what) {
        Some(Delta::Text) => piece.text = delta,
        Some(Delta::Reasoning) => piece.reasoning = delta,
        Some(Delta::Arguments) => {
            if let Some(tool) = piece.tool(None, &mut budget.clone()) {
                (tool.index, tool.arguments) = (output_index, delta);
            }
        }
        None => {}
    }
    piece
}

impl Document {
    /// A value of the response itself.
    fn response(&mut self, rest: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let response = &mut draft.response;
        match (rest, token) {
            ([Key("object")], Token::String { text, .. }) => {
                draft.response_proof |= text == "response" || text.starts_with("response.");
                self.error.root(rest, token);
            }
            ([Key("id")], _) if response.id.is_none() => response.id = value::name(token),
            ([Key("model")], _) => response.model = value::name(token).or(response.model.take()),
            ([Key("status")], _) => self.status = value::name(token),
            ([Key("incomplete_details" | "status_details"), Key("reason")], _) => self.incomplete = value::name(token),
            ([Key("status_details"), Key("error"), rest @ ..], _) => self.error.value(rest, token),
            ([Key("service_tier")], _) => response.service_tier = value::name(token).or(response.service_tier.take()),
            // The answer to `/input_tokens`, and no usage.
            ([Key("input_tokens")], _) => response.counted_tokens = value::count(token),
            ([Key("usage"), rest @ ..], _) => self.usage.value(rest, token),
            ([Key("tool_usage"), Key("web_search"), Key("num_requests")], _) => {
                draft.usage.web_searches = value::count(token).or(draft.usage.web_searches);
            }
            ([Key("error"), rest @ ..], _) => self.error.value(rest, token),
            ([Key("output"), Index(i), rest @ ..], _) => self.item(Some(*i), rest, token, draft),
            _ => {}
        }
    }

    /// A value of an item; `at` is its place where the document has a list of them.
    fn item(&mut self, at: Option<u32>, rest: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let budget = self.budget.get_or_insert_with(|| draft.choices.budget.clone());
        let item = &mut self.item;
        match (rest, token) {
            ([], Token::ObjectEnd) => {
                let item = std::mem::take(item);
                item.end(at, &mut self.choice, budget);
            }
            ([Key("type")], _) => item.kind = value::name(token),
            ([Key("call_id")], _) => item.call_id = value::name(token),
            ([Key("name")], _) => item.name = value::name(token),
            ([Key("arguments" | "input")], _) => item.arguments.push_token(token, budget),
            ([Key("content"), Index(_), Key(key @ ("text" | "refusal" | "transcript"))], _) => {
                item.text.push_token(token, budget);
                self.choice.carries |= item.text.heard.is_any();
                self.choice.refused |= *key == "refusal" && item.text.heard.is_any();
            }
            ([Key("summary"), Index(_), Key("text")], _) => {
                item.summary.push_token(token, budget);
                self.choice.carries |= item.summary.heard.is_any();
            }
            _ => {}
        }
    }

    /// The place of a single item comes after it in the document.
    fn place(&mut self) {
        if let Some(tool) = self.choice.tools.iter_mut().find(|tool| tool.position.is_none()) {
            tool.index = self.output_index;
        }
    }
}

impl Item {
    /// Adds the item to the others.
    fn end(self, at: Option<u32>, choice: &mut Choice, budget: &mut Budget) {
        let Self { kind, call_id, name, arguments, text, summary } = self;
        match kind.as_deref() {
            // Calls that the client answers. What the provider's own tools do is part of the answer.
            Some("function_call" | "custom_tool_call") => {
                choice.carries = true;
                if let Some(tool) = choice.tool(at, budget) {
                    (tool.index, tool.id, tool.name, tool.arguments) = (at, call_id, name, arguments);
                }
            }
            Some("reasoning") => {
                choice.reasoning.append(summary);
                choice.reasoning.append(text);
            }
            _ => choice.text.append(text),
        }
    }
}
