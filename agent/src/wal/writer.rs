//! The thread that owns the files being written: a loop around [`Log`].
//!
//! Owns when to write and what to do when that fails: wait, a little longer each time, and try again for as long as the log is
//! open. It ends only when it is told to.

use std::{sync::Arc, time::Duration};

use super::{
    counts::{Health, add},
    log::Log,
    shared::Shared,
};

/// The first wait after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest wait after a failure: room may be made at any time.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Gives up what is left when the thread ends, in whichever way: nobody offers to a log that nobody writes.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        add(&self.0.counters.abandoned_items, self.0.queue.abandon());
    }
}

/// Writes until the queue is closed and empty, or the time for that is over.
pub(crate) fn run(mut log: Log, shared: Arc<Shared>) {
    let end = End(Arc::clone(&shared));
    let settings = &shared.settings;
    while let Some(batch) = shared.queue.take(settings.commit_bytes, settings.commit_delay) {
        log.append_batch(batch);
        if !commit(&mut log, &shared) {
            break;
        }
    }
    // The lock is free before anybody is told that the log is closed.
    drop(log);
    drop(end);
}

/// Tries until it works; `false` when there is no more time.
fn commit(log: &mut Log, shared: &Shared) -> bool {
    let mut pause = FIRST_PAUSE;
    loop {
        let Err(error) = log.commit() else {
            shared.health().send_if_modified(|health| {
                let was = std::mem::take(health);
                if was != Health::Fine {
                    tracing::info!("the log is written again");
                }
                was != Health::Fine
            });
            return true;
        };
        let reason = reason(&error);
        let waiting = log.pending();
        shared.health().send_if_modified(|health| {
            let next = Health::Degraded(reason);
            let changed = *health != next;
            if changed {
                tracing::warn!(waiting, "the log cannot be written: {error}");
                *health = next;
            }
            changed
        });
        if !shared.queue.pause(pause) {
            return false;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// An error with what is behind it.
fn reason(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", reason(source)),
        None => error.to_string(),
    }
}
