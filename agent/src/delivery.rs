//! What `inferscope run` delivers through its log: the log itself, and who reads it.
//!
//! Owns the order of starting (the log first) and of stopping (what is captured is durable before anybody sends the last of it),
//! the names of destinations in the log, the forgetting of those that are configured no more, and what is put into the log beside
//! calls: the ledger and the metrics, every now and then and at the end. How a destination is spoken to is the business of
//! `export`.
//!
//! To add a kind of destination: its name here, among those that are configured, and its reader.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use inferscope_proto::{Message as _, otlp::metrics::ScopeMetrics};
use tokio::task::JoinHandle;

use crate::{
    config::{Config, WalConfig, WhenFull},
    export::{
        durable::DurableSpans,
        otlp::{Envelope, OtlpSettings, metrics_request},
        ship::{ShipCounts, ShipExporter, ShipSettings},
    },
    kernel::clock,
    metrics::Metrics,
    time::WallAnchor,
    wal::{FullPolicy, Kind, Reader, Refused, Start, Wal, WalCounts, WalHandle, WalSettings},
};

/// The collector's name in the log. There is one.
const SHIP: &str = "ship";

/// The name in the log of the destination for OTLP that has none; others have theirs behind it.
const OTLP: &str = "otlp";

/// How often the ledger and the metrics are put into the log: as often as a person looks at them.
const PERIOD: Duration = Duration::from_secs(30);

/// How long the log may take to make durable what waits, at the end.
const COMMIT: Duration = Duration::from_secs(1);

/// The log and its readers.
pub struct Delivery {
    wal: Arc<Wal>,
    spans: DurableSpans,
    ship: Option<ShipExporter>,
    started: u64,
    reporter: Option<Reporter>,
}

struct Reporter {
    task: JoinHandle<()>,
    report: Arc<Report>,
}

/// What is put into the log beside calls.
struct Report {
    wal: Arc<Wal>,
    spans: DurableSpans,
    metrics: Option<Arc<Metrics>>,
    envelope: Envelope,
    anchor: WallAnchor,
    started: u64,
}

impl Report {
    fn put(&self) {
        let now = clock::now();
        let more = wal_entries(&self.wal.counts());
        self.spans.put_ledger(self.anchor.to_unix_nanos(now), self.started, more);
        if let Some(metrics) = &self.metrics {
            let request = metrics_request(&metrics.snapshot(now), &self.envelope);
            let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
            for scope in scopes.filter(|scope: &ScopeMetrics| !scope.metrics.is_empty()) {
                // The next one says the same and more.
                let _ = self.wal.handle().offer(Kind::Metrics, scope.encode_to_vec().into());
            }
        }
    }
}

impl Delivery {
    /// Opens the log that `config` asks for, if it does, and starts the shipping of it. Destinations that the log knows and that
    /// are neither `otlp` nor the collector are forgotten. To be called inside a tokio runtime.
    pub fn start(
        config: &Config,
        otlp: &[OtlpSettings],
        host: Option<&str>,
        envelope: &Envelope,
        anchor: WallAnchor,
    ) -> anyhow::Result<Option<Self>> {
        if config.wal.is_none() && config.export.ship.is_none() {
            return Ok(None);
        }
        let wal_config = config.wal.clone().unwrap_or_default();
        let wal = Wal::open(settings(&wal_config))
            .with_context(|| format!("[wal] dir: the log in {} cannot be opened", wal_config.dir.display()))?;
        let wal = Arc::new(wal);
        let configured: Vec<_> =
            otlp.iter().map(cursor).chain(config.export.ship.as_ref().map(|_| SHIP.into())).collect();
        forget_others(&wal, &configured);
        let ship = match &config.export.ship {
            None => None,
            Some(ship) => {
                let settings = ShipSettings::resolve(ship, host, envelope, wal.epoch())?;
                let reader = wal.reader(SHIP, Start::Oldest).context("[export.ship]: the log has no reader for it")?;
                Some(ShipExporter::start(settings, reader)?)
            }
        };
        let spans = DurableSpans::new(wal.handle(), *config.sampling.sampling().always());
        let started = anchor.to_unix_nanos(clock::now());
        Ok(Some(Self { wal, spans, ship, started, reporter: None }))
    }

