//! What the store counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{error::StoreError, submit::Committed};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),*) => {
        /// Counters of the writer, since it began.
        #[derive(Debug, Default)]
        pub(super) struct Stats {
            $(pub(super) $name: AtomicU64),*
        }

        /// What the store did since it was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64),*
        }

        impl Stats {
            pub(super) fn counts(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed)),* }
            }
        }
    };
}

counts! {
    /// Submissions that are on stable storage.
    committed,
    /// Submissions that were refused: a hole, or parts that do not fit.
    refused,
    /// Spans that were stored.
    stored,
    /// What was stored before.
    duplicates,
    /// Items that are not stored.
    rejected,
    /// Transactions that failed: a full or failing disk.
    failures,
    /// Spans that retention removed.
    spans_removed,
    /// Contents that retention removed before their spans.
    contents_removed,
    /// Minutes that were merged to hours.
    minutes_merged
}

impl Stats {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, result: &Result<Committed, StoreError>) {
        match result {
            Ok(Committed { durable_through: _, stored, duplicates, rejected }) => {
                Self::add(&self.committed, 1);
                Self::add(&self.stored, *stored);
                Self::add(&self.duplicates, *duplicates);
                Self::add(&self.rejected, rejected.len() as u64);
            }
            Err(_) => Self::add(&self.refused, 1),
        }
    }

    pub(super) fn failed(&self) {
        Self::add(&self.failures, 1);
    }
}
