//! `inferscope run`

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;

use super::live::{self, Plan};
use crate::{
    capture::Session,
    cli::RunArgs,
    config::Config,
    cost::Pricing,
    export::{
        jsonl::JsonLines,
        otlp::{
            DropReason, Envelope, MetricsCounts, MetricsExporter, MetricsSettings, OtlpCounts, OtlpExporter,
            OtlpHandle, OtlpSettings,
        },
        prometheus::PrometheusServer,
    },
    kernel::Settings,
    llm::Estimator,
    metrics::Metrics,
    observe,
    output::{Display, Outputs},
    privacy::Redactor,
    selfstat::Ledger,
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
    let otlp = OtlpSettings::resolve(config.export.otlp.as_ref(), &env)?;
    let otlp_metrics = MetricsSettings::resolve(config.export.otlp.as_ref(), &env)?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let file = match &config.export.jsonl {
        Some(jsonl) => Some(
            JsonLines::append_to(&jsonl.path).with_context(|| format!("{} cannot be opened", jsonl.path.display()))?,
        ),
        None => None,
    };
    let counts = otlp_metrics.is_some() || config.export.prometheus.is_some();
    let envelope = match otlp.is_some() || counts {
        true => Some(Envelope::new(&env, host.as_deref().map(str::trim))?),
        false => None,
    };
    if otlp.is_none() && file.is_none() && !counts {
        tracing::warn!("no exporter is configured: calls are captured and go nowhere");
    }
    let estimate = config.usage.estimate.then(estimator).transpose()?;
    let session = Session::new()?;
    let runtime = live::runtime()?;
    let (ledger, finish) = runtime.block_on(async {
        let exporter = match (&otlp, &envelope) {
            (Some(settings), Some(envelope)) => Some(OtlpExporter::start(settings, envelope.clone())?),
            _ => None,
        };
        let spans = exporter.as_ref().map(|exporter| exporter.handle().clone());
        let metrics = counts.then(|| metrics(&session, spans.clone()));
        let readers = match (&metrics, &envelope) {
            (Some(metrics), Some(envelope)) => {
                Readers::start(&config, otlp_metrics.as_ref(), envelope, metrics).await?
            }
            _ => Readers::default(),
        };
        let outputs = Outputs::new(session.anchor, Display::Quiet)
            .with_pricing(Pricing::new(&config.cost))
            .with_file(file)
            .with_otlp(spans)
            .with_metrics(metrics.clone());
        let result = live::capture(plan(&config, redactor, estimate), &session, outputs, None, metrics.clone()).await;
        if let (Ok((ledger, _)), Some(metrics)) = (&result, &metrics) {
            metrics.on_lost_bytes(ledger.lost_by_reason());
        }
        // Both have the same time: neither waits for the other.
        let (counts, metrics_counts) = tokio::join!(
            async {
                match exporter {
                    Some(exporter) => Some(exporter.shutdown(DRAIN).await),
                    None => None,
                }
            },
            readers.shutdown(),
        );
        let (mut ledger, finish) = result?;
        if let Some(counts) = counts {
            add_otlp(&mut ledger, &counts);
        }
        if let Some(counts) = metrics_counts {
            add_otlp_metrics(&mut ledger, &counts);
        }
        anyhow::Ok((ledger, finish))
    })?;
    live::say_ledger(&ledger);
    drop(finish);
    Ok(())
}

/// The metrics of a session; what the exporter of spans loses is among them.
fn metrics(session: &Session, spans: Option<OtlpHandle>) -> Arc<Metrics> {
    let metrics = Metrics::new(session.anchor);
    if let Some(spans) = spans {
        metrics.watch_lost_calls(Box::new(move || {
            let counts = spans.counts();
            let dropped = DropReason::ALL.map(|reason| (reason.as_str(), counts.dropped(reason)));
            dropped.into_iter().chain([("rejected", counts.rejected)]).filter(|(_, count)| *count > 0).collect()
        }));
    }
    metrics
}

/// Those who read the metrics, as long as the service runs.
#[derive(Default)]
struct Readers {
    /// Answers until it is dropped.
    _prometheus: Option<PrometheusServer>,
    otlp: Option<MetricsExporter>,
}

impl Readers {
    async fn start(
        config: &Config,
        otlp: Option<&MetricsSettings>,
        envelope: &Envelope,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let prometheus = match &config.export.prometheus {
            Some(prometheus) => {
                Some(PrometheusServer::start(prometheus.listen, Arc::clone(metrics), envelope.resource()).await?)
            }
            None => None,
        };
        let otlp = match otlp {
            Some(settings) => Some(MetricsExporter::start(settings, envelope.clone(), Arc::clone(metrics))?),
            None => None,
        };
        Ok(Self { _prometheus: prometheus, otlp })
    }

    async fn shutdown(self) -> Option<MetricsCounts> {
        match self.otlp {
            Some(exporter) => Some(exporter.shutdown(DRAIN).await),
            None => None,
        }
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

fn add_otlp(ledger: &mut Ledger, counts: &OtlpCounts) {
    for (name, value) in [
        ("otlp_enqueued", counts.enqueued),
        ("otlp_exported", counts.exported),
        ("otlp_rejected", counts.rejected),
        ("otlp_retries", counts.retries),
    ] {
        ledger.undelivered.push((name.into(), value));
    }
    for reason in DropReason::ALL {
        ledger.undelivered.push((format!("otlp_dropped_{}", reason.as_str()), counts.dropped(reason)));
    }
}

fn add_otlp_metrics(ledger: &mut Ledger, counts: &MetricsCounts) {
    let MetricsCounts { exported, rejected_points, retries, superseded, refused, unsent } = *counts;
    for (name, value) in [
        ("exported", exported),
        ("rejected_points", rejected_points),
        ("retries", retries),
        ("superseded", superseded),
        ("refused", refused),
        ("unsent", unsent),
    ] {
        ledger.undelivered.push((format!("otlp_metrics_{name}"), value));
    }
}
