//! From a finished call to whoever wants it: JSON lines, terminal lines, OTLP.
//!
//! Owns the span, which is the data contract, its encodings, and what of it is exported (`sample`, `shed`). Decides nothing
//! about what is captured: content and redaction are settled before a call gets here. Knows nothing of records, streams or
//! parsers.
//!
//! To add an exporter: 1. a file here that takes `&Span` and adds no attribute of its own, so that all exporters
//! say the same; 2. if it can block or fail, a bounded queue with a non-blocking `offer` and a counter for each
//! reason of loss, as in [`otlp`]; 3. a section in `config`; 4. a test against a reader that we did not write.

pub mod attributes;
pub mod durable;
mod from_call;
mod inferred;
pub mod json_file;
pub mod jsonl;
pub mod otlp;
pub mod pretty;
pub mod prometheus;
mod remote;
pub mod sample;
mod serving;
pub mod shed;
pub mod ship;
pub mod span;
#[cfg(test)]
pub(crate) mod testing;
mod within;
