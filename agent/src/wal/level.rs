//! How much of a call is worth its room, by how full the disk budget is.
//!
//! Owns the thresholds and their hysteresis. What a level means for a span is the business of whoever offers it. Pure.

/// How much is to be written, from all to the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Everything.
    #[default]
    Full = 0,
    /// Spans without content.
    NoContent = 1,
    /// Nor the detail of their chunks.
    NoChunkDetail = 2,
    /// Only some of the spans.
    Sampled = 3,
    /// No spans; metrics and the ledger go on to the end.
    MetricsOnly = 4,
}

/// How far, in thousandths, the fill must be below a level's threshold before it ends: a log that is read about as fast as it is
/// written would go back and forth at the threshold.
const HYSTERESIS: u64 = 50;

impl Level {
    /// All levels, each sparser than the one before.
    pub const ALL: [Self; 5] = [Self::Full, Self::NoContent, Self::NoChunkDetail, Self::Sampled, Self::MetricsOnly];

    /// Its name in reports and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::NoContent => "no_content",
            Self::NoChunkDetail => "no_chunk_detail",
            Self::Sampled => "sampled",
            Self::MetricsOnly => "metrics_only",
        }
    }

    /// The fill, in thousandths, from which on it holds.
    fn threshold(self) -> u64 {
        match self {
            Self::Full => 0,
            Self::NoContent => 600,
            Self::NoChunkDetail => 750,
            Self::Sampled => 850,
            Self::MetricsOnly => 950,
        }
    }

    /// The level with this number.
    pub(crate) fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::MetricsOnly)
    }

    /// The level after this one, when `used` of `budget` bytes are used.
    pub fn at(self, used: u64, budget: u64) -> Self {
        let permille = u64::try_from(u128::from(used) * 1000 / u128::from(budget.max(1))).unwrap_or(u64::MAX);
        let reached = |level: &&Self| permille >= level.threshold();
        // What holds already goes on until the fill is well below its threshold.
        let kept = |level: &&Self| **level <= self && permille + HYSTERESIS >= level.threshold();
        Self::ALL.iter().rev().find(|level| reached(level) || kept(level)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_begins_at_its_threshold_and_ends_well_below_it() {
        let mut level = Level::Full;
        let mut go = |used| {
            level = level.at(used, 1000);
            level
        };
        assert_eq!(
            [0, 599, 600, 599, 551].map(&mut go),
            [Level::Full, Level::Full, Level::NoContent, Level::NoContent, Level::NoContent]
        );
        assert_eq!(go(549), Level::Full);
        assert_eq!(
            [750, 850, 950, 5000].map(&mut go),
            [Level::NoChunkDetail, Level::Sampled, Level::MetricsOnly, Level::MetricsOnly]
        );
        assert_eq!([901, 899, 100].map(&mut go), [Level::MetricsOnly, Level::Sampled, Level::Full]);
        assert_eq!(Level::Full.at(u64::MAX, 0), Level::MetricsOnly);
    }
}
