//! When requests are due.

/// An even schedule: the beginning, and then one request after every interval, whatever becomes of those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    interval_ns: u64,
    n: u64,
}

impl Schedule {
    /// `n` requests, one every `interval_ns`.
    pub fn new(n: u64, interval_ns: u64) -> Self {
        Self { interval_ns, n }
    }

    /// When request `at` is due, in nanoseconds from the beginning; `None` behind the last.
    pub fn due(&self, at: u64) -> Option<u64> {
        (at < self.n).then(|| at.saturating_mul(self.interval_ns))
    }

    /// How many requests are due by `elapsed_ns`.
    pub fn n_due(&self, elapsed_ns: u64) -> u64 {
        match elapsed_ns.checked_div(self.interval_ns) {
            Some(passed) => self.n.min(passed + 1),
            None => self.n,
        }
    }
}

/// The rate of requests that keeps `concurrency` calls of `duration_ns` under way, as the interval between two.
pub fn interval_for(concurrency: u64, duration_ns: u64) -> u64 {
    duration_ns / concurrency.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_by_the_clock_alone() {
        let schedule = Schedule::new(3, 10);
        assert_eq!([0, 1, 2, 3].map(|at| schedule.due(at)), [Some(0), Some(10), Some(20), None]);
        assert_eq!([0, 9, 10, 25, 1000].map(|elapsed| schedule.n_due(elapsed)), [1, 1, 2, 3, 3]);
    }

    #[test]
    fn without_an_interval_everything_is_due_at_once() {
        let schedule = Schedule::new(5, 0);
        assert_eq!((schedule.n_due(0), schedule.due(4)), (5, Some(0)));
    }

    #[test]
    fn a_rate_keeps_so_many_calls_under_way() {
        assert_eq!(interval_for(100, 1_000_000_000), 10_000_000);
        assert_eq!(interval_for(0, 7), 7);
    }
}
