//! Content blocks of a request's messages, where a block's kind follows from the members that it has.
//!
//! Owns which part a block becomes when its members come in any order. Used by the APIs whose messages hold typed blocks
//! (Anthropic, Converse, Gemini, the Responses API); they decide which member is which.

use super::{
    arguments::ValueWriter,
    content::{Budget, Clipped, Part, Transcript},
};
use crate::protocol::json::{Step, Token};

/// The block at hand.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// A part has been made of it.
    begun: bool,
    writer: ValueWriter,
}

impl Block {
    /// The next block begins.
    pub fn start(&mut self) {
        *self = Self::default();
    }

    /// A tool call's id.
    pub fn call_id(&mut self, token: Token<'_>, input: &mut Transcript) {
        if let Some((Part::ToolCall { id, .. }, budget)) = self.call(input) {
            *id = budget.name(token);
        }
    }

    /// A tool call's name.
    pub fn call_name(&mut self, token: Token<'_>, input: &mut Transcript) {
        if let Some((Part::ToolCall { name, .. }, budget)) = self.call(input) {
            *name = budget.name(token);
        }
    }

    /// Arguments as JSON text.
    pub fn call_text(&mut self, token: Token<'_>, input: &mut Transcript) {
        if let Some((Part::ToolCall { arguments, .. }, budget)) = self.call(input) {
            arguments.push_token(token, budget);
        }
    }

    /// One token of arguments that are a JSON value; `above` is the number of steps to that value.
    pub fn call_value(&mut self, above: usize, path: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
        let mut writer = std::mem::take(&mut self.writer);
        if let Some((Part::ToolCall { arguments, .. }, budget)) = self.call(input) {
            writer.push(above, path, token, arguments, budget);
        }
        self.writer = writer;
    }

    /// The id of the call that a tool's result answers.
    pub fn result_id(&mut self, token: Token<'_>, input: &mut Transcript) {
        if let Some((Part::ToolResult { id, .. }, budget)) = self.result(input) {
            *id = budget.name(token);
        }
    }

    /// Text of a tool's result.
    pub fn result_text(&mut self, token: Token<'_>, input: &mut Transcript) {
        if let Some((Part::ToolResult { response, .. }, budget)) = self.result(input) {
            response.push_token(token, budget);
        }
    }

    /// One token of a result that is a JSON value.
    pub fn result_value(&mut self, above: usize, path: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
        let mut writer = std::mem::take(&mut self.writer);
        if let Some((Part::ToolResult { response, .. }, budget)) = self.result(input) {
            writer.push(above, path, token, response, budget);
        }
        self.writer = writer;
    }

    fn call<'t>(&mut self, input: &'t mut Transcript) -> Option<(&'t mut Part, &'t mut Budget)> {
        self.part(input, Part::ToolCall { id: None, name: None, arguments: Clipped::default() })
    }

    fn result<'t>(&mut self, input: &'t mut Transcript) -> Option<(&'t mut Part, &'t mut Budget)> {
        self.part(input, Part::ToolResult { id: None, response: Clipped::default() })
    }

    /// What a picture or file is turned out only at the block's end, `type` and media type coming in any place.
    pub fn settle_media(kind: &'static str, media_type: Option<String>, input: &mut Transcript) {
        match input.last() {
            Some((Part::Blob { modality, mime, .. }, _)) => (*modality, *mime) = (kind, media_type.or(mime.take())),
            Some((Part::Uri { modality, .. } | Part::File { modality, .. }, _)) => *modality = kind,
            _ => {}
        }
    }

    /// The block's part, which the first of its members begins.
    fn part<'t>(&mut self, input: &'t mut Transcript, part: Part) -> Option<(&'t mut Part, &'t mut Budget)> {
        match std::mem::replace(&mut self.begun, true) {
            true => input.last(),
            false => input.add(part),
        }
    }
}
