//! Series: a metric with one set of labels, and the number that it has.
//!
//! Owns the storage of what is counted from calls, its cap, and the shape that encoders read. A measurement that would need
//! a series beyond the cap is counted on one series of its metric that stands for all those, so that sums stay right.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::names::{Kind, Metric, OTEL_METRIC_OVERFLOW};

/// Labels of a series, in the order of the metric's table.
pub type Labels = Arc<[(&'static str, Arc<str>)]>;

/// Series counted from calls, all metrics together. A histogram takes some 400 bytes here and 6 KB in a text exposition:
/// beyond it a scrape would be larger than what is measured is worth.
pub const MAX_SERIES: usize = 2_000;

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Whole.
    Int(u64),
    /// Real.
    Double(f64),
    /// A distribution.
    Histogram(Histogram),
}

/// A distribution over fixed buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Upper boundaries, which belong to their bucket.
    pub bounds: &'static [f64],
    /// Measurements in each bucket; the last has no boundary.
    pub buckets: Vec<u64>,
    /// Sum of the measurements.
    pub sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    fn record(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
            self.sum += value;
        }
    }

    /// How many measurements.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// One series at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its labels.
    pub labels: Labels,
    /// Since when it counts, nanoseconds since the Unix epoch; absent where that is not known, and for readings.
    pub start_unix_nano: Option<u64>,
    /// Its number.
    pub value: Value,
}

/// A metric with its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Which.
    pub metric: &'static Metric,
    /// At least one; no labels occur twice.
    pub points: Vec<Point>,
}

