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
//! 1. write one file, in its provider's folder or in `engines/`, with a type that implements `WireApi` (`api.rs`): the
//!    request's values, the response's values, and the end of a response document; `openai/chat.rs` is the model;
//! 2. set `request_proof` and `response_proof` from what no other API has: a path proves nothing;
//! 3. add its path to `ROUTES` in `registry/hosted.rs`, `local.rs`, `stores.rs` or `remote.rs`, and its hosts to
//!    `registry/provider.rs`;
//! 4. if its body is framed in a way that `framing/` does not list, add the framing there; if it streams an array, say
//!    so (`WireApi::streams_array`); if the framing names events, take the names (`WireApi::event_name`); what is spoken
//!    on a WebSocket has its recipe in `socket/`;
//! 5. add recorded bodies to `tests/`, named after the edge they show, and its rows to `agent/tests/corpus.rs`.

mod anthropic;
mod any_api;
mod api;
mod arguments;
mod assemble;
mod base64;
mod bedrock;
mod block;
mod choice;
mod cohere;
mod content;
mod contest;
mod engines;
mod estimate;
mod facts;
mod framing;
mod gemini;
mod grpc;
mod history;
mod openai;
mod quality;
mod registry;
mod rerank;
mod results;
mod retrieval;
mod rpc;
mod session;
mod socket;
#[cfg(test)]
mod tests;
mod timings;
mod value;
mod watsonx;

pub use estimate::{Estimated, Estimator, Method, Vocabularies, Vocabulary};
pub use facts::{AskedTool, Content, Facts, MAX_NAME, Modality, RequestFacts, ResponseFacts, Usage};
pub(crate) use history::keyed;
pub use history::{History, Secret, ToolResult};
pub use quality::Quality;
pub(crate) use registry::is_never_a_model;
pub use registry::paths;
pub(crate) use registry::provider::is_provider;
pub use retrieval::RetrievalFacts;
pub use rpc::mcp::RpcFacts;
pub(crate) use rpc::mcp_stdio::{Answer, Said, Speech, facts as mcp_facts};
pub use session::{Options, Proof, RequestLine, ResponseEvent, Session};
pub use socket::envelope::{Envelope, Role};
pub use socket::{Asked, Socket};
pub use timings::Timings;
