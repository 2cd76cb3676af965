//! The queue between the pipeline and the exporting task, and the ledger of what became of every span.
//!
//! Owns the bounds. A span is encoded when it is offered and waits as bytes, so that the bound in bytes is the
//! memory that it takes. A span counts against the bounds until its fate is known, the ones being sent included.
//! Offering never waits: the lock is held for a few instructions on either side.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use inferscope_proto::Message as _;
use tokio::sync::{Notify, watch};

use super::encode::encode;
use crate::export::span::Span;

/// What a span's tag and length take in a request, at most: they let a batch be cut without encoding it.
const FRAMING: usize = 6;

/// Why a span did not reach the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The queue was at its bound when the span was offered.
    QueueFull,
    /// The exporter had been shut down when the span was offered.
    Closed,
    /// The receiver, or the limit on requests, had no room for it even alone and without content.
    TooLarge,
    /// The receiver answered that it will never take it.
    Refused,
    /// The time for draining the queue was over.
    Shutdown,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::QueueFull, Self::Closed, Self::TooLarge, Self::Refused, Self::Shutdown];

    /// The label of the counter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Closed => "closed",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The ledger. `enqueued` = `exported` + `rejected` + `pending_spans` + what was dropped as `TooLarge`, `Refused`
/// and `Shutdown`; spans dropped as `QueueFull` and `Closed` were never enqueued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtlpCounts {
    /// Spans accepted into the queue.
    pub enqueued: u64,
    /// Spans that the receiver took.
    pub exported: u64,
    /// Spans that the receiver refused in a request that it otherwise took (partial success).
    pub rejected: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Spans whose fate is not known yet.
    pub pending_spans: u64,
    /// Their encoded size.
    pub pending_bytes: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl OtlpCounts {
    /// Spans dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    fn settled(&self) -> u64 {
        self.enqueued - self.pending_spans
    }
}

/// A span that waits.
#[derive(Debug)]
pub(super) struct Item {
    /// The encoded span.
    pub span: Bytes,
    /// What it counts against the bound; stays when the span is made smaller.
    pub reserved: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Item>,
    waiting_bytes: usize,
    counts: OtlpCounts,
    closed: bool,
    /// Spans up to this one, counted by `enqueued`, are wanted out without delay.
    flush_to: u64,
    /// The overflow has been reported and is not over.
    overflowing: bool,
}

/// The queue, shared by those who offer and the task that sends.
#[derive(Debug)]
pub(super) struct Queue {
    /// Where its spans go, for the log.
    endpoint: String,
    max_bytes: usize,
    max_spans: usize,
    state: Mutex<State>,
    work: Notify,
    progress: watch::Sender<()>,
}

/// What the sending task is to do next.
pub(super) enum Next {
    /// Send these.
    Batch(Vec<Item>),
    /// Wait for [`Queue::work`], or until the spans have waited for company long enough.
    Linger,
    /// Wait for [`Queue::work`].
    Idle,
    /// Nothing will come any more.
    Finished,
}

impl Queue {
    pub(super) fn new(endpoint: &str, max_bytes: usize, max_spans: usize) -> Self {
        let (state, work, progress) = Default::default();
        Self { endpoint: endpoint.to_owned(), max_bytes, max_spans, state, work, progress }
    }

