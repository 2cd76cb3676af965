//! `gemini.interactions`: `/interactions` of Gemini (ai.google.dev, "Interactions" and "Streaming interactions").
//!
//! An answer is a list of steps: thoughts, output, calls. A stream gives a step in pieces and ends with the interaction
//! and its usage, but without the steps.

use crate::{
    llm::{
        api::{Draft, WireApi},
        arguments::ValueWriter,
        choice::Choice,
        content::{Budget, Clipped, Part, Transcript},
        openai::{Elements, error::ErrorReader, stop_sequence},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Interactions {
    has_input: bool,
    messages: Elements,
    tools: Elements,
    usage: Totals,
    document: Document,
    over: bool,
}

/// What has been reported so far. Thoughts and what tools added are outside of the others.
#[derive(Debug, Default)]
struct Totals {
    input: Option<u64>,
    tools: Option<u64>,
    output: Option<u64>,
}

#[derive(Debug, Default)]
struct Document {
    status: Option<String>,
    /// Place of the step that an event is about.
    index: Option<u32>,
    step: StepReader,
    choice: Choice,
    error: ErrorReader,
    /// A copy of the call's budget for this document.
    budget: Option<Budget>,
}

/// A step, or a piece of one.
#[derive(Debug, Default)]
struct StepReader {
    kind: Option<String>,
    id: Option<String>,
    name: Option<String>,
    arguments: Clipped,
    writer: ValueWriter,
    text: Clipped,
    carries: bool,
}

impl WireApi for Interactions {
    fn name(&self) -> &'static str {
        "gemini.interactions"
    }

    fn operation(&self) -> &'static str {
        "generate_content"
    }

    fn default_provider(&self) -> &'static str {
        "gcp.gemini"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let Draft { request, input, .. } = draft;
        match (path, token) {
            ([Key("input")], Token::String { .. }) => {
                (self.has_input, request.message_count) = (true, Some(1));
                input.begin_as("user");
                input.add_text(token, Part::Text);
            }
            ([Key("input"), rest @ ..], _) => {
                self.has_input |= rest.is_empty();
                self.messages.take(rest, token, &mut request.message_count);
                input_value(rest, token, input);
            }
            ([Key("system_instruction")], _) => draft.instructions.add_text(token, Part::Text),
            ([Key("model" | "agent")], _) => request.model = value::name(token).or(request.model.take()),
            ([Key("stream")], _) => request.stream = value::boolean(token),
            ([Key("previous_interaction_id")], _) => request.previous_response_id = value::name(token),
            ([Key("tools"), rest @ ..], _) => {
                self.tools.take(rest, token, &mut request.tool_count);
                draft.tools.take(2, path, token);
            }
            ([Key("generation_config"), rest @ ..], _) => match rest {
                [Key("temperature")] => request.temperature = value::float(token),
                [Key("top_p")] => request.top_p = value::float(token),
                [Key("max_output_tokens")] => request.max_tokens = value::count(token),
                [Key("seed")] => request.seed = value::integer(token),
                [Key("stop_sequences"), Index(_)] => stop_sequence(token, request),
                _ => {}
            },
            ([Key("response_mime_type")], Token::String { text, .. }) => {
                request.output_type = Some(if text == "application/json" { "json" } else { "text" });
            }
            _ => {}
        }
        draft.request_hint |= self.has_input;
        draft.request_proof |= self.has_input && draft.request.model.is_some();
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let document = &mut self.document;
        let (above, rest) = match path {
            [Key("interaction"), rest @ ..] => (1, rest),
            path => (0, path),
        };
        let response = &mut draft.response;
        match (rest, token) {
            ([Key("event_type")], Token::String { text, .. }) => {
                draft.response_proof |= text.starts_with("interaction.") || text.starts_with("step.");
            }
            ([Key("object")], Token::String { text, .. }) => draft.response_proof |= text == "interaction",
            ([Key("id")], _) => response.id = response.id.take().or_else(|| value::name(token)),
            ([Key("model")], _) => response.model = value::name(token).or(response.model.take()),
            ([Key("status")], _) => document.status = value::name(token),
            ([Key("index")], _) => document.index = value::index(token),
            ([Key("usage"), rest @ ..], _) => self.usage.value(rest, token, draft),
            ([Key("error"), rest @ ..], _) => document.error.value(rest, token),
            // The second is the name of an earlier version.
            ([Key("steps" | "outputs"), Index(at), rest @ ..], _) => {
                draft.response_proof = true;
                let budget = document.budget.get_or_insert_with(|| draft.choices.budget.clone());
                let Document { step, choice, .. } = document;
                step.value((Some(*at), above + 2), path, rest, token, choice, budget);
            }
            ([Key("step" | "delta" | "content"), rest @ ..], _) => {
                let budget = document.budget.get_or_insert_with(|| draft.choices.budget.clone());
                let Document { step, choice, .. } = document;
                step.value((None, above + 1), path, rest, token, choice, budget);
            }
            _ => {}
        }
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        let Document { status, index, mut step, mut choice, error, budget } = std::mem::take(&mut self.document);
        let mut budget = budget.unwrap_or_else(|| draft.choices.budget.clone());
        if let Some(failure) = error.end() {
            draft.failure.get_or_insert(failure);
        }
        if streamed {
            // A call begins with an empty object, and its pieces follow.
            if step.arguments.text == "{}" {
                step.arguments = Clipped::default();
            }
            step.end(index, &mut choice, &mut budget);
        }
        let finish = status.filter(|status| !matches!(status.as_str(), "in_progress" | "queued"));
        self.over |= finish.is_some() || !streamed;
        choice.finish = finish;
        let carries = choice.carries;
        if carries || choice.finish.is_some() || !choice.tools.is_empty() {
            draft.choices.absorb(0, choice);
        }
        carries
    }

    fn is_finished(&self, _body_ended: bool, _draft: &Draft) -> bool {
        self.over
    }
}

