//! What is left of a span while there is no room for all of it.
//!
//! Owns the steps and their order, which docs/export.md declares: content goes first, then what describes single pieces of
//! a call, then most spans that nobody will look for, then all of them. Ids, times, status, usage and cost of a span that
//! is left are never touched. Pure: when to take which step, and the counting of what each removed, are left to the caller.
//!
//! To add a step: a variant of [`Shed`] in its place, its branch in [`shed`], its row in docs/export.md.

use super::{
    attributes::{self as names, CONTENT},
    sample::{Always, Sampling},
    span::{Span, Value},
};

/// Share of the unremarkable traces that is left at [`Shed::Sampled`].
pub const SAMPLED_RATE: f64 = 0.1;

/// Lists that describe parts of a call. Those that say how it ended and why it was slow are short, and stay.
const LISTS: [&str; 4] = [
    names::GEN_AI_REQUEST_STOP_SEQUENCES,
    names::GEN_AI_REQUEST_ENCODING_FORMATS,
    names::INFERSCOPE_TOOL_CALLS,
    names::INFERSCOPE_GPU_IDS,
];

/// Events that stay: what was slow and why, and the phases of a load, which are all that a load has.
const EVENTS: [&str; 3] = [names::EVENT_SLOW, names::EVENT_CAUSE, names::EVENT_LOAD_PHASE];

/// How much is shed. Each step includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shed {
    /// Nothing.
    #[default]
    None,
    /// Messages, instructions, tool definitions.
    Content,
    /// Also events for single chunks and gaps, and lists. The numbers that sum them up stay.
    ChunkDetail,
    /// Also nine in ten of the traces, but for the spans that are always kept.
    Sampled,
    /// All of every span: calls are left in the metrics alone.
    MetricsOnly,
}

impl Shed {
    /// All steps in their order.
    pub const ALL: [Self; 5] = [Self::None, Self::Content, Self::ChunkDetail, Self::Sampled, Self::MetricsOnly];

    /// The label of counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Content => "content",
            Self::ChunkDetail => "chunk_detail",
            Self::Sampled => "sampled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

/// What became of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is left, without what is counted here.
    Span(Removed),
    /// Nothing is left of it, because of this step. The span was not changed and is to be dropped.
    Nothing(Shed),
}

/// What a span has lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Attributes with content.
    pub content: u64,
    /// Other attributes.
    pub attributes: u64,
    /// Events.
    pub events: u64,
}

/// Sheds from `span` what `step` sheds. What `always` wants is left at every step but the last.
pub fn shed(span: &mut Span, step: Shed, always: &Always) -> Kept {
    if step == Shed::MetricsOnly {
        return Kept::Nothing(step);
    }
    if step == Shed::Sampled && !always.wants(span) {
        let sampling = Sampling::new(SAMPLED_RATE, None);
        if !sampling.keeps_trace(&span.trace_id) {
            return Kept::Nothing(step);
        }
        sampling.mark(span);
    }
    let mut removed = Removed::default();
    if step >= Shed::Content {
        removed.content = strip(span, |name| CONTENT.contains(&name));
        if removed.content > 0 && span.get(names::INFERSCOPE_CONTENT_TRUNCATED).is_none() {
            span.attributes.push((names::INFERSCOPE_CONTENT_TRUNCATED, Value::Bool(true)));
        }
    }
    if step >= Shed::ChunkDetail {
        removed.attributes = strip(span, |name| LISTS.contains(&name));
        let before = span.events.len();
        span.events.retain(|event| EVENTS.contains(&event.name));
        removed.events = (before - span.events.len()) as u64;
    }
    Kept::Span(removed)
}

/// Takes the attributes out that are meant, and says how many they were.
fn strip(span: &mut Span, is_meant: impl Fn(&str) -> bool) -> u64 {
    let before = span.attributes.len();
    span.attributes.retain(|(name, _)| !is_meant(name));
    (before - span.attributes.len()) as u64
}

#[cfg(test)]
#[path = "shed_tests.rs"]
mod tests;
