//! `cohere.chat`: `/v2/chat` of Cohere. The older API is in `cohere_v1.rs`.

pub(crate) mod usage;
pub(crate) mod v1;

use super::{
    api::{Draft, WireApi},
    choice::Choice,
    content::{Budget, Clipped},
    openai::{Elements, chat::input_message, error::ErrorReader, output_type, request_parameter, stop_sequence},
    value,
};
use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};
use usage::usage_value;

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct CohereChat {
    has_messages: bool,
    messages: Elements,
    tools: Elements,
    document: Document,
    over: bool,
}

#[derive(Debug, Default)]
struct Document {
    kind: Option<String>,
    id: Option<String>,
    has_message: bool,
    finish: Option<String>,
    /// Place of the block or tool call that an event is about.
    index: Option<u32>,
    tool: Option<Tool>,
    choice: Choice,
    error: ErrorReader,
    /// A copy of the call's budget for this document.
    budget: Option<Budget>,
}

/// The tool call at hand, or a piece of it.
#[derive(Debug, Default)]
struct Tool {
    id: Option<String>,
    name: Option<String>,
    arguments: Clipped,
}

/// Reads the parameters that both versions of the API have.
pub(crate) fn parameter(path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
    let request = &mut draft.request;
    match path {
        [Key("p")] => request.top_p = value::float(token),
        [Key("k")] => request.top_k = value::float(token),
        [Key("stop_sequences"), Index(_)] => stop_sequence(token, request),
        [Key("response_format"), rest @ ..] => {
            request.output_type = output_type(rest, token).or(request.output_type);
        }
        _ => request_parameter(path, token, draft),
    }
}

impl WireApi for CohereChat {
    fn name(&self) -> &'static str {
        "cohere.chat"
    }

    fn operation(&self) -> &'static str {
        "chat"
    }

    fn default_provider(&self) -> &'static str {
        "cohere"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match path {
            [Key("messages"), rest @ ..] => {
                self.has_messages |= matches!((rest, token), ([], Token::ArrayStart));
                self.messages.take(rest, token, &mut draft.request.message_count);
                if draft.input.budget.is_on() {
                    input_message(rest, token, &mut draft.input);
                }
            }
            [Key("tools"), rest @ ..] => {
                self.tools.take(rest, token, &mut draft.request.tool_count);
                draft.tools.take(2, path, token);
            }
            _ => parameter(path, token, draft),
        }
        draft.request_hint |= self.has_messages;
        draft.request_proof |= self.has_messages && draft.request.model.is_some();
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let document = &mut self.document;
        // An event has everything one step down, but for its type and place.
        let (path, is_event) = match path {
            [Key("delta"), rest @ ..] => (rest, true),
            path => (path, false),
        };
        match (path, token) {
            ([Key("type")], _) => document.kind = value::name(token),
            ([Key("id")], _) => document.id = value::name(token),
            ([Key("index")], _) => document.index = value::index(token),
            ([Key("finish_reason")], _) => document.finish = value::name(token),
            ([Key("usage"), rest @ ..], _) => usage_value(rest, token, draft),
            ([Key("error"), rest @ ..], _) => document.error.value(rest, token),
            // An error is a message that is text.
            ([Key("message")], Token::String { .. }) => {
                document.error.is_document();
                document.error.root(path, token);
            }
            ([Key("message"), rest @ ..], _) => {
                document.has_message = true;
                let budget = document.budget.get_or_insert_with(|| draft.choices.budget.clone());
                let Document { tool, choice, .. } = document;
                message(rest, token, is_event, tool, choice, budget);
            }
            _ => {}
        }
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        let Document { kind, id, has_message, finish, index, tool, mut choice, error, budget } =
            std::mem::take(&mut self.document);
        let kind = kind.unwrap_or_default();
        match error.end() {
            // An error's id is that of the request.
            Some(failure) => {
                draft.failure.get_or_insert(failure);
            }
            None if has_message || finish.is_some() || !kind.is_empty() => {
                draft.response.id = draft.response.id.take().or(id);
            }
            None => {}
        }
        draft.response_proof |= match kind.as_str() {
            "message-start" | "content-start" | "content-delta" | "tool-plan-delta" | "message-end" => true,
            _ => !streamed && finish.is_some(),
        };
        if let (Some(Tool { id, name, arguments }), Some(mut budget)) = (tool, budget)
            && let Some(tool) = choice.tool(None, &mut budget)
        {
            (tool.index, tool.id, tool.name, tool.arguments) = (index, id, name, arguments);
            choice.carries = true;
        }
        // The plain answer also says `COMPLETE` where an event says nothing but the end.
        self.over |= kind == "message-end" || !streamed;
        let carries = choice.carries && kind != "content-start";
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

/// A value of the message, or of a piece of it. An event has one block and one call where an answer has lists.
fn message(
    rest: &[Step<'_>],
    token: Token<'_>,
    is_event: bool,
    tool: &mut Option<Tool>,
    choice: &mut Choice,
    budget: &mut Budget,
) {
    match (rest, token) {
        ([Key("content"), Key("text")] | [Key("content"), Index(_), Key("text")], _) => choice.say(token, budget),
        ([Key("content"), Key("thinking")] | [Key("content"), Index(_), Key("thinking")] | [Key("tool_plan")], _) => {
            choice.think(token, budget)
        }
        ([Key("tool_calls")], Token::ObjectStart) if is_event => *tool = Some(Tool::default()),
        ([Key("tool_calls"), Index(_)], Token::ObjectStart) => *tool = Some(Tool::default()),
        ([Key("tool_calls"), Index(at)], Token::ObjectEnd) => {
            if let Some(Tool { id, name, arguments }) = tool.take()
                && let Some(slot) = choice.tool(Some(*at), budget)
            {
                (slot.index, slot.id, slot.name, slot.arguments) = (Some(*at), id, name, arguments);
                choice.carries = true;
            }
        }
        ([Key("tool_calls"), rest @ ..], _) => {
            let rest = match rest {
                [Index(_), rest @ ..] => rest,
                rest => rest,
            };
            let Some(tool) = tool else { return };
            match rest {
                [Key("id")] => tool.id = value::name(token),
                [Key("function"), Key("name")] => tool.name = value::name(token),
                [Key("function"), Key("arguments")] => tool.arguments.push_token(token, budget),
                _ => {}
            }
        }
        _ => {}
    }
}
