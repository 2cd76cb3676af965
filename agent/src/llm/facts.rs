//! What a call's bytes said, in the field's own terms.
//!
//! Owns the normalised record that every wire API fills in and every exporter reads. Absent means "not seen on
//! the wire": nothing here has a default that could be mistaken for a value (invariant 4).

use super::{
    estimate::Estimated, history::History, quality::Quality, retrieval::RetrievalFacts, rpc::mcp::RpcFacts,
    timings::Timings,
};

/// Longest model name, id or finish reason that is kept, in bytes. Such values come from the payload: a
/// hostile one must not grow labels or logs without bound.
pub const MAX_NAME: usize = 256;

/// Everything that one call's request and response said about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// `inferscope.api`, for example `openai.chat`.
    pub api: &'static str,
    /// `gen_ai.operation.name`, for example `chat` or `text_completion`.
    pub operation: &'static str,
    /// `gen_ai.provider.name`.
    pub provider: &'static str,
    /// From the request body.
    pub request: RequestFacts,
    /// From the response body.
    pub response: ResponseFacts,
    /// Token counts as the server reported them.
    pub usage: Usage,
    /// Times as the server reported them.
    pub timings: Timings,
    /// What a search in a vector store was; only of such.
    pub retrieval: Option<RetrievalFacts>,
    /// What a remote procedure call was; only of MCP's and A2A's.
    pub rpc: Option<RpcFacts>,
    /// `error.type` that the body named: a provider's code or type, low in cardinality, never the message.
    pub error: Option<String>,
    /// Messages, only when the operator turned content on.
    pub content: Option<Content>,
    /// The request's messages as hashes; absent when the request was not read whole.
    pub history: Option<Box<History>>,
    /// `x-stainless-retry-count`: how often the client says that it has tried before.
    pub retry_count: Option<u32>,
    /// The tool calls of the answer, in order of appearance.
    pub asked: Vec<AskedTool>,
    /// Token counts where none were reported; absent unless the operator asked for estimates.
    pub estimated: Option<Estimated>,
    /// What is wrong with the answer.
    pub quality: Quality,
}

/// A tool call that an answer asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedTool {
    /// `gen_ai.tool.call.id`, by which the result refers to it.
    pub id: Option<String>,
    /// `gen_ai.tool.name`.
    pub name: Option<String>,
}

/// Parameters of the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestFacts {
    /// `gen_ai.request.model`.
    pub model: Option<String>,
    /// Whether a stream was asked for; absent when the body did not say.
    pub stream: Option<bool>,
    /// `gen_ai.request.max_tokens`.
    pub max_tokens: Option<u64>,
    /// `gen_ai.request.temperature`.
    pub temperature: Option<f64>,
    /// `gen_ai.request.top_p`.
    pub top_p: Option<f64>,
    /// `gen_ai.request.frequency_penalty`.
    pub frequency_penalty: Option<f64>,
    /// `gen_ai.request.presence_penalty`.
    pub presence_penalty: Option<f64>,
    /// `gen_ai.request.seed`.
    pub seed: Option<i64>,
    /// `gen_ai.request.choice.count`.
    pub choice_count: Option<u64>,
    /// `gen_ai.request.top_k`.
    pub top_k: Option<f64>,
    /// `gen_ai.request.stop_sequences`.
    pub stop_sequences: Vec<String>,
    /// `gen_ai.output.type`: `text`, `json`, `image` or `speech`.
    pub output_type: Option<&'static str>,
    /// `gen_ai.request.encoding_formats`.
    pub encoding_formats: Vec<String>,
    /// `gen_ai.embeddings.dimension.count`.
    pub dimensions: Option<u64>,
    /// `openai.request.service_tier`.
    pub service_tier: Option<String>,
    /// The response that the provider is to continue.
    pub previous_response_id: Option<String>,
    /// The provider's own id of the conversation.
    pub conversation_id: Option<String>,
    /// Number of messages in the request.
    pub message_count: Option<u64>,
    /// Number of tools that the request offered.
    pub tool_count: Option<u64>,
}

