//! A live capture with its threads and signals: what `trace`, `run` and `record` share.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    call::ConnectionOptions,
    capture::{self, Capture, Finish, Session, Stop},
    cli::TargetArgs,
    config,
    export::otlp::NoticeLog,
    gpu,
    kernel::Settings,
    llm::Estimator,
    metrics::Metrics,
    observe,
    output::Outputs,
    pipeline::PipelineOptions,
    privacy::{ContentPolicy, Redactor},
    recording::Recorder,
    selfstat::Ledger,
    serving::Limits,
};

/// Said on standard error once everything that runs is covered. Scripts wait for it.
const READY: &str = "inferscope: ready";

/// What the last line on standard error begins with.
const LEDGER: &str = "inferscope: ledger";

/// How long the outputs may take to write what is left at the end.
const WRITE_OUT: Duration = Duration::from_secs(2);

/// Bytes kept of each content attribute of a call, unless the configuration says otherwise.
pub const CONTENT_BYTES: usize = 64 << 10;

/// What to capture and for how long.
pub struct Plan {
    /// What the kernel side is told.
    pub settings: Settings,
    /// What is observed beside the calls.
    pub observe: observe::Settings,
    /// Beyond these a call is slow, whatever is usual.
    pub limits: Limits,
    /// Whether messages are kept.
    pub content: ContentPolicy,
    /// What is redacted in them.
    pub redactor: &'static Redactor,
    /// What token counts are estimated with where none are reported, if they are.
    pub estimate: Option<Estimator>,
    /// Mean log-probability of an answer's tokens below which it is marked.
    pub low_confidence: Option<f64>,
    /// Give a call up after this long without a byte.
    pub idle: Duration,
    /// Stop by itself after this long.
    pub duration: Option<Duration>,
}

impl Plan {
    /// The plan of a command at a terminal.
    pub fn of(targets: TargetArgs, all_http: bool, content: bool, duration: Option<Duration>) -> Self {
        Self {
            settings: Settings {
                targets: targets.into(),
                all_http,
                infer: false,
                lines: true,
                step_clock: false,
                keeps_findings: false,
                ring_bytes: None,
            },
            observe: observe::Settings { gpu: Some(gpu::Settings::default()) },
            limits: Limits::default(),
            content: if content { ContentPolicy::On { cap: CONTENT_BYTES } } else { ContentPolicy::Off },
            redactor: Redactor::shared(),
            estimate: None,
            low_confidence: Some(config::LOW_CONFIDENCE),
            idle: Duration::from_secs(300),
            duration,
        }
    }

    /// The same plan with or without inference from ciphertext.
    pub fn with_infer(mut self, infer: bool) -> Self {
        self.settings.infer = infer;
        self
    }

    /// What the pipeline is told.
    pub fn pipeline(&self, session: &Session) -> PipelineOptions {
        let mut connection = ConnectionOptions {
            all_http: self.settings.all_http,
            targets: Arc::new(self.settings.targets.clone()),
            ..Default::default()
        };
        connection.session.content = self.content.cap();
        connection.session.redactor = self.redactor;
        connection.session.low_confidence = self.low_confidence;
        connection.session.estimate = self.estimate;
        PipelineOptions {
            connection,
            idle_ns: u64::try_from(self.idle.as_nanos()).unwrap_or(u64::MAX),
            epoch: session.epoch,
            infer: self.settings.infer,
            limits: self.limits,
        }
    }
}

/// Captures until a signal, the end of the duration, or until nobody watches. Returns when every call has been
/// delivered; `finish` then still has to be dropped to detach the probes.
pub async fn capture(
    plan: Plan,
    session: &Session,
    mut outputs: Outputs,
    recorder: Option<Recorder>,
    metrics: Option<Arc<Metrics>>,
    notices: Option<NoticeLog>,
) -> anyhow::Result<(Ledger, Finish)> {
    let stop = Stop::default();
    // Before anything slow: Ctrl-C while probes are being attached must end the attaching.
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let (calls, finished) = capture::queue();
    let options = plan.pipeline(session);
    let (done, mut capture_done) = tokio::sync::oneshot::channel();
    let (began, ready) = tokio::sync::oneshot::channel();
    let capture_thread = std::thread::Builder::new().name("capture".into()).spawn({
        let (stop, settings, observe) = (stop.clone(), plan.settings.clone(), plan.observe.clone());
        move || {
            let result = Capture::start(&settings, observe, stop.clone()).map(|capture| {
                if !stop.is_requested() {
                    super::say(READY);
                    // Nobody waits for it any more if a signal has come.
                    let _ = began.send(());
                }
                capture.run(options, &calls, recorder, metrics, notices)
            });
            // Nobody waits any more if the program is ending in a hurry.
            let _ = done.send(result);
        }
    })?;
    let (reported, report) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("output".into()).spawn({
        let stop = stop.clone();
        move || {
            for call in finished {
                if outputs.deliver(&call).is_break() {
                    stop.request();
                }
            }
            // Nobody waits any more if writing took too long.
            let _ = reported.send(outputs.finish());
        }
    })?;
    let result = tokio::select! {
        result = &mut capture_done => result,
        _ = interrupt.recv() => stop_and_wait(&stop, &mut interrupt, &mut terminate, capture_done).await,
        _ = terminate.recv() => stop_and_wait(&stop, &mut interrupt, &mut terminate, capture_done).await,
        () = over(ready, plan.duration) => stop_and_wait(&stop, &mut interrupt, &mut terminate, capture_done).await,
    };
    let (mut ledger, finish) = result.context("the capture thread died")??;
    capture_thread.join().map_err(|_| anyhow::anyhow!("the capture thread died; this is a bug"))?;
    // A terminal that is stopped, or a disk that hangs, must not keep the program from ending.
    match tokio::time::timeout(WRITE_OUT, report).await {
        Ok(Ok(report)) => {
            ledger.undelivered.extend(report.entries());
            ledger.unpriced = report.unpriced;
            if let Some(error) = report.error {
                super::say(&format!("{LEDGER} {}", ledger.to_json()));
                return Err(anyhow::Error::new(error).context("standard output cannot be written"));
            }
        }
        Ok(Err(_)) => anyhow::bail!("the output thread died; this is a bug"),
        Err(_) => {
            tracing::error!("an output takes nothing any more; calls that waited for it are lost");
            ledger.undelivered.push(("output_stalled".into(), 1));
        }
    }
    Ok((ledger, finish))
}

/// The last line: what became of every byte.
pub fn say_ledger(ledger: &Ledger) {
    super::say(&format!("{LEDGER} {}", ledger.to_json()));
}

async fn stop_and_wait<T>(
    stop: &Stop,
    interrupt: &mut tokio::signal::unix::Signal,
    terminate: &mut tokio::signal::unix::Signal,
    done: tokio::sync::oneshot::Receiver<T>,
) -> Result<T, tokio::sync::oneshot::error::RecvError> {
    stop.request();
    tokio::select! {
        result = done => result,
        // A second request means now. The kernel detaches what is attached when the process is gone.
        _ = interrupt.recv() => std::process::exit(130),
        _ = terminate.recv() => std::process::exit(143),
    }
}

/// The end of the duration, which begins when everything that runs is covered.
async fn over(ready: tokio::sync::oneshot::Receiver<()>, duration: Option<Duration>) {
    match (duration, ready.await) {
        (Some(duration), Ok(())) => tokio::time::sleep(duration).await,
        // A start that failed is its own end.
        (None, _) | (_, Err(_)) => std::future::pending().await,
    }
}

/// A runtime for one command. Two workers: one for signals and exports, one so that neither waits for the other.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime did not start")
}
