//! What the log has, in memory: segments, how far each destination is, and why seqs are missing.
//!
//! Owns the rules of who may read what and what may go. Pure: files are touched by whoever asked.

use std::collections::{BTreeMap, VecDeque};

/// Why seqs have no items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The log is damaged there.
    Corrupt,
    /// The disk budget was used up, and the oldest had to go.
    Evicted,
    /// It was acknowledged by this destination before, and is no longer here.
    Acknowledged,
    /// It is encrypted with another key, or written by a newer version.
    Unreadable,
}

impl GapReason {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Evicted => "evicted",
            Self::Acknowledged => "acknowledged",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Seqs that the log does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first_seq: u64,
    /// The last of them.
    pub last_seq: u64,
    /// Why.
    pub reason: GapReason,
}

impl Gap {
    /// How many seqs.
    pub fn items(&self) -> u64 {
        (self.last_seq + 1).saturating_sub(self.first_seq)
    }
}

/// A file with items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The seq of its first frame.
    pub first_seq: u64,
    /// Bytes that may be read.
    pub bytes: u64,
}

/// A destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// It has everything up to here, durably.
    pub through: u64,
    /// The reader that has it; 0 when none has.
    pub owner: u64,
    /// Up to here gaps have been counted.
    pub told: u64,
    /// Items that were told as gaps.
    pub evicted: u64,
    pub corrupt: u64,
    pub unreadable: u64,
}

/// Where to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// There is nothing new.
    End,
    /// Nothing is there up to this seq.
    Missing(u64),
    /// In this segment, and no further than this seq.
    In(Segment, u64),
}

/// What the log has.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// By first seq, ascending. The last one is never let go: the log's position is read from it.
    pub segments: VecDeque<Segment>,
    /// Everything up to here is on stable storage, or told as a gap.
    pub durable: u64,
    /// By name.
    pub cursors: BTreeMap<String, Cursor>,
    /// Known reasons other than damage; seqs of segments that are there are not asked for here.
    pub holes: Vec<Gap>,
    /// Items up to here went for want of room, unless they went because all had them.
    pub evicted: u64,
    /// Up to here corrupt and unreadable items have been counted for the log as a whole.
    pub told: u64,
    /// Readers so far.
    pub readers: u64,
    /// Files that were to be removed and could not be, and their bytes.
    pub doomed: Vec<Segment>,
}

impl Table {
    /// Bytes of all segments.
    pub(crate) fn used(&self) -> u64 {
        self.segments.iter().chain(&self.doomed).map(|segment| segment.bytes).sum()
    }

    /// The seq of the oldest item that may be there.
    pub(crate) fn oldest(&self) -> u64 {
        self.segments.front().map_or(self.durable + 1, |segment| segment.first_seq)
    }

    /// Where a destination begins that has nothing: with the oldest seq that is there, or of which it is known why it is not.
    pub(crate) fn beginning(&self) -> u64 {
        self.holes.iter().map(|hole| hole.first_seq).min().map_or(self.oldest(), |hole| hole.min(self.oldest()))
    }

    /// A segment has grown, or is new.
    pub(crate) fn publish(&mut self, segment: Segment, durable: u64) {
        match self.segments.back_mut().filter(|last| last.first_seq == segment.first_seq) {
            Some(last) => last.bytes = segment.bytes,
            None => self.segments.push_back(segment),
        }
        self.durable = durable;
    }

    /// Where the item with this seq is.
    pub(crate) fn place(&self, seq: u64) -> Place {
        if seq > self.durable {
            return Place::End;
        }
        let after = self.segments.partition_point(|segment| segment.first_seq <= seq);
        let end = self.segments.get(after).map_or(self.durable, |next| (next.first_seq - 1).min(self.durable));
        match after.checked_sub(1).and_then(|at| self.segments.get(at)) {
            Some(segment) => Place::In(*segment, end),
            None => Place::Missing(end),
        }
    }

