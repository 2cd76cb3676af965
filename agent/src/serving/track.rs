//! What a counter or a gauge was over time, within a bound.
//!
//! Owns interpolation and forgetting. A counter that falls belongs to another process or was reset: the fall counts as
//! nothing. A query that failed leaves no point; what lies between two points is spread evenly over it.

use std::collections::VecDeque;

use crate::time::Mono;

/// Points kept of each. At ten a second some seven minutes; beyond it every second point of the older half goes, so that
/// a longer call has its sums and a coarser course.
const MAX_POINTS: usize = 4096;

/// A counter that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    points: VecDeque<(Mono, u64)>,
    raw: Option<u64>,
    sum: u64,
}

impl Counter {
    /// The counter's value at a time. Points out of order are left out.
    pub fn push(&mut self, at: Mono, raw: u64) {
        if self.points.back().is_some_and(|(last, _)| *last >= at) {
            return;
        }
        self.sum += self.raw.map_or(0, |before| raw.saturating_sub(before));
        self.raw = Some(raw);
        self.keep(at);
    }

    /// What was added to it until a time.
    pub fn add(&mut self, at: Mono, more: u64) {
        if self.points.back().is_some_and(|(last, _)| *last >= at) {
            return;
        }
        self.sum += more;
        self.keep(at);
    }

    fn keep(&mut self, at: Mono) {
        self.points.push_back((at, self.sum));
        thin(&mut self.points, |_, later| later);
    }

    /// All that it grew by.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Its sum at a time, between two points; `None` outside of what was observed.
    pub fn at(&self, at: Mono) -> Option<u64> {
        let after = self.points.partition_point(|(time, _)| *time < at);
        let &(later, value) = self.points.get(after)?;
        if later == at {
            return Some(value);
        }
        let &(earlier, before) = self.points.get(after.checked_sub(1)?)?;
        let (passed, whole) = (u128::from(at.0 - earlier.0), u128::from(later.0 - earlier.0));
        // Within u64: no more than `value - before`.
        Some(before + (u128::from(value - before) * passed / whole) as u64)
    }

    /// How much it grew; `None` unless both ends were observed.
    pub fn between(&self, from: Mono, to: Mono) -> Option<u64> {
        Some(self.at(to)?.saturating_sub(self.at(from)?))
    }

    /// How much it grew in what was observed of a time, which may be none of it.
    pub fn within(&self, from: Mono, to: Mono) -> u64 {
        let (Some(&(first, _)), Some(&(last, _))) = (self.points.front(), self.points.back()) else { return 0 };
        let (from, to) = (from.max(first), to.min(last));
        if from >= to { 0 } else { self.between(from, to).unwrap_or(0) }
    }

    /// The time of its last point.
    pub fn last(&self) -> Option<Mono> {
        self.points.back().map(|(at, _)| *at)
    }

    /// Forgets what was before a time, but for the point that it takes to interpolate there.
    pub fn forget_before(&mut self, at: Mono) {
        while self.points.get(1).is_some_and(|(time, _)| *time <= at) {
            self.points.pop_front();
        }
    }
}

/// A value that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    points: VecDeque<(Mono, u64)>,
}

/// What a gauge was over a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Course {
    /// At its beginning, or the first value in it.
    pub start: u64,
    /// Largest.
    pub max: u64,
    /// At its end.
    pub end: u64,
    /// Mean, each value weighted with the time until the next.
    pub mean: f64,
}

impl Gauge {
    /// The value from a time on. Points out of order are left out.
    pub fn push(&mut self, at: Mono, value: u64) {
        if self.points.back().is_none_or(|(last, _)| *last < at) {
            self.points.push_back((at, value));
            thin(&mut self.points, u64::max);
        }
    }

    /// Its course over a time; `None` if it was never seen before the end of it.
    pub fn over(&self, from: Mono, to: Mono) -> Option<Course> {
        let first = self.points.partition_point(|(time, _)| *time <= from).saturating_sub(1);
        let mut points = self.points.range(first..).take_while(|(time, _)| *time <= to).peekable();
        let start = points.peek()?.1;
        let mut course = Course { start, max: 0, end: start, mean: start as f64 };
        let (mut sum, mut weight) = (0.0, 0.0);
        while let Some(&(time, value)) = points.next() {
            let until = points.peek().map_or(to, |(next, _)| *next);
            let lasted = until.0.saturating_sub(time.0.max(from.0)) as f64;
            sum += value as f64 * lasted;
            weight += lasted;
            course.max = course.max.max(value);
            course.end = value;
        }
        if weight > 0.0 {
            course.mean = sum / weight;
        }
        Some(course)
    }

    /// Until when its value was above a bound, from a time on and without a break; `None` if it was not there at first.
    pub fn last_above(&self, from: Mono, to: Mono, bound: u64) -> Option<Mono> {
        let first = self.points.partition_point(|(time, _)| *time <= from);
        let mut until = None;
        for (time, value) in self.points.range(first..).take_while(|(time, _)| *time <= to) {
            if *value <= bound {
                break;
            }
            until = Some(*time);
        }
        until
    }

