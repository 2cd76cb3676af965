//! Spans into the log, as much of each as there is room for.
//!
//! Owns what a level of the log means for a span (`shed` does it) and the account of every span that came here:
//! `offered` = `sampled_out` + `shed_spans` + `refused` + `accepted`. Decides nothing about when the log is full, and nothing
//! about where spans go from there.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use inferscope_proto::{Message as _, v1};

use super::{
    otlp::encode,
    sample::Always,
    shed::{Kept, Shed, shed},
    span::Span,
};
use crate::wal::{Kind, Level, Refused, WalHandle};

/// Offers spans to a log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DurableSpans {
    log: WalHandle,
    always: Always,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    offered: AtomicU64,
    sampled_out: AtomicU64,
    accepted: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
    /// Spans that nothing was left of, by the step that took them.
    dropped: [AtomicU64; Shed::ALL.len()],
    /// Spans that lost something and were accepted, by the step.
    thinned: [AtomicU64; Shed::ALL.len()],
}

impl DurableSpans {
    /// Offers to `log`; what `always` wants is left at every step but the last.
    pub fn new(log: WalHandle, always: Always) -> Self {
        Self { log, always, counts: Arc::default() }
    }

    /// Makes a span durable, or counts why not. Never waits.
    pub fn offer(&self, span: &Span) {
        add(&self.counts.offered);
        let level = self.log.level();
        let step = step(level);
        if step == Shed::None {
            return self.put(span, Shed::None);
        }
        let mut span = span.clone();
        match shed(&mut span, step, &self.always) {
            Kept::Nothing(step) => {
                add(&self.counts.dropped[step as usize]);
                self.log.count_shed(level, 1);
            }
            Kept::Span(removed) if removed == Default::default() => self.put(&span, Shed::None),
            Kept::Span(_) => {
                self.log.count_shed(level, 1);
                self.put(&span, step);
            }
        }
    }

    /// A span was not offered, because its trace is not in the share.
    pub fn sampled_out(&self) {
        add(&self.counts.offered);
        add(&self.counts.sampled_out);
    }

    fn put(&self, span: &Span, lost: Shed) {
        match self.log.offer(Kind::Span, Bytes::from(encode(span).encode_to_vec())) {
            Ok(()) => {
                add(&self.counts.accepted);
                if lost != Shed::None {
                    add(&self.counts.thinned[lost as usize]);
                }
            }
            Err(reason) => add(&self.counts.refused[reason as usize]),
        }
    }

    /// The account, by the names of its counters.
    pub fn entries(&self) -> Vec<(String, u64)> {
        let Counts { offered, sampled_out, accepted, refused, dropped, thinned } = &*self.counts;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut entries = vec![
            ("spans_offered".to_owned(), get(offered)),
            ("spans_sampled_out".to_owned(), get(sampled_out)),
            ("spans_accepted".to_owned(), get(accepted)),
        ];
        let named = |what: &str, names: &[&'static str], counters: &[AtomicU64]| {
            let one = |(name, counter): (&&str, &AtomicU64)| (format!("spans_{what}_{name}"), get(counter));
            names.iter().zip(counters).map(one).collect::<Vec<_>>()
        };
        entries.extend(named("refused", &Refused::ALL.map(Refused::as_str), refused));
        // The first step takes nothing; spans are dropped by the last two alone, and thinned by the others.
        entries.extend(named("shed", &Shed::ALL.map(Shed::as_str)[3..], &dropped[3..]));
        entries.extend(named("without", &Shed::ALL.map(Shed::as_str)[1..4], &thinned[1..4]));
        entries
    }

    /// The account as an item of the log, at this time of a program that began then; both nanoseconds since the Unix epoch.
    pub fn put_ledger(&self, now: u64, started: u64, more: impl IntoIterator<Item = (String, u64)>) {
        let counters = self.entries().into_iter().chain(more).map(|(name, value)| v1::Counter { name, value });
        let ledger = v1::Ledger { time_unix_nano: now, counters: counters.collect(), started_unix_nano: started };
        // What it would have said is in the next one.
        let _ = self.log.offer(Kind::Ledger, ledger.encode_to_vec().into());
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a level of the log means for a span.
fn step(level: Level) -> Shed {
    match level {
        Level::Full => Shed::None,
        Level::NoContent => Shed::Content,
        Level::NoChunkDetail => Shed::ChunkDetail,
        Level::Sampled => Shed::Sampled,
        Level::MetricsOnly => Shed::MetricsOnly,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use inferscope_proto::otlp::trace;

    use super::*;
    use crate::{
        export::{span::SpanStatus, testing::numbered_span},
        wal::{Start, Wal, WalSettings},
    };

    #[test]
    fn every_span_is_accounted_for_and_what_is_durable_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        // So small that it is full soon, and the steps come one after the other.
        let settings = WalSettings { max_bytes: 1 << 20, ..WalSettings::new(dir.path().join("wal")) };
        let wal = Wal::open(settings).unwrap();
        let mut reader = wal.reader("test", Start::Oldest).unwrap();
        let spans = DurableSpans::new(wal.handle(), Always::default());
        let mut durable = wal.durable_through();
        for n in 0..4_000 {
            // Errors are kept for as long as any span is; the others go with the step before.
            let status = if n % 2 == 0 { SpanStatus::Error } else { SpanStatus::Ok };
            spans.offer(&Span { status, ..numbered_span(n) });
            if n % 20 == 0 {
                // What waits is written: else the queue alone would be filled.
                let accepted = wal.counts().accepted_items;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                let written = durable.wait_for(|through| *through >= accepted);
                runtime
                    .block_on(async { tokio::time::timeout(Duration::from_secs(10), written).await.unwrap().unwrap() });
            }
        }
        spans.sampled_out();
        assert!(wal.close(Duration::from_secs(10)));
        let entries = spans.entries();
        let count = |name: &str| entries.iter().find(|(entry, _)| entry == name).unwrap().1;
        let sum = |beginning: &str| {
            entries.iter().filter(|(name, _)| name.starts_with(beginning)).map(|(_, value)| value).sum::<u64>()
        };
        let accepted = count("spans_accepted");
        assert_eq!(count("spans_offered"), 4_001);
        assert_eq!(
            accepted + sum("spans_refused_") + sum("spans_shed_") + count("spans_sampled_out"),
            4_001,
            "{entries:?}"
        );
        assert!(count("spans_shed_sampled") > 0 && count("spans_shed_metrics_only") > 0, "{entries:?}");
        let mut read = 0;
        while let Some(run) = reader.next(1 << 20, 1000).unwrap() {
            assert!(run.gaps.is_empty());
            read += run.items.len() as u64;
            assert!(run.items.iter().all(|item| trace::Span::decode(item.payload.clone()).is_ok()));
        }
        assert_eq!(read, accepted);
    }
}
