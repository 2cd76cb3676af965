//! Quantiles, and how far they can be trusted.
//!
//! A measurement is made in blocks: the agent off, on, on, off. What is added is told per block, on's quantile less
//! off's, and of all blocks the median: slow drift of the machine cancels within a block, and one disturbed block does
//! not decide. The interval is a bootstrap's with two levels (Davison and Hinkley, 1997, section 3.8): blocks are drawn
//! again, and within each block its samples. All numbers are drawn from one seed: the same samples give the same
//! interval.

use std::ops::Range;

use serde::Serialize;

/// Seed of every bootstrap.
pub const SEED: u64 = 1_297;

/// Draws of the bootstrap: the ends of a 95 % interval are then known to about a tenth of its length.
const DRAWS: usize = 400;

/// Samples of one side of a block that a draw uses at most. Quantiles of more do not get any better, only slower.
const MAX_SAMPLES: usize = 2000;

/// What one block gave with the agent off and on; in a control, with no agent either time.
#[derive(Clone, Debug, Default)]
pub struct Sides {
    /// Without.
    pub off: Vec<f64>,
    /// With.
    pub on: Vec<f64>,
}

/// A difference with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Without the agent.
    pub off: f64,
    /// With it.
    pub on: f64,
    /// What it adds: the median of the blocks' differences.
    pub added: f64,
    /// Where that lies with 95 % confidence.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// A reproducible source of random numbers: SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `range`, which must not be empty. The bias of the remainder is below 2^-32 for what is drawn here.
    fn one_of(&mut self, range: Range<usize>) -> usize {
        range.start + (self.next() % range.len() as u64) as usize
    }
}

/// The quantile of samples in any order, between neighbours in proportion; `None` of nothing.
pub fn quantile(samples: &[f64], q: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    quantile_of(&mut sorted, q)
}

/// The same; the samples are put in order.
fn quantile_of(samples: &mut [f64], q: f64) -> Option<f64> {
    let last = samples.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let (_, &mut low, above) = samples.select_nth_unstable_by(below, f64::total_cmp);
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    Some(low + (high - low) * (place - below as f64))
}

/// The median.
pub fn median(samples: &[f64]) -> Option<f64> {
    quantile(samples, 0.5)
}

/// What is added at a quantile, over all blocks; `None` if a side of a block has no samples, or there is no block.
pub fn difference(blocks: &[Sides], q: f64, seed: u64) -> Option<Difference> {
    let blocks: Vec<Sides> = blocks.iter().map(Sides::thinned).collect();
    let quantiles = |side: fn(&Sides) -> &[f64]| blocks.iter().map(|block| quantile(side(block), q)).collect();
    let offs: Option<Vec<f64>> = quantiles(|block| &block.off);
    let ons: Option<Vec<f64>> = quantiles(|block| &block.on);
    let (offs, ons) = (offs?, ons?);
    let added: Vec<f64> = offs.iter().zip(&ons).map(|(off, on)| on - off).collect();
    let mut random = Random::new(seed);
    let mut draws: Vec<f64> = (0..DRAWS).filter_map(|_| draw(&blocks, q, &mut random)).collect();
    Some(Difference {
        off: median(&offs)?,
        on: median(&ons)?,
        added: median(&added)?,
        low: quantile_of(&mut draws, 0.025)?,
        high: quantile_of(&mut draws, 0.975)?,
    })
}

/// A quantile of samples that stand for themselves, with its 95 % interval; `None` of nothing.
pub fn interval(samples: &[f64], q: f64, seed: u64) -> Option<(f64, [f64; 2])> {
    let value = quantile(samples, q)?;
    let mut random = Random::new(seed);
    let mut again = || {
        let mut drawn: Vec<f64> = samples.iter().map(|_| samples[random.one_of(0..samples.len())]).collect();
        quantile_of(&mut drawn, q)
    };
    let mut draws: Vec<f64> = (0..DRAWS).filter_map(|_| again()).collect();
    Some((value, [quantile_of(&mut draws, 0.025)?, quantile_of(&mut draws, 0.975)?]))
}

