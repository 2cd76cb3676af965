//! Kernel time, and its one conversion to wall-clock time.
//!
//! Owns the type of every timestamp in the pipeline. The pure modules take [`Mono`] as an argument and never
//! read a clock; the edge anchors kernel time to wall time once ([`WallAnchor`]) and the exporters convert.

use std::time::Duration;

/// A point on the kernel's monotonic clock (`CLOCK_MONOTONIC`, `bpf_ktime_get_ns`): nanoseconds since boot,
/// time in suspend left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Time from `earlier` to `self`; zero when the two are out of order, which happens by microseconds when two
    /// processors take their stamps in the same instant.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The pair of readings that ties the monotonic clock to wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallAnchor {
    /// Monotonic reading.
    pub mono: Mono,
    /// Wall clock at the same instant, nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
}

impl WallAnchor {
    /// Wall time of `at`, nanoseconds since the Unix epoch. Points before the anchor are fine.
    pub fn to_unix_nanos(self, at: Mono) -> u64 {
        if at >= self.mono {
            self.unix_nanos.saturating_add(at.0 - self.mono.0)
        } else {
            self.unix_nanos.saturating_sub(self.mono.0 - at.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchor_converts_both_ways_around_itself() {
        let anchor = WallAnchor { mono: Mono(1_000), unix_nanos: 5_000_000 };
        assert_eq!(anchor.to_unix_nanos(Mono(1_500)), 5_000_500);
        assert_eq!(anchor.to_unix_nanos(Mono(400)), 4_999_400);
    }

    #[test]
    fn stamps_out_of_order_are_zero_apart() {
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
    }
}
