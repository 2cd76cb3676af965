//! Spans and metrics to any OTLP/gRPC receiver.
//!
//! Owns the client side of OTLP: settings from the configuration and the standard variables (`settings`), the
//! encoding (`encode`, `encode_metrics`), what to do about each answer (`retry`), the bounded queue and its ledger
//! (`queue`), the connection (`transport`) and its certificates (`certificates`), what is logged of it (`link`), the task that sends spans (`exporter`) and the
//! one that sends metrics (`metrics`), which need no queue: the newest are all that is wanted. What is noticed beside calls
//! is sent as logs, by a task like that for spans (`logs`). The queue is in memory: what
//! must survive a restart is the log's business, not this module's.
//!
//! The ledger always balances: accepted = exported + rejected + dropped after acceptance + pending.
//!
//! To add a setting: a field in `config::OtlpConfig`, its resolution in `settings`, its use in `transport` or
//! `exporter`. To add a reason of loss: a variant of [`DropReason`], which every reader then has to name.

mod certificates;
mod encode;
mod encode_metrics;
mod exporter;
mod link;
mod logs;
mod metrics;
mod pairs;
mod queue;
mod retry;
mod settings;
mod transport;

pub use encode::{Envelope, encode};
pub use encode_metrics::metrics_request;
pub use exporter::OtlpExporter;
pub use logs::NoticeLog;
pub use metrics::{MetricsCounts, MetricsExporter};
pub use pairs::PairError;
pub use queue::{DropReason, OtlpCounts, OtlpHandle, offer_to_all};
pub use retry::{Backoff, Verdict, classify, retry_delay};
pub use settings::{Env, MetricsSettings, OtlpSettings, SettingsError, TlsFiles, Tuning};
pub use transport::TransportError;
