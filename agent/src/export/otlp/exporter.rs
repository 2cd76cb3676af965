//! The task that sends spans, or log records, which are sent in the same way.
//!
//! Owns the order of things: batches from the queue, one call at a time, each batch settled before the next. A
//! receiver that is away costs one log line when it goes and one when it is back; in between the queue fills and
//! its bound decides. Stopping is bounded: what is not out when the time is over is counted as lost, or is still in the log where
//! the spans come from there (`feed`).

use std::{sync::Arc, time::Duration};

use inferscope_proto::{Message as _, otlp::collector_trace::ExportTraceServiceResponse};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::Status;

use super::{
    encode::{Envelope, without_content},
    feed::Feeder,
    link::{Link, LinkLog},
    queue::{DropReason, Item, Next, OtlpCounts, OtlpHandle, Queue},
    retry::{Backoff, Verdict, classify, entropy},
    settings::{OtlpSettings, Signal, Tuning},
    transport::{Transport, TransportError},
};
use crate::wal::Reader;

/// How long the cursor may take to be written after the time to drain is over. A disk that hangs must not keep the program from
/// ending: without the cursor, what was taken since is sent again.
const LAST_NOTE: Duration = Duration::from_secs(1);

/// A running exporter. Dropping it without [`shutdown`](Self::shutdown) stops it at once and counts what is left
/// as lost, or as returned to the log.
#[derive(Debug)]
pub struct OtlpExporter {
    handle: OtlpHandle,
    deadline: watch::Sender<Option<Instant>>,
    task: JoinHandle<()>,
    /// What reads the log, where there is one.
    feeder: Option<JoinHandle<()>>,
}

impl OtlpExporter {
    /// Starts the task for spans on the current runtime. Reads certificates but does not connect: a receiver that is away
    /// is no error.
    pub fn start(settings: &OtlpSettings, envelope: Envelope) -> Result<Self, TransportError> {
        Self::start_for(Signal::Traces, settings, envelope, Queue::new)
    }

    /// Starts the task for spans, and one that takes them from the log: `reader` goes on where the destination's cursor is, and
    /// moves it when the fate of spans is known. Nothing can be offered. The runtime must have more than one thread, because the
    /// log is read in it.
    pub fn start_fed(settings: &OtlpSettings, envelope: Envelope, reader: Reader) -> Result<Self, TransportError> {
        let acknowledged = reader.acknowledged();
        let queue = |endpoint: &str, bytes, spans| Queue::fed(endpoint, bytes, spans, acknowledged);
        let mut exporter = Self::start_for(Signal::Traces, settings, envelope, queue)?;
        let (queue, stopping) = (Arc::clone(&exporter.handle.queue), exporter.deadline.subscribe());
        let feeder = Feeder::new(reader, queue, &settings.tuning, stopping);
        exporter.feeder = Some(tokio::spawn(feeder.run()));
        Ok(exporter)
    }

    /// Starts the task for log records. What is said of spans elsewhere is true of them.
    pub fn start_logs(settings: &OtlpSettings, envelope: Envelope) -> Result<Self, TransportError> {
        Self::start_for(Signal::Logs, settings, envelope, Queue::new)
    }

    fn start_for(
        signal: Signal,
        settings: &OtlpSettings,
        envelope: Envelope,
        queue: impl FnOnce(&str, usize, usize) -> Queue,
    ) -> Result<Self, TransportError> {
        let queue = Arc::new(queue(&settings.endpoint, settings.queue_max_bytes, settings.queue_max_spans));
        let (deadline, stopping) = watch::channel(None);
        let sender = Sender {
            signal,
            queue: Arc::clone(&queue),
            transport: Transport::open(settings)?,
            batch_max_bytes: settings.tuning.request_max_bytes.saturating_sub(envelope.overhead()),
            envelope,
            tuning: settings.tuning.clone(),
            log: LinkLog::new(signal, settings),
            stopping: Some(stopping.clone()),
        };
        let task = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move {
                tokio::select! {
                    biased;
                    () = sender.run() => {}
                    () = expired(stopping) => {}
                }
                queue.abandon();
            }
        });
        Ok(Self { handle: OtlpHandle { queue }, deadline, task, feeder: None })
    }

    /// Where to offer spans, and the ledger.
    pub fn handle(&self) -> &OtlpHandle {
        &self.handle
    }

    /// Takes no more spans, sends those that wait for no longer than `within`, and gives the final ledger: spans
    /// that are left are in it as dropped. With a log, what is durable there is sent first, and spans that are left are in the
    /// ledger as returned.
    pub async fn shutdown(self, within: Duration) -> OtlpCounts {
        let Self { handle, deadline, task, feeder } = self;
        // What reads the log closes the queue, when it has read all of it.
        if feeder.is_none() {
            handle.queue.close();
        }
        deadline.send_replace(Some(Instant::now() + within));
        if task.await.is_err() {
            handle.queue.abandon();
        }
        if let Some(feeder) = feeder
            && timeout(LAST_NOTE, feeder).await.is_err()
        {
            tracing::warn!("the log's cursor takes long to be written; what was taken may be sent again");
        }
        handle.counts()
    }
}

