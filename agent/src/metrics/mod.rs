//! Metrics: what calls and machinery add up to, for whoever asks.
//!
//! Owns the numbers, their bounded labels and the table of names ([`names`]). Takes spans of finished calls and snapshots
//! of the machinery ([`Machines`]); gives a [`Snapshot`], which `export::prometheus` writes as text and
//! `export::otlp::metrics` as OTLP. Pure: the time is an argument. Knows nothing of records, engines' internals or NVML.
//!
//! Labels are bounded twice. Values that programs and payloads choose (models, processes, hosts, errors) have places for
//! the commonest, and the others are `other` ([`top`]); and all series together have a cap, beyond which a metric's
//! measurements are put on one series ([`series`]). Both count what they fold, in `inferscope.metrics.folded`.
//!
//! To add a metric: the recipe is at the top of [`names`].

mod calls;
mod gauges;
pub mod machines;
pub mod names;
pub mod series;
pub mod top;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use machines::Machines;
use names::INFERSCOPE_METRICS_LIMIT;
use series::{Counted, LabelSet, MAX_SERIES};
pub use series::{Family, Point, Value};

use crate::{
    export::{attributes::INFERSCOPE_REASON, span::Span},
    time::{Mono, WallAnchor},
};

/// A snapshot of the machinery that is older is not shown: a reader must never take what was for what is.
pub const STALE: Duration = Duration::from_secs(30);

/// Reasons of a loss that are told.
const MAX_REASONS: usize = 64;

/// Counts of calls that an exporter lost, by reason, as of now.
pub type LostCalls = Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// The metrics. Shared behind an [`Arc`] by those who count and those who read; a lock is held for microseconds by the
/// former, and by the latter for as long as it takes to copy the series.
pub struct Metrics {
    anchor: WallAnchor,
    state: Mutex<State>,
}

struct State {
    counted: Counted,
    open: calls::Open,
    folded: BTreeMap<&'static str, u64>,
    /// When the machinery was last told of, and its series.
    machines: Option<(Mono, gauges::Points)>,
    lost_bytes: Vec<(&'static str, u64)>,
    lost_calls: Vec<LostCalls>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// All metrics at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When, nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// Those that have a series, in the order of the table.
    pub families: Vec<Family>,
}

impl Metrics {
    /// Nothing counted yet; counting begins at the time of `anchor`, which must be the one that spans are made with.
    pub fn new(anchor: WallAnchor) -> Arc<Self> {
        let state = State {
            counted: Counted::new(anchor.unix_nanos, MAX_SERIES),
            open: calls::Open::default(),
            folded: BTreeMap::new(),
            machines: None,
            lost_bytes: Vec::new(),
            lost_calls: Vec::new(),
        };
        Arc::new(Self { anchor, state: Mutex::new(state) })
    }

    // No change of the state can be interrupted halfway in a way that matters to a reader.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a finished call.
    pub fn on_call(&self, span: &Span) {
        let State { counted, open, folded, .. } = &mut *self.state();
        calls::record(open, calls::Sheet::new(counted, folded, span.end_time_unix_nano), span);
    }

    /// Takes what is known of the machinery, in place of what was. To be called about once a second.
    pub fn on_machines(&self, machines: Machines) {
        let (points, full) = gauges::points(&machines, self.anchor.unix_nanos);
        let mut state = self.state();
        state.machines = Some((machines.at, points));
        for (limit, count) in full {
            *state.folded.entry(limit).or_default() += count;
        }
    }

    /// Takes the bytes that were lost so far, by reason, in place of what was known.
    pub fn on_lost_bytes(&self, lost: Vec<(&'static str, u64)>) {
        self.state().lost_bytes = lost;
    }

    /// Asks `lost` at each snapshot for the calls that an exporter did not deliver.
    pub fn watch_lost_calls(&self, lost: LostCalls) {
        self.state().lost_calls.push(lost);
    }

    /// All metrics as of `now`.
    pub fn snapshot(&self, now: Mono) -> Snapshot {
        let start = self.anchor.unix_nanos;
        let state = self.state();
        let fresh = state.machines.as_ref().filter(|(at, _)| now.since(*at) <= STALE);
        let mut made = fresh.map(|(_, points)| points.clone()).unwrap_or_default();
        let lost_calls: Vec<_> = state.lost_calls.iter().flat_map(|lost| lost()).collect();
        let sums = [
            (&names::LOST_BYTES, INFERSCOPE_REASON, state.lost_bytes.clone()),
            (&names::LOST_CALLS, INFERSCOPE_REASON, lost_calls),
            (
                &names::FOLDED,
                INFERSCOPE_METRICS_LIMIT,
                state.folded.iter().map(|(limit, count)| (*limit, *count)).collect(),
            ),
        ];
        for (metric, label, values) in sums {
            let mut by_label: BTreeMap<&'static str, u64> = BTreeMap::new();
            for (value, count) in values.into_iter().take(MAX_REASONS) {
                *by_label.entry(value).or_default() += count;
            }
            let points = by_label.into_iter().map(|(value, count)| Point {
                labels: LabelSet::default().with(label, Some(value)).of(metric),
                start_unix_nano: Some(start),
                value: Value::Int(count),
            });
            made.insert(metric.name, points.collect());
        }
        let mut families = Vec::new();
        for &metric in names::ALL {
            let mut points = state.counted.points(metric);
            points.extend(made.remove(metric.name).unwrap_or_default());
            if !points.is_empty() {
                families.push(Family { metric, points });
            }
        }
        Snapshot { time_unix_nano: self.anchor.to_unix_nanos(now), families }
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
