//! How far an exchange is, told while it runs: in which windows of time its tokens were made.
//!
//! Owns the grid of windows that calls and GPU energy share, and the rule that a chunk was made during the time since the
//! chunk before it. Whoever asks takes what came since the last time ([`Progress::take`]); what nobody asks for stays
//! bounded.

use crate::time::Mono;

/// Length of a window: a few steps of an engine. GPUs refresh their energy counters half as often; in shorter ones steps that
/// read prompts mix less with those that do not, which costs more energy for each token.
pub const WINDOW_NS: u64 = 50_000_000;

/// Windows that one chunk is spread over, and that are kept for whoever asks. Who asks does so every second at least; a
/// gap that is longer counts in its last windows.
const MAX_WINDOWS: usize = 64;

/// The window that a point in time lies in.
pub fn window_of(at: Mono) -> u64 {
    at.0 / WINDOW_NS
}

/// The windows that a time lies in, each with the part of the time that is in it; the parts make one.
pub fn portions(from: Mono, to: Mono) -> impl Iterator<Item = (u64, f64)> {
    let whole = to.0.saturating_sub(from.0);
    (window_of(from.min(to))..=window_of(to)).filter_map(move |window| {
        if whole == 0 {
            return Some((window, 1.0));
        }
        let (begin, end) = (from.0.max(window * WINDOW_NS), to.0.min((window + 1) * WINDOW_NS));
        (end > begin).then(|| (window, (end - begin) as f64 / whole as f64))
    })
}

/// Chunks by window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    windows: Vec<(u64, f32)>,
}

impl Progress {
    /// A chunk came at `at`, and the one before it at `since`.
    pub fn chunk(&mut self, since: Mono, at: Mono) {
        let last = window_of(at);
        let since = since.max(Mono((last + 1).saturating_sub(MAX_WINDOWS as u64) * WINDOW_NS)).min(at);
        for (window, part) in portions(since, at) {
            self.add(window, part as f32);
        }
    }

    /// What came since this was last asked: windows in order, and the chunks that were made in each.
    pub fn take(&mut self) -> Vec<(u64, f32)> {
        std::mem::take(&mut self.windows)
    }

    fn add(&mut self, window: u64, chunks: f32) {
        match self.windows.last_mut() {
            Some((last, sum)) if *last >= window => *sum += chunks,
            _ => {
                if self.windows.len() >= 2 * MAX_WINDOWS {
                    // Their sum is kept, their times are not.
                    let kept = self.windows.split_off(MAX_WINDOWS);
                    let sum = self.windows.iter().map(|(_, chunks)| chunks).sum::<f32>();
                    self.windows = kept;
                    self.windows[0].1 += sum;
                }
                self.windows.push((window, chunks));
            }
        }
    }
}

/// A look at an exchange that is under way, or that has just ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// Last request byte.
    pub request_end: Option<Mono>,
    /// First event with content.
    pub first_chunk: Option<Mono>,
    /// Last byte either way.
    pub last_seen: Mono,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Chunks since the last look.
    pub windows: Vec<(u64, f32)>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chunk_counts_where_it_was_made() {
        let mut progress = Progress::default();
        progress.chunk(Mono(25_000_000), Mono(75_000_000));
        progress.chunk(Mono(75_000_000), Mono(80_000_000));
        assert_eq!(progress.take(), [(0, 0.5), (1, 1.5)]);
        progress.chunk(Mono(80_000_000), Mono(80_000_000));
        assert_eq!(progress.take(), [(1, 1.0)]);
        assert_eq!(progress.take(), []);
    }

    proptest! {
        #[test]
        fn no_chunk_is_lost_and_nothing_grows(gaps in prop::collection::vec(0u64..20_000_000_000, 1..300)) {
            let mut progress = Progress::default();
            let mut at = 7_000_000_000;
            for &gap in &gaps {
                progress.chunk(Mono(at), Mono(at + gap));
                at += gap;
            }
            prop_assert!(progress.windows.len() <= 2 * MAX_WINDOWS);
            let taken = progress.take();
            prop_assert!(taken.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let sum: f32 = taken.iter().map(|(_, chunks)| chunks).sum();
            prop_assert!((sum - gaps.len() as f32).abs() < 0.01 * gaps.len() as f32 + 0.01, "{sum}");
        }
    }
}
