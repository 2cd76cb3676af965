//! What a query usually costs, and how much of one call's time is charged to the budget.
//!
//! Owns the rule for outliers: a call that takes far longer than its like has waited, for a processor or for the driver's
//! lock that somebody else held. That is not time that others wait for us, and a budget that took it for such would look
//! away for half a minute whenever the machine is busy, which is when it is asked why. What calls really took is published
//! in full (`meter`). Pure.

use std::{collections::VecDeque, time::Duration};

/// Costs that are remembered.
const REMEMBERED: usize = 32;

/// Costs from which on there is a typical one.
const ENOUGH: usize = 4;

/// What a call is charged at most before that: the first one of a kind is often dear.
const FIRST: Duration = Duration::from_millis(1);

/// How many times the typical cost a call is charged at most.
const AT_MOST: u32 = 4;

/// Costs of one kind of query.
#[derive(Clone, Debug, Default)]
pub(super) struct Typical {
    last: VecDeque<Duration>,
}

impl Typical {
    /// Takes what a call took and says what is charged for it. Calls that are always dear are charged in full.
    pub(super) fn charge(&mut self, took: Duration) -> Duration {
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(took);
        took.min(match self.median() {
            Some(median) => median * AT_MOST,
            None => FIRST,
        })
    }

    fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().filter(|_| sorted.len() >= ENOUGH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_waited_costs_what_its_like_do_and_a_dear_driver_is_charged_in_full() {
        let (cheap, dear) = (Duration::from_micros(50), Duration::from_millis(20));
        let mut typical = Typical::default();
        assert_eq!(typical.charge(dear), FIRST, "the first of all");
        for _ in 0..20 {
            assert_eq!(typical.charge(cheap).max(cheap), cheap);
        }
        assert_eq!(typical.charge(dear), cheap * AT_MOST);
        assert_eq!(typical.charge(cheap), cheap);
        for _ in 0..REMEMBERED {
            typical.charge(dear);
        }
        assert_eq!(typical.charge(dear), dear, "it has become dear");
    }
}
