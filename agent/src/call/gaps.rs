//! A sketch of the gaps between chunks: quantiles in bounded memory.
//!
//! Owns the bucket layout. Log-linear: every power of two is cut into 32 buckets, so a quantile is at most
//! 1.6 % off, and a stream of any length takes at most 2,048 buckets (in practice a few dozen: gaps of one
//! stream are alike). The largest gap is kept exactly. Sketches with this layout can be added.

use std::{collections::BTreeMap, time::Duration};

/// log2 of the buckets per power of two.
const SUB_BITS: u32 = 5;

/// Distribution of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GapSketch {
    buckets: BTreeMap<u16, u32>,
    count: u64,
    max_ns: u64,
}

impl GapSketch {
    /// Adds one gap.
    pub fn record(&mut self, gap: Duration) {
        let ns = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
        let slot = self.buckets.entry(bucket_of(ns)).or_insert(0);
        *slot = slot.saturating_add(1);
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Number of gaps recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest gap, exactly.
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_nanos(self.max_ns))
    }

    /// The gap below which a share `q` (0 to 1) of the gaps lies, within 1.6 %; absent when none was recorded.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        // Nearest rank: the smallest value with at least q of the mass at or below it.
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (&bucket, &n) in &self.buckets {
            seen += u64::from(n);
            if seen >= rank {
                return Some(Duration::from_nanos(middle_of(bucket).min(self.max_ns)));
            }
        }
        self.max()
    }
}

fn bucket_of(ns: u64) -> u16 {
    let exponent = 63 - (ns | 1).leading_zeros();
    if exponent < SUB_BITS {
        // Below 32 ns every value has its own bucket.
        return ns as u16;
    }
    let within = (ns >> (exponent - SUB_BITS)) as u16 & ((1 << SUB_BITS) - 1);
    ((exponent - SUB_BITS + 1) as u16) << SUB_BITS | within
}

fn middle_of(bucket: u16) -> u64 {
    let row = u32::from(bucket >> SUB_BITS);
    let within = u64::from(bucket) & ((1 << SUB_BITS) - 1);
    if row == 0 {
        return within;
    }
    let shift = row - 1;
    let low = ((1 << SUB_BITS) | within) << shift;
    low + ((1u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_recorded_has_no_quantiles() {
        let sketch = GapSketch::default();
        assert_eq!((sketch.quantile(0.5), sketch.max()), (None, None));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_stated_error(mut gaps in prop::collection::vec(1u64..10_000_000_000, 1..400), q in 0.0f64..=1.0) {
            let mut sketch = GapSketch::default();
            for &ns in &gaps {
                sketch.record(Duration::from_nanos(ns));
            }
            gaps.sort_unstable();
            let rank = ((q * gaps.len() as f64).ceil() as usize).max(1) - 1;
            let (exact, got) = (gaps[rank] as f64, sketch.quantile(q).unwrap().as_nanos() as f64);
            prop_assert!((got - exact).abs() <= exact * 0.016 + 1.0, "exact {exact}, got {got}");
            prop_assert_eq!(sketch.max().unwrap().as_nanos() as u64, *gaps.last().unwrap());
        }
    }
}
