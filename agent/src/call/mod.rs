//! The life cycle of one call.

mod finished;
pub mod gaps;

pub use finished::{
    Capture, CaptureSource, Completion, FinishedCall, HttpFacts, Note, NoteKind, Side, SpanIds, Timing,
};
