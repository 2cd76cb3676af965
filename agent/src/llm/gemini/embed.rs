//! Embeddings of Gemini (`:embedContent`, `:batchEmbedContents`), and what Vertex answers under `:predict`, which may be
//! embeddings, pictures or the work of a model that is none of ours.

use super::usage::GeminiUsage;
use crate::{
    llm::{
        api::{Draft, WireApi},
        content::Part,
        openai::error::ErrorReader,
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct GeminiEmbed {
    /// It makes pictures.
    is_image: bool,
    usage: GeminiUsage,
    error: ErrorReader,
}

impl WireApi for GeminiEmbed {
    fn name(&self) -> &'static str {
        if self.is_image { "gemini.images" } else { "embeddings" }
    }

    fn operation(&self) -> &'static str {
        if self.is_image { "image_generation" } else { "embeddings" }
    }

    fn default_provider(&self) -> &'static str {
        "gcp.gemini"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let request = &mut draft.request;
        match (path, token) {
            ([Key("content")] | [Key("requests"), Index(_), Key("content")], Token::ObjectStart) => {
                draft.request_proof = true;
                draft.input.begin_as("user");
            }
            (
                [Key("content"), Key("parts"), Index(_), Key("text")]
                | [Key("requests"), Index(_), Key("content"), Key("parts"), Index(_), Key("text")],
                _,
            ) => draft.input.add_text(token, Part::Text),
            // Any model may have instances with such members: the answer proves it.
            ([Key("instances"), Index(_), Key(key @ ("content" | "prompt"))], Token::String { .. }) => {
                draft.request_hint = true;
                self.is_image = *key == "prompt";
                draft.input.begin_as("user");
                draft.input.add_text(token, Part::Text);
            }
            (
                [Key("outputDimensionality" | "output_dimensionality")]
                | [Key("requests"), Index(_), Key("outputDimensionality" | "output_dimensionality")]
                | [Key("parameters"), Key("outputDimensionality")],
                _,
            ) => request.dimensions = value::count(token).or(request.dimensions),
            ([Key("parameters"), Key("sampleCount")], _) => request.choice_count = value::count(token),
            _ => {}
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            (
                [Key("embedding"), Key("values")]
                | [Key("embeddings"), Index(_), Key("values")]
                | [Key("predictions"), Index(_), Key("embeddings"), Key("values")],
                Token::ArrayStart,
            ) => draft.response_proof = true,
            ([Key("predictions"), Index(_), Key("bytesBase64Encoded")], Token::String { .. }) => {
                (self.is_image, draft.response_proof) = (true, true);
            }
            ([Key("usageMetadata"), rest @ ..], _) => self.usage.value(rest, token, draft),
            // One count for each text.
            ([Key("predictions"), Index(_), Key("embeddings"), Key("statistics"), Key("token_count")], _) => {
                if let Some(n) = value::count(token) {
                    draft.usage.input = Some(draft.usage.input.unwrap_or(0).saturating_add(n));
                }
            }
            ([Key("error"), rest @ ..], _) => self.error.value(rest, token),
            _ => {}
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        if let Some(failure) = std::mem::take(&mut self.error).end() {
            draft.failure.get_or_insert(failure);
        }
        false
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        body_ended && draft.response_proof
    }
}
