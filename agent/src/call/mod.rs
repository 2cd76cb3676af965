//! The life cycle of one call: from pieces of a connection's two directions to a call that is over.
//!
//! Owns pairing of requests and responses ([`connection`]; in order or by stream), the times and the end of an exchange
//! ([`exchange`]), how far it is ([`progress`]),
//! the link between the two ends of a call on one host ([`link`]), what belongs to one conversation
//! ([`conversation`]), ids ([`ids`]) and the record that the
//! exporters get ([`FinishedCall`]). Framing is `protocol`'s, meaning is `llm`'s, processes and addresses are the
//! pipeline's.

pub mod connection;
pub mod conversation;
mod dull;
pub mod exchange;
mod finished;
pub mod gaps;
mod http1;
mod http2;
pub mod ids;
pub mod link;
mod lru;
mod opener;
pub mod progress;
pub mod requests;
mod websocket;

pub use conversation::{Place, Retry, ToolRun};
pub use finished::{
    Binding, Capture, Completion, FinishedCall, HttpFacts, InferredFacts, Note, NoteKind, Side, SpanIds, Timing,
};
pub use opener::ConnectionOptions;
pub(crate) use opener::OWN_AGENT;
