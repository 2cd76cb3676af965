//! Where the log is, how large it may become, and what its directory looks like.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    format::{FRAME_BYTES, HEADER_BYTES, MAX_STORED, segment_name},
    seal::SEAL_BYTES,
};

/// Smallest budget: below it a log could not hold a few of the largest segments that its items need.
const MIN_BUDGET: u64 = 16 << 10;

/// A segment is at most this part of the budget: room is made by whole segments.
const SEGMENTS: u64 = 4;

/// What happens to new items when the disk budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FullPolicy {
    /// They are refused, and what is there stays.
    #[default]
    RefuseNew,
    /// The oldest segments go, and their items are told as gaps.
    DropOldest,
}

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalSettings {
    /// Its directory, which is made if it is not there.
    pub dir: PathBuf,
    /// File with the key for encryption at rest; without it segments are plain.
    pub key_file: Option<PathBuf>,
    /// Bytes that all segments may take. At least 16 KiB.
    pub max_bytes: u64,
    /// What happens then.
    pub policy: FullPolicy,
    /// Bytes from which on a segment is followed by a new one. At most a quarter of `max_bytes`.
    pub segment_bytes: u64,
    /// Largest payload, in bytes. At most a quarter of `max_bytes`.
    pub item_bytes: usize,
    /// Bytes that may wait to be durable.
    pub queue_bytes: usize,
    /// Items that may wait to be durable.
    pub queue_items: usize,
    /// How long an item waits for others to be made durable with it.
    pub commit_delay: Duration,
    /// How many bytes are enough company.
    pub commit_bytes: usize,
}

impl WalSettings {
    /// The defaults, for a log in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            key_file: None,
            max_bytes: 1 << 30,
            policy: FullPolicy::default(),
            segment_bytes: 16 << 20,
            item_bytes: 4 << 20,
            queue_bytes: 8 << 20,
            queue_items: 1 << 16,
            commit_delay: Duration::from_millis(10),
            commit_bytes: 256 << 10,
        }
    }

    /// The same, with values that fit each other.
    pub(crate) fn fitted(mut self) -> Self {
        self.max_bytes = self.max_bytes.max(MIN_BUDGET);
        let part = self.max_bytes / SEGMENTS;
        self.segment_bytes = self.segment_bytes.clamp((HEADER_BYTES + FRAME_BYTES) as u64, part);
        let overhead = HEADER_BYTES + FRAME_BYTES + SEAL_BYTES;
        let largest = usize::try_from(part.min(u64::from(MAX_STORED))).unwrap_or(usize::MAX);
        self.item_bytes = self.item_bytes.min(largest - overhead);
        self.queue_items = self.queue_items.max(1);
        self.queue_bytes = self.queue_bytes.max(self.item_bytes + overhead);
        self.commit_bytes = self.commit_bytes.max(1);
        self
    }

    /// Bytes that a payload takes in a segment, at most.
    pub(crate) fn cost(&self, payload: usize) -> usize {
        payload + FRAME_BYTES + if self.key_file.is_some() { SEAL_BYTES } else { 0 }
    }
}

/// The paths of a log.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub dir: PathBuf,
    pub segments: PathBuf,
    pub cursors: PathBuf,
    pub quarantine: PathBuf,
}

impl Layout {
    pub(crate) fn of(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            segments: dir.join("segments"),
            cursors: dir.join("cursors"),
            quarantine: dir.join("quarantine"),
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.dir.join("identity")
    }

    pub(crate) fn evicted(&self) -> PathBuf {
        self.dir.join("evicted")
    }

    pub(crate) fn segment(&self, first_seq: u64) -> PathBuf {
        self.segments.join(segment_name(first_seq))
    }

    /// Where a file goes that nothing can be made of.
    pub(crate) fn aside(&self, path: &Path, reason: &str) -> PathBuf {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(reason);
        self.quarantine.join(name)
    }

    pub(crate) fn cursor(&self, name: &str) -> PathBuf {
        self.cursors.join(name)
    }
}
