//! `inferscope run`

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;

use super::{
    live::{self, Plan},
    receivers::{MetricsReceivers, Receivers},
};
use crate::{
    capture::Session,
    cli::RunArgs,
    config::Config,
    cost::Pricing,
    delivery::Delivery,
    export::{
        json_file::JsonFile,
        otlp::{DropReason, Envelope, LOST, MetricsSettings, NoticeLog, OtlpHandle, OtlpSettings},
        prometheus::PrometheusServer,
    },
    kernel::Settings,
    llm::Estimator,
    metrics::Metrics,
    observe,
    output::{Display, Outputs},
    privacy::Redactor,
    vocabulary::Served,
};

/// What the exporter may still send when the service is asked to stop: with the detaching behind it, the whole
/// must end within 5 s.
const DRAIN: Duration = Duration::from_secs(2);

/// Captures and exports until it is stopped.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref())?;
    let redactor = config.privacy.redactor()?;
    let env = |name: &str| std::env::var(name).ok();
    let otlp = OtlpSettings::resolve_all(&config.export.otlp, &env)?;
    let otlp_logs = OtlpSettings::resolve_logs(&config.export.otlp, &env)?;
    let otlp_metrics = MetricsSettings::resolve_all(&config.export.otlp, &env)?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let file = match &config.export.jsonl {
        Some(jsonl) => Some(
            JsonFile::append_to(&jsonl.path, jsonl.rotation())
                .with_context(|| format!("{} cannot be opened", jsonl.path.display()))?,
        ),
        None => None,
    };
    let host = host.as_deref().map(str::trim);
    let has_log = config.wal.is_some() || config.export.ship.is_some();
    let counts = !otlp_metrics.is_empty() || config.export.prometheus.is_some() || has_log;
    let envelope = match !otlp.is_empty() || !otlp_logs.is_empty() || counts {
        true => Some(Envelope::new(&env, host)?),
        false => None,
    };
    if otlp.is_empty() && file.is_none() && !counts {
        tracing::warn!("no exporter is configured: calls are captured and go nowhere");
    }
    let estimate = config.usage.estimate.then(estimator).transpose()?;
    let session = Session::new()?;
    let runtime = live::runtime()?;
    let (ledger, finish) = runtime.block_on(async {
        let mut delivery = match &envelope {
            Some(envelope) => Delivery::start(&config, &otlp, host, envelope, session.anchor)?,
            None => None,
        };
        let (receivers, logs) = match &envelope {
            Some(envelope) => {
                let receivers = match &delivery {
                    Some(delivery) => Receivers::start_fed(&otlp, envelope, delivery)?,
                    None => Receivers::start(&otlp, envelope)?,
                };
                (receivers, Receivers::start_logs(&otlp_logs, envelope)?)
            }
            None => Default::default(),
        };
        let notices = NoticeLog::new(logs.handles(), delivery.as_ref().and_then(Delivery::notices), session.anchor);
        let metrics = counts.then(|| metrics(&session, receivers.handles()));
        if let (Some(delivery), Some(envelope)) = (&mut delivery, &envelope) {
            delivery.report(metrics.clone(), envelope.clone(), session.anchor);
        }
        let readers = match (&metrics, &envelope) {
            (Some(metrics), Some(envelope)) => Readers::start(&config, &otlp_metrics, envelope, metrics).await?,
            _ => Readers::default(),
        };
        let outputs = Outputs::new(session.anchor, Display::Quiet)
            .with_pricing(Pricing::new(&config.cost))
            .with_file(file)
            // With a log they read from there.
            .with_otlp(if delivery.is_some() { Vec::new() } else { receivers.handles() })
            .with_log(delivery.as_ref().map(|delivery| delivery.spans().clone()))
            .with_sampling(config.sampling.sampling())
            .with_metrics(metrics.clone());
        let result =
            live::capture(plan(&config, redactor, estimate), &session, outputs, None, metrics.clone(), notices).await;
        if let (Ok((ledger, _)), Some(metrics)) = (&result, &metrics) {
            metrics.on_lost_bytes(ledger.lost_by_reason());
        }
        if let Some(delivery) = &mut delivery {
            delivery.seal().await;
        }
        // All have the same time: none waits for another.
        let shipped = async {
            match &mut delivery {
                Some(delivery) => delivery.shutdown(DRAIN).await,
                None => Vec::new(),
            }
        };
        let (spans, metrics, logs, shipped) =
            tokio::join!(receivers.shutdown(DRAIN), readers.otlp.shutdown(DRAIN), logs.shutdown(DRAIN), shipped);
        // After all who read the log: what it says of them is the last word.
        let log = delivery.as_ref().map(Delivery::entries).unwrap_or_default();
        let (mut ledger, finish) = result?;
        ledger.undelivered.extend(spans.into_iter().chain(metrics).chain(logs).chain(log).chain(shipped));
        anyhow::Ok((ledger, finish))
    })?;
    live::say_ledger(&ledger);
    drop(finish);
    // A disk that hangs holds the threads that wait for it; it must not hold us.
    runtime.shutdown_background();
    Ok(())
}

