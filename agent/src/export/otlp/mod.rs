//! Spans and metrics to any OTLP/gRPC receiver.
//!
//! Owns the client side of OTLP: settings from the configuration and the standard variables (`settings`), the
//! encoding (`encode`, `encode_metrics`), what to do about each answer (`retry`), the bounded queue and its ledger
//! (`queue`), the connection (`transport`) and its certificates (`certificates`), what is logged of it (`link`), the task that sends spans (`exporter`) and the
//! one that sends metrics (`metrics`), which need no queue: the newest are all that is wanted. What is noticed beside calls
//! is sent as logs, by a task like that for spans (`logs`).
//!
//! The queue is in memory. Where there is a log (`wal`), a task for each destination (`feed`) fills it from there with spans that
//! are durable, as there is room, and moves the destination's cursor when their fate is known: what survives a restart is the
//! log's business, how far a receiver is is this module's. Without a log spans are offered, and what finds no room is lost.
//!
//! The ledger always balances: accepted = exported + rejected + dropped after acceptance + returned to the log + pending.
//!
//! To add a setting: a field in `config::OtlpConfig`, its resolution in `settings`, its use in `transport` or
//! `exporter`. To add a reason of loss: a variant of [`DropReason`], which every reader then has to name.

mod certificates;
mod encode;
mod encode_metrics;
mod exporter;
mod feed;
mod link;
mod logs;
mod metrics;
mod pairs;
mod queue;
mod retry;
mod settings;
mod transport;

pub(in crate::export) use certificates::secured;
pub(in crate::export) use encode::without_content;
pub use encode::{Envelope, encode};
pub use encode_metrics::metrics_request;
pub use exporter::OtlpExporter;
pub use logs::NoticeLog;
pub use metrics::{MetricsCounts, MetricsExporter};
pub use pairs::PairError;
pub use queue::{DropReason, LOST, OtlpCounts, OtlpHandle, offer_to_all};
pub(in crate::export) use retry::entropy;
pub use retry::{Backoff, Verdict, classify, retry_delay};
pub use settings::{Env, MetricsSettings, OtlpSettings, SettingsError, TlsFiles, Tuning};
pub use transport::TransportError;