    /// Where to offer spans.
    pub fn spans(&self) -> &DurableSpans {
        &self.spans
    }

    /// Where notices go, if anybody reads them from the log.
    pub fn notices(&self) -> Option<WalHandle> {
        self.ship.as_ref().map(|_| self.wal.handle())
    }

    /// What a destination for OTLP reads. One that is new begins with what comes from now on.
    pub fn reader(&self, otlp: &OtlpSettings) -> anyhow::Result<Reader> {
        let name = cursor(otlp);
        self.wal.reader(&name, Start::Now).with_context(|| format!("[export.otlp]: the log has no reader for {name}"))
    }

    /// The log.
    pub fn wal(&self) -> &Arc<Wal> {
        &self.wal
    }

    /// Puts the ledger and `metrics` into the log from now on.
    pub fn report(&mut self, metrics: Option<Arc<Metrics>>, envelope: Envelope, anchor: WallAnchor) {
        let Self { wal, spans, started, .. } = &*self;
        let (wal, spans) = (Arc::clone(wal), spans.clone());
        let report = Arc::new(Report { wal, spans, metrics, envelope, anchor, started: *started });
        let task = tokio::spawn({
            let report = Arc::clone(&report);
            async move {
                let mut ticks = tokio::time::interval(PERIOD);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    report.put();
                }
            }
        });
        self.reporter = Some(Reporter { task, report });
    }

    /// Takes no more: what was captured is made durable, with the last word of the ledger.
    pub async fn seal(&mut self) {
        if let Some(Reporter { task, report }) = self.reporter.take() {
            task.abort();
            report.put();
        }
        let wal = Arc::clone(&self.wal);
        let sealed = tokio::task::spawn_blocking(move || wal.close(COMMIT)).await;
        if !matches!(sealed, Ok(true)) {
            tracing::error!("some of what was captured could not be made durable, and is lost");
        }
    }

    /// Ships what is in the log for no longer than `within`, and gives the ledger's entries of that. After [`Delivery::seal`].
    pub async fn shutdown(&mut self, within: Duration) -> Vec<(String, u64)> {
        match self.ship.take() {
            Some(ship) => ship_entries(&ship.shutdown(within).await),
            None => Vec::new(),
        }
    }

    /// The ledger's entries of the log: the last ones when everybody has stopped reading it.
    pub fn entries(&self) -> Vec<(String, u64)> {
        let spans = self.spans.entries().into_iter().map(|(name, value)| (format!("log_{name}"), value));
        spans.chain(wal_entries(&self.wal.counts())).collect()
    }
}

/// The name of a destination for OTLP in the log. What names may have in a configuration they may have there.
fn cursor(otlp: &OtlpSettings) -> String {
    match &otlp.name {
        Some(name) => format!("{OTLP}-{name}"),
        None => OTLP.to_owned(),
    }
}

/// Forgets the destinations that are not `configured`: nobody would ever read for them, and they would hold the log until it is
/// full.
fn forget_others(wal: &Wal, configured: &[String]) {
    for known in wal.cursors().into_iter().filter(|known| !configured.contains(&known.name)) {
        let (name, items) = (known.name, known.backlog_items);
        match wal.forget(&name) {
            Ok(_) => tracing::warn!(%name, items,
                "a destination is not configured any more: the log forgets it, and what it did not have yet"),
            Err(error) => tracing::error!(%name, %error,
                "a destination is not configured any more and cannot be forgotten: it holds what it did not have yet"),
        }
    }
}

fn settings(config: &WalConfig) -> WalSettings {
    WalSettings {
        key_file: config.key_file.clone(),
        max_bytes: config.max_bytes,
        policy: match config.when_full {
            WhenFull::RefuseNew => FullPolicy::RefuseNew,
            WhenFull::DropOldest => FullPolicy::DropOldest,
        },
        ..WalSettings::new(&config.dir)
    }
}

