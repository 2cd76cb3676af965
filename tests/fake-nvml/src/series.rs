//! Values over a script's time: what was so when, and how much of it there has been.
//!
//! Owns order and integrals, whose value does not depend on the order in which the script's lines came. Knows nothing of
//! what the values are.

/// Most points of one series: a change every 25 ms for an hour and a half. Beyond it the oldest half is forgotten; its
/// integral is kept.
const POINTS: usize = 1 << 18;

/// A value that changes in steps.
#[derive(Clone, Debug)]
pub struct Series {
    /// By time. The first point holds from the beginning on.
    points: Vec<Point>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    at: u64,
    value: u64,
    /// Integral from the first point to this one, value × ns.
    before: u128,
}

impl Point {
    fn integral(&self, to: u64) -> u128 {
        self.before + u128::from(self.value) * u128::from(to.saturating_sub(self.at))
    }
}

impl Series {
    /// A value from a time on (and before it, as far as anybody asks).
    pub fn new(at: u64, value: u64) -> Self {
        Self { points: vec![Point { at, value, before: 0 }] }
    }

    /// Says that the value is another from a time on, until the next time of which something was said.
    pub fn set(&mut self, at: u64, value: u64) {
        let at = at.max(self.points[0].at);
        let index = self.points.partition_point(|point| point.at <= at);
        self.points.insert(index, Point { at, value, before: 0 });
        for index in index..self.points.len() {
            self.points[index].before = self.points[index - 1].integral(self.points[index].at);
        }
        if self.points.len() > POINTS {
            self.points.drain(..POINTS / 2);
        }
    }

    fn point(&self, at: u64) -> &Point {
        let index = self.points.partition_point(|point| point.at <= at);
        &self.points[index.saturating_sub(1)]
    }

    /// The value at a time.
    pub fn at(&self, at: u64) -> u64 {
        self.point(at).value
    }

    /// Value × ns between two times.
    pub fn integral(&self, from: u64, to: u64) -> u128 {
        self.point(to).integral(to).saturating_sub(self.point(from).integral(from))
    }

    /// Mean value between two times; the value where they are one.
    pub fn mean(&self, from: u64, to: u64) -> f64 {
        match to.saturating_sub(from) {
            0 => self.at(to) as f64,
            span => self.integral(from, to) as f64 / span as f64,
        }
    }
}

/// A counter of things that happen at times.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The total after each, by time.
    totals: Vec<(u64, u64)>,
}

impl Tally {
    /// Adds to it from a time on.
    pub fn add(&mut self, at: u64, n: u64) {
        if n == 0 {
            return;
        }
        let index = self.totals.partition_point(|(t, _)| *t <= at);
        let before = self.at(at);
        self.totals.insert(index, (at, before));
        self.totals[index..].iter_mut().for_each(|(_, total)| *total += n);
        if self.totals.len() > POINTS {
            self.totals.drain(..POINTS / 2);
        }
    }

    /// Its value at a time.
    pub fn at(&self, at: u64) -> u64 {
        match self.totals.partition_point(|(t, _)| *t <= at) {
            0 => 0,
            index => self.totals[index - 1].1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integral_is_exact_whatever_the_order_of_lines() {
        let steps = [(10, 5), (30, 7), (20, 1), (30, 2), (25, 9)];
        let mut series = Series::new(0, 3);
        for (at, value) in steps {
            series.set(at, value);
        }
        // 3×10 + 5×10 + 1×5 + 9×5 + 2×10: the later of two at one time counts.
        assert_eq!(series.integral(0, 40), 150);
        assert_eq!(series.integral(12, 22), 5 * 8 + 2);
        assert_eq!([9, 10, 24, 25, 30, 99].map(|at| series.at(at)), [3, 5, 1, 9, 2, 2]);
        assert_eq!(series.mean(10, 20), 5.0);
        assert_eq!(series.mean(26, 26), 9.0);
    }

    #[test]
    fn a_step_before_the_beginning_counts_from_the_beginning() {
        let mut series = Series::new(100, 3);
        series.set(50, 4);
        assert_eq!((series.at(100), series.integral(0, 110)), (4, 40));
    }

    #[test]
    fn forgetting_old_points_keeps_their_integral() {
        let mut series = Series::new(0, 1);
        let n = POINTS as u64 + 10;
        (1..=n).for_each(|at| series.set(at, 1 + at % 2));
        assert!(series.points.len() <= POINTS);
        // After the point that was forgotten last, the difference of two integrals is what it was.
        assert_eq!(series.integral(n - 100, n), 150);
    }

    #[test]
    fn tally_counts_by_time() {
        let mut tally = Tally::default();
        tally.add(20, 5);
        tally.add(10, 1);
        tally.add(20, 2);
        assert_eq!([9, 10, 19, 20].map(|at| tally.at(at)), [0, 1, 1, 8]);
    }
}
