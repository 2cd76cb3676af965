//! Quantiles of any number of times in some hundred counts.
//!
//! Owns the buckets: each is a factor of [`GAMMA`] wide, so that whatever quantile is asked for, the answer is within one
//! percent of the value that has this rank. Two sketches are merged by adding their counts: nothing is lost by it, in
//! whatever order. The idea is that of DDSketch (Masson, Rim, Lee: VLDB 2019). Pure.

use std::iter;

/// Largest error of a quantile, as a share of the true value. A little less than what is promised, for rounding.
const ERROR: f64 = 0.0099;

/// How much larger a bucket's upper end is than its lower.
const GAMMA: f64 = (1.0 + ERROR) / (1.0 - ERROR);

/// Values below it are told as 0: no time that is measured here is that short. Seconds.
const SMALLEST: f64 = 1e-9;

/// Values above it count as it. Seconds: thirty years.
const LARGEST: f64 = 1e9;

/// The last bucket on either side of 1: as many as the bounds need.
const MAX_INDEX: i32 = 1050;

/// Buckets in all.
const N_BUCKETS: usize = 2 * MAX_INDEX as usize + 1;

/// Counts by bucket: those that have any. What the store keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sketch {
    sum: f64,
    zeros: u64,
    /// Ascending.
    buckets: Vec<(i32, u64)>,
}

fn bucket_of(value: f64) -> i32 {
    let index = (value.min(LARGEST).ln() / GAMMA.ln()).ceil();
    (index as i32).clamp(-MAX_INDEX, MAX_INDEX)
}

/// What is told of a bucket: no value in it is further away than [`ERROR`].
fn value_of(bucket: i32) -> f64 {
    2.0 * GAMMA.powi(bucket) / (GAMMA + 1.0)
}

impl Sketch {
    /// Adds a value: finite, and not negative.
    pub(super) fn add(&mut self, value: f64) {
        self.sum += value;
        if value < SMALLEST {
            self.zeros += 1;
            return;
        }
        let bucket = bucket_of(value);
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.buckets[at].1 += 1,
            Err(at) => self.buckets.insert(at, (bucket, 1)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.zeros == 0 && self.buckets.is_empty()
    }

    /// Appends it to `out`: the sum, and pairs of a bucket's distance to the one before and its count.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self { sum, zeros, buckets } = self;
        out.extend(sum.to_le_bytes());
        put(out, *zeros);
        let mut last = -MAX_INDEX;
        for (bucket, count) in buckets {
            put(out, u64::from(bucket.abs_diff(last)));
            put(out, *count);
            last = *bucket;
        }
    }

    /// Reads what [`Self::encode`] wrote; `None` when it did not.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut sketch = Self::default();
        let Self { sum, zeros, buckets } = &mut sketch;
        (*sum, *zeros) = walk(bytes, |bucket, count| buckets.push((bucket, count)))?;
        Some(sketch)
    }
}

/// Calls `each` for every bucket that is encoded, in ascending order, and returns the sum and the zeros.
fn walk(bytes: &[u8], mut each: impl FnMut(i32, u64)) -> Option<(f64, u64)> {
    let (sum, mut rest) = bytes.split_first_chunk()?;
    let zeros = take(&mut rest)?;
    let mut bucket = -MAX_INDEX;
    while !rest.is_empty() {
        bucket = bucket.checked_add(i32::try_from(take(&mut rest)?).ok()?).filter(|bucket| *bucket <= MAX_INDEX)?;
        each(bucket, take(&mut rest)?);
    }
    Some((f64::from_le_bytes(*sum), zeros))
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in iter::successors(Some(0_u32), |shift| Some(shift + 7)).take(10) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The sum of many sketches: every bucket has its place, so adding one costs as many steps as it has buckets.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    sum: f64,
    zeros: u64,
    count: u64,
    buckets: Box<[u64; N_BUCKETS]>,
}

impl Default for Sum {
    fn default() -> Self {
        Self { sum: 0.0, zeros: 0, count: 0, buckets: Box::new([0; N_BUCKETS]) }
    }
}

