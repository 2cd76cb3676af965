//! What waits for the writer, within a bound of bytes.
//!
//! Owns the order (first come, first written) and the bound. Offering never waits, and whatever is taken in is answered:
//! by the writer, or here when there is none any more.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    error::{Full, StoreError},
    submit::Submission,
};

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Submission>,
    bytes: usize,
    is_closed: bool,
}

/// What the writer takes at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) items: usize,
    pub(super) bytes: usize,
    /// How long it waits for more after the first.
    pub(super) linger: Duration,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), max_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one at the end. One that is larger than the bound is taken when it is the only one. After the end it is
    /// answered at once.
    pub(super) fn offer(&self, submission: Submission) -> Result<(), Full> {
        let bytes = submission.bytes();
        let mut state = self.lock();
        if state.is_closed {
            drop(state);
            submission.answer(Err(StoreError::Closed));
            return Ok(());
        }
        if !state.waiting.is_empty() && state.bytes.saturating_add(bytes) > self.max_bytes {
            return Err(Full);
        }
        state.bytes += bytes;
        state.waiting.push_back(submission);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Takes no more; what waits is still given out.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_all();
    }

    /// Closes it, and answers what waits: there is no writer any more.
    pub(super) fn give_up(&self) {
        let State { waiting, .. } = std::mem::replace(&mut *self.lock(), State { is_closed: true, ..State::default() });
        waiting.into_iter().for_each(|submission| submission.answer(Err(StoreError::Closed)));
    }

    /// Fills `taken` with what is to be written together, or with nothing after `idle`. False when nothing will come any
    /// more.
    pub(super) fn take(&self, taken: &mut Vec<Submission>, limits: Limits, idle: Duration) -> bool {
        let begin = Instant::now();
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.is_closed {
                return false;
            }
            let left = idle.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return true;
            }
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let first = Instant::now();
        let (mut items, mut bytes) = (0, 0);
        loop {
            while let Some(next) = state.waiting.front() {
                let (more_items, more_bytes) = (next.items(), next.bytes());
                let is_full = items + more_items > limits.items || bytes + more_bytes > limits.bytes;
                if is_full && !taken.is_empty() {
                    return true;
                }
                (items, bytes) = (items + more_items, bytes + more_bytes);
                state.bytes = state.bytes.saturating_sub(more_bytes);
                taken.extend(state.waiting.pop_front());
            }
            let left = limits.linger.saturating_sub(first.elapsed());
            if left.is_zero() || state.is_closed || items >= limits.items || bytes >= limits.bytes {
                return true;
            }
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
