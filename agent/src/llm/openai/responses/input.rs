//! The items of `input` in a request to the Responses API, read for content.
//!
//! An item is a message, a tool call of an earlier answer, a tool's result or a piece of reasoning. Its members come in
//! any order, so what it was is settled at its end.

use crate::{
    llm::{
        block::Block,
        content::{Message, Part, Transcript},
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads the items.
#[derive(Debug, Default)]
pub(crate) struct InputReader {
    item: Block,
}

impl InputReader {
    /// Takes one value below `input`.
    pub fn value(&mut self, rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
        match (rest, token) {
            ([], Token::String { .. }) => {
                input.begin_as("user");
                input.add_text(token, Part::Text);
            }
            ([Index(_)], Token::ObjectStart) => {
                self.item.start();
                input.begin();
            }
            ([Index(_)], Token::ObjectEnd) => {
                if let Some((message, _)) = input.current() {
                    settle(message);
                }
            }
            ([Index(_), Key(key)], _) => self.member(key, token, input),
            ([Index(_), Key("content" | "output"), Index(_), rest @ ..], _) => part(rest, token, input),
            ([Index(_), Key("summary"), Index(_), Key("text")], _) => input.add_text(token, Part::Reasoning),
            _ => {}
        }
    }

    fn member(&mut self, key: &str, token: Token<'_>, input: &mut Transcript) {
        match key {
            "content" | "output" => input.add_text(token, Part::Text),
            "arguments" | "input" => self.item.call_text(token, input),
            "name" => self.item.call_name(token, input),
            "role" | "call_id" => {
                if let Some((message, budget)) = input.current() {
                    let slot = if key == "role" { &mut message.role } else { &mut message.tool_call_id };
                    *slot = budget.name(token);
                }
            }
            _ => {}
        }
    }
}

/// An item without a role is a call when it has a name, a result when it only refers to a call.
fn settle(message: &mut Message) {
    if let Some(Part::ToolCall { id, .. }) = message.parts.last_mut() {
        *id = message.tool_call_id.take();
    }
    if message.role.is_none() {
        let role = if message.tool_call_id.is_some() { "tool" } else { "assistant" };
        message.role = Some(role.to_owned());
    }
}

/// Reads one value of a typed content part. The part's type follows from the key that holds its value.
fn part(rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
    match rest {
        // The Realtime API has the transcript of what is spoken beside it.
        [Key("text" | "refusal" | "transcript")] => input.add_text(token, Part::Text),
        [Key("audio")] => input.add_data(token, "audio", None),
        [Key("image_url")] => input.add_media(token, "image"),
        [Key("file_url" | "file_data")] => input.add_media(token, "document"),
        [Key("input_audio"), Key("data")] if matches!(token, Token::String { .. }) => input.add_blob("audio", None),
        [Key("file_id")] => {
            if let Some(id) = input.budget.name(token) {
                input.add(Part::File { modality: "document", id });
            }
        }
        _ => {}
    }
}
