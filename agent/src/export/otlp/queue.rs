//! The queue between the pipeline and the exporting task, and the ledger of what became of every span.
//!
//! Owns the bounds. A span is encoded when it is offered and waits as bytes, so that the bound in bytes is the
//! memory that it takes. A span counts against the bounds until its fate is known, the ones being sent included.
//! Offering never waits: the lock is held for a few instructions on either side.
//!
//! A queue is filled either by those who offer, or by the log (`feed`): then nothing is dropped for want of room, because what
//! does not fit stays in the log, and how far the receiver is follows from the spans whose fate is known.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use inferscope_proto::Message as _;
use tokio::sync::{Notify, watch};

use super::encode::encode;
use crate::{
    export::span::Span,
    wal::{Gap, GapReason},
};

/// What a span's tag and length take in a request, at most: they let a batch be cut without encoding it.
const FRAMING: usize = 6;

/// Why a span did not reach the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The queue was at its bound when the span was offered.
    QueueFull,
    /// The exporter had been shut down when the span was offered, or takes spans from the log alone.
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

/// The ledger. `enqueued` = `exported` + `rejected` + `pending_spans` + `returned` + what was dropped as `TooLarge`, `Refused`
/// and `Shutdown`; spans dropped as `QueueFull` and `Closed` were never enqueued, and neither was what the log had lost. Without
/// a log nothing is `returned`; with one nothing is dropped as `QueueFull` or `Shutdown`.
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
    /// Spans whose fate was not known when the exporter was stopped, and that are still in the log: the next start sends them.
    pub returned: u64,
    dropped: [u64; DropReason::ALL.len()],
    lost: [u64; LOST.len()],
}

/// Why the log has lost what a destination did not have. What it had acknowledged is not lost.
pub const LOST: [GapReason; 3] = [GapReason::Corrupt, GapReason::Evicted, GapReason::Unreadable];

impl OtlpCounts {
    /// Spans dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Items of the log that were lost there for `reason` before this destination had them. Of what kind they were is not known:
    /// a few may have been no spans.
    pub fn lost(&self, reason: GapReason) -> u64 {
        LOST.iter().zip(self.lost).filter(|(known, _)| **known == reason).map(|(_, count)| count).sum()
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
    /// Its seq in the log, if that is where it comes from.
    pub seq: u64,
}

impl Item {
    /// A span as it is offered, or fed with its seq.
    pub(super) fn new(span: Bytes, seq: u64) -> Self {
        Self { reserved: span.len(), span, seq }
    }
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
    /// There is more in the log than there was room for.
    starved: bool,
    /// The last seq whose fate is known.
    settled_seq: u64,
    /// Nobody sends any more.
    ended: bool,
}

impl State {
    fn push(&mut self, item: Item) {
        self.counts.enqueued += 1;
        self.counts.pending_spans += 1;
        self.counts.pending_bytes += item.reserved as u64;
        self.waiting_bytes += item.reserved + FRAMING;
        self.waiting.push_back(item);
    }
}

/// The queue, shared by those who offer and the task that sends.
#[derive(Debug)]
pub(super) struct Queue {
    /// Where its spans go, for the log.
    endpoint: String,
    max_bytes: usize,
    max_spans: usize,
    /// It is filled by the log, and by nobody else.
    is_fed: bool,
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
        Self { endpoint: endpoint.to_owned(), max_bytes, max_spans, is_fed: false, state, work, progress }
    }

    /// Whether the log fills it.
    pub(super) fn is_fed(&self) -> bool {
        self.is_fed
    }

    /// A queue that the log fills. The destination has everything up to `settled_seq`.
    pub(super) fn fed(endpoint: &str, max_bytes: usize, max_spans: usize, settled_seq: u64) -> Self {
        let queue = Self { is_fed: true, ..Self::new(endpoint, max_bytes, max_spans) };
        queue.state().settled_seq = settled_seq;
        queue
    }