    /// Why the seqs from `first` to `last` are missing, for the destination `name`.
    pub(crate) fn explain(&self, name: &str, first: u64, last: u64) -> Vec<Gap> {
        let (oldest, through) = (self.oldest(), self.cursors.get(name).map_or(0, |cursor| cursor.through));
        // The reason of a seq, and the last seq that it surely holds for.
        let reason = |seq: u64| -> (GapReason, u64) {
            if seq < oldest && seq <= through {
                return (GapReason::Acknowledged, through.min(oldest - 1));
            }
            let hole = self.holes.iter().find(|hole| (hole.first_seq..=hole.last_seq).contains(&seq));
            let next = self.holes.iter().map(|hole| hole.first_seq).filter(|first| *first > seq).min();
            let until = next.map_or(u64::MAX, |next| next - 1);
            match hole {
                Some(hole) => (hole.reason, hole.last_seq.min(until)),
                None if seq < oldest && seq <= self.evicted => {
                    (GapReason::Evicted, until.min(self.evicted).min(oldest - 1))
                }
                None if seq < oldest => (GapReason::Corrupt, until.min(oldest - 1)),
                None => (GapReason::Corrupt, until),
            }
        };
        let mut gaps = Vec::new();
        let mut seq = first;
        while seq <= last {
            let (reason, until) = reason(seq);
            push_gap(&mut gaps, Gap { first_seq: seq, last_seq: until.min(last), reason });
            seq = until.min(last) + 1;
        }
        gaps
    }

    /// Counts what is told as gaps, each seq once for a destination and once for the log.
    pub(crate) fn count(&mut self, name: &str, gaps: &[Gap]) -> (u64, u64) {
        let (mut corrupt, mut unreadable) = (0, 0);
        for gap in gaps {
            let above = |told: u64| (gap.last_seq + 1).saturating_sub(gap.first_seq.max(told + 1));
            match gap.reason {
                GapReason::Corrupt => corrupt += above(self.told),
                GapReason::Unreadable => unreadable += above(self.told),
                GapReason::Evicted | GapReason::Acknowledged => {}
            }
            let Some(cursor) = self.cursors.get_mut(name) else { continue };
            let new = above(cursor.told);
            match gap.reason {
                GapReason::Corrupt => cursor.corrupt += new,
                GapReason::Evicted => cursor.evicted += new,
                GapReason::Unreadable => cursor.unreadable += new,
                GapReason::Acknowledged => {}
            }
        }
        (corrupt, unreadable)
    }

    /// Everything up to `seq` has been given to the destination.
    pub(crate) fn told(&mut self, name: &str, seq: u64) {
        self.told = self.told.max(seq);
        if let Some(cursor) = self.cursors.get_mut(name) {
            cursor.told = cursor.told.max(seq);
        }
    }

    /// Takes out the segments that every destination has passed.
    pub(crate) fn passed(&mut self) -> Vec<Segment> {
        let mut passed = Vec::new();
        let Some(through) = self.cursors.values().map(|cursor| cursor.through).min() else { return passed };
        while self.segments.get(1).is_some_and(|next| next.first_seq <= through + 1) {
            passed.extend(self.segments.pop_front());
        }
        passed
    }

    /// Takes out the oldest segments until `need` more bytes fit into `budget`. The last segment stays.
    pub(crate) fn evict(&mut self, need: u64, budget: u64) -> Vec<(Segment, u64)> {
        let mut evicted = Vec::new();
        while self.used() + need > budget && self.segments.len() > 1 {
            let (Some(segment), Some(next)) = (self.segments.pop_front(), self.segments.front()) else { break };
            self.evicted = self.evicted.max(next.first_seq - 1);
            evicted.push((segment, next.first_seq - segment.first_seq));
        }
        evicted
    }

    /// What a destination has not yet: items, and about how many bytes on disk.
    pub(crate) fn backlog(&self, through: u64) -> (u64, u64) {
        let mut bytes = 0;
        for (at, segment) in self.segments.iter().enumerate() {
            let end = self.segments.get(at + 1).map_or(self.durable + 1, |next| next.first_seq);
            let all = end.saturating_sub(segment.first_seq).max(1);
            let left = end.saturating_sub(segment.first_seq.max(through + 1)).min(all);
            bytes += u64::try_from(u128::from(segment.bytes) * u128::from(left) / u128::from(all)).unwrap_or(0);
        }
        (self.durable.saturating_sub(through), bytes)
    }
}

/// Adds a gap, or makes the last one longer when it goes on for the same reason.
pub(crate) fn push_gap(gaps: &mut Vec<Gap>, gap: Gap) {
    match gaps.last_mut().filter(|last| last.reason == gap.reason && last.last_seq + 1 == gap.first_seq) {
        Some(last) => last.last_seq = gap.last_seq,
        None => gaps.push(gap),
    }
}
