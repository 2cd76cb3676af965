//! `[serving]`: when a server's call is slow or stuck, whatever is usual.

use std::time::Duration;

use serde::Deserialize;

use crate::serving::Limits;

/// `[serving]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServingConfig {
    /// Seconds to the first token beyond which a call is slow. Absent: only what is usual for its model counts.
    pub time_to_first_token_limit_seconds: Option<f64>,
    /// Mean seconds of an output token beyond which a call is slow.
    pub time_per_output_token_limit_seconds: Option<f64>,
    /// Seconds without a byte after which a call is told to be stuck. Absent: 30.
    pub stuck_seconds: Option<f64>,
}

impl ServingConfig {
    /// Which setting is out of range, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let Self { time_to_first_token_limit_seconds, time_per_output_token_limit_seconds, stuck_seconds } = *self;
        let settings = [
            ("time_to_first_token_limit_seconds", time_to_first_token_limit_seconds),
            ("time_per_output_token_limit_seconds", time_per_output_token_limit_seconds),
            ("stuck_seconds", stuck_seconds),
        ];
        match settings.into_iter().find(|(_, value)| value.is_some_and(|value| !(0.001..=86_400.0).contains(&value))) {
            Some((key, _)) => Err((key, "must be between 0.001 and 86400")),
            None => Ok(()),
        }
    }

    /// As the pipeline takes it.
    pub fn limits(&self) -> Limits {
        let time = |seconds: Option<f64>| seconds.map(Duration::from_secs_f64);
        Limits {
            first_token: time(self.time_to_first_token_limit_seconds),
            output_token: time(self.time_per_output_token_limit_seconds),
            stuck: time(self.stuck_seconds),
        }
    }
}
