//! What can go wrong with the store, by who is told.

use std::{io, path::PathBuf, time::Duration};

/// Why a store cannot be opened. Nothing of what is there was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or the file cannot be made or read.
    #[error("cannot open the collector's data at {}: give the collector a directory of its own that it can write", path.display())]
    Io {
        /// What was opened.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another collector has it.
    #[error("{} is in use by another collector: stop that, or choose another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It is no database of a collector.
    #[error("{} is not a collector's database: move it away, or choose another directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A later program wrote it.
    #[error(
        "{} has schema {found}, and this program knows {known} at most: use the program that wrote it, or a later one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The latest that is known.
        known: u32,
    },
    /// It is damaged.
    #[error("{} is damaged ({reason}): restore it from a backup, or move it away to begin a new one", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// SQLite cannot open or migrate it.
    #[error("cannot open {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
}

/// Why a submission is not stored. Nothing of it is, then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Seqs are missing before its first.
    #[error("the batch begins at seq {first_seq}, but {expected} comes next: send from there")]
    Hole {
        /// The seq that comes next.
        expected: u64,
        /// Where the batch begins.
        first_seq: u64,
    },
    /// Its parts do not fit together.
    #[error("the batch contradicts itself: {reason}")]
    Malformed {
        /// What does not fit.
        reason: &'static str,
    },
    /// The disk is full or fails. The same submission may be offered again.
    #[error(
        "cannot write to the collector's database ({reason}): free or repair its disk; the data is taken when it is sent again"
    )]
    Disk {
        /// What SQLite says.
        reason: String,
    },
    /// The store is closed. The same submission may be offered to the next.
    #[error("the collector is shutting down: send again later")]
    Closed,
}

impl StoreError {
    /// Whether the same submission may be stored when it is offered again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Disk { .. } | Self::Closed => true,
            Self::Hole { .. } | Self::Malformed { .. } => false,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Disk { reason: error.to_string() }
    }
}

/// The queue before the writer has no room: offer again when some of it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the collector's queue is full: offer again later")]
pub struct Full;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It took too long.
    #[error("the query took longer than {limit:?}: narrow its time or its filter")]
    TooSlow {
        /// What it may take.
        limit: Duration,
    },
    /// All connections are taken.
    #[error("too many queries are under way: ask again later")]
    Busy,
    /// The question is not one.
    #[error("the query is wrong: {reason}")]
    Wrong {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What is stored cannot be read.
    #[error("what is stored of {what} cannot be read: {reason}")]
    Damaged {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// SQLite cannot answer.
    #[error("cannot read the collector's database")]
    Database(#[source] rusqlite::Error),
}
