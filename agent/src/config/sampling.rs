//! `[sampling]`: which spans are exported.
//!
//! Owns the section's layout; what the settings mean is the business of `export::sample`.

use serde::Deserialize;

use crate::export::sample::Sampling;

/// `[sampling]`
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingConfig {
    /// Share of the traces that are exported, 0 to 1. Errors, slow calls and answers of low confidence always are.
    pub rate: f64,
    /// Cost of a call in US dollars from which on it is always exported.
    pub always_above_usd: Option<f64>,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self { rate: 1.0, always_above_usd: None }
    }
}

impl SamplingConfig {
    /// The first setting that cannot be: its name and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let Self { rate, always_above_usd } = *self;
        if !(0.0..=1.0).contains(&rate) {
            return Err(("rate", "must be between 0 and 1"));
        }
        if always_above_usd.is_some_and(|usd| !(0.0..=1e9).contains(&usd)) {
            return Err(("always_above_usd", "must be between 0 and 1000000000"));
        }
        Ok(())
    }

    /// As the outputs take it.
    pub fn sampling(&self) -> Sampling {
        let Self { rate, always_above_usd } = *self;
        Sampling::new(rate, always_above_usd)
    }
}
