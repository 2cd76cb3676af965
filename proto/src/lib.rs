//! The wire types of everything inferscope sends or receives over gRPC.
//!
//! Owns the choice of protocol version: no other crate names `opentelemetry-proto`, so an upgrade of the
//! OTLP definitions is a change of this crate alone. Holds no logic and no transport; clients and servers are
//! built from these types in the agent.
//!
//! To add a message set of our own: put the `.proto` file beside this crate's manifest, commit the generated
//! code as a module here, and add a test that regenerates it and compares.

pub mod encoded;
pub mod rpc;

/// OpenTelemetry Protocol, as published in opentelemetry-proto v1.
pub mod otlp {
    pub use opentelemetry_proto::tonic::collector::metrics::v1 as collector_metrics;
    pub use opentelemetry_proto::tonic::collector::trace::v1 as collector_trace;
    pub use opentelemetry_proto::tonic::common::v1 as common;
    pub use opentelemetry_proto::tonic::metrics::v1 as metrics;
    pub use opentelemetry_proto::tonic::resource::v1 as resource;
    pub use opentelemetry_proto::tonic::trace::v1 as trace;
}

/// Encoding of messages, for callers that need the size of a message before they send it.
pub use prost::Message;
