//! Which spans are exported: those that somebody will look for, and a share of the rest.
//!
//! Owns what is always kept (errors, slow calls, answers of low confidence, what cost much) and the lot that decides on
//! the rest. The lot is drawn from the trace id, as OpenTelemetry's consistent probability sampling does: the last 56 bits
//! of the id are taken for a random number, and a trace is kept if that is not below a threshold. So all spans of a trace
//! fall alike, on every host, and a trace that is kept at one rate is kept at every higher one. Pure. Counting what falls,
//! and metrics, which are counted before, are left to the caller.
//!
//! To keep one more kind always: a branch in `Always::wants`, and its line in docs/export.md.

use std::borrow::Cow;

use super::{
    attributes as names,
    span::{Span, SpanStatus, Value},
};

/// Bits of a trace id that are random: the W3C's recommendation, and what OpenTelemetry's thresholds count in.
const RANDOM_BITS: u32 = 56;

/// What is exported whatever the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Always {
    /// Cost of a call in US dollars from which on it is kept.
    pub above_usd: Option<f64>,
}

impl Always {
    /// Whether `span` is one that somebody will look for.
    pub fn wants(&self, span: &Span) -> bool {
        let is_slow = |name: &str| name == names::EVENT_SLOW || name == names::EVENT_CAUSE;
        let marks = [
            names::INFERSCOPE_SLOW,
            names::INFERSCOPE_CAUSE_KINDS,
            names::INFERSCOPE_STALL_SECONDS,
            names::INFERSCOPE_QUALITY_LOW_CONFIDENCE,
        ];
        let cost = || span.get(names::INFERSCOPE_COST_USD).and_then(Value::as_double);
        span.status == SpanStatus::Error
            || span.events.iter().any(|event| is_slow(event.name))
            || span.attributes.iter().any(|(name, _)| marks.contains(name))
            || self.above_usd.is_some_and(|limit| cost().is_some_and(|cost| cost >= limit))
    }
}

/// What becomes of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Exported whatever the rate.
    Always,
    /// Exported, because its trace is in the share.
    ByRate,
    /// Not exported.
    Out,
}

/// A rate, and what is kept beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    rate: f64,
    /// Ids below it are rejected.
    threshold: u64,
    always: Always,
}

impl Default for Sampling {
    /// Everything is kept.
    fn default() -> Self {
        Self::new(1.0, None)
    }
}

impl Sampling {
    /// Keeps the share `rate` of the traces, and calls that cost `always_above_usd` or more. A rate outside 0 to 1 counts
    /// as the nearer of the two.
    pub fn new(rate: f64, always_above_usd: Option<f64>) -> Self {
        let rate = if rate.is_nan() { 1.0 } else { rate.clamp(0.0, 1.0) };
        let all = 1u64 << RANDOM_BITS;
        // Both factors have few enough bits for a double, and the cast is of a number between 0 and 2^56.
        let threshold = all - (rate * all as f64).round() as u64;
        Self { rate, threshold, always: Always { above_usd: always_above_usd } }
    }

    /// What is kept whatever the rate.
    pub fn always(&self) -> &Always {
        &self.always
    }

    /// Whether nothing is ever left out.
    pub fn keeps_all(&self) -> bool {
        self.threshold == 0
    }

    /// Whether the trace is in the share.
    pub fn keeps_trace(&self, trace_id: &[u8; 16]) -> bool {
        let random = trace_id[9..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        random >= self.threshold
    }

    /// What becomes of `span`.
    pub fn decide(&self, span: &Span) -> Decision {
        if self.always.wants(span) {
            Decision::Always
        } else if self.keeps_trace(&span.trace_id) {
            Decision::ByRate
        } else {
            Decision::Out
        }
    }

    /// The span as it is exported, marked with the rate where chance kept it, or nothing.
    pub fn sample<'a>(&self, span: &'a Span) -> Option<Cow<'a, Span>> {
        match self.decide(span) {
            Decision::Out => None,
            Decision::ByRate if !self.keeps_all() => {
                let mut span = span.clone();
                self.mark(&mut span);
                Some(Cow::Owned(span))
            }
            Decision::Always | Decision::ByRate => Some(Cow::Borrowed(span)),
        }
    }

    /// Says in `span` at which rate it was kept. Thresholds are nested: one that passed two was kept at the lower rate.
    pub(super) fn mark(&self, span: &mut Span) {
        match span.attributes.iter_mut().find(|(name, _)| *name == names::INFERSCOPE_SAMPLING_RATE) {
            Some((_, Value::Double(rate))) => *rate = rate.min(self.rate),
            Some((_, value)) => *value = Value::Double(self.rate),
            None => span.attributes.push((names::INFERSCOPE_SAMPLING_RATE, Value::Double(self.rate))),
        }
    }
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
