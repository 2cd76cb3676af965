//! What became of everything that was offered: the log's part of the ledger.
//!
//! `accepted` = `durable` + `waiting` + `abandoned`. Each destination got `durable` less what is its backlog and less its gaps.

use std::sync::atomic::{AtomicU64, Ordering};

use super::level::Level;

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// As much as may wait to be durable waits already.
    #[error("the log's queue is full")]
    QueueFull,
    /// The disk budget is used up, and the oldest is to be kept.
    #[error("the log's disk budget is used up")]
    DiskFull,
    /// The item is larger than any may be.
    #[error("the item is larger than the log takes")]
    TooLarge,
    /// The log has been closed.
    #[error("the log is closed")]
    Closed,
}

impl Refused {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 4] = [Self::QueueFull, Self::DiskFull, Self::TooLarge, Self::Closed];

    /// The label of the counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::DiskFull => "disk_full",
            Self::TooLarge => "too_large",
            Self::Closed => "closed",
        }
    }
}

/// How the log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// What is accepted becomes durable.
    #[default]
    Fine,
    /// It does not at the moment; this is why. What waits is kept and tried again.
    Degraded(String),
}

/// How far a destination is. Totals are since the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CursorCounts {
    /// The destination.
    pub name: String,
    /// It has everything up to this seq, durably.
    pub through: u64,
    /// Seqs that it has not.
    pub backlog_items: u64,
    /// What they take on disk, about.
    pub backlog_bytes: u64,
    /// Seqs that were told to it as gaps, because the budget was used up.
    pub evicted: u64,
    /// The same, because the log was damaged.
    pub corrupt: u64,
    /// The same, because another key or a newer version is needed.
    pub unreadable: u64,
}

/// A snapshot of the ledger. Totals are since the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalCounts {
    /// Items that were accepted.
    pub accepted_items: u64,
    /// Their payloads' bytes.
    pub accepted_bytes: u64,
    /// Items that were made durable.
    pub durable_items: u64,
    /// Their payloads' bytes.
    pub durable_bytes: u64,
    /// Items that wait to be.
    pub waiting_items: u64,
    /// Their bytes, with what frames add.
    pub waiting_bytes: u64,
    /// Accepted items that were given up when the log was closed before they were durable.
    pub abandoned_items: u64,
    /// Items whose segments went because the budget was used up, whoever had them already.
    pub evicted_items: u64,
    /// What they took on disk.
    pub evicted_bytes: u64,
    /// Seqs that some destination was told of as damaged.
    pub corrupt_items: u64,
    /// Seqs that some destination was told of as unreadable.
    pub unreadable_items: u64,
    /// Items that were written again after a failed write or sync.
    pub rewritten_items: u64,
    /// Writes and file creations that failed.
    pub write_failures: u64,
    /// Syncs that failed, of files and directories.
    pub sync_failures: u64,
    /// Cursors that could not be made durable.
    pub cursor_failures: u64,
    /// Bytes of all segments.
    pub disk_bytes: u64,
    /// Bytes in quarantine when the log was opened.
    pub quarantine_bytes: u64,
    /// Items of other lives of the log that were found when it was opened, and that nobody will send.
    pub foreign_items: u64,
    /// The destinations, by name.
    pub cursors: Vec<CursorCounts>,
    pub(crate) refused: [u64; Refused::ALL.len()],
    pub(crate) shed: [u64; Level::ALL.len()],
}

impl WalCounts {
    /// Items that were not taken for `reason`.
    pub fn refused(&self, reason: Refused) -> u64 {
        self.refused[reason as usize]
    }

    /// What was left out at `level`, as [`WalHandle::count_shed`](super::WalHandle::count_shed) was told.
    pub fn shed(&self, level: Level) -> u64 {
        self.shed[level as usize]
    }
}

/// The counters that many threads raise.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub durable_items: AtomicU64,
    pub durable_bytes: AtomicU64,
    pub abandoned_items: AtomicU64,
    pub evicted_items: AtomicU64,
    pub evicted_bytes: AtomicU64,
    pub corrupt_items: AtomicU64,
    pub unreadable_items: AtomicU64,
    pub rewritten_items: AtomicU64,
    pub write_failures: AtomicU64,
    pub sync_failures: AtomicU64,
    pub cursor_failures: AtomicU64,
    pub refused: [AtomicU64; Refused::ALL.len()],
    pub shed: [AtomicU64; Level::ALL.len()],
}

/// Raises a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Counters {
    /// The counters' part of a snapshot.
    pub(crate) fn snapshot(&self) -> WalCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Self {
            durable_items,
            durable_bytes,
            abandoned_items,
            evicted_items,
            evicted_bytes,
            corrupt_items,
            unreadable_items,
            rewritten_items,
            write_failures,
            sync_failures,
            cursor_failures,
            refused,
            shed,
        } = self;
        WalCounts {
            durable_items: get(durable_items),
            durable_bytes: get(durable_bytes),
            abandoned_items: get(abandoned_items),
            evicted_items: get(evicted_items),
            evicted_bytes: get(evicted_bytes),
            corrupt_items: get(corrupt_items),
            unreadable_items: get(unreadable_items),
            rewritten_items: get(rewritten_items),
            write_failures: get(write_failures),
            sync_failures: get(sync_failures),
            cursor_failures: get(cursor_failures),
            refused: refused.each_ref().map(get),
            shed: shed.each_ref().map(get),
            ..Default::default()
        }
    }
}