impl Totals {
    fn value(&mut self, rest: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let usage = &mut draft.usage;
        let slot = match rest {
            [Key("total_input_tokens")] => &mut self.input,
            [Key("total_tool_use_tokens")] => &mut self.tools,
            [Key("total_output_tokens")] => &mut self.output,
            // Later versions have the second.
            [Key("total_thought_tokens" | "total_reasoning_tokens")] => &mut usage.reasoning,
            [Key("total_cached_tokens")] => &mut usage.cache_read,
            [Key("total_tokens")] => &mut usage.total,
            _ => return,
        };
        *slot = value::count(token).or(*slot);
        usage.input = self.input.map(|input| input.saturating_add(self.tools.unwrap_or(0)));
        usage.output = self.output.map(|output| output.saturating_add(usage.reasoning.unwrap_or(0)));
    }
}

impl StepReader {
    /// Takes one value of a step or of a piece. `place` is its place, where it has one, and the steps of the path to it.
    fn value(
        &mut self,
        (at, above): (Option<u32>, usize),
        path: &[Step<'_>],
        rest: &[Step<'_>],
        token: Token<'_>,
        choice: &mut Choice,
        budget: &mut Budget,
    ) {
        match (rest, token) {
            ([], Token::ObjectEnd) if at.is_some() => std::mem::take(self).end(at, choice, budget),
            ([Key("type")], _) => self.kind = value::name(token),
            ([Key("id")], _) => self.id = value::name(token),
            ([Key("name")], _) => self.name = value::name(token),
            // A piece is text, a whole call has an object.
            ([Key("arguments")], Token::String { .. } | Token::Piece(_)) => {
                self.carries = true;
                self.arguments.push_token(token, budget);
            }
            ([Key("arguments"), ..], _) => {
                self.writer.push(above + 1, path, token, &mut self.arguments, budget);
            }
            (
                [Key("text")]
                | [Key("content" | "summary"), Key("text")]
                | [Key("content" | "summary"), Index(_), Key("text")],
                _,
            ) => {
                self.text.push_token(token, budget);
                self.carries |= self.text.heard.is_any();
            }
            _ => {}
        }
    }

    /// Adds the step, or the piece, to the others.
    fn end(self, at: Option<u32>, choice: &mut Choice, budget: &mut Budget) {
        let Self { kind, id, name, arguments, writer: _, text, carries } = self;
        choice.carries |= carries;
        match kind.as_deref() {
            Some("function_call" | "arguments_delta") => {
                if let Some(tool) = choice.tool(at, budget) {
                    (tool.index, tool.id, tool.name, tool.arguments) = (at, id, name, arguments);
                }
            }
            Some("thought" | "thought_summary") => choice.reasoning.append(text),
            _ => choice.text.append(text),
        }
    }
}

/// Reads one value of a list of inputs: pieces of one message, or turns with a role.
fn input_value(rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
    match (rest, token) {
        ([Index(_)], Token::ObjectStart) => input.begin_as("user"),
        ([Index(_), Key("role")], _) => {
            if let Some((message, budget)) = input.current() {
                message.role = budget.name(token);
            }
        }
        ([Index(_), Key("text" | "content")] | [Index(_), Key("content"), Index(_), Key("text")], _) => {
            input.add_text(token, Part::Text);
        }
        ([Index(_), Key("data")], Token::String { .. }) => input.add_blob("document", None),
        ([Index(_), Key("uri")], _) => input.add_media(token, "document"),
        _ => {}
    }
}
