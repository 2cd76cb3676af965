//! The edge: the thread that reads the rings, feeds the pipeline and hands out calls.
//!
//! Owns the order of starting and stopping, the clock, and the way of verdicts back to the kernel. One thread owns
//! the pipeline and all its state; what it hands out goes through a bounded queue, so a slow terminal or file
//! never holds up the reading of the rings. A recording is written by the thread itself: it must have every record,
//! and a disk that is too slow for it shows as lost bytes in the ledger.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, Instant},
};

use crate::{
    call::{FinishedCall, ids::Epoch},
    discover::{Asker, Discovery},
    export::otlp::NoticeLog,
    host::ProcessWatch,
    judge::Judge,
    kernel::{self, Accounts, Answers, Degraded, KernelCounters, Rings, Settings, Waker, clock},
    metrics::{Metrics, machines::Machines},
    observe::{self, Observer},
    pipeline::{Output, Pipeline, PipelineOptions},
    record,
    recording::Recorder,
    selfstat::Ledger,
    serving::Notice,
    time::WallAnchor,
};
use anyhow::Context as _;

/// Calls that may wait for the output; at 2 KiB each some 8 MiB.
const MAX_WAITING_CALLS: usize = 4096;

/// How often idle exchanges are looked for.
const TICK: Duration = Duration::from_secs(1);

/// How often losses are told while they go on. The ledger at the end has all of them.
const TELL_LOSSES: Duration = Duration::from_secs(60);

/// How long the end waits for programs that were running when they were told to stop.
const SETTLE: Duration = Duration::from_secs(1);

/// Asks a capture to end. Cheap to clone; may be used from any thread.
#[derive(Clone, Default)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    waker: Arc<std::sync::OnceLock<Waker>>,
}

