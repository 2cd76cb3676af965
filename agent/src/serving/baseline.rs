//! What calls to a model take as a rule, and whether one took longer.
//!
//! Owns the rolling baseline of each model and size of prompt, and the configured limits. A call is slow when it is far
//! beyond the median and beyond what calls spread around it; too few calls make no rule, and then only a limit speaks.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::facts::{Measure, Slow};

/// Calls that a baseline is made of.
const KEPT: usize = 128;

/// Calls that it takes at least.
const ENOUGH: usize = 16;

/// Baselines kept; beyond it the table starts over. Some hundred models of all sizes of prompts.
const MAX_BASELINES: usize = 2048;

/// What a call must be beyond the median by at least, in time and in shares of it: less is not felt.
const FLOOR: [(Measure, Duration, f64); 3] = [
    (Measure::FirstToken, Duration::from_millis(100), 1.0),
    (Measure::OutputToken, Duration::from_millis(3), 0.5),
    (Measure::Gap, Duration::from_millis(500), 1.0),
];

/// Median absolute deviations to a standard deviation of a normal distribution, times the deviations that count.
const DEVIATIONS: f64 = 1.4826 * 8.0;

/// Configured limits, which hold whatever is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Time to first token.
    pub first_token: Option<Duration>,
    /// Mean time of an output token.
    pub output_token: Option<Duration>,
    /// Time without a byte after which a call is told to be stuck.
    pub stuck: Option<Duration>,
}

/// A model, and about how long its prompt was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    model: String,
    /// log4 of the tokens read; `None` for all sizes together.
    size: Option<u32>,
    measure: Measure,
}

/// Baselines of all models.
#[derive(Debug, Default)]
pub struct Baselines {
    limits: Limits,
    by_key: HashMap<Key, VecDeque<u64>>,
}

/// What a call took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taken {
    /// Tokens of the prompt that were read, if known.
    pub prompt: Option<u64>,
    /// Time to first token.
    pub first_token: Option<Duration>,
    /// Mean time of an output token.
    pub output_token: Option<Duration>,
    /// Longest gap.
    pub gap: Option<Duration>,
}

impl Baselines {
    /// With limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, by_key: HashMap::new() }
    }

    /// What was slow about a call of this model. Then it counts towards the rule itself: a median is not moved by a few.
    pub fn judge(&mut self, model: &str, taken: &Taken) -> Vec<Slow> {
        let measures = [
            (Measure::FirstToken, taken.first_token, self.limits.first_token),
            (Measure::OutputToken, taken.output_token, self.limits.output_token),
            (Measure::Gap, taken.gap, None),
        ];
        let mut slow = Vec::new();
        for (what, took, limit) in measures {
            let Some(took) = took else { continue };
            let usual = self.usual(model, taken.prompt, what);
            let beyond = usual.filter(|rule| took > rule.bound).map(|rule| rule.median);
            let over = limit.filter(|limit| took > *limit);
            if let Some(usual) = beyond.or(over.map(|limit| usual.map_or(limit, |rule| rule.median.min(limit)))) {
                slow.push(Slow { what, took, usual });
            }
            self.learn(model, taken.prompt, what, took);
        }
        slow
    }

    fn usual(&self, model: &str, prompt: Option<u64>, measure: Measure) -> Option<Rule> {
        let of = |size| {
            let key = Key { model: model.to_owned(), size, measure };
            self.by_key.get(&key).filter(|seen| seen.len() >= ENOUGH).map(|seen| Rule::of(seen, measure))
        };
        // A long prompt is not slow for being long: where calls of its size are not enough, none of another size speak.
        match prompt {
            Some(prompt) if measure == Measure::FirstToken => of(Some(size_of(prompt))),
            _ => of(None),
        }
    }

    fn learn(&mut self, model: &str, prompt: Option<u64>, measure: Measure, took: Duration) {
        if self.by_key.len() >= MAX_BASELINES {
            self.by_key.clear();
        }
        let size = prompt.filter(|_| measure == Measure::FirstToken).map(size_of);
        let key = Key { model: model.to_owned(), size, measure };
        let seen = self.by_key.entry(key).or_default();
        seen.push_back(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if seen.len() > KEPT {
            seen.pop_front();
        }
    }
}

fn size_of(prompt: u64) -> u32 {
    prompt.max(1).ilog2() / 2
}

/// What is usual, and what is too much.
#[derive(Clone, Copy)]
struct Rule {
    median: Duration,
    bound: Duration,
}

impl Rule {
    fn of(seen: &VecDeque<u64>, measure: Measure) -> Self {
        let mut sorted: Vec<u64> = seen.iter().copied().collect();
        sorted.sort_unstable();
        let median = sorted[sorted.len() / 2];
        let mut apart: Vec<u64> = sorted.iter().map(|value| value.abs_diff(median)).collect();
        apart.sort_unstable();
        let spread = apart[apart.len() / 2] as f64 * DEVIATIONS;
        let floor = FLOOR.iter().find(|(what, ..)| *what == measure);
        let floor = floor.map_or(0.0, |(_, time, share)| (time.as_nanos() as f64).max(median as f64 * share));
        let beyond = (spread as u64).max(floor as u64);
        Self { median: Duration::from_nanos(median), bound: Duration::from_nanos(median.saturating_add(beyond)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_token(prompt: u64, ms: u64) -> Taken {
        Taken { prompt: Some(prompt), first_token: Some(Duration::from_millis(ms)), ..Taken::default() }
    }

    #[test]
    fn a_rule_takes_enough_calls_and_a_slow_one_is_far_beyond_it() {
        let mut baselines = Baselines::default();
        for n in 0..ENOUGH as u64 {
            assert_eq!(baselines.judge("m", &first_token(100, 50 + n % 5)), [], "call {n}");
        }
        assert_eq!(baselines.judge("m", &first_token(100, 140)), [], "not felt");
        let slow = baselines.judge("m", &first_token(100, 400));
        assert_eq!(slow.len(), 1);
        assert_eq!((slow[0].what, slow[0].took), (Measure::FirstToken, Duration::from_millis(400)));
        assert!((50..55).contains(&slow[0].usual.as_millis()));
        assert_eq!(baselines.judge("other", &first_token(100, 400)), []);
        assert_eq!(baselines.judge("m", &first_token(10_000, 400)), [], "a longer prompt");
    }

    #[test]
    fn a_few_slow_calls_do_not_make_slowness_usual() {
        let mut baselines = Baselines::default();
        for n in 0..60 {
            let slow = baselines.judge("m", &first_token(100, if n % 4 == 3 { 900 } else { 50 }));
            assert_eq!(!slow.is_empty(), n >= ENOUGH && n % 4 == 3, "call {n}");
        }
    }

    #[test]
    fn a_limit_needs_no_rule() {
        let limits = Limits { first_token: Some(Duration::from_millis(200)), ..Limits::default() };
        let mut baselines = Baselines::new(limits);
        assert_eq!(baselines.judge("m", &first_token(100, 150)), []);
        let slow = baselines.judge("m", &first_token(100, 250));
        assert_eq!(slow[0].usual, Duration::from_millis(200));
    }
}
