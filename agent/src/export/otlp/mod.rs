//! Spans to any OTLP/gRPC receiver.
//!
//! Owns the client side of OTLP: settings from the configuration and the standard variables (`settings`), the
//! encoding (`encode`), what to do about each answer (`retry`), the bounded queue and its ledger (`queue`), the
//! connection (`transport`) and the task that ties them together (`exporter`). The queue is in memory: what must
//! survive a restart is the log's business, not this module's.
//!
//! The ledger always balances: accepted = exported + rejected + dropped after acceptance + pending.
//!
//! To add a setting: a field in `config::OtlpConfig`, its resolution in `settings`, its use in `transport` or
//! `exporter`. To add a reason of loss: a variant of [`DropReason`], which every reader then has to name.

mod encode;
mod exporter;
mod pairs;
mod queue;
mod retry;
mod settings;
mod transport;

pub use encode::{Envelope, encode};
pub use exporter::OtlpExporter;
pub use pairs::PairError;
pub use queue::{DropReason, OtlpCounts, OtlpHandle};
pub use retry::{Backoff, Verdict, classify, retry_delay};
pub use settings::{Env, OtlpSettings, SettingsError, TlsFiles, Tuning};
pub use transport::TransportError;
