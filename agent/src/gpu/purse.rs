//! A budget of time in the driver that fills up steadily.
//!
//! Owns the arithmetic: a purse gains so many nanoseconds a second up to a limit, what was spent may leave a debt, and
//! while there is one nothing more is bought. So a dear call is followed by a long pause, and over any time T no more is
//! spent than the limit, T times the rate, and the one purchase that made the debt. Pure.

use std::time::Duration;

use crate::time::Mono;

/// Longest pause that a debt may cause: a driver that is slow once must not blind us for good. It bounds the budget's
/// promise to calls that cost less than half a minute's income.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// A budget.
#[derive(Clone, Debug)]
pub(super) struct Purse {
    /// Income, nanoseconds a second.
    rate: u64,
    /// Most that is saved, nanoseconds.
    limit: i64,
    /// What there is, nanoseconds times [`SECOND`], so that no income is rounded away.
    balance: i128,
    /// When the balance was right.
    at: Mono,
}

impl Purse {
    /// A full one.
    pub(super) fn new(rate: Duration, limit: Duration, now: Mono) -> Self {
        let limit = i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX);
        let rate = u64::try_from(rate.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { rate, limit, balance: i128::from(limit) * i128::from(SECOND), at: now }
    }

    /// When there is more than `reserve` parts of a hundred of the limit: `now` if there is.
    pub(super) fn ready(&self, reserve: u32, now: Mono) -> Mono {
        let wanted = i128::from(self.limit) * i128::from(SECOND) * i128::from(reserve) / 100;
        let lacks = wanted - self.balance_at(now);
        if lacks < 0 {
            return now;
        }
        let wait = lacks / i128::from(self.rate) + 1;
        Mono(now.0.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    /// Takes what something cost.
    pub(super) fn spend(&mut self, cost: Duration, now: Mono) {
        let deepest = -i128::from(self.rate) * i128::try_from(LONGEST_PAUSE.as_nanos()).unwrap_or(i128::MAX);
        let cost = i128::try_from(cost.as_nanos()).unwrap_or(i128::MAX / 2).saturating_mul(i128::from(SECOND));
        self.balance = self.balance_at(now).saturating_sub(cost).max(deepest);
        self.at = self.at.max(now);
    }

    fn balance_at(&self, now: Mono) -> i128 {
        let income = i128::from(now.0.saturating_sub(self.at.0)) * i128::from(self.rate);
        (self.balance + income).min(i128::from(self.limit) * i128::from(SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_debt_is_paid_off_before_anything_is_bought() {
        let start = Mono(5 * SECOND);
        let mut purse = Purse::new(Duration::from_millis(1), Duration::from_millis(2), start);
        assert_eq!(purse.ready(0, start), start);
        purse.spend(Duration::from_millis(6), start);
        let ready = purse.ready(0, start);
        assert!(ready.0.abs_diff(start.0 + 4 * SECOND) <= 1, "four milliseconds of debt take four seconds: {ready:?}");
        assert_eq!(purse.ready(0, ready), ready);
        assert!(purse.ready(50, ready).0.abs_diff(ready.0 + SECOND) <= 1_000, "half of the limit takes a second more");
    }

    #[test]
    fn a_debt_has_an_end_and_savings_have_a_limit() {
        let mut purse = Purse::new(Duration::from_millis(1), Duration::from_millis(2), Mono(0));
        purse.spend(Duration::from_secs(5), Mono(0));
        assert!(purse.ready(0, Mono(0)).0 <= 30 * SECOND + 1);
        let late = Mono(1000 * SECOND);
        purse.spend(Duration::from_millis(3), late);
        assert!(purse.ready(0, late).0.abs_diff(late.0 + SECOND) <= 1, "two milliseconds were saved, no more");
    }

    #[test]
    fn income_is_not_rounded_away_by_looking_often() {
        let mut purse = Purse::new(Duration::from_millis(1), Duration::from_millis(1), Mono(0));
        purse.spend(Duration::from_millis(2), Mono(0));
        for n in 1..=1000 {
            purse.spend(Duration::ZERO, Mono(n * MS / 7));
        }
        let ready = purse.ready(0, Mono(1000 * MS / 7));
        assert!(ready.0.abs_diff(SECOND) <= 1000, "{ready:?}");
    }
}