/// Labels under construction. What is not known adds nothing.
#[derive(Debug, Default)]
pub struct LabelSet(Vec<(&'static str, Arc<str>)>);

impl LabelSet {
    /// With one more label, if its value is known.
    pub fn with(mut self, name: &'static str, value: Option<impl Into<Arc<str>>>) -> Self {
        self.0.extend(value.map(|value| (name, value.into())));
        self
    }

    /// Gives a label another value.
    pub fn set(&mut self, name: &'static str, value: impl Into<Arc<str>>) {
        self.0.retain(|(label, _)| *label != name);
        self.0.push((name, value.into()));
    }

    /// Those that `metric` has, in its order.
    pub fn of(&self, metric: &Metric) -> Labels {
        let find = |name: &&'static str| self.0.iter().find(|(label, _)| label == name).cloned();
        metric.labels.iter().filter_map(find).collect()
    }
}

#[derive(Debug)]
struct Series {
    start: u64,
    value: Value,
}

/// What is counted from calls.
#[derive(Debug)]
pub struct Counted {
    families: BTreeMap<&'static str, HashMap<Labels, Series>>,
    series: usize,
    limit: usize,
    /// Since when a series that begins now counts.
    start: u64,
}

impl Counted {
    /// Nothing yet, from `start` on (nanoseconds since the Unix epoch), in at most `limit` series.
    pub fn new(start: u64, limit: usize) -> Self {
        Self { families: BTreeMap::new(), series: 0, limit, start }
    }

    /// Adds `amount` to a counter, or records it in a histogram. Says whether the series has its own place. What is not a
    /// finite number of zero or more is no measurement.
    pub fn add(&mut self, metric: &'static Metric, labels: &LabelSet, amount: f64) -> bool {
        if !(amount.is_finite() && amount >= 0.0) {
            return true;
        }
        let family = self.families.entry(metric.name).or_default();
        let mut labels = labels.of(metric);
        let own = family.contains_key(&labels) || self.series < self.limit;
        if !own {
            labels = [(OTEL_METRIC_OVERFLOW, "true".into())].into();
        }
        let series = family.entry(labels).or_insert_with(|| {
            self.series += usize::from(own);
            let value = match metric.kind {
                Kind::Histogram(bounds) => Value::Histogram(Histogram::new(bounds)),
                _ if metric.unit.starts_with('{') && metric.unit != "{USD}" => Value::Int(0),
                _ => Value::Double(0.0),
            };
            Series { start: self.start, value }
        });
        match &mut series.value {
            Value::Int(sum) => *sum = sum.saturating_add(amount as u64),
            Value::Double(sum) => *sum += amount,
            Value::Histogram(histogram) => histogram.record(amount),
        }
        own
    }

    /// Ends the series that have all of `labels`. They are not added to another: a sum of rates would jump. If they come
    /// again they count anew, from `now`.
    pub fn retire(&mut self, labels: &[(&'static str, &str)], now: u64) {
        self.start = self.start.max(now);
        let over = |series: &Labels| {
            labels.iter().all(|(name, value)| series.iter().any(|(label, has)| label == name && &**has == *value))
        };
        for family in self.families.values_mut() {
            let before = family.len();
            family.retain(|series, _| !over(series));
            self.series -= before - family.len();
        }
    }

    /// The series of `metric`, in the order of their labels.
    pub fn points(&self, metric: &Metric) -> Vec<Point> {
        let family = self.families.get(metric.name);
        let mut points: Vec<_> = family
            .into_iter()
            .flatten()
            .map(|(labels, Series { start, value })| Point {
                labels: Arc::clone(labels),
                start_unix_nano: Some(*start),
                value: value.clone(),
            })
            .collect();
        points.sort_unstable_by(|one, other| one.labels.cmp(&other.labels));
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::attributes::{GEN_AI_REQUEST_MODEL, INFERSCOPE_SLOW_MEASURE};
    use crate::metrics::names::{CALLS_SLOW, SERVER_FIRST_TOKEN, TOKENS};

    fn model(model: &str) -> LabelSet {
        LabelSet::default().with(GEN_AI_REQUEST_MODEL, Some(model)).with("no.label.of.it", Some("x"))
    }

    #[test]
    fn boundaries_belong_to_their_bucket() {
        let mut histogram = Histogram::new(TOKENS);
        for value in [0.0, 1.0, 1.5, 4.0, 1e9] {
            histogram.record(value);
        }
        assert_eq!((histogram.buckets[0], histogram.buckets[1], histogram.buckets[TOKENS.len()]), (2, 2, 1));
        assert_eq!((histogram.count(), histogram.sum), (5, 6.5 + 1e9));
    }

    #[test]
    fn labels_are_the_metric_s_in_its_order() {
        let set = model("m").with(INFERSCOPE_SLOW_MEASURE, Some("chunk_gap"));
        let names: Vec<_> = set.of(&CALLS_SLOW).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [INFERSCOPE_SLOW_MEASURE, GEN_AI_REQUEST_MODEL]);
    }

    #[test]
    fn beyond_the_cap_one_series_stands_for_all() {
        let mut counted = Counted::new(7, 2);
        let own: Vec<_> = ["a", "b", "c", "d", "a"].map(|name| counted.add(&CALLS_SLOW, &model(name), 1.0)).to_vec();
        assert_eq!(own, [true, true, false, false, true]);
        assert!(!counted.add(&SERVER_FIRST_TOKEN, &model("a"), 0.5));
        let points = counted.points(&CALLS_SLOW);
        let values: Vec<_> = points.iter().map(|point| point.value.clone()).collect();
        assert_eq!(values, [Value::Int(2), Value::Int(1), Value::Int(2)]);
        assert_eq!(*points[2].labels, [(OTEL_METRIC_OVERFLOW, "true".into())]);
    }

    #[test]
    fn a_series_that_ended_makes_room_and_counts_anew() {
        let mut counted = Counted::new(7, 2);
        for name in ["a", "b"] {
            counted.add(&CALLS_SLOW, &model(name), 1.0);
        }
        counted.retire(&[(GEN_AI_REQUEST_MODEL, "a")], 9);
        assert!(counted.add(&CALLS_SLOW, &model("a"), 1.0));
        let starts: Vec<_> = counted.points(&CALLS_SLOW).iter().map(|point| point.start_unix_nano).collect();
        assert_eq!(starts, [Some(9), Some(7)]);
        assert_eq!(counted.points(&CALLS_SLOW)[0].value, Value::Int(1));
    }

    #[test]
    fn what_is_no_measurement_changes_nothing() {
        let mut counted = Counted::new(7, 2);
        for amount in [f64::NAN, f64::INFINITY, -1.0] {
            counted.add(&CALLS_SLOW, &model("a"), amount);
        }
        assert!(counted.points(&CALLS_SLOW).is_empty());
    }
}
