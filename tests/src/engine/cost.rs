//! What a step takes: time, power and use of the GPU, from how much it computes. Pure.
//!
//! The model is that of a large GPU that serves an 8-billion-parameter model: reading the weights takes 5 ms however
//! many tokens share it, each token of context adds its keys and values to what is read, each token that is computed
//! adds arithmetic, and the two overlap but for three tenths of the shorter one. Energy shares that were worked out for
//! it are comparable with those of the reference simulation, which has the same numbers.

use serde::{Deserialize, Serialize};

/// Most sequences that one step computes.
pub const MAX_BATCH: usize = 256;

/// Most tokens that one step computes: a longer prompt takes several (chunked prefill).
pub const MAX_STEP_TOKENS: u32 = 2_048;

/// What the host needs around every step, nanoseconds.
const HOST_NS: u64 = 1_500_000;
/// Reading the weights once, nanoseconds.
const WEIGHTS_NS: u64 = 5_000_000;
/// Keys and values of one token of context, bytes.
const KV_BYTES: u64 = 131_072;
/// Memory bandwidth: 3 TB/s in bytes per nanosecond.
const BYTES_PER_NS: u64 = 3_000;
/// Arithmetic of one computed token, nanoseconds.
const TOKEN_NS: u64 = 36_000;

/// Power of a device that computes nothing, milliwatts.
pub const IDLE_MW: u64 = 120_000;
/// Power of a device with a step on it, before anything is computed or read, milliwatts.
const BASE_MW: u64 = 150_000;
/// What arithmetic adds if it lasts as long as the step.
const COMPUTE_MW: u64 = 330_000;
/// What reading memory adds if it lasts as long as the step.
const MEMORY_MW: u64 = 230_000;
/// The board's limit.
pub const LIMIT_MW: u64 = 700_000;

/// What a token that is generated weighs when a step's energy is divided.
pub const DECODE_WEIGHT: u64 = 100;
/// What a token of a prompt that had to be computed weighs: 0.15 of a generated one.
pub const PROMPT_WEIGHT: u64 = 15;

/// How much a step computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Tokens that are computed: one for each sequence that decodes, and the pieces of prompts.
    pub tokens: u64,
    /// Tokens whose keys and values are read.
    pub context: u64,
}

/// How fast the device is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Steps are so many times as fast as the model says. Power and use stay what they are.
    pub scale: f64,
    /// Steps take so many times as long because the clocks are held down; the same work is spread over that time.
    pub slowdown: u64,
}

/// What a step takes on each device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// From its begin to its end, nanoseconds.
    pub duration_ns: u64,
    /// The part of it with kernels running, nanoseconds.
    pub busy_ns: u64,
    /// Power during all of it, milliwatts.
    pub power_mw: u64,
    /// Share of the time with kernels running, percent.
    pub utilization: u8,
    /// Share of the time that memory is read, percent.
    pub memory_utilization: u8,
}

impl Cost {
    /// Of a step with this work.
    pub fn of(work: Work, pace: Pace) -> Self {
        let memory = WEIGHTS_NS + work.context * KV_BYTES / BYTES_PER_NS;
        let compute = work.tokens * TOKEN_NS;
        let busy = (memory.max(compute) + memory.min(compute) * 3 / 10) * pace.slowdown;
        let step = HOST_NS * pace.slowdown + busy;
        let part = |whole: u64, ns: u64| whole * ns.min(step) / step;
        let scaled = |ns: u64| (ns as f64 / pace.scale) as u64;
        Self {
            duration_ns: scaled(step),
            busy_ns: scaled(busy),
            power_mw: (BASE_MW + part(COMPUTE_MW, compute) + part(MEMORY_MW, memory)).min(LIMIT_MW),
            utilization: part(100, busy) as u8,
            memory_utilization: part(100, memory) as u8,
        }
    }
}

/// Divides `total` in proportion to `weights`, exactly: the shares are whole numbers and add up to the total.
///
/// Each gets what it is due rounded down; what is left goes, one each, to those whose rounding took most (largest
/// remainder), of equals to the first. All zero if nobody weighs anything.
pub fn split(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let due = |weight: u64| u128::from(total) * u128::from(weight);
    let mut shares: Vec<u64> = weights.iter().map(|weight| (due(*weight) / sum) as u64).collect();
    let left = total - shares.iter().sum::<u64>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    // The sort is stable: equals stay in order.
    order.sort_by_key(|at| std::cmp::Reverse(due(weights[*at]) % sum));
    // Fewer are left than there are remainders.
    for at in order.into_iter().take(left as usize) {
        shares[at] += 1;
    }
    shares
}