impl Sum {
    /// Adds an encoded sketch; `None`, and a part of it, when it is none.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Option<()> {
        let Self { sum, zeros, count, buckets } = self;
        let mut counted = 0_u64;
        let (more, none) = walk(bytes, |bucket, count| {
            if let Some(place) = usize::try_from(bucket + MAX_INDEX).ok().and_then(|at| buckets.get_mut(at)) {
                *place = place.saturating_add(count);
                counted = counted.saturating_add(count);
            }
        })?;
        *sum += more;
        *zeros = zeros.saturating_add(none);
        *count = count.saturating_add(counted).saturating_add(none);
        Some(())
    }

    /// Adds a sketch that is in memory.
    pub(super) fn add_sketch(&mut self, sketch: &Sketch) {
        let Sketch { sum, zeros, buckets } = sketch;
        self.sum += sum;
        self.zeros = self.zeros.saturating_add(*zeros);
        self.count = self.count.saturating_add(*zeros);
        for (bucket, count) in buckets {
            if let Some(place) = usize::try_from(bucket + MAX_INDEX).ok().and_then(|at| self.buckets.get_mut(at)) {
                *place = place.saturating_add(*count);
                self.count = self.count.saturating_add(*count);
            }
        }
    }

    /// Values that were added.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Their mean.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The value below which a share of `q` of the others are: of n values the one with the rank `q * (n - 1)`, rounded
    /// down, from 0.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let Self { sum: _, zeros, count, buckets } = self;
        let rank = (q * count.checked_sub(1)? as f64) as u64;
        let mut before = *zeros;
        if rank < before {
            return Some(0.0);
        }
        for (at, count) in buckets.iter().enumerate() {
            before = before.saturating_add(*count);
            if rank < before {
                return Some(value_of(i32::try_from(at).ok()? - MAX_INDEX));
            }
        }
        None
    }

    /// The same in the form that is stored.
    pub(super) fn to_sketch(&self) -> Sketch {
        let Self { sum, zeros, count: _, buckets } = self;
        let some = buckets.iter().zip(-MAX_INDEX..).filter(|(count, _)| **count > 0);
        Sketch { sum: *sum, zeros: *zeros, buckets: some.map(|(count, bucket)| (bucket, *count)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn sketch(values: &[f64]) -> Vec<u8> {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        let mut bytes = Vec::new();
        sketch.encode(&mut bytes);
        assert_eq!(Sketch::decode(&bytes), Some(sketch));
        bytes
    }

    fn sum(sketches: &[&[u8]]) -> Sum {
        let mut sum = Sum::default();
        sketches.iter().for_each(|bytes| sum.add(bytes).unwrap());
        sum
    }

    fn times() -> impl Strategy<Value = Vec<f64>> {
        let time = prop_oneof![1 => Just(0.0), 8 => (-8.5_f64..8.9).prop_map(|exponent| 10_f64.powf(exponent))];
        vec(time, 1..200)
    }

    proptest! {
        #[test]
        fn every_quantile_is_within_one_percent(mut values in times(), q in 0.0..=1.0_f64) {
            let told = sum(&[&sketch(&values)]);
            values.sort_by(f64::total_cmp);
            let exact = values[(q * (values.len() - 1) as f64) as usize];
            let found = told.quantile(q).unwrap();
            prop_assert!((found - exact).abs() <= 0.01 * exact, "{found} for {exact}");
            prop_assert_eq!(told.count(), values.len() as u64);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((told.mean().unwrap() - mean).abs() <= 1e-9 * mean);
        }

        #[test]
        fn a_merge_is_the_sketch_of_all_values_in_whatever_order(a in times(), b in times(), c in times()) {
            let whole = sum(&[&sketch(&[a.clone(), b.clone(), c.clone()].concat())]);
            let (a, b, c) = (sketch(&a), sketch(&b), sketch(&c));
            let mut first = Vec::new();
            sum(&[&a, &b]).to_sketch().encode(&mut first);
            for merged in [sum(&[&a, &b, &c]), sum(&[&c, &a, &b]), sum(&[&first, &c]), sum(&[&c, &first])] {
                prop_assert_eq!(&merged.buckets, &whole.buckets);
                prop_assert_eq!((merged.zeros, merged.count), (whole.zeros, whole.count));
            }
        }

        #[test]
        fn any_bytes_are_a_sketch_or_not(bytes in vec(any::<u8>(), 0..64)) {
            let mut sum = Sum::default();
            prop_assert_eq!(sum.add(&bytes).is_some(), Sketch::decode(&bytes).is_some());
        }
    }

    #[test]
    fn none_has_no_quantile_and_no_mean() {
        assert_eq!((Sum::default().quantile(0.5), Sum::default().mean()), (None, None));
        assert!(Sketch::default().is_empty());
    }

    #[test]
    fn what_is_beyond_the_bounds_counts_at_them() {
        let told = sum(&[&sketch(&[1e-30, 1e300])]);
        assert_eq!(told.quantile(0.0), Some(0.0));
        assert!((told.quantile(1.0).unwrap() / LARGEST - 1.0).abs() < 0.01);
    }
}
