//! The OTLP exporters of one run.
//!
//! Owns their start, their end, and the names of their counters in the ledger: `otlp_enqueued` and so on for the one
//! destination without a name, `otlp.NAME.enqueued` for each that has one. Each has a queue, a task and a connection of its
//! own, so that a slow one holds nobody up. Where there is a log, each reads its spans from there, at its own pace.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use crate::{
    delivery::Delivery,
    export::otlp::{
        DropReason, Envelope, LOST, MetricsCounts, MetricsExporter, MetricsSettings, OtlpCounts, OtlpExporter,
        OtlpHandle, OtlpSettings, TransportError,
    },
    metrics::Metrics,
};

/// Counters as the ledger has them.
type Entries = Vec<(String, u64)>;

/// The exporters of spans, or of logs, with the names of their destinations.
#[derive(Default)]
pub struct Receivers {
    /// What the names of counters have before them.
    prefix: &'static str,
    /// They read from the log.
    fed: bool,
    exporters: Vec<(Option<String>, OtlpExporter)>,
}

impl Receivers {
    /// Starts an exporter of spans for each of `settings`. To be called inside a tokio runtime.
    pub fn start(settings: &[OtlpSettings], envelope: &Envelope) -> Result<Self, TransportError> {
        Self::start_each("", settings, |settings| OtlpExporter::start(settings, envelope.clone()))
    }

    /// Starts an exporter for each of `settings` that sends the spans of the log. To be called inside a tokio runtime with more
    /// than one thread.
    pub fn start_fed(settings: &[OtlpSettings], envelope: &Envelope, delivery: &Delivery) -> anyhow::Result<Self> {
        let start = |settings: &OtlpSettings| {
            let reader = delivery.reader(settings)?;
            anyhow::Ok(OtlpExporter::start_fed(settings, envelope.clone(), reader)?)
        };
        Ok(Self { fed: true, ..Self::start_each("", settings, start)? })
    }

    /// Starts an exporter of logs for each.
    pub fn start_logs(settings: &[OtlpSettings], envelope: &Envelope) -> Result<Self, TransportError> {
        Self::start_each("logs_", settings, |settings| OtlpExporter::start_logs(settings, envelope.clone()))
    }

    fn start_each<E>(
        prefix: &'static str,
        settings: &[OtlpSettings],
        start: impl Fn(&OtlpSettings) -> Result<OtlpExporter, E>,
    ) -> Result<Self, E> {
        let named = |settings: &OtlpSettings| Ok((settings.name.clone(), start(settings)?));
        Ok(Self { prefix, fed: false, exporters: settings.iter().map(named).collect::<Result<_, _>>()? })
    }

    /// Where to offer spans, or notices; where the log feeds them, their ledgers alone.
    pub fn handles(&self) -> Vec<OtlpHandle> {
        self.exporters.iter().map(|(_, exporter)| exporter.handle().clone()).collect()
    }

    /// Stops all at the same time, each within `within`, and gives what became of what they had.
    pub async fn shutdown(self, within: Duration) -> Entries {
        let Self { prefix, fed, exporters } = self;
        let stop = |(name, exporter): (_, OtlpExporter)| async move { (name, exporter.shutdown(within).await) };
        let ended = together(exporters.into_iter().map(stop)).await;
        let all = |(name, counts): &(Option<String>, OtlpCounts)| {
            let mut all = entries(name.as_deref(), prefix, counts);
            if fed {
                all.extend(fed_entries(name.as_deref(), counts));
            }
            all
        };
        ended.iter().flat_map(all).collect()
    }
}

/// The exporters of metrics, with the names of their destinations.
#[derive(Default)]
pub struct MetricsReceivers(Vec<(Option<String>, MetricsExporter)>);

impl MetricsReceivers {
    /// Starts one for each of `settings`. To be called inside a tokio runtime.
    pub fn start(
        settings: &[MetricsSettings],
        envelope: &Envelope,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, TransportError> {
        let start = |settings: &MetricsSettings| {
            let exporter = MetricsExporter::start(settings, envelope.clone(), Arc::clone(metrics))?;
            Ok((settings.otlp.name.clone(), exporter))
        };
        settings.iter().map(start).collect::<Result<_, _>>().map(Self)
    }

    /// Sends the metrics once more, everywhere at the same time and each within `within`, and gives what became of them.
    pub async fn shutdown(self, within: Duration) -> Entries {
        let stop = |(name, exporter): (_, MetricsExporter)| async move { (name, exporter.shutdown(within).await) };
        let ended = together(self.0.into_iter().map(stop)).await;
        ended.iter().flat_map(|(name, counts)| metrics_entries(name.as_deref(), counts)).collect()
    }
}

/// Runs all at the same time; their results in the order in which they were given.
async fn together<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut set = JoinSet::new();
    for (n, future) in futures.enumerate() {
        set.spawn(async move { (n, future.await) });
    }
    let mut ended = set.join_all().await;
    ended.sort_unstable_by_key(|(n, _)| *n);
    ended.into_iter().map(|(_, result)| result).collect()
}

