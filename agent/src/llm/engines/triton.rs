//! `triton.infer`: KServe's `/v2/models/{model}/infer` and Triton's `generate` and `generate_stream` beside it.
//!
//! Source: KServe's Open Inference Protocol V2, and `extension_generate.md` of triton-inference-server/server. Such a
//! server serves models of every kind: a call is a language model's by the names of its tensors, which are those of
//! Triton's vLLM and TensorRT-LLM backends. The status is that of the first response; an error may follow under 200.
//! Tokens are counted only where the request asked for it; a stream counts those of each event. Over gRPC (`ModelInfer`,
//! `ModelStreamInfer`) the same tensors come, numbers among them mostly as raw bytes, which are not read.

use super::{sampling, single::Single};
use crate::{
    llm::{
        api::{Draft, Failure, WireApi},
        engines,
        grpc::Method,
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call.
#[derive(Debug, Default)]
pub(crate) struct Triton {
    tensor: Tensor,
    /// Names of the tensors of the current message, in order: over gRPC their contents may follow them all.
    names: Vec<String>,
    grpc: Option<Method>,
    has_text: bool,
    has_ids: bool,
    has_length: bool,
    answer: Single,
    seen: Seen,
}

/// The tensor that is being read. Its name may follow its data, so that the first element is held; a batch's other
/// elements are other prompts, whose text is not read. A binary tensor stands behind the document and has none.
#[derive(Debug, Default)]
struct Tensor {
    name: String,
    first: Option<Element>,
}

/// What is held of a tensor, not longer than what a scanner hands out.
#[derive(Debug)]
enum Element {
    Text(String, bool),
    Number(String),
    Flag(bool),
}

impl Tensor {
    /// Takes one value at `rest` below the tensor. Data may be nested as its shape says, or flat.
    fn value(&mut self, rest: &[Step<'_>], token: Token<'_>) {
        match (rest, token) {
            ([], Token::ObjectStart) => *self = Self::default(),
            ([Key("name")], Token::String { text, .. }) => text.clone_into(&mut self.name),
            ([Key("data"), Index(0)] | [Key("data"), Index(0), Index(0)], _) => {
                let element = match token {
                    Token::String { text, truncated } => Element::Text(text.to_owned(), truncated),
                    Token::Number(digits) => Element::Number(digits.to_owned()),
                    Token::Bool(flag) => Element::Flag(flag),
                    _ => return,
                };
                self.first.get_or_insert(element);
            }
            _ => {}
        }
    }

    /// The whole tensor: its name and first element.
    fn whole(&self) -> (&str, Token<'_>) {
        let token = match &self.first {
            Some(Element::Text(text, truncated)) => Token::String { text, truncated: *truncated },
            Some(Element::Number(digits)) => Token::Number(digits),
            Some(Element::Flag(flag)) => Token::Bool(*flag),
            None => Token::Null,
        };
        (&self.name, token)
    }
}

/// Members of one document.
#[derive(Debug, Default)]
struct Seen {
    output: bool,
    generated: Option<u64>,
    error: bool,
}

/// Most tensors of a message whose contents are told apart. The backends have about twenty, most of them parameters
/// that few set.
const MAX_TENSORS: usize = 32;

impl Triton {
    /// A call over gRPC of which nothing has been read.
    pub fn over_grpc(method: Method) -> Self {
        Self { grpc: Some(method), ..Self::default() }
    }

    /// The tensor is whole.
    fn tensor_end(&mut self) -> Tensor {
        let tensor = std::mem::take(&mut self.tensor);
        if self.grpc.is_some() && self.names.len() < MAX_TENSORS {
            self.names.push(tensor.name.clone());
        }
        tensor
    }

    /// A value of the request that is called `name`, as a member or as a tensor's element.
    fn input(&mut self, name: &str, token: Token<'_>, draft: &mut Draft) {
        match name {
            "text_input" => {
                self.has_text = true;
                draft.input.add_message("user", token);
            }
            "input_ids" => self.has_ids = true,
            "request_output_len" => {
                self.has_length = true;
                sampling::parameter(&[Key("max_tokens")], token, &mut draft.request);
            }
            _ => sampling::parameter(&[Key(name)], token, &mut draft.request),
        }
        draft.request_proof |= self.has_text || (self.has_ids && self.has_length);
    }

    /// A value of the response that is called `name`, as a member or as a tensor's element.
    fn output(&mut self, name: &str, token: Token<'_>, draft: &mut Draft) {
        match name {
            "text_output" if matches!(token, Token::String { .. }) => {
                self.seen.output = true;
                self.answer.text(token, draft);
            }
            "finish_reason" => self.answer.finish(token),
            "num_input_tokens" => draft.usage.input = value::count(token).or(draft.usage.input),
            "num_output_tokens" => self.seen.generated = value::count(token),
            _ => {}
        }
    }
}

impl WireApi for Triton {
    fn name(&self) -> &'static str {
        "triton.infer"
    }

    fn operation(&self) -> &'static str {
        "text_completion"
    }

    fn default_provider(&self) -> &'static str {
        engines::TRITON
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("inputs"), Index(_)], Token::ObjectEnd) => {
                let tensor = self.tensor_end();
                let (name, token) = tensor.whole();
                self.input(name, token, draft);
            }
            ([Key("inputs"), Index(_), rest @ ..], _) => self.tensor.value(rest, token),
            ([Key("raw"), Index(at)], _) => {
                if let Some(name) = self.names.get(*at as usize).cloned() {
                    self.input(&name, token, draft);
                }
            }
            ([Key("model_name")], _) => draft.request.model = value::name(token),
            ([], Token::ObjectEnd) => self.names.clear(),
            ([Key("id")], _) => {}
            ([Key(key)] | [Key("parameters"), Key(key)], _) => self.input(key, token, draft),
            _ => {}
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        match (path, token) {
            ([Key("model_name")], _) => draft.response.model = value::name(token).or(draft.response.model.take()),
            ([Key("id")], _) if draft.response.id.is_none() => draft.response.id = value::name(token),
            ([Key("error")], Token::String { .. }) => self.seen.error = true,
            ([Key("raw"), Index(at)], _) => {
                if let Some(name) = self.names.get(*at as usize).cloned() {
                    self.output(&name, token, draft);
                }
            }
            ([], Token::ObjectEnd) => self.names.clear(),
            ([Key("outputs"), Index(_)], Token::ObjectEnd) => {
                let tensor = self.tensor_end();
                let (name, token) = tensor.whole();
                self.seen.output |= matches!(name, "text_output" | "output_ids");
                self.output(name, token, draft);
            }
            ([Key("outputs"), Index(_), rest @ ..], _) => self.tensor.value(rest, token),
            ([Key(key)] | [Key(key), Index(_)], _) => self.output(key, token, draft),
            _ => {}
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        let Seen { output, generated, error } = std::mem::take(&mut self.seen);
        draft.response_proof |= output;
        if let Some(generated) = generated {
            draft.usage.output = Some(draft.usage.output.unwrap_or(0).saturating_add(generated));
        }
        if error {
            draft.failure.get_or_insert(Failure { kind: None, shaped: draft.request_proof });
        }
        match output {
            true => self.answer.end(0, draft),
            false => false,
        }
    }

    fn grpc(&self) -> Option<Method> {
        self.grpc
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        body_ended && draft.response_proof
    }
}
