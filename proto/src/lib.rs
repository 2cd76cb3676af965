//! The wire types of everything inferscope sends or receives over gRPC.
//!
//! Owns the choice of protocol version: no other crate names `opentelemetry-proto`, so an upgrade of the
//! OTLP definitions is a change of this crate alone. Holds no logic and no transport; clients and servers are
//! built from these types in the agent.
//!
//! To change a message of our own: change its `.proto` file, `cargo xtask build-proto`, commit both. A test generates the code
//! anew and compares. To add a message set: its file beside `inferscope/v1/ship.proto`, and its name in `tests/generated.rs`.

pub mod encoded;
pub mod rpc;

/// OpenTelemetry Protocol, as published in opentelemetry-proto v1.
pub mod otlp {
    pub use opentelemetry_proto::tonic::collector::logs::v1 as collector_logs;
    pub use opentelemetry_proto::tonic::collector::metrics::v1 as collector_metrics;
    pub use opentelemetry_proto::tonic::collector::trace::v1 as collector_trace;
    pub use opentelemetry_proto::tonic::common::v1 as common;
    pub use opentelemetry_proto::tonic::logs::v1 as logs;
    pub use opentelemetry_proto::tonic::metrics::v1 as metrics;
    pub use opentelemetry_proto::tonic::resource::v1 as resource;
    pub use opentelemetry_proto::tonic::trace::v1 as trace;
}

/// `inferscope.v1`: how an agent hands its calls to a collector. The rules are in `inferscope/v1/ship.proto`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    #![allow(clippy::allow_attributes_without_reason, reason = "generated")]
    include!("generated/inferscope.v1.rs");

    /// The version of the protocol that this code speaks.
    pub const VERSION: u32 = 1;

    /// Bytes of an epoch.
    pub const EPOCH_BYTES: usize = 16;
}

/// Encoding of messages, for callers that need the size of a message before they send it.
pub use prost::Message;