/// Resolves when the time to drain is over, or when nobody is left to ask for it.
pub(super) async fn expired(mut stopping: watch::Receiver<Option<Instant>>) {
    let deadline = stopping.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
    if let Some(deadline) = deadline {
        sleep_until(deadline).await;
    }
}

struct Sender {
    signal: Signal,
    queue: Arc<Queue>,
    transport: Transport,
    envelope: Envelope,
    batch_max_bytes: usize,
    tuning: Tuning,
    log: LinkLog,
    /// Taken when the exporter is told to stop: that cuts one wait short, once.
    stopping: Option<watch::Receiver<Option<Instant>>>,
}

impl Sender {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.deliver(batch).await;
        }
    }

    async fn next_batch(&self) -> Option<Vec<Item>> {
        let mut lingering: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let force = lingering.is_some_and(|until| until <= now);
            match self.queue.next(self.batch_max_bytes, self.tuning.request_max_spans, force) {
                Next::Batch(batch) => return Some(batch),
                Next::Finished => return None,
                Next::Idle => {
                    lingering = None;
                    self.queue.work().await;
                }
                Next::Linger => {
                    let until = *lingering.get_or_insert(now + self.tuning.linger);
                    tokio::select! {
                        () = self.queue.work() => {}
                        () = sleep_until(until) => {}
                    }
                }
            }
        }
    }

    /// Sends `batch`, in pieces if need be, until the fate of all its spans is known.
    async fn deliver(&mut self, batch: Vec<Item>) {
        let mut backoff = Backoff::new(self.tuning.backoff_first, self.tuning.backoff_longest);
        let mut pieces = vec![batch];
        while let Some(piece) = pieces.pop() {
            let request = self.envelope.request(piece.iter().map(|item| item.span.clone()).collect());
            if request.encoded_len() > self.tuning.request_max_bytes {
                self.shrink(piece, &mut pieces);
                continue;
            }
            let answer = match self.signal {
                Signal::Logs => self.transport.export_logs(request).await,
                Signal::Traces | Signal::Metrics => self.transport.export(request).await,
            };
            let status = match answer {
                Ok(answer) => {
                    backoff.reset();
                    self.taken(&piece, answer);
                    continue;
                }
                Err(status) => status,
            };
            let (link, wait) = match classify(&status) {
                Verdict::Retry { after } => (Link::Away, backoff.next(after, entropy())),
                Verdict::Pause => (Link::Unauthorised, backoff.longest(entropy())),
                // Also the answer of one that has no room or no quota at the moment, so never without a pause.
                Verdict::Shrink if self.is_small(&piece) => (Link::Away, backoff.next(None, entropy())),
                Verdict::Shrink => {
                    self.log.note(Link::Shrinking, &status);
                    self.shrink(piece, &mut pieces);
                    if self.wait(backoff.next(None, entropy())).await {
                        backoff.reset();
                    }
                    continue;
                }
                Verdict::Refused => {
                    self.log.note(Link::Refusing, &status);
                    self.queue.dropped(&piece, DropReason::Refused);
                    // What comes from the log comes as fast as it is refused: a receiver that is a mistake must not have all of
                    // it before somebody has seen the line above.
                    if self.queue.is_fed() && self.wait(backoff.next(None, entropy())).await {
                        backoff.reset();
                    }
                    continue;
                }
            };
            self.log.note(link, &status);
            self.queue.retried();
            pieces.push(piece);
            if self.wait(wait).await {
                backoff.reset();
            }
        }
    }

    /// Whether a piece is one span of a size that no receiver finds too large.
    fn is_small(&self, piece: &[Item]) -> bool {
        matches!(piece, [item] if item.span.len() <= self.tuning.small_span_bytes)
    }

    /// Two halves of `piece`, or its only span without content, or nothing.
    fn shrink(&self, mut piece: Vec<Item>, pieces: &mut Vec<Vec<Item>>) {
        if piece.len() > 1 {
            let second = piece.split_off(piece.len() / 2);
            pieces.extend([second, piece]);
            return;
        }
        let bare = |item: &Item| Some(Item { span: without_content(&item.span)?, ..*item });
        match piece.first().filter(|_| self.signal != Signal::Logs).and_then(bare) {
            Some(item) => pieces.push(vec![item]),
            None => self.queue.dropped(&piece, DropReason::TooLarge),
        }
    }

    fn taken(&mut self, piece: &[Item], answer: ExportTraceServiceResponse) {
        let partial = answer.partial_success.unwrap_or_default();
        // Never sent again, whatever the message says: the specification forbids it.
        let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0);
        if rejected > 0 || !partial.error_message.is_empty() {
            self.log.note(Link::Rejecting, &Status::ok(partial.error_message));
        } else {
            self.log.note(Link::Up, &Status::ok(""));
        }
        self.queue.exported(piece, rejected);
    }

    /// Waits; says whether the wait was cut short because the exporter is to stop.
    async fn wait(&mut self, time: Duration) -> bool {
        let Some(stopping) = &mut self.stopping else {
            sleep(time).await;
            return false;
        };
        tokio::select! {
            () = sleep(time) => return false,
            _ = stopping.wait_for(Option::is_some) => {}
        }
        self.stopping = None;
        true
    }
}

#[cfg(test)]
#[path = "exporter_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod protocol_tests;
