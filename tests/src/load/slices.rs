//! CPU and work of this process, slice by slice: several figures from one run, so that their spread can be seen.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::order::Slice;
use crate::usage;

/// Length of a slice: long enough for thousands of chunks, short enough for a dozen of slices in a run.
const SLICE: Duration = Duration::from_millis(250);

/// The counters of a process.
#[derive(Debug, Default)]
pub struct Slices {
    calls: AtomicU64,
    chunks: AtomicU64,
    done: Mutex<Vec<Slice>>,
    before: Mutex<Slice>,
}

impl Slices {
    /// A call ended.
    pub fn on_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// So many content chunks were sent or came.
    pub fn on_chunks(&self, n: u64) {
        self.chunks.fetch_add(n, Ordering::Relaxed);
    }

    /// Cuts a slice now and then, for ever.
    pub async fn run(&self) {
        let mut clock = tokio::time::interval(SLICE);
        loop {
            clock.tick().await;
            self.cut();
        }
    }

    /// The slices since the last time this was asked, the one under way included.
    pub fn take(&self) -> Vec<Slice> {
        self.cut();
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn cut(&self) {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Slice {
            cpu_ns: usage::own_cpu().as_nanos() as u64,
            calls: self.calls.load(Ordering::Relaxed),
            chunks: self.chunks.load(Ordering::Relaxed),
        };
        let slice = Slice {
            cpu_ns: now.cpu_ns - before.cpu_ns,
            calls: now.calls - before.calls,
            chunks: now.chunks - before.chunks,
        };
        *before = now;
        if slice.calls + slice.chunks > 0 {
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push(slice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_in_one_slice_and_no_other() {
        let slices = Slices::default();
        slices.on_chunks(3);
        slices.on_call();
        let first = slices.take();
        assert_eq!((first.len(), first[0].chunks, first[0].calls), (1, 3, 1));
        assert!(slices.take().is_empty());
    }
}
