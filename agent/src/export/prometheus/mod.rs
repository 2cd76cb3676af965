//! Metrics for a Prometheus server that asks for them.
//!
//! Owns the text formats (`text`) and the endpoint (`server`). Decides nothing about what is counted; that is `metrics`'.

mod server;
mod text;

pub use server::{PrometheusServer, StartError};
pub use text::{Format, write};