    // Every change of the state is complete before anything that could panic: a poisoned lock guards good data.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, span: Bytes) -> bool {
        let reserved = span.len();
        let mut state = self.state();
        let bytes = state.counts.pending_bytes as usize + reserved;
        if state.closed || bytes > self.max_bytes || state.counts.pending_spans as usize >= self.max_spans {
            let reason = if state.closed { DropReason::Closed } else { DropReason::QueueFull };
            state.counts.dropped[reason as usize] += 1;
            if reason == DropReason::QueueFull && !std::mem::replace(&mut state.overflowing, true) {
                drop(state);
                let endpoint = &self.endpoint;
                tracing::warn!(%endpoint, "an OTLP queue is full: what comes is dropped until the receiver takes some");
            }
            return false;
        }
        state.counts.enqueued += 1;
        state.counts.pending_spans += 1;
        state.counts.pending_bytes = bytes as u64;
        state.waiting_bytes += reserved + FRAMING;
        state.waiting.push_back(Item { span, reserved });
        drop(state);
        self.work.notify_one();
        true
    }

    /// The next batch, of at most so many bytes and spans; a span that is larger alone comes alone. Without
    /// `force` a batch that is not full is left to grow, unless someone waits for it.
    pub(super) fn next(&self, max_bytes: usize, max_spans: usize, force: bool) -> Next {
        let mut state = self.state();
        if state.waiting.is_empty() {
            return if state.closed { Next::Finished } else { Next::Idle };
        }
        let full = state.waiting.len() >= max_spans || state.waiting_bytes >= max_bytes;
        if !(force || full || state.closed || state.flush_to > state.counts.settled()) {
            return Next::Linger;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(item) = state.waiting.front() {
            bytes += item.reserved + FRAMING;
            if !batch.is_empty() && (bytes > max_bytes || batch.len() == max_spans) {
                break;
            }
            state.waiting_bytes -= item.reserved + FRAMING;
            batch.extend(state.waiting.pop_front());
        }
        Next::Batch(batch)
    }

    /// Resolves when there may be something new to do.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// The receiver took `batch` but for `rejected` of its spans.
    pub(super) fn exported(&self, batch: &[Item], rejected: u64) {
        let n = batch.len() as u64;
        let rejected = rejected.min(n);
        self.settle(batch, |counts| {
            counts.exported += n - rejected;
            counts.rejected += rejected;
        });
    }

    /// `batch` will not be sent.
    pub(super) fn dropped(&self, batch: &[Item], reason: DropReason) {
        self.settle(batch, |counts| counts.dropped[reason as usize] += batch.len() as u64);
    }

    fn settle(&self, batch: &[Item], count: impl FnOnce(&mut OtlpCounts)) {
        let mut state = self.state();
        state.counts.pending_spans -= batch.len() as u64;
        state.counts.pending_bytes -= batch.iter().map(|item| item.reserved as u64).sum::<u64>();
        count(&mut state.counts);
        // Half empty before the next report: at the edge every span would begin an overflow of its own.
        let OtlpCounts { pending_spans, pending_bytes, .. } = state.counts;
        if pending_bytes as usize * 2 < self.max_bytes && pending_spans as usize * 2 < self.max_spans {
            state.overflowing = false;
        }
        drop(state);
        self.progress.send_replace(());
    }

    /// An attempt is about to be repeated.
    pub(super) fn retried(&self) {
        self.state().counts.retries += 1;
        self.progress.send_replace(());
    }

    /// Takes no more spans.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.work.notify_one();
    }

    /// Takes no more spans and gives up those whose fate is not known.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
        state.waiting_bytes = 0;
        let left = std::mem::take(&mut state.counts.pending_spans);
        state.counts.pending_bytes = 0;
        state.counts.dropped[DropReason::Shutdown as usize] += left;
        drop(state);
        self.progress.send_replace(());
    }

    pub(super) fn counts(&self) -> OtlpCounts {
        self.state().counts
    }

    /// Waits until the counters, which the sending task changes, are as wanted.
    pub(super) async fn counts_where(&self, wanted: impl Fn(&OtlpCounts) -> bool) -> OtlpCounts {
        let mut progress = self.progress.subscribe();
        loop {
            let counts = self.counts();
            // The sender lives as long as this queue: an error cannot come.
            if wanted(&counts) || progress.changed().await.is_err() {
                return counts;
            }
        }
    }
}

/// Offers spans to an exporter. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OtlpHandle {
    pub(super) queue: Arc<Queue>,
}

impl OtlpHandle {
    /// Queues `span` and says whether there was room. Never waits.
    pub fn offer(&self, span: &Span) -> bool {
        self.queue.offer(encoded(span))
    }

    /// Queues what is encoded already.
    pub(super) fn offer_encoded(&self, item: Bytes) -> bool {
        self.queue.offer(item)
    }

    /// Waits, but no longer than `within`, until the fate of every span offered so far is known; says whether
    /// it is.
    pub async fn flush(&self, within: Duration) -> bool {
        let target = {
            let mut state = self.queue.state();
            state.flush_to = state.counts.enqueued;
            state.flush_to
        };
        self.queue.work.notify_one();
        tokio::time::timeout(within, self.queue.counts_where(|counts| counts.settled() >= target)).await.is_ok()
    }