    /// Forgets what was before a time, but for the value that held then.
    pub fn forget_before(&mut self, at: Mono) {
        while self.points.get(1).is_some_and(|(time, _)| *time <= at) {
            self.points.pop_front();
        }
    }
}

/// How long at least one of these times was under way between two points, nanoseconds.
pub fn covered(times: impl Iterator<Item = (Mono, Mono)>, from: Mono, to: Mono) -> u64 {
    let mut times: Vec<(Mono, Mono)> = times.map(|(begin, end)| (begin.max(from), end.min(to))).collect();
    times.sort_unstable();
    let (mut sum, mut until) = (0, from);
    for (begin, end) in times {
        let begin = begin.max(until);
        if end > begin {
            sum += end.0 - begin.0;
            until = end;
        }
    }
    sum
}

/// Joins pairs of points of the older half when there are too many.
fn thin(points: &mut VecDeque<(Mono, u64)>, join: impl Fn(u64, u64) -> u64) {
    if points.len() <= MAX_POINTS {
        return;
    }
    let recent = points.split_off(MAX_POINTS / 2);
    let older: Vec<(Mono, u64)> = points.drain(..).collect();
    // The later point's time: a counter's sum there is exact, and what came before it is spread.
    points.extend(older.chunks(2).map(|pair| match *pair {
        [(_, one), (at, other)] => (at, join(one, other)),
        _ => pair[0],
    }));
    points.extend(recent);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_counter_interpolates_and_knows_what_it_did_not_see() {
        let mut counter = Counter::default();
        for (at, raw) in [(100, 5), (200, 25), (300, 25), (400, 3), (500, 13)] {
            counter.push(Mono(at), raw);
        }
        assert_eq!(counter.between(Mono(100), Mono(200)), Some(20));
        assert_eq!(counter.between(Mono(150), Mono(200)), Some(10));
        assert_eq!(counter.between(Mono(200), Mono(500)), Some(10), "the fall to 3 is a reset");
        assert_eq!((counter.at(Mono(99)), counter.at(Mono(501))), (None, None));
        assert_eq!(counter.within(Mono(0), Mono(150)), 10);
        counter.forget_before(Mono(250));
        assert_eq!((counter.at(Mono(150)), counter.at(Mono(250))), (None, Some(20)));
    }

    #[test]
    fn a_gauge_is_weighted_by_time() {
        let mut gauge = Gauge::default();
        for (at, value) in [(100, 10), (200, 50), (300, 0)] {
            gauge.push(Mono(at), value);
        }
        assert_eq!(gauge.over(Mono(0), Mono(50)), None);
        let course = gauge.over(Mono(150), Mono(350)).unwrap();
        assert_eq!((course.start, course.max, course.end), (10, 50, 0));
        assert!((course.mean - (50.0 * 10.0 + 100.0 * 50.0) / 200.0).abs() < 1e-9);
    }

    #[test]
    fn times_that_overlap_count_once() {
        let times = [(50, 80), (10, 30), (20, 60), (90, 200), (95, 97)].map(|(begin, end)| (Mono(begin), Mono(end)));
        assert_eq!(covered(times.into_iter(), Mono(0), Mono(100)), 80);
        assert_eq!(covered(times.into_iter(), Mono(25), Mono(55)), 30);
        assert_eq!(covered([].into_iter(), Mono(0), Mono(100)), 0);
    }

    proptest! {
        #[test]
        fn cutting_a_time_anywhere_loses_nothing(steps in prop::collection::vec((1u64..1000, 0u64..10_000), 2..200), cuts in prop::collection::vec(0.0f64..1.0, 0..20)) {
            let mut counter = Counter::default();
            let (mut at, mut raw) = (0, 0);
            for (time, more) in steps {
                (at, raw) = (at + time, raw + more);
                counter.push(Mono(at), raw);
            }
            let (first, last) = (counter.points[0].0, counter.last().unwrap());
            let mut cuts: Vec<Mono> = cuts.iter().map(|cut| Mono(first.0 + ((last.0 - first.0) as f64 * cut) as u64)).collect();
            cuts.extend([first, last]);
            cuts.sort_unstable();
            let parts: u64 = cuts.windows(2).map(|pair| counter.between(pair[0], pair[1]).unwrap()).sum();
            prop_assert_eq!(Some(parts), counter.between(first, last));
        }

        #[test]
        fn it_is_bounded_and_its_sum_stays(points in 1usize..3 * MAX_POINTS) {
            let (mut counter, mut gauge) = (Counter::default(), Gauge::default());
            for point in 0..=points as u64 {
                counter.push(Mono(point), point * 7);
                gauge.push(Mono(point), u64::from(point == 3));
            }
            prop_assert!(counter.points.len() <= MAX_POINTS && gauge.points.len() <= MAX_POINTS);
            prop_assert_eq!(counter.sum, points as u64 * 7);
            if points >= 3 {
                prop_assert_eq!(gauge.over(Mono(0), Mono(points as u64)).unwrap().max, 1);
            }
        }
    }
}
