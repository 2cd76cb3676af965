//! Random numbers that are the same on every run with the same seed. Pure.

/// SplitMix64: a generator whose state is one counter.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1]: its logarithm is finite.
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Uniform between two bounds.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Exponential with this mean: the time between two events that come at random.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -self.uniform().ln() * mean
    }

    /// Normal with mean 0 and deviation 1 (Box-Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 100_000;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let values: Vec<f64> = (0..N).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / N as f64;
        (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / N as f64).sqrt())
    }

    fn check((mean, deviation): (f64, f64), expected: (f64, f64)) {
        let near = |one: f64, other: f64| (one - other).abs() < 0.02;
        assert!(near(mean, expected.0) && near(deviation, expected.1), "{mean} {deviation}, expected {expected:?}");
    }

    #[test]
    fn draws_have_their_distributions() {
        let mut random = Random::new(7);
        check(moments(|| random.uniform()), (0.5, (1.0f64 / 12.0).sqrt()));
        check(moments(|| random.exponential(1.0)), (1.0, 1.0));
        check(moments(|| random.normal()), (0.0, 1.0));
        check(moments(|| random.between(2.0, 3.0)), (2.5, (1.0f64 / 12.0).sqrt()));
    }

    #[test]
    fn a_seed_is_a_sequence() {
        let draw = |seed| Random::new(seed).bits();
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
