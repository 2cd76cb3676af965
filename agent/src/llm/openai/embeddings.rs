//! `embeddings`: `/embeddings` of OpenAI and its copies, and the `/embed` of Cohere, Ollama and text-embeddings-inference.

use super::{plain::PlainReader, request_parameter};
use crate::{
    llm::{
        api::{Draft, WireApi},
        content::Part,
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Most encoding formats that are kept. Cohere knows five.
const MAX_FORMATS: usize = 8;

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Embeddings {
    has_input: bool,
    plain: PlainReader,
}

impl WireApi for Embeddings {
    fn name(&self) -> &'static str {
        "embeddings"
    }

    fn operation(&self) -> &'static str {
        "embeddings"
    }

    fn default_provider(&self) -> &'static str {
        "openai"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let request = &mut draft.request;
        match path {
            // OpenAI's, Cohere's, text-embeddings-inference's, Ollama's older one and Titan's; then pictures.
            [Key("input" | "texts" | "inputs" | "prompt" | "inputText" | "images" | "image" | "inputImage")] => {
                self.has_input |= matches!(token, Token::ArrayStart | Token::String { .. });
                text(token, draft);
            }
            [Key("input" | "texts" | "inputs"), Index(_)] => text(token, draft),
            // Nova's.
            [Key("singleEmbeddingParams" | "segmentedEmbeddingParams")] => {
                self.has_input |= token == Token::ObjectStart;
            }
            [Key("singleEmbeddingParams"), Key("embeddingDimension")] => request.dimensions = value::count(token),
            [Key("singleEmbeddingParams"), Key("text"), Key("value")] => text(token, draft),
            // Cohere's mix of text and pictures.
            [Key("inputs"), Index(_), Key("content"), Index(_), Key("text")] => text(token, draft),
            // OpenAI's, Cohere's, and those of Nvidia and Jina.
            [Key("dimensions" | "output_dimension" | "outputDimension" | "embedding_size")] => {
                request.dimensions = value::count(token).or(request.dimensions);
            }
            [Key("encoding_format" | "output_dtype")]
            | [Key("embedding_types"), Index(_)]
            | [Key("embedding_type")]
            | [Key("embedding_type"), Index(_)] => {
                if request.encoding_formats.len() < MAX_FORMATS {
                    request.encoding_formats.extend(value::name(token));
                }
            }
            _ => request_parameter(path, token, draft),
        }
        draft.request_hint |= self.has_input;
        draft.request_proof |= self.has_input && draft.request.model.is_some();
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            // A list of numbers, or the same packed into text.
            ([Key("data"), Index(_), Key("embedding")], Token::ArrayStart | Token::String { .. })
            | ([Key("embeddings"), Index(_)] | [Key("embedding")], Token::ArrayStart)
            | ([Key("embeddings" | "results"), Index(_), Key("embedding")], Token::ArrayStart)
            | ([Key("embeddings"), Key(_), Index(_)], Token::ArrayStart | Token::String { .. }) => {
                draft.response_proof = true;
            }
            // text-embeddings-inference answers with nothing but the vectors.
            ([Index(0), Index(0)], Token::Number(_)) => draft.response_proof |= self.has_input,
            // Ollama's, Titan's and watsonx's.
            ([Key("prompt_eval_count" | "inputTextTokenCount" | "input_token_count")], _) => {
                draft.usage.input = value::count(token)
            }
            ([Key(key @ ("total_duration" | "load_duration"))], _) => draft.timings.named(key, token),
            _ => self.plain.value(path, token, draft),
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        self.plain.end(draft);
        // Nothing is put out. Some say only how many tokens there were in all.
        draft.usage.input = draft.usage.input.or(draft.usage.total);
        false
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        body_ended && draft.response_proof
    }
}

/// One text is one message.
pub(crate) fn text(token: Token<'_>, draft: &mut Draft) {
    if matches!(token, Token::String { .. }) {
        draft.input.begin_as("user");
        draft.input.add_text(token, Part::Text);
    }
}