/// The log's part of the ledger.
fn wal_entries(counts: &WalCounts) -> Vec<(String, u64)> {
    let refused: u64 = Refused::ALL.iter().map(|reason| counts.refused(*reason)).sum();
    let mut entries: Vec<(String, u64)> = [
        ("accepted", counts.accepted_items),
        ("durable", counts.durable_items),
        ("refused", refused),
        ("abandoned", counts.abandoned_items),
        ("evicted", counts.evicted_items),
        ("corrupt", counts.corrupt_items),
        ("unreadable", counts.unreadable_items),
        ("foreign", counts.foreign_items),
        ("rewritten", counts.rewritten_items),
        ("write_failures", counts.write_failures),
        ("sync_failures", counts.sync_failures),
        ("disk_bytes", counts.disk_bytes),
    ]
    .map(|(name, value)| (format!("wal_{name}"), value))
    .into();
    entries.extend(counts.cursors.iter().map(|cursor| (format!("wal_backlog.{}", cursor.name), cursor.backlog_items)));
    entries
}

fn ship_entries(counts: &ShipCounts) -> Vec<(String, u64)> {
    let ShipCounts { shipped, rejected, stripped, too_large, lost, forgotten, streams, failures, .. } = *counts;
    [
        ("shipped", shipped),
        ("rejected", rejected),
        ("stripped", stripped),
        ("too_large", too_large),
        ("lost", lost),
        ("forgotten", forgotten),
        ("streams", streams),
        ("failures", failures),
    ]
    .map(|(name, value)| (format!("ship_{name}"), value))
    .into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::OtlpConfig;

    fn settings(names: &[Option<&str>]) -> Vec<OtlpSettings> {
        let config = |name: &Option<&str>| OtlpConfig {
            name: name.map(str::to_owned),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            ..OtlpConfig::default()
        };
        let configs: Vec<_> = names.iter().map(config).collect();
        OtlpSettings::resolve_all(&configs, &|_| None).unwrap()
    }

    fn config(dir: &tempfile::TempDir) -> Config {
        let wal = WalConfig { dir: dir.path().join("wal"), ..WalConfig::default() };
        Config { wal: Some(wal), ..Config::default() }
    }

    fn start(config: &Config, otlp: &[OtlpSettings]) -> Delivery {
        let envelope = Envelope::new(&|_| None, None).unwrap();
        Delivery::start(config, otlp, None, &envelope, clock::anchor()).unwrap().unwrap()
    }

    fn names(delivery: &Delivery) -> Vec<String> {
        delivery.wal().cursors().into_iter().map(|cursor| cursor.name).collect()
    }

    #[tokio::test]
    async fn a_destination_that_is_configured_no_more_is_forgotten_and_lets_the_log_go() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        let both = settings(&[Some("eu"), Some("us")]);
        {
            let mut delivery = start(&config, &both);
            let mut readers: Vec<_> = both.iter().map(|otlp| delivery.reader(otlp).unwrap()).collect();
            assert_eq!(names(&delivery), ["otlp-eu", "otlp-us"]);
            delivery.wal().handle().offer(Kind::Span, Bytes::from_static(b"a span")).unwrap();
            delivery.seal().await;
            readers[0].advance(1).unwrap();
        }
        {
            let delivery = start(&config, &both[..1]);
            assert_eq!(names(&delivery), ["otlp-eu"]);
            assert_eq!(delivery.reader(&both[0]).unwrap().acknowledged(), 1);
        }
        // One that comes back is new.
        let delivery = start(&config, &both);
        assert_eq!(delivery.reader(&both[1]).unwrap().position(), 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_collector_is_configured_where_it_is_named_and_then_gets_notices() {
        let dir = tempfile::tempdir().unwrap();
        let ship = "[export.ship]\nendpoint = \"http://127.0.0.1:1\"";
        let with_ship = Config::parse(std::path::Path::new("c.toml"), ship).unwrap();
        let with_ship = Config { wal: config(&dir).wal, ..with_ship };
        {
            let delivery = start(&with_ship, &[]);
            assert_eq!(names(&delivery), ["ship"]);
            assert!(delivery.notices().is_some());
        }
        let delivery = start(&config(&dir), &settings(&[None]));
        assert!(names(&delivery).is_empty() && delivery.notices().is_none());
        assert_eq!(delivery.reader(&settings(&[None])[0]).unwrap().name(), "otlp");
    }
}
