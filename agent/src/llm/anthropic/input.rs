//! Messages and system instructions of a request in Anthropic's form, read for content.

use crate::{
    llm::{
        block::Block,
        content::{Part, Transcript},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Steps to the arguments of a tool call, from the list of messages.
const TO_ARGUMENTS: usize = 4;

/// Reads the messages.
#[derive(Debug, Default)]
pub(crate) struct InputReader {
    block: Block,
    /// The block is a picture.
    is_image: bool,
    /// The block has a source.
    has_media: bool,
    /// Media type of the block's source.
    mime: Option<String>,
    /// The block's type, if it is a call of a tool that the server runs, or the result of one.
    server: Option<String>,
}

impl InputReader {
    /// Takes one value below `messages`.
    pub fn message(&mut self, rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
        match (rest, token) {
            ([Index(_)], Token::ObjectStart) => input.begin(),
            ([Index(_), Key("role")], _) => {
                if let Some((message, budget)) = input.current() {
                    message.role = budget.name(token);
                }
            }
            ([Index(_), Key("content")], _) => input.add_text(token, Part::Text),
            ([Index(_), Key("content"), Index(_)], Token::ObjectStart) => {
                *self = Self::default();
            }
            ([Index(_), Key("content"), Index(_)], Token::ObjectEnd) if self.has_media => {
                let kind = if self.is_image { "image" } else { "document" };
                Block::settle_media(kind, self.mime.take(), input);
            }
            ([Index(_), Key("content"), Index(_)], Token::ObjectEnd) => {
                if let Some(kind) = self.server.take() {
                    Block::settle_server(kind, input);
                }
            }
            ([Index(_), Key("content"), Index(_), Key("input"), ..], _) => {
                self.block.call_value(TO_ARGUMENTS, rest, token, input);
            }
            ([Index(_), Key("content"), Index(_), rest @ ..], _) => self.block(rest, token, input),
            _ => {}
        }
    }

    /// Takes one value below `system`: a string, or a list of text blocks.
    pub fn system(&mut self, rest: &[Step<'_>], token: Token<'_>, instructions: &mut Transcript) {
        if let [] | [Index(_), Key("text")] = rest {
            instructions.add_text(token, Part::Text);
        }
    }

    fn block(&mut self, rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
        match (rest, token) {
            ([Key("type")], Token::String { text, .. }) => {
                self.is_image = text == "image";
                let is_server =
                    text == "server_tool_use" || (text.ends_with("_tool_result") && text != "mcp_tool_result");
                self.server = value::name(token).filter(|_| is_server);
            }
            ([Key("text")], _) => input.add_text(token, Part::Text),
            ([Key("thinking")], _) => input.add_text(token, Part::Reasoning),
            ([Key("id")], _) => self.block.call_id(token, input),
            ([Key("name")], _) => self.block.call_name(token, input),
            ([Key("tool_use_id")], _) => self.block.result_id(token, input),
            ([Key("content")] | [Key("content"), Index(_), Key("text")], Token::String { .. }) => {
                self.block.result_text(token, input);
            }
            ([Key("source"), Key("media_type")], _) => self.mime = value::name(token),
            ([Key("source")], Token::ObjectStart) => self.has_media = true,
            ([Key("source"), Key("data")], Token::String { .. }) => input.add_blob("document", None),
            ([Key("source"), Key("url")], _) => input.add_media(token, "document"),
            ([Key("source"), Key("file_id")], _) => {
                if let Some(id) = input.budget.name(token) {
                    input.add(Part::File { modality: "document", id });
                }
            }
            _ => {}
        }
    }
}
