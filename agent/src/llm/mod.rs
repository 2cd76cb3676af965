//! Model APIs: from message bodies to [`Facts`].
//!
//! Owns which paths are model APIs, what proves a call, what each value of a body means, when a response carries
//! its first content and how messages are written down. A [`Session`] reads one call: it is fed decoded body
//! bytes in any cut and answers with the same facts.
//!
//! Leaves to others: HTTP, transfer and content encodings (`protocol`), times and what a call's end means
//! (`call`), which credentials look how (`privacy`), attribute names (`export`). Keeps no clock and no byte of
//! content unless it was told to.
//!
//! To add a wire API:
//! 1. write one file with a type that implements `WireApi` (`api.rs`): the request's values, the response's
//!    values, and the end of a response document; `openai_chat.rs` is the model;
//! 2. set `request_proof` and `response_proof` from what no other API has: a path proves nothing;
//! 3. add its path to `ROUTES` in `hosted.rs`, `local.rs`, `stores.rs` or `remote.rs`, and its hosts to `provider.rs`;
//! 4. if its body is framed in a way that `body.rs` does not list, add the framing there; if it streams an array, say
//!    so (`WireApi::streams_array`); if the framing names events, take the names (`WireApi::event_name`); what is spoken
//!    on a WebSocket has its recipe in `socket.rs`;
//! 5. add recorded bodies to `tests/`, named after the edge they show, and its rows to `agent/tests/corpus.rs`.

mod a2a;
mod anthropic;
mod anthropic_complete;
mod anthropic_input;
mod anthropic_output;
mod anthropic_usage;
mod any_api;
mod api;
mod arguments;
mod assemble;
mod audio;
mod base64;
mod bedrock;
mod bedrock_invoke;
mod bedrock_native;
mod block;
mod body;
mod choice;
mod cohere;
mod cohere_usage;
mod cohere_v1;
mod content;
mod contest;
mod converse;
mod converse_input;
mod converse_output;
mod documents;
mod embeddings;
mod engine;
mod envelope;
mod estimate;
mod events;
mod facts;
mod frames;
mod gemini;
mod gemini_embed;
mod gemini_input;
mod gemini_interactions;
mod gemini_output;
mod gemini_usage;
mod grpc;
mod grpc_tables;
mod history;
mod hosted;
mod images;
mod jsonrpc;
mod llamacpp;
mod lmstudio;
mod local;
mod mcp;
mod mcp_stdio;
mod messages;
mod moderations;
mod ollama;
mod ollama_request;
mod openai;
mod openai_chat;
mod openai_completions;
mod openai_error;
mod openai_usage;
mod plain;
mod provider;
mod quality;
mod realtime;
mod realtime_transcript;
mod registry;
mod remote;
mod request_body;
mod rerank;
mod responses;
mod responses_input;
mod responses_output;
mod results;
mod retrieval;
mod sampling;
mod session;
mod sglang;
mod single;
mod socket;
mod stores;
#[cfg(test)]
mod tests;
mod tgi;
mod timings;
mod triton;
mod value;
mod vllm;
mod watsonx;

pub use envelope::{Envelope, Role};
pub use estimate::Estimated;
pub use facts::{AskedTool, Content, Facts, MAX_NAME, Modality, RequestFacts, ResponseFacts, Usage};
pub(crate) use history::keyed;
pub use history::{History, Secret, ToolResult};
pub use mcp::RpcFacts;
pub(crate) use mcp_stdio::{Answer, Said, Speech, facts as mcp_facts};
pub(crate) use provider::is_provider;
pub use quality::Quality;
pub(crate) use registry::is_never_a_model;
pub use registry::paths;
pub use retrieval::RetrievalFacts;
pub use session::{Options, Proof, RequestLine, ResponseEvent, Session};
pub use socket::{Asked, Socket};
pub use timings::Timings;
