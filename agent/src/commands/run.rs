//! `inferscope run`

use std::time::Duration;

use anyhow::Context as _;

use super::live::{self, Plan};
use crate::{
    capture::Session,
    cli::RunArgs,
    config::Config,
    cost::Pricing,
    export::{
        jsonl::JsonLines,
        otlp::{DropReason, Envelope, OtlpCounts, OtlpExporter, OtlpSettings},
    },
    gpu,
    kernel::Settings,
    llm::Estimator,
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
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let envelope = match &otlp {
        Some(_) => Some(Envelope::new(&env, host.as_deref().map(str::trim))?),
        None => None,
    };
    let file = match &config.export.jsonl {
        Some(jsonl) => Some(
            JsonLines::append_to(&jsonl.path).with_context(|| format!("{} cannot be opened", jsonl.path.display()))?,
        ),
        None => None,
    };
    if otlp.is_none() && file.is_none() {
        tracing::warn!("no exporter is configured: calls are captured and go nowhere");
    }
    let estimate = config.usage.estimate.then(estimator).transpose()?;
    if let Some(settings) = config.gpu.settings() {
        log_gpus(&settings);
    }
    let session = Session::new()?;
    let runtime = live::runtime()?;
    let (ledger, finish) = runtime.block_on(async {
        let exporter = match (&otlp, envelope) {
            (Some(settings), Some(envelope)) => Some(OtlpExporter::start(settings, envelope)?),
            _ => None,
        };
        let outputs = Outputs::new(session.anchor, Display::Quiet)
            .with_pricing(Pricing::new(&config.cost))
            .with_file(file)
            .with_otlp(exporter.as_ref().map(|exporter| exporter.handle().clone()));
        let result = live::capture(plan(&config, redactor, estimate), &session, outputs, None).await;
        let counts = match exporter {
            Some(exporter) => Some(exporter.shutdown(DRAIN).await),
            None => None,
        };
        let (mut ledger, finish) = result?;
        if let Some(counts) = counts {
            add_otlp(&mut ledger, &counts);
        }
        anyhow::Ok((ledger, finish))
    })?;
    live::say_ledger(&ledger);
    drop(finish);
    Ok(())
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
            ring_bytes: None,
        },
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

fn log_gpus(settings: &gpu::Settings) {
    match gpu::list(settings) {
        Ok(gpus) => {
            for gpu in gpus {
                tracing::info!(device = gpu.device, name = gpu.name, uuid = gpu.uuid, "GPU");
            }
        }
        // Not the same as an idle GPU, and said as what it is.
        Err(error) => tracing::info!(%error, "no GPU is visible"),
    }
}