impl Stop {
    /// Ends the capture soon.
    pub fn request(&self) {
        self.flag.store(true, Ordering::Relaxed);
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// A capture that is running: probes are attached, records are coming.
pub struct Capture {
    rings: Rings,
    answers: Answers,
    counters: KernelCounters,
    accounts: Arc<Accounts>,
    degraded: Vec<Degraded>,
    discovery: Discovery,
    judge: Option<Judge>,
    observer: Observer,
    stop: Stop,
}

impl Capture {
    /// Loads, attaches and scans. When it returns, everything that runs is covered.
    pub fn start(settings: &Settings, observe: observe::Settings, stop: Stop) -> anyhow::Result<Self> {
        kernel::check_privilege()?;
        for &pid in &settings.targets.include.pids {
            anyhow::ensure!(
                std::path::Path::new("/proc").join(pid.to_string()).exists(),
                "there is no process {pid}; `ps -e` lists those that run"
            );
        }
        for (what, selectors) in [("", &settings.targets.include), ("excluded ", &settings.targets.exclude)] {
            if let Err((key, reason)) = selectors.check() {
                anyhow::bail!("{what}{key} {reason}");
            }
        }
        let loaded = kernel::load(settings)?;
        for lost in &loaded.degraded {
            tracing::warn!(missing = lost.mechanism, consequence = lost.consequence, "running with less");
        }
        let kernel::Loaded { mut rings, answers, mut prober, counters, accounts, watcher, degraded } = loaded;
        let judge = Judge::new(&settings.targets, prober.targets().clone());
        prober.follow_processes()?;
        // Set once: a capture is started once per `Stop`.
        let _ = stop.waker.set(rings.waker());
        let observer =
            Observer::start(observe, watcher, rings.waker()).context("the thread that reads the host did not start")?;
        let discovery = Discovery::start(prober, Arc::clone(&accounts), settings, Arc::clone(&stop.flag))?;
        rings.resume()?;
        Ok(Self { rings, answers, counters, accounts, degraded, discovery, judge, observer, stop })
    }

    /// What does not work on this kernel.
    pub fn degraded(&self) -> &[Degraded] {
        &self.degraded
    }

    /// A way to ask which probes there are and what processes make of them.
    pub fn asker(&self) -> Asker {
        self.discovery.asker()
    }

    /// Reads until it is asked to stop, then closes the books. Detaching comes last, because it is slow and nothing
    /// depends on it.
    pub fn run(
        self,
        options: PipelineOptions,
        calls: &SyncSender<Box<FinishedCall>>,
        recorder: Option<Recorder>,
        metrics: Option<Arc<Metrics>>,
        notices: Option<NoticeLog>,
    ) -> (Ledger, Finish) {
        let Self { mut rings, answers, counters, accounts, discovery, judge, observer, stop, .. } = self;
        let mut intake = Intake {
            pipeline: Pipeline::new(options),
            watch: ProcessWatch::default(),
            judge,
            recorder,
            recording: Ok(()),
            told_losses: 0,
            metrics,
            outlet: Outlet { calls, undelivered: 0, answers, observer, notices },
        };
        let (mut next_tick, mut next_telling) = (Instant::now() + TICK, Instant::now() + TELL_LOSSES);
        while !stop.is_requested() {
            rings.wait();
            let mut more = true;
            // A flood must keep neither the clock nor a request to stop from being seen.
            while more && !stop.is_requested() {
                more = intake.drain(&mut rings);
                intake.take_observed();
                if Instant::now() >= next_tick {
                    next_tick = Instant::now() + TICK;
                    intake.tick();
                }
                if Instant::now() >= next_telling {
                    next_telling = Instant::now() + TELL_LOSSES;
                    intake.tell_losses(&counters);
                }
            }
        }
        rings.pause();
        settle(&mut rings, &counters, &mut intake);
        let recording = intake.finish();
        let mut ledger = intake.ledger(&counters);
        ledger.discovery = discovery.counts().entries().to_vec();
        ledger.processes = accounts.all();
        (ledger, Finish { recording, discovery: Some(discovery) })
    }
}

/// Empties the rings until what the kernel side says it wrote has arrived.
fn settle(rings: &mut Rings, counters: &KernelCounters, intake: &mut Intake<'_>) {
    let deadline = Instant::now() + SETTLE;
    let mut agreed = 0;
    loop {
        while intake.drain(rings) {}
        // Between two pieces of one copy everything agrees for a moment: only twice in a row is it over.
        agreed = if intake.ledger(counters).balance().is_ok() { agreed + 1 } else { 0 };
        if agreed == 2 || Instant::now() >= deadline {
            break;
        }
        rings.wait();
    }
    rings.flush(|bytes| intake.take(bytes));
}

/// What becomes of a record: the recording has it, the pipeline reads it, and what comes out goes its way.
struct Intake<'a> {
    pipeline: Pipeline,
    watch: ProcessWatch,
    /// Absent where the kernel's list of targets decides alone.
    judge: Option<Judge>,
    recorder: Option<Recorder>,
    /// How the recording went so far.
    recording: io::Result<()>,
    /// Losses that were told already.
    told_losses: u64,
    /// Absent where nobody reads them.
    metrics: Option<Arc<Metrics>>,
    outlet: Outlet<'a>,
}

impl Intake<'_> {
    /// One round; true if there may be more at once.
    fn drain(&mut self, rings: &mut Rings) -> bool {
        rings.drain(clock::now, |bytes| self.take(bytes))
    }

    /// Takes what was observed beside the calls.
    fn take_observed(&mut self) {
        while let Some(record) = self.outlet.observer.record() {
            self.take(&record);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let Ok(record) = record::parse(bytes) else {
            self.pipeline.on_bad_record();
            return;
        };
        if self.judge.as_mut().is_some_and(|judge| !judge.admits(&record)) {
            let bytes = if let record::Record::Data(_, data) = &record { data.payload.len() } else { 0 };
            self.pipeline.on_untargeted(bytes as u64);
            return;
        }
        if let Some(process) = self.watch.before(&record) {
            self.keep(&process);
            if let Ok(process) = record::parse(&process) {
                self.pipeline.on_record(process, &mut |output| self.outlet.take(output));
            }
        }
        self.keep(bytes);
        self.pipeline.on_record(record, &mut |output| self.outlet.take(output));
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.pipeline.on_tick(now, &mut |output| self.outlet.take(output));
        if let Some(metrics) = &self.metrics {
            let observer = &self.outlet.observer;
            let machines = self.pipeline.machines(now);
            metrics.on_machines(Machines { samples_lost: Some(observer.lost()), nvml: observer.nvml(), ..machines });
        }
    }

    /// Says that something was lost since this was last asked: whoever reads what is exported must not have to wait for the
    /// end to know.
    fn tell_losses(&mut self, counters: &KernelCounters) {
        let ledger = self.ledger(counters);
        let losses = ledger.losses();
        if losses > self.told_losses {
            tracing::warn!(ledger = %ledger.to_json(), "bytes or records were lost");
            self.told_losses = losses;
        }
    }

    /// Writes to the recording. The first failure ends the recording, not the capture.
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(open) = &mut self.recorder
            && let Err(error) = open.write(bytes)
        {
            tracing::error!(%error, "the recording ends here");
            self.recording = Err(error);
            self.recorder = None;
        }
    }