/// What the response said besides usage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseFacts {
    /// `gen_ai.response.model`, the last non-empty value.
    pub model: Option<String>,
    /// `gen_ai.response.id`, the first non-empty value.
    pub id: Option<String>,
    /// `gen_ai.response.finish_reasons`, one per choice in the order of choice index, as the provider spells it.
    pub finish_reasons: Vec<String>,
    /// `inferscope.tool_calls`: the names of the tools called, in order of appearance.
    pub tool_calls: Vec<String>,
    /// `openai.response.system_fingerprint`.
    pub system_fingerprint: Option<String>,
    /// `openai.response.service_tier`.
    pub service_tier: Option<String>,
    /// Who answered behind a gateway, as the gateway names them.
    pub upstream_provider: Option<String>,
    /// What the model behind a gateway gave as its finish reason, where the gateway translates it.
    pub native_finish_reason: Option<String>,
    /// What the provider says that the call cost, in US dollars.
    pub reported_cost: Option<f64>,
    /// Audio that was read, in seconds, where that is what is billed.
    pub audio_seconds: Option<f64>,
    /// The answer to a call that only counts the tokens of a prompt. Nothing was generated, so this is no usage.
    pub counted_tokens: Option<u64>,
}

/// Token counts; each absent unless reported. `input` includes cached tokens, `output` includes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// `gen_ai.usage.input_tokens`.
    pub input: Option<u64>,
    /// `gen_ai.usage.output_tokens`.
    pub output: Option<u64>,
    /// `gen_ai.usage.cache_read.input_tokens`.
    pub cache_read: Option<u64>,
    /// `gen_ai.usage.cache_write.input_tokens`.
    pub cache_write: Option<u64>,
    /// `gen_ai.usage.reasoning.output_tokens`.
    pub reasoning: Option<u64>,
    /// All tokens. Some providers count tokens here that they name nowhere else.
    pub total: Option<u64>,
    /// The part of `cache_write` that is kept for five minutes.
    pub cache_write_5m: Option<u64>,
    /// The part of `cache_write` that is kept for an hour.
    pub cache_write_1h: Option<u64>,
    /// `gen_ai.usage.text.*`.
    pub text: Modality,
    /// `gen_ai.usage.image.*`.
    pub image: Modality,
    /// `gen_ai.usage.audio.*`.
    pub audio: Modality,
    /// Input tokens that the model read, where `input` is what is billed (Cohere).
    pub processed_input: Option<u64>,
    /// Output tokens that the model wrote, where `output` is what is billed (Cohere).
    pub processed_output: Option<u64>,
    /// Web searches that the provider made for the call.
    pub web_searches: Option<u64>,
    /// Units that a search model is billed by (Cohere).
    pub search_units: Option<u64>,
}

/// The tokens of one modality, each a part of the count of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modality {
    /// Part of the input tokens.
    pub input: Option<u64>,
    /// Part of the output tokens.
    pub output: Option<u64>,
    /// Part of the tokens read from the cache.
    pub cache_read: Option<u64>,
}

impl Usage {
    /// Tokens that are in the total and in nothing else.
    pub fn unattributed(&self) -> Option<u64> {
        let named = self.input?.saturating_add(self.output.unwrap_or(0));
        self.total?.checked_sub(named).filter(|&surplus| surplus > 0)
    }

    /// Whether any count was reported.
    pub fn is_reported(&self) -> bool {
        *self != Self::default()
    }
}

/// Messages of a call, kept only when content capture is on. Already redacted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// `gen_ai.input.messages`: a JSON array of `{role, parts[]}` as the conventions define it.
    pub input_messages: Option<String>,
    /// `gen_ai.output.messages`: a JSON array of `{role, parts[], finish_reason}`.
    pub output_messages: Option<String>,
    /// `gen_ai.system_instructions`: a JSON array of parts, where the API takes them apart from the messages.
    pub system_instructions: Option<String>,
    /// `gen_ai.tool.definitions`: a JSON array of `{type, name}`, with `description` and `parameters` if the policy
    /// keeps them.
    pub tool_definitions: Option<String>,
    /// Whether something was cut off at the content cap.
    pub truncated: bool,
}