/// The metrics of a session; what the exporter of spans loses is among them.
fn metrics(session: &Session, spans: Vec<OtlpHandle>) -> Arc<Metrics> {
    let metrics = Metrics::new(session.anchor);
    if !spans.is_empty() {
        metrics.watch_lost_calls(Box::new(move || {
            let counts: Vec<_> = spans.iter().map(OtlpHandle::counts).collect();
            let dropped = |reason| counts.iter().map(|counts| counts.dropped(reason)).sum::<u64>();
            let rejected = counts.iter().map(|counts| counts.rejected).sum();
            let dropped = DropReason::ALL.map(|reason| (reason.as_str(), dropped(reason)));
            let lost = LOST.map(|reason| (reason.as_str(), counts.iter().map(|counts| counts.lost(reason)).sum()));
            let all = dropped.into_iter().chain([("rejected", rejected)]).chain(lost);
            all.filter(|(_, count)| *count > 0).collect()
        }));
    }
    metrics
}

/// Those who read the metrics, as long as the service runs.
#[derive(Default)]
struct Readers {
    /// Answers until it is dropped.
    _prometheus: Option<PrometheusServer>,
    otlp: MetricsReceivers,
}

impl Readers {
    async fn start(
        config: &Config,
        otlp: &[MetricsSettings],
        envelope: &Envelope,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let prometheus = match &config.export.prometheus {
            Some(prometheus) => {
                Some(PrometheusServer::start(prometheus.listen, Arc::clone(metrics), envelope.resource()).await?)
            }
            None => None,
        };
        let otlp = MetricsReceivers::start(otlp, envelope, metrics)?;
        Ok(Self { _prometheus: prometheus, otlp })
    }
}

fn plan(config: &Config, redactor: &'static Redactor, estimate: Option<Estimator>) -> Plan {
    let capture = &config.capture;
    Plan {
        settings: Settings {
            targets: config.targets.clone().into(),
            all_http: capture.all_http,
            keeps_findings: true,
            infer: capture.infer,
            lines: capture.mcp_stdio,
            step_clock: config.gpu.step_clock,
            ring_bytes: None,
        },
        observe: observe::Settings { gpu: config.gpu.settings() },
        limits: config.serving.limits(),
        content: config.privacy.content(),
        redactor,
        estimate,
        low_confidence: config.quality.low_confidence_logprob,
        idle: Duration::from_secs(capture.idle_timeout_seconds),
        duration: None,
    }
}

fn estimator() -> anyhow::Result<Estimator> {
    let served = Served::start().context("the thread that reads tokenizers cannot be started")?;
    Ok(Estimator::new(served).prepare())
}