    /// Reports what is still under way and ends the recording; says how the latter went.
    fn finish(&mut self) -> io::Result<()> {
        self.pipeline.finish(&mut |output| self.outlet.take(output));
        match self.recorder.take() {
            Some(recorder) => recorder.finish(),
            None => std::mem::replace(&mut self.recording, Ok(())),
        }
    }

    fn ledger(&self, counters: &KernelCounters) -> Ledger {
        Ledger {
            kernel: Some(counters.read()),
            pipeline: self.pipeline.stats().clone(),
            missed: self.pipeline.missed(),
            engines: self.pipeline.energy(),
            undelivered: vec![
                ("queue_full".into(), self.outlet.undelivered),
                ("observations_lost".into(), self.outlet.observer.lost()),
            ],
            ..Default::default()
        }
    }
}

/// What is left to do when a capture has ended.
pub struct Finish {
    /// How the recording went.
    pub recording: io::Result<()>,
    /// Dropping it detaches the probes: a tenth of a second for all, or for each where the kernel is older than 6.6.
    pub discovery: Option<Discovery>,
}

struct Outlet<'a> {
    calls: &'a SyncSender<Box<FinishedCall>>,
    undelivered: u64,
    answers: Answers,
    observer: Observer,
    /// Absent where notices go nowhere but to standard error.
    notices: Option<NoticeLog>,
}

impl Outlet<'_> {
    fn take(&mut self, output: Output) {
        match output {
            Output::Call(call) => match self.calls.try_send(call) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.undelivered += 1,
            },
            Output::Answer { address, verdict } => self.answers.answer(address, verdict),
            Output::Dull(path) => self.answers.learn(path),
            Output::Observe(wish) => self.observer.wish(wish),
            Output::Notice(notice) => {
                tell(&notice);
                if let Some(log) = &self.notices {
                    log.offer(&notice, clock::now());
                }
            }
            Output::Join { stream, with } => self.answers.join(stream, with),
        }
    }
}

/// Says what an operator should hear of while it happens.
fn tell(notice: &Notice) {
    match notice {
        Notice::Stuck { pid, engine, lasted, utilization, stepless } => {
            let gpu = match utilization {
                Some(percent) if *percent >= 1.0 => "works",
                Some(_) => "does not work",
                None => "is not observed",
            };
            let stepless_seconds = stepless.map(|stepless| stepless.as_secs());
            tracing::warn!(pid, engine, seconds = lasted.as_secs(), gpu, stepless_seconds, "a call does not move");
        }
        Notice::EngineExit { engine, pid, comm, status, oom, in_flight } => {
            let (signal, code) = (status & 0x7f, status >> 8 & 0xff);
            tracing::warn!(engine, pid, comm, signal, code, oom, in_flight, "a process of an engine has ended");
        }
    }
}

/// The queue between capture and output.
pub fn queue() -> (SyncSender<Box<FinishedCall>>, std::sync::mpsc::Receiver<Box<FinishedCall>>) {
    std::sync::mpsc::sync_channel(MAX_WAITING_CALLS)
}

/// What sets this run apart, and its clock.
pub struct Session {
    /// Random bytes.
    pub epoch: Epoch,
    /// Ties kernel time to wall time.
    pub anchor: WallAnchor,
}

impl Session {
    /// A new one.
    pub fn new() -> anyhow::Result<Self> {
        let mut epoch = Epoch::default();
        let mut random = std::fs::File::open("/dev/urandom").context("/dev/urandom cannot be opened")?;
        io::Read::read_exact(&mut random, &mut epoch).context("/dev/urandom cannot be read")?;
        Ok(Self { epoch, anchor: clock::anchor() })
    }
}