/// One draw of the bootstrap.
fn draw(blocks: &[Sides], q: f64, random: &mut Random) -> Option<f64> {
    let mut added = Vec::with_capacity(blocks.len());
    for _ in blocks {
        let block = &blocks[random.one_of(0..blocks.len())];
        let mut again = |side: &[f64]| {
            let mut drawn: Vec<f64> = side.iter().map(|_| side[random.one_of(0..side.len())]).collect();
            quantile_of(&mut drawn, q)
        };
        added.push(again(&block.on)? - again(&block.off)?);
    }
    median(&added)
}

impl Sides {
    /// At most [`MAX_SAMPLES`] a side, taken evenly.
    fn thinned(&self) -> Self {
        let thin = |samples: &[f64]| {
            let step = samples.len().div_ceil(MAX_SAMPLES).max(1);
            samples.iter().copied().step_by(step).collect()
        };
        Self { off: thin(&self.off), on: thin(&self.on) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples around `at`, evenly spread over `width`.
    fn around(at: f64, width: f64, n: usize) -> Vec<f64> {
        (0..n).map(|i| at + width * (i as f64 / (n - 1) as f64 - 0.5)).collect()
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0], 0.99), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(quantile(&[5.0, 1.0, 2.0, 4.0, 3.0], 1.0), Some(5.0));
        assert_eq!(quantile(&[0.0, 10.0], 0.9), Some(9.0));
    }

    #[test]
    fn what_is_added_is_found_and_lies_in_its_interval() {
        // The machine gets slower from block to block by more than what is added.
        let blocks: Vec<Sides> = (0..5)
            .map(|i| f64::from(i) * 1000.0)
            .map(|drift| Sides { off: around(1000.0 + drift, 100.0, 60), on: around(1300.0 + drift, 100.0, 60) })
            .collect();
        let found = difference(&blocks, 0.5, 1).unwrap();
        assert!((found.added - 300.0).abs() < 1e-6, "{found:?}");
        assert!(found.low < 300.0 && 300.0 < found.high && found.high - found.low < 60.0, "{found:?}");
        assert_eq!(difference(&blocks, 0.5, 1), Some(found), "the same seed gives the same interval");
        assert_ne!(difference(&blocks, 0.5, 2).unwrap().low, found.low);
    }

    #[test]
    fn without_a_difference_the_interval_holds_zero() {
        let blocks = vec![Sides { off: around(50.0, 10.0, 40), on: around(50.0, 10.0, 40) }; 4];
        let found = difference(&blocks, 0.5, 7).unwrap();
        assert!(found.low <= 0.0 && 0.0 <= found.high, "{found:?}");
    }

    #[test]
    fn an_interval_holds_its_quantile_and_shrinks_with_samples() {
        let (few, [low, high]) = interval(&around(10.0, 4.0, 20), 0.5, 3).unwrap();
        assert!(low < few && few < high);
        let (_, [closer, nearer]) = interval(&around(10.0, 4.0, 2000), 0.5, 3).unwrap();
        assert!(nearer - closer < (high - low) / 3.0);
        assert_eq!(interval(&[], 0.5, 3), None);
        assert_eq!(interval(&[2.0], 0.99, 3), Some((2.0, [2.0, 2.0])));
    }

    #[test]
    fn one_disturbed_block_does_not_decide() {
        let mut blocks = vec![Sides { off: around(10.0, 1.0, 30), on: around(12.0, 1.0, 30) }; 5];
        blocks[2].on = around(500.0, 1.0, 30);
        assert!((difference(&blocks, 0.5, 7).unwrap().added - 2.0).abs() < 1e-6);
    }

    #[test]
    fn an_empty_side_has_no_difference() {
        assert_eq!(difference(&[Sides { off: vec![1.0], on: vec![] }], 0.5, 1), None);
        assert_eq!(difference(&[], 0.5, 1), None);
    }

    #[test]
    fn thinning_keeps_the_spread() {
        let sides = Sides { off: around(0.0, 10.0, 50_000), on: vec![] };
        let thinned = sides.thinned().off;
        assert!(thinned.len() <= MAX_SAMPLES);
        assert!((quantile(&thinned, 0.99).unwrap() - quantile(&sides.off, 0.99).unwrap()).abs() < 0.02);
    }
}
