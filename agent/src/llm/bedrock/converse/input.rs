//! Messages of a request in Converse's form, read for content.

use crate::{
    llm::{
        block::Block,
        content::{Part, Transcript},
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Steps from the request to the arguments of a call.
const TO_ARGUMENTS: usize = 6;
/// Steps from the request to the JSON in a tool's result.
const TO_RESULT: usize = 8;

/// Reads the messages.
#[derive(Debug, Default)]
pub(crate) struct InputReader {
    block: Block,
}

impl InputReader {
    /// Takes one value below `messages`, `path` beginning with that.
    pub fn message(&mut self, path: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
        let Some((_, rest)) = path.split_first() else { return };
        match (rest, token) {
            ([Index(_)], Token::ObjectStart) => input.begin(),
            ([Index(_), Key("role")], _) => {
                if let Some((message, budget)) = input.current() {
                    message.role = budget.name(token);
                }
            }
            ([Index(_), Key("content"), Index(_)], Token::ObjectStart) => self.block.start(),
            ([Index(_), Key("content"), Index(_), Key("toolUse"), Key("input"), ..], _) => {
                self.block.call_value(TO_ARGUMENTS, path, token, input);
            }
            ([Index(_), Key("content"), Index(_), Key("toolResult"), Key("content"), Index(_), Key("json"), ..], _) => {
                self.block.result_value(TO_RESULT, path, token, input)
            }
            ([Index(_), Key("content"), Index(_), rest @ ..], _) => self.block(rest, token, input),
            _ => {}
        }
    }

    fn block(&mut self, rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
        match (rest, token) {
            ([Key("text")], _) => input.add_text(token, Part::Text),
            ([Key("reasoningContent"), Key("reasoningText"), Key("text")], _) => {
                input.add_text(token, Part::Reasoning);
            }
            ([Key("toolUse"), Key("toolUseId")], _) => self.block.call_id(token, input),
            ([Key("toolUse"), Key("name")], _) => self.block.call_name(token, input),
            ([Key("toolResult"), Key("toolUseId")], _) => self.block.result_id(token, input),
            ([Key("toolResult"), Key("content"), Index(_), Key("text")], _) => self.block.result_text(token, input),
            ([Key(key @ ("image" | "document" | "video")), Key("source"), Key("bytes")], Token::String { .. }) => {
                input.add_blob(modality(key), None);
            }
            ([Key(key @ ("image" | "document" | "video")), Key("source"), Key("s3Location"), Key("uri")], _) => {
                input.add_media(token, modality(key));
            }
            _ => {}
        }
    }
}

fn modality(key: &str) -> &'static str {
    match key {
        "image" => "image",
        "video" => "video",
        _ => "document",
    }
}
