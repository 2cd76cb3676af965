//! The task that sends metrics.
//!
//! Owns when: every interval, and once more at the end. The metrics are cumulative, so what could not be sent until the
//! next turn is not lost but superseded: it is in the newer ones. What to do about an answer is the same as for spans.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use inferscope_proto::{
    Message as _,
    otlp::{collector_metrics::ExportMetricsServiceResponse, metrics::Metric},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, sleep},
};
use tonic::Status;

use super::{
    encode::Envelope,
    encode_metrics::encode,
    exporter::expired,
    link::{Link, LinkLog},
    retry::{Backoff, Verdict, classify, entropy},
    settings::{MetricsSettings, Signal, Tuning},
    transport::{Transport, TransportError},
};
use crate::{kernel::clock, metrics::Metrics};

/// What became of the exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsCounts {
    /// Exports that the receiver took whole, or but for what it rejected.
    pub exported: u64,
    /// Points that the receiver refused in a request that it otherwise took (partial success).
    pub rejected_points: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Exports that were not out when the next was due.
    pub superseded: u64,
    /// Requests that the receiver will never take: they were refused, or too large even with one metric.
    pub refused: u64,
    /// The last export, if it was not out when the time to stop was over.
    pub unsent: u64,
}

/// A running exporter. Dropping it without [`shutdown`](Self::shutdown) stops it at once.
#[derive(Debug)]
pub struct MetricsExporter {
    counts: Arc<Mutex<MetricsCounts>>,
    deadline: watch::Sender<Option<Instant>>,
    task: JoinHandle<()>,
}

impl MetricsExporter {
    /// Starts the task on the current runtime. Reads certificates but does not connect: a receiver that is away is
    /// no error.
    pub fn start(
        settings: &MetricsSettings,
        envelope: Envelope,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TransportError> {
        let MetricsSettings { otlp, interval } = settings;
        let counts = Arc::new(Mutex::new(MetricsCounts::default()));
        let (deadline, stopping) = watch::channel(None);
        let sender = Sender {
            metrics,
            counts: Arc::clone(&counts),
            transport: Transport::open(otlp)?,
            envelope,
            tuning: otlp.tuning.clone(),
            log: LinkLog::new(Signal::Metrics, otlp),
            interval: *interval,
        };
        let task = tokio::spawn({
            let counts = Arc::clone(&counts);
            async move {
                tokio::select! {
                    biased;
                    () = sender.run(stopping.clone()) => {}
                    () = expired(stopping) => lock(&counts).unsent += 1,
                }
            }
        });
        Ok(Self { counts, deadline, task })
    }

    /// The counts as of now.
    pub fn counts(&self) -> MetricsCounts {
        *lock(&self.counts)
    }

    /// Sends the metrics once more, for no longer than `within`, and gives the final counts.
    pub async fn shutdown(self, within: Duration) -> MetricsCounts {
        let Self { counts, deadline, task } = self;
        deadline.send_replace(Some(Instant::now() + within));
        if task.await.is_err() {
            lock(&counts).unsent += 1;
        }
        *lock(&counts)
    }
}

// Every change is one addition.
fn lock(counts: &Mutex<MetricsCounts>) -> MutexGuard<'_, MetricsCounts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resolves when the exporter is to stop. Also when nobody is left to ask for it; then there is no time for the last export.
async fn stopped(stopping: &mut watch::Receiver<Option<Instant>>) {
    let _ = stopping.wait_for(Option::is_some).await;
}

struct Sender {
    metrics: Arc<Metrics>,
    counts: Arc<Mutex<MetricsCounts>>,
    transport: Transport,
    envelope: Envelope,
    tuning: Tuning,
    log: LinkLog,
    interval: Duration,
}

impl Sender {
    async fn run(mut self, mut stopping: watch::Receiver<Option<Instant>>) {
        let mut turns = tokio::time::interval_at(Instant::now() + self.interval, self.interval);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = false;
        loop {
            if !due {
                tokio::select! {
                    _ = turns.tick() => {}
                    () = stopped(&mut stopping) => return self.export().await,
                }
            }
            due = tokio::select! {
                biased;
                () = stopped(&mut stopping) => return self.export().await,
                () = self.export() => false,
                _ = turns.tick() => true,
            };
            if due {
                lock(&self.counts).superseded += 1;
            }
        }
    }

    /// Sends all metrics as they are now, in pieces if need be, however long that takes.
    async fn export(&mut self) {
        let metrics = encode(&self.metrics.snapshot(clock::now()));
        if metrics.is_empty() {
            return;
        }
        let mut backoff = Backoff::new(self.tuning.backoff_first, self.tuning.backoff_longest);
        let mut pieces = vec![metrics];
        let mut taken = false;
        while let Some(piece) = pieces.pop() {
            let request = self.envelope.metrics(piece.clone());
            let size = request.encoded_len();
            if size > self.tuning.request_max_bytes {
                self.halve(piece, &mut pieces);
                continue;
            }
            let status = match self.transport.export_metrics(request).await {
                Ok(answer) => {
                    backoff.reset();
                    self.taken(answer);
                    taken = true;
                    continue;
                }
                Err(status) => status,
            };
            let is_small = piece.len() == 1 && size <= self.tuning.small_span_bytes;
            let (link, wait) = match classify(&status) {
                Verdict::Retry { after } => (Link::Away, backoff.next(after, entropy())),
                Verdict::Pause => (Link::Unauthorised, backoff.longest(entropy())),
                // Also the answer of one that has no room or no quota at the moment, so never without a pause.
                Verdict::Shrink if is_small => (Link::Away, backoff.next(None, entropy())),
                Verdict::Shrink => {
                    self.log.note(Link::Shrinking, &status);
                    self.halve(piece, &mut pieces);
                    sleep(backoff.next(None, entropy())).await;
                    continue;
                }
                Verdict::Refused => {
                    self.log.note(Link::Refusing, &status);
                    lock(&self.counts).refused += 1;
                    continue;
                }
            };
            self.log.note(link, &status);
            lock(&self.counts).retries += 1;
            pieces.push(piece);
            sleep(wait).await;
        }
        lock(&self.counts).exported += u64::from(taken);
    }

    /// Two halves of `piece`, or nothing.
    fn halve(&self, mut piece: Vec<Metric>, pieces: &mut Vec<Vec<Metric>>) {
        if piece.len() > 1 {
            let second = piece.split_off(piece.len() / 2);
            pieces.extend([second, piece]);
        } else {
            lock(&self.counts).refused += 1;
        }
    }

    fn taken(&mut self, answer: ExportMetricsServiceResponse) {
        let partial = answer.partial_success.unwrap_or_default();
        // Never sent again, whatever the message says: the specification forbids it.
        let rejected = u64::try_from(partial.rejected_data_points).unwrap_or(0);
        if rejected > 0 || !partial.error_message.is_empty() {
            self.log.note(Link::Rejecting, &Status::ok(partial.error_message));
        } else {
            self.log.note(Link::Up, &Status::ok(""));
        }
        lock(&self.counts).rejected_points += rejected;
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