    /// The ledger as of now.
    pub fn counts(&self) -> OtlpCounts {
        self.queue.counts()
    }
}

/// Offers `span` to each of these, encoded once. None waits for another.
pub fn offer_to_all(handles: &[OtlpHandle], span: &Span) {
    if handles.is_empty() {
        return;
    }
    let span = encoded(span);
    for handle in handles {
        // What it does not take it counts itself.
        handle.queue.offer(span.clone());
    }
}

fn encoded(span: &Span) -> Bytes {
    encode(span).encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing::numbered_span;

    fn queue(max_bytes: usize, max_spans: usize, offered: u64) -> Queue {
        let queue = Queue::new("", max_bytes, max_spans);
        for n in 0..offered {
            queue.offer(encoded(&numbered_span(n)));
        }
        queue
    }

    fn span_size() -> usize {
        encode(&numbered_span(1)).encoded_len()
    }

    fn batch(queue: &Queue, max_bytes: usize, max_spans: usize) -> Option<Vec<Item>> {
        match queue.next(max_bytes, max_spans, false) {
            Next::Batch(batch) => Some(batch),
            Next::Linger | Next::Idle | Next::Finished => None,
        }
    }

    #[test]
    fn both_bounds_hold_and_losses_are_counted() {
        for queue in [queue(span_size() * 3, 100, 5), queue(usize::MAX, 3, 5)] {
            let counts = queue.counts();
            assert_eq!((counts.enqueued, counts.pending_spans), (3, 3));
            assert_eq!(counts.dropped(DropReason::QueueFull), 2);
            assert_eq!(counts.pending_bytes as usize, span_size() * 3);
        }
    }

    #[test]
    fn spans_being_sent_still_count_until_their_fate_is_known() {
        let queue = queue(usize::MAX, 3, 3);
        let sent = batch(&queue, usize::MAX, 2).unwrap();
        assert!(!queue.offer(encoded(&numbered_span(9))));
        queue.exported(&sent, 1);
        assert!(queue.offer(encoded(&numbered_span(9))));
        let counts = queue.counts();
        assert_eq!((counts.exported, counts.rejected, counts.pending_spans), (1, 1, 2));
        assert_eq!(counts.pending_bytes as usize, span_size() * 2);
    }

    #[test]
    fn batches_are_cut_by_bytes_and_by_count() {
        let per_span = span_size() + FRAMING;
        let cut = |max_bytes, max_spans| {
            let queue = queue(usize::MAX, 100, 5);
            queue.close();
            std::iter::from_fn(|| batch(&queue, max_bytes, max_spans)).map(|batch| batch.len()).collect::<Vec<_>>()
        };
        assert_eq!(cut(per_span * 2, 100), [2, 2, 1]);
        assert_eq!(cut(per_span * 3 - 1, 100), [2, 2, 1]);
        assert_eq!(cut(usize::MAX, 4), [4, 1]);
        assert_eq!(cut(1, 100), [1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_batch_waits_for_company_unless_it_is_full_or_wanted() {
        let queue = queue(usize::MAX, 100, 2);
        assert!(matches!(queue.next(usize::MAX, 3, false), Next::Linger));
        assert!(matches!(queue.next(usize::MAX, 2, false), Next::Batch(_)));
        assert!(matches!(queue.next(usize::MAX, 2, false), Next::Idle));
        queue.offer(encoded(&numbered_span(9)));
        assert!(matches!(queue.next(usize::MAX, 3, true), Next::Batch(_)));
        queue.close();
        assert!(matches!(queue.next(usize::MAX, 3, true), Next::Finished));
    }

    #[test]
    fn what_is_left_behind_is_counted() {
        let queue = queue(usize::MAX, 100, 4);
        let _lost_on_the_way = batch(&queue, usize::MAX, 1);
        queue.abandon();
        assert!(!queue.offer(encoded(&numbered_span(9))));
        let counts = queue.counts();
        assert_eq!((counts.dropped(DropReason::Shutdown), counts.dropped(DropReason::Closed)), (4, 1));
        assert_eq!((counts.pending_spans, counts.pending_bytes), (0, 0));
    }
}