/// Turns power over time into energy in whole microjoules, so that intervals add up to the whole.
///
/// Rounding is of the total, never of an interval: each interval gets what the total grew by.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    since_ns: u64,
    power_mw: u64,
    /// Milliwatts times nanoseconds.
    picojoules: u128,
}

impl Meter {
    /// A device that draws `power_mw` from `at_ns` on.
    pub fn new(at_ns: u64, power_mw: u64) -> Self {
        Self { since_ns: at_ns, power_mw, picojoules: 0 }
    }

    /// From `at_ns` on the device draws `power_mw`. Returns the energy since the last change, microjoules.
    pub fn change(&mut self, at_ns: u64, power_mw: u64) -> u64 {
        let before = self.total_uj();
        self.picojoules += u128::from(self.power_mw) * u128::from(at_ns.saturating_sub(self.since_ns));
        (self.since_ns, self.power_mw) = (at_ns, power_mw);
        self.total_uj() - before
    }

    /// Energy up to the last change, microjoules.
    pub fn total_uj(&self) -> u64 {
        u64::try_from(self.picojoules / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOMINAL: Pace = Pace { scale: 1.0, slowdown: 1 };

    #[test]
    fn one_sequence_that_decodes_waits_for_the_weights() {
        // m = 5 ms + 3 * 43.7 ns, c = 0.036 ms: 1.5 + 5.000131 + 0.0108 ms.
        let cost = Cost::of(Work { tokens: 1, context: 3 }, NOMINAL);
        assert_eq!((cost.duration_ns, cost.busy_ns), (6_510_931, 5_010_931));
        // 150 + 330 * 0.036/6.510931 + 230 * 5.000131/6.510931 W.
        assert_eq!(cost.power_mw, 150_000 + 1_824 + 176_630);
        assert_eq!((cost.utilization, cost.memory_utilization), (76, 76));
    }

    #[test]
    fn a_full_prompt_is_bound_by_arithmetic_and_never_beyond_the_limit() {
        let work = Work { tokens: 2_048, context: 2_048 };
        let cost = Cost::of(work, NOMINAL);
        // c = 73.728 ms, m = 5.089478 ms.
        assert_eq!(cost.duration_ns, 1_500_000 + 73_728_000 + 1_526_843);
        assert!(cost.power_mw > 480_000 && cost.power_mw <= LIMIT_MW, "{cost:?}");
        // Both at their fullest: 150 + 330 + 230 W would be 710 W.
        let full = Cost::of(Work { tokens: 1_000_000, context: 1_000_000_000 }, NOMINAL);
        assert!(full.power_mw <= LIMIT_MW);
    }

    #[test]
    fn a_throttled_step_takes_longer_at_less_power_and_a_scaled_one_only_less_time() {
        let work = Work { tokens: 64, context: 64_000 };
        let (nominal, slow) = (Cost::of(work, NOMINAL), Cost::of(work, Pace { scale: 1.0, slowdown: 2 }));
        assert_eq!(slow.duration_ns, 2 * nominal.duration_ns);
        assert!(slow.power_mw < nominal.power_mw);
        let fast = Cost::of(work, Pace { scale: 10.0, slowdown: 1 });
        assert_eq!(fast.duration_ns, nominal.duration_ns / 10);
        assert_eq!((fast.power_mw, fast.utilization), (nominal.power_mw, nominal.utilization));
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        assert_eq!(split(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(split(100, &[PROMPT_WEIGHT * 20, DECODE_WEIGHT]), [75, 25]);
        assert_eq!(split(7, &[0, 0]), [0, 0]);
        assert_eq!(split(7, &[]), [0; 0]);
        let weights: Vec<u64> = (1..=256).map(|n| n * n % 997).collect();
        for total in [0, 1, 255, 12_345_678_901, u64::MAX] {
            let shares = split(total, &weights);
            assert_eq!(shares.iter().map(|share| u128::from(*share)).sum::<u128>(), u128::from(total));
        }
    }

    #[test]
    fn a_share_is_never_a_unit_away_from_what_is_due() {
        let weights = [3, 100, 15, 7_000, 1];
        let sum: u64 = weights.iter().sum();
        for (share, weight) in split(1_000_003, &weights).iter().zip(weights) {
            let due = 1_000_003.0 * weight as f64 / sum as f64;
            assert!((*share as f64 - due).abs() < 1.0, "{share} for {due}");
        }
    }

    #[test]
    fn intervals_add_up_to_the_integral() {
        let mut meter = Meter::new(1_000, 333_333);
        let mut sum = 0;
        for n in 1..=1_000u64 {
            sum += meter.change(1_000 + n * 7_777, 333_333 + n);
        }
        let exact: u128 = (0..1_000u128).map(|n| (333_333 + n) * 7_777).sum();
        assert_eq!(u128::from(sum), exact / 1_000_000);
        assert_eq!(sum, meter.total_uj());
    }
}
