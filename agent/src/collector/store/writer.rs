//! The one that writes: takes what waits, stores it in one transaction, and tells.
//!
//! Owns the transaction and its failure. When a transaction fails, all of its submissions are told and nothing of them is
//! stored; the writer goes on. Between transactions it does a little housekeeping.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    Clock,
    apply::{Applier, State},
    error::StoreError,
    keep::{Keeper, Work},
    queue::{Limits, Queue},
    stats::Stats,
    submit::{Committed, Submission},
};

/// How long it waits for submissions before it does housekeeping.
const IDLE: Duration = Duration::from_millis(200);

/// How often housekeeping has a turn, and how long one lasts when nothing else is to be done.
const TURN: Duration = Duration::from_millis(100);

/// How long it lasts while submissions wait: a quarter of the time, so that what goes keeps pace with what comes. A step
/// takes some ms.
const BUSY_TURN: Duration = Duration::from_millis(25);

pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) state: State,
    pub(super) queue: Arc<Queue>,
    pub(super) limits: Limits,
    pub(super) keeper: Keeper,
    pub(super) clock: Clock,
    pub(super) stats: Arc<Stats>,
}

/// Whoever waits is told when the writer ends, however it does.
struct End(Arc<Queue>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Writer {
    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let _end = End(self.queue.clone());
        let mut taken = Vec::new();
        let mut turn = Instant::now();
        loop {
            let goes_on = self.queue.take(&mut taken, self.limits, IDLE);
            if !taken.is_empty() {
                self.commit(&mut taken);
            } else if !goes_on {
                break;
            }
            if turn.elapsed() >= TURN {
                self.keep();
                turn = Instant::now();
            }
        }
        // What is in the log is safe; without it the next start is quicker.
        let closed = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        if let Err(error) = closed {
            tracing::warn!(%error, "the collector's database was closed without a checkpoint");
        }
    }

    fn commit(&mut self, taken: &mut Vec<Submission>) {
        match self.transaction(taken) {
            Ok(results) => {
                self.state.trim();
                for (submission, result) in taken.drain(..).zip(results) {
                    self.stats.answered(&result);
                    submission.answer(result);
                }
            }
            Err(error) => {
                self.undo();
                tracing::error!(%error, submissions = taken.len(), "the collector's database cannot be written");
                self.stats.failed();
                let error = StoreError::from(error);
                for submission in taken.drain(..) {
                    submission.answer(Err(error.clone()));
                }
            }
        }
    }

    fn transaction(&mut self, taken: &[Submission]) -> rusqlite::Result<Vec<Result<Committed, StoreError>>> {
        let Self { db, state, clock, .. } = self;
        db.execute_batch("BEGIN IMMEDIATE")?;
        let mut applier = Applier::new(db, state, clock.now())?;
        let results = taken.iter().map(|submission| applier.apply(submission)).collect::<rusqlite::Result<_>>()?;
        applier.finish()?;
        db.execute_batch("COMMIT")?;
        Ok(results)
    }

    /// Ends a transaction that failed, and with it what memory knows of it.
    fn undo(&mut self) {
        let Self { db, state, .. } = self;
        if !db.is_autocommit()
            && let Err(error) = db.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a failed transaction cannot be rolled back");
        }
        if let Err(error) = state.forget(db) {
            tracing::error!(%error, "the collector's database cannot be read");
        }
    }

    fn keep(&mut self) {
        let begin = Instant::now();
        let Self { db, state, keeper, clock, stats, queue, .. } = self;
        let mut done = Ok(Work::More);
        while matches!(done, Ok(Work::More)) {
            done = keeper.step(db, state, clock.now(), stats);
            let spent = begin.elapsed();
            if spent >= TURN || (spent >= BUSY_TURN && queue.bytes() > 0) {
                break;
            }
        }
        if let Err(error) = done {
            tracing::error!(%error, "old data cannot be removed from the collector's database");
            self.undo();
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