    // Every change of the state is complete before anything that could panic: a poisoned lock guards good data.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, span: Bytes) -> bool {
        let mut state = self.state();
        let closed = state.closed || self.is_fed;
        if closed || !self.has_room(&state.counts, span.len()) {
            let reason = if closed { DropReason::Closed } else { DropReason::QueueFull };
            state.counts.dropped[reason as usize] += 1;
            if reason == DropReason::QueueFull && !std::mem::replace(&mut state.overflowing, true) {
                drop(state);
                let endpoint = &self.endpoint;
                tracing::warn!(%endpoint, "an OTLP queue is full: what comes is dropped until the receiver takes some");
            }
            return false;
        }
        state.push(Item::new(span, 0));
        drop(state);
        self.work.notify_one();
        true
    }

    fn has_room(&self, counts: &OtlpCounts, bytes: usize) -> bool {
        counts.pending_bytes as usize + bytes <= self.max_bytes && (counts.pending_spans as usize) < self.max_spans
    }

    /// Takes a span from the log, or gives it back when there is no room. One that is larger than the bound is taken alone: the
    /// log's own limit on items bounds it.
    pub(super) fn feed(&self, item: Item) -> Result<(), Item> {
        let mut state = self.state();
        let fits = state.counts.pending_spans == 0 || self.has_room(&state.counts, item.reserved);
        if state.closed || !fits {
            state.starved = true;
            drop(state);
            self.work.notify_one();
            return Err(item);
        }
        state.push(item);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// How many bytes and spans more the log may give; nothing until half of the queue is free, so that the log is not read in
    /// crumbs.
    pub(super) fn room(&self) -> Option<(usize, usize)> {
        let mut state = self.state();
        let (bytes, spans) = (state.counts.pending_bytes as usize, state.counts.pending_spans as usize);
        state.starved = bytes > self.max_bytes / 2 || spans > self.max_spans / 2;
        if state.starved {
            drop(state);
            self.work.notify_one();
            return None;
        }
        Some((self.max_bytes - bytes, self.max_spans - spans))
    }

    /// Counts what the log had lost.
    pub(super) fn lost(&self, gaps: &[Gap]) {
        let mut state = self.state();
        for gap in gaps {
            if let Some(at) = LOST.iter().position(|reason| *reason == gap.reason) {
                state.counts.lost[at] += gap.items();
            }
        }
    }

    /// The last seq up to which everything is settled, of a log that has been read up to `read`. With nothing pending that is
    /// `read`: what lies between spans is nothing that the destination waits for.
    pub(super) fn settled_through(&self, read: u64) -> u64 {
        let state = self.state();
        match state.counts.pending_spans == 0 && state.counts.returned == 0 {
            true => read,
            false => state.settled_seq.min(read),
        }
    }

    /// Whether nobody sends any more.
    pub(super) fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Changes when spans are settled, and at the end.
    pub(super) fn progress(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// The next batch, of at most so many bytes and spans; a span that is larger alone comes alone. Without
    /// `force` a batch that is not full is left to grow, unless someone waits for it.
    pub(super) fn next(&self, max_bytes: usize, max_spans: usize, force: bool) -> Next {
        let mut state = self.state();
        if state.waiting.is_empty() {
            return if state.closed { Next::Finished } else { Next::Idle };
        }
        let full = state.waiting.len() >= max_spans || state.waiting_bytes >= max_bytes;
        if !(force || full || state.starved || state.closed || state.flush_to > state.counts.settled()) {
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
        // Batches are settled in their order, and so are the pieces of one.
        state.settled_seq = batch.last().map_or(0, |item| item.seq).max(state.settled_seq);
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

    /// Takes no more spans and gives up those whose fate is not known: they are lost, unless the log still has them.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
        state.waiting_bytes = 0;
        let left = std::mem::take(&mut state.counts.pending_spans);
        state.counts.pending_bytes = 0;
        match self.is_fed {
            true => state.counts.returned += left,
            false => state.counts.dropped[DropReason::Shutdown as usize] += left,
        }
        state.ended = true;
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

    /// A queue that the log has filled with so many spans, of every other seq from 11 on.
    fn fed(max_bytes: usize, max_spans: usize, spans: u64) -> Queue {
        let queue = Queue::fed("", max_bytes, max_spans, 10);
        for n in 0..spans {
            queue.feed(Item::new(encoded(&numbered_span(n)), 11 + 2 * n)).unwrap();
        }
        queue
    }

    #[test]
    fn the_log_gives_what_there_is_room_for_and_keeps_the_rest() {
        let queue = fed(usize::MAX, 4, 4);
        let next = Item::new(encoded(&numbered_span(9)), 19);
        let next = queue.feed(next).unwrap_err();
        assert_eq!(queue.room(), None);
        // What waits is sent without waiting for company that cannot come.
        let sent = batch(&queue, usize::MAX, 1).unwrap();
        queue.exported(&sent, 0);
        assert_eq!(queue.room(), None, "less than half is free");
        let sent = batch(&queue, usize::MAX, 1).unwrap();
        queue.exported(&sent, 0);
        assert_eq!(queue.room().unwrap().1, 2);
        assert!(matches!(queue.next(usize::MAX, 100, false), Next::Linger), "company may come");
        queue.feed(next).unwrap();
        assert!(!queue.offer(encoded(&numbered_span(9))), "nobody else fills it");
        let counts = queue.counts();
        assert_eq!(
            (counts.enqueued, counts.dropped(DropReason::Closed), counts.dropped(DropReason::QueueFull)),
            (5, 1, 0)
        );
        let alone = fed(1, 4, 1);
        assert_eq!(alone.counts().pending_spans, 1, "one that is larger than the bound is taken alone");
        assert!(alone.feed(Item::new(encoded(&numbered_span(1)), 13)).is_err());
    }

    #[test]
    fn the_cursor_follows_what_is_settled() {
        let queue = fed(usize::MAX, 100, 3);
        assert_eq!(queue.settled_through(20), 10);
        let sent = batch_of_fed(&queue, 2);
        assert_eq!(queue.settled_through(20), 10, "being sent is not settled");
        queue.dropped(&sent, DropReason::Refused);
        assert_eq!(queue.settled_through(20), 13);
        let sent = batch_of_fed(&queue, 1);
        queue.exported(&sent, 1);
        assert_eq!(queue.settled_through(20), 20, "nothing is pending");
        assert_eq!(Queue::fed("", 1, 1, 10).settled_through(12), 12);
    }

    fn batch_of_fed(queue: &Queue, spans: usize) -> Vec<Item> {
        match queue.next(usize::MAX, spans, true) {
            Next::Batch(batch) => batch,
            Next::Linger | Next::Idle | Next::Finished => panic!("nothing waits"),
        }
    }

    #[test]
    fn what_the_log_still_has_is_returned_and_not_lost() {
        let queue = fed(usize::MAX, 100, 3);
        let sent = batch_of_fed(&queue, 1);
        queue.exported(&sent, 0);
        let _on_its_way = batch_of_fed(&queue, 1);
        queue.abandon();
        let counts = queue.counts();
        assert_eq!((counts.enqueued, counts.exported, counts.returned), (3, 1, 2));
        assert_eq!((counts.dropped(DropReason::Shutdown), counts.pending_spans, counts.pending_bytes), (0, 0, 0));
        assert_eq!(queue.settled_through(20), 11, "the cursor stays before what was returned");
        assert!(queue.has_ended());
    }

    #[test]
    fn what_the_log_lost_is_counted_by_reason() {
        let queue = fed(usize::MAX, 100, 0);
        let gap = |first_seq, last_seq, reason| Gap { first_seq, last_seq, reason };
        queue.lost(&[gap(1, 3, GapReason::Corrupt), gap(4, 4, GapReason::Evicted), gap(5, 9, GapReason::Acknowledged)]);
        queue.lost(&[gap(10, 11, GapReason::Corrupt), gap(12, 12, GapReason::Unreadable)]);
        let counts = queue.counts();
        let reasons = [GapReason::Corrupt, GapReason::Evicted, GapReason::Unreadable, GapReason::Acknowledged];
        assert_eq!(reasons.map(|reason| counts.lost(reason)), [5, 1, 1, 0]);
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
