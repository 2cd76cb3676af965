//! `openai.images`: `/images/generations`, `/images/edits` and `/images/variations`, with bodies that are JSON or forms.

use super::{embeddings::text, plain::PlainReader, request_parameter};
use crate::{
    llm::{
        api::{Draft, WireApi},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// `type` of the event at hand.
    kind: Option<String>,
    /// The document at hand holds a picture.
    has_picture: bool,
    over: bool,
    plain: PlainReader,
}

impl WireApi for Images {
    fn name(&self) -> &'static str {
        "openai.images"
    }

    fn operation(&self) -> &'static str {
        "image_generation"
    }

    fn default_provider(&self) -> &'static str {
        "openai"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        draft.request.output_type = Some("image");
        match path {
            [Key("prompt")] => {
                draft.request_proof |= matches!(token, Token::String { .. });
                text(token, draft);
            }
            // A variation has a picture and no prompt.
            [Key("image")] => draft.request_proof |= token == Token::ObjectStart,
            // A form spells it as text.
            [Key("n")] => draft.request.choice_count = value::spelt_count(token),
            // Whether the answer holds the picture or where it is.
            [Key("response_format"), ..] => {}
            _ => request_parameter(path, token, draft),
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("data"), Index(_), Key("b64_json" | "url")] | [Key("b64_json")], Token::String { .. }) => {
                (self.has_picture, draft.response_proof) = (true, true);
            }
            ([Key("type")], _) => self.kind = value::name(token),
            _ => self.plain.value(path, token, draft),
        }
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.plain.end(draft);
        let kind = self.kind.take().unwrap_or_default();
        self.over |= !streamed || kind.ends_with(".completed");
        std::mem::take(&mut self.has_picture)
    }

    fn is_finished(&self, _body_ended: bool, draft: &Draft) -> bool {
        self.over && draft.response_proof
    }
}
