//! Contents of a request in Gemini's form, read for content.

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

/// Steps from the request to the arguments of a call or the result of one.
const TO_VALUE: usize = 6;

/// Reads the contents.
#[derive(Debug, Default)]
pub(crate) struct InputReader {
    part: Block,
    has_text: bool,
    /// Its text is reasoning, which may be said before or after it.
    is_thought: bool,
    has_media: bool,
    /// Media type of the part's data.
    mime: Option<String>,
}

impl InputReader {
    /// Takes one value below `contents`, `path` beginning with that.
    pub fn content(&mut self, path: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
        let Some((_, rest)) = path.split_first() else { return };
        match (rest, token) {
            ([] | [Index(_)], Token::ObjectStart) => input.begin(),
            ([Key("role")] | [Index(_), Key("role")], _) => {
                if let Some((message, budget)) = input.current() {
                    message.role = budget.name(token);
                }
            }
            ([Key("parts"), Index(_)] | [Index(_), Key("parts"), Index(_)], Token::ObjectStart) => {
                *self = Self::default();
            }
            (
                [
                    Index(_),
                    Key("parts"),
                    Index(_),
                    Key("functionCall" | "function_call" | "functionResponse" | "function_response"),
                    member @ ..,
                ],
                _,
            ) => match member {
                [Key("args"), ..] => self.part.call_value(TO_VALUE, path, token, input),
                [Key("response"), ..] => self.part.result_value(TO_VALUE, path, token, input),
                [Key(key)] => self.function(key, rest, token, input),
                _ => {}
            },
            ([Key("parts"), Index(_), rest @ ..] | [Index(_), Key("parts"), Index(_), rest @ ..], _) => {
                self.member(rest, token, input);
            }
            _ => {}
        }
    }

    /// Takes one value below the system instruction: a content, or plain text.
    pub fn system(&mut self, rest: &[Step<'_>], token: Token<'_>, instructions: &mut Transcript) {
        if let [] | [Key("parts"), Index(_), Key("text")] | [Key("parts"), Key("text")] = rest {
            instructions.add_text(token, Part::Text);
        }
    }

    fn member(&mut self, rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
        match (rest, token) {
            ([], Token::ObjectEnd) => self.settle(input),
            ([Key("text")], Token::String { .. }) => {
                self.has_text = true;
                input.add_text(token, Part::Text);
            }
            ([Key("thought")], Token::Bool(thought)) => self.is_thought = thought,
            ([Key("inlineData" | "inline_data" | "fileData" | "file_data"), Key("mimeType" | "mime_type")], _) => {
                self.mime = value::name(token);
            }
            ([Key("inlineData" | "inline_data"), Key("data")], Token::String { .. }) => {
                self.has_media = true;
                input.add_blob("document", None);
            }
            ([Key("fileData" | "file_data"), Key("fileUri" | "file_uri")], _) => {
                self.has_media = true;
                input.add_media(token, "document");
            }
            _ => {}
        }
    }

    fn settle(&mut self, input: &mut Transcript) {
        if self.has_media {
            let mime = self.mime.take();
            Block::settle_media(modality(mime.as_deref()), mime, input);
        }
        if self.has_text
            && self.is_thought
            && let Some((part @ Part::Text(_), _)) = input.last()
            && let Part::Text(text) = part
        {
            *part = Part::Reasoning(std::mem::take(text));
        }
    }

    /// A short member of a call or of a result, which share their names.
    fn function(&mut self, key: &str, rest: &[Step<'_>], token: Token<'_>, input: &mut Transcript) {
        let is_call = matches!(rest.get(3), Some(Key("functionCall" | "function_call")));
        match (key, is_call) {
            ("id", true) => self.part.call_id(token, input),
            ("name", true) => self.part.call_name(token, input),
            ("id", false) => self.part.result_id(token, input),
            _ => {}
        }
    }
}

/// What a media type is one of.
fn modality(mime: Option<&str>) -> &'static str {
    match mime.and_then(|mime| mime.split('/').next()) {
        Some("image") => "image",
        Some("audio") => "audio",
        Some("video") => "video",
        _ => "document",
    }
}
