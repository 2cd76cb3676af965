//! What waits to be durable.
//!
//! Owns the bounds. An item counts against them until it is durable or given up, so that a disk that does not answer costs no
//! more memory than the bounds say. Offering never waits for the disk: the lock is held for a few instructions.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    counts::{Refused, add},
    format::{HEADER_BYTES, Kind},
    level::Level,
    settings::FullPolicy,
    shared::Shared,
};

/// Room for the headers of segments that what waits may need, kept free below the budget.
const HEADERS: u64 = 4 * HEADER_BYTES as u64;

/// An item without a seq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub kind: Kind,
    pub payload: Bytes,
}

/// What the queue adds up to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub accepted_items: u64,
    pub accepted_bytes: u64,
    /// What is neither durable nor given up.
    pub items: usize,
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Offered>,
    waiting_bytes: usize,
    totals: Totals,
    closed: bool,
    /// When whoever closes it stops waiting.
    deadline: Option<Instant>,
    full: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    work: Condvar,
}

impl Queue {
    // Every change of the state is complete before anything that could panic: a poisoned lock guards good data.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.state().totals
    }

    /// Takes no more; what waits has until `deadline`.
    pub(crate) fn close(&self, deadline: Instant) {
        let mut state = self.state();
        state.closed = true;
        state.deadline = Some(state.deadline.map_or(deadline, |before| before.min(deadline)));
        drop(state);
        self.work.notify_all();
    }

    /// The next items, up to `max_bytes` of them but at least one: when there are so many, or when the first has waited `delay`,
    /// or when the queue was closed. `None` when it was closed and is empty.
    pub(crate) fn take(&self, max_bytes: usize, delay: Duration) -> Option<Vec<Offered>> {
        let mut state = self.state();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let due = Instant::now() + delay;
        while state.waiting_bytes < max_bytes && !state.closed {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (state, _) = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(item) = state.waiting.front() {
            bytes += item.payload.len();
            if !batch.is_empty() && bytes > max_bytes {
                break;
            }
            state.waiting_bytes -= item.payload.len();
            batch.extend(state.waiting.pop_front());
        }
        Some(batch)
    }

    /// Waits before another attempt, less when the queue is closed; says whether there is time for one.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.state();
        loop {
            let now = Instant::now();
            if state.deadline.is_some_and(|deadline| now >= deadline) {
                return false;
            }
            let wake = state.deadline.map_or(until, |deadline| deadline.min(until));
            if now >= until {
                return true;
            }
            (state, _) = self.work.wait_timeout(state, wake - now).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Items are durable, or given up.
    pub(crate) fn settle(&self, items: usize, bytes: usize) {
        let mut state = self.state();
        state.totals.items -= items.min(state.totals.items);
        state.totals.bytes -= bytes.min(state.totals.bytes);
        state.full &= state.totals.items > 0;
    }

    /// Gives up what waits, and takes no more; says how many items that were.
    pub(crate) fn abandon(&self) -> u64 {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
        state.waiting_bytes = 0;
        let left = std::mem::take(&mut state.totals.items);
        state.totals.bytes = 0;
        left as u64
    }
}

/// Offers items to a log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WalHandle {
    pub(super) shared: Arc<Shared>,
}

impl WalHandle {
    /// Queues an item to be made durable. Never waits for the disk. The payload is written as it is: it must be encoded, and
    /// redacted, already.
    pub fn offer(&self, kind: Kind, payload: Bytes) -> Result<(), Refused> {
        let taken = self.try_offer(kind, payload);
        if let Err(reason) = taken {
            add(&self.shared.counters.refused[reason as usize], 1);
        }
        taken
    }

    fn try_offer(&self, kind: Kind, payload: Bytes) -> Result<(), Refused> {
        let Shared { settings, queue, budget, .. } = &*self.shared;
        if payload.len() > settings.item_bytes {
            return Err(Refused::TooLarge);
        }
        let cost = settings.cost(payload.len());
        let mut state = queue.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        let bytes = state.totals.bytes + cost;
        if state.totals.items >= settings.queue_items || bytes > settings.queue_bytes {
            if !std::mem::replace(&mut state.full, true) {
                drop(state);
                tracing::warn!("the log's queue is full: items are refused until the disk has taken some");
            }
            return Err(Refused::QueueFull);
        }
        if settings.policy == FullPolicy::RefuseNew && self.shared.used() + bytes as u64 + HEADERS > *budget {
            return Err(Refused::DiskFull);
        }
        state.totals.accepted_items += 1;
        state.totals.accepted_bytes += payload.len() as u64;
        state.totals.items += 1;
        state.totals.bytes = bytes;
        state.waiting_bytes += payload.len();
        // The writer waits for the first item, and for the one that fills its batch; those between would wake it for nothing.
        let wake = state.waiting.is_empty() || state.waiting_bytes >= settings.commit_bytes;
        state.waiting.push_back(Offered { kind, payload });
        drop(state);
        if wake {
            queue.work.notify_one();
        }
        Ok(())
    }

    /// How much is to be written at the moment. What that means for an item is the caller's business.
    pub fn level(&self) -> Level {
        self.shared.level()
    }

    /// Counts `n` items that the caller made smaller, or did not offer, because of `level`.
    pub fn count_shed(&self, level: Level, n: u64) {
        self.shared.counters.shed[level as usize].fetch_add(n, Ordering::Relaxed);
    }
}