/// The name of a destination's counter.
fn entry(destination: Option<&str>, counter: &str) -> String {
    match destination {
        Some(name) => format!("otlp.{name}.{counter}"),
        None => format!("otlp_{counter}"),
    }
}

fn entries(destination: Option<&str>, prefix: &str, counts: &OtlpCounts) -> Entries {
    let named = [
        ("enqueued", counts.enqueued),
        ("exported", counts.exported),
        ("rejected", counts.rejected),
        ("retries", counts.retries),
    ];
    let dropped = DropReason::ALL.map(|reason| (format!("dropped_{}", reason.as_str()), counts.dropped(reason)));
    let named = named.map(|(name, count)| (name.to_owned(), count));
    named
        .into_iter()
        .chain(dropped)
        .map(|(name, count)| (entry(destination, &format!("{prefix}{name}")), count))
        .collect()
}

/// What there is to count only where the log feeds an exporter.
fn fed_entries(destination: Option<&str>, counts: &OtlpCounts) -> Entries {
    let lost = LOST.map(|reason| (entry(destination, &format!("lost_{}", reason.as_str())), counts.lost(reason)));
    [(entry(destination, "returned"), counts.returned)].into_iter().chain(lost).collect()
}

fn metrics_entries(destination: Option<&str>, counts: &MetricsCounts) -> Entries {
    let MetricsCounts { exported, rejected_points, retries, superseded, refused, unsent } = *counts;
    let named = [
        ("metrics_exported", exported),
        ("metrics_rejected_points", rejected_points),
        ("metrics_retries", retries),
        ("metrics_superseded", superseded),
        ("metrics_refused", refused),
        ("metrics_unsent", unsent),
    ];
    named.map(|(name, count)| (entry(destination, name), count)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::OtlpConfig,
        export::{otlp::offer_to_all, testing::numbered_span},
    };

    #[tokio::test]
    async fn each_destination_has_counters_of_its_own() {
        let config = |name: Option<&str>, queue_max_spans| OtlpConfig {
            name: name.map(str::to_owned),
            // Nobody listens: what was offered is left when the time is over.
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            queue_max_spans: Some(queue_max_spans),
            ..OtlpConfig::default()
        };
        let configs = [config(None, 10), config(Some("eu"), 1)];
        let settings = OtlpSettings::resolve_all(&configs, &|_| None).unwrap();
        let receivers = Receivers::start(&settings, &Envelope::new(&|_| None, None).unwrap()).unwrap();
        for n in 0..3 {
            offer_to_all(&receivers.handles(), &numbered_span(n));
        }
        let entries = receivers.shutdown(Duration::ZERO).await;
        let count = |name: &str| entries.iter().find(|(entry, _)| entry == name).map(|(_, count)| *count);
        assert_eq!((count("otlp_enqueued"), count("otlp_dropped_shutdown")), (Some(3), Some(3)));
        assert_eq!((count("otlp.eu.enqueued"), count("otlp.eu.dropped_queue_full")), (Some(1), Some(2)));
        assert!(entries.iter().position(|(name, _)| name == "otlp_retries") < Some(9), "the first comes first");
    }

    #[test]
    fn the_names_of_counters_are_unique_and_the_unnamed_ones_as_they_were() {
        let counts = OtlpCounts::default();
        let of = |name| {
            let metrics = metrics_entries(name, &MetricsCounts::default());
            [entries(name, "", &counts), entries(name, "logs_", &counts), fed_entries(name, &counts), metrics]
        };
        let unnamed: Vec<_> = of(None).concat().into_iter().map(|(name, _)| name).collect();
        assert!(unnamed.contains(&"otlp_dropped_too_large".to_owned()));
        assert!(unnamed.contains(&"otlp_metrics_rejected_points".to_owned()));
        assert!(unnamed.contains(&"otlp_logs_exported".to_owned()));
        assert!(unnamed.contains(&"otlp_lost_evicted".to_owned()));
        let mut all: Vec<_> = of(Some("a")).concat().into_iter().map(|(name, _)| name).chain(unnamed).collect();
        all.sort_unstable();
        let before = all.len();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}
