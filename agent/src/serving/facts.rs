//! What is said of the machinery behind a call.
//!
//! Owns the shape that exporters read. What was not observed is absent.

use std::time::Duration;

use crate::{call::SpanIds, host::ProcessIdentity, time::Mono};

/// The machinery behind a server's call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServingFacts {
    /// The processes that served it.
    pub engine: Option<EngineFacts>,
    /// Other calls of the same engine that were under way when it arrived.
    pub in_flight_at_start: Option<u64>,
    /// The GPUs of the engine, while it was served.
    pub gpu: Option<GpuFacts>,
    /// The engine's steps on them, where they are timed.
    pub steps: Option<StepFacts>,
    /// It took longer than its like.
    pub slow: Vec<Slow>,
    /// Why, the likeliest first.
    pub causes: Vec<Cause>,
    /// What was done for a client that had gone.
    pub waste: Option<Waste>,
    /// The longest time for which nothing came, if it was too long.
    pub stall: Option<Stall>,
}

/// Processes that serve one model together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineFacts {
    /// Names the group as long as it lives.
    pub id: String,
    /// What software it is, if it was recognised.
    pub kind: Option<&'static str>,
    /// Its version, where it could be seen.
    pub version: Option<String>,
    /// Processes in it.
    pub processes: u64,
    /// How sure it is that they belong together, 0 to 1.
    pub confidence: f64,
}

/// GPUs during a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuFacts {
    /// NVML's ids.
    pub ids: Vec<String>,
    /// Mean utilisation, percent, over the devices.
    pub utilization_mean: Option<f64>,
    /// Largest utilisation, percent, of any device.
    pub utilization_max: Option<u64>,
    /// Memory of the engine's processes: at the start, the most, at the end; bytes.
    pub memory: Option<(u64, u64, u64)>,
    /// Mean power of the devices together, watts.
    pub power_watts: Option<f64>,
    /// The call's share of their energy.
    pub energy: Option<EnergyShare>,
}

/// An engine's steps while a call was served, its own and those of others alike.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepFacts {
    /// How many.
    pub count: u64,
    /// How long one took from its first launch to the end of the wait for it, the median; absent without any.
    pub typical: Option<Duration>,
    /// The longest.
    pub longest: Option<Duration>,
    /// Share of the steps' time, with what lay between them, that was spent in waiting for the GPU, 0 to 1.
    pub wait: Option<f64>,
    /// Share of it that lay between two steps: the host had launched nothing.
    pub gap: Option<f64>,
}

/// A share of measured energy. Not marginal energy, and not wall power.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnergyShare {
    /// Millijoules.
    pub millijoules: u64,
    /// Share of the GPU time that captured calls explain, 0 to 1.
    pub coverage: f64,
    /// Mean number of calls that shared a window with it, itself included.
    pub concurrency: f64,
    /// Error of nine in ten calls against a simulated engine, as a share.
    pub uncertainty: f64,
    /// How it was found.
    pub method: &'static str,
}

/// A time that was beyond what calls to the model take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slow {
    /// Which.
    pub what: Measure,
    /// How long it was.
    pub took: Duration,
    /// How long it takes as a rule; of a limit, the limit.
    pub usual: Duration,
}

/// Times that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Time to first token.
    FirstToken,
    /// Mean time of an output token.
    OutputToken,
    /// Longest gap between two chunks.
    Gap,
}

impl Measure {
    /// As exported.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstToken => "time_to_first_token",
            Self::OutputToken => "time_per_output_token",
            Self::Gap => "chunk_gap",
        }
    }
}

/// A reason for a slow or failed call that something speaks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// What it is.
    pub kind: CauseKind,
    /// How much of the call's delay it explains, 0 to 1.
    pub share: f64,
    /// How long it lasted within the call.
    pub lasted: Duration,
    /// When it was first seen.
    pub at: Mono,
    /// What was measured, for people: numbers with units.
    pub evidence: String,
}

/// Reasons that are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CauseKind {
    /// A process of the engine ended while it served the call.
    EngineExit,
    /// The kernel killed a process of the engine for want of memory.
    OomKill,
    /// The GPU's driver reported an error.
    Xid,
    /// A process of the engine did not get memory of a GPU.
    GpuMemory,
    /// The model was still being loaded.
    ModelLoading,
    /// Clocks of the GPU were held down.
    GpuThrottle,
    /// The control group's processor quota was used up.
    CpuThrottle,
    /// Threads were ready and had no processor.
    CpuRunQueue,
    /// Pages or files were read from storage.
    StorageRead,
    /// The control group was at its memory limit.
    MemoryPressure,
    /// Segments were lost on the way.
    NetworkRetransmit,
    /// The client did not take what was sent.
    SlowReader,
    /// Other calls' prompts were read first.
    Queueing,
}

impl CauseKind {
    /// As exported (`inferscope.cause.*`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EngineExit => "engine_exit",
            Self::OomKill => "oom_kill",
            Self::Xid => "gpu_xid",
            Self::GpuMemory => "gpu_memory",
            Self::ModelLoading => "model_loading",
            Self::GpuThrottle => "gpu_throttle",
            Self::CpuThrottle => "cpu_throttle",
            Self::CpuRunQueue => "cpu_run_queue",
            Self::StorageRead => "storage_read",
            Self::MemoryPressure => "memory_pressure",
            Self::NetworkRetransmit => "network_retransmit",
            Self::SlowReader => "slow_reader",
            Self::Queueing => "queueing",
        }
    }

    /// What explains a delay by itself comes before what makes others slow, and that before what is its effect.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::OomKill => 0,
            Self::Xid => 1,
            Self::GpuMemory => 2,
            Self::EngineExit => 3,
            Self::ModelLoading => 4,
            Self::Queueing => 6,
            _ => 5,
        }
    }
}

/// A model that was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelLoad {
    /// The process that opened the first file.
    pub process: ProcessIdentity,
    /// Processes that opened some.
    pub processes: u64,
    /// The first file with weights, as the process named it.
    pub path: String,
    /// When it was opened.
    pub begun: Mono,
    /// Files with weights, of the process that opened most of them.
    pub files: u64,
    /// Their sizes together, bytes.
    pub bytes: u64,
    /// Bytes that were read from storage meanwhile, by all of them; what was in the page cache is not in it.
    pub read_bytes: Option<u64>,
    /// When the program began; of a load that came later, when the first file was opened.
    pub start: Mono,
    /// The first token.
    pub end: Mono,
    /// What it was spent with: from and to, one after the other.
    pub phases: Vec<(LoadPhase, Mono, Mono)>,
    /// The call that waited for it.
    pub call: Option<SpanIds>,
    /// The processes that serve the model.
    pub engine: Option<EngineFacts>,
    /// The model, where a command line names it.
    pub model: Option<String>,
}

impl ModelLoad {
    /// Bytes a second at which storage was read.
    pub fn rate(&self) -> Option<f64> {
        let (_, from, to) = self.phases.iter().find(|(phase, ..)| *phase == LoadPhase::Weights)?;
        let bytes = self.read_bytes.filter(|bytes| *bytes > 0)?;
        Some(bytes as f64 / to.since(*from).as_secs_f64().max(1e-9))
    }
}

/// A part of loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPhase {
    /// From the start of the program to the first file with weights.
    StartUp,
    /// To the last file that was opened, or until storage was no longer read.
    Weights,
    /// Until the server listens: weights go to the GPU, graphs are captured.
    WarmUp,
    /// Until the first request: nobody asked.
    Idle,
    /// From the request to its first token.
    FirstToken,
}

impl LoadPhase {
    /// As exported.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StartUp => "start_up",
            Self::Weights => "weights",
            Self::WarmUp => "warm_up",
            Self::Idle => "idle",
            Self::FirstToken => "first_token",
        }
    }
}

/// A time in which nothing came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stall {
    /// Last byte before it.
    pub since: Mono,
    /// How long.
    pub lasted: Duration,
    /// Mean utilisation of the engine's GPUs meanwhile, percent: whether they worked.
    pub utilization: Option<f64>,
}

/// Something that an operator should hear of while it happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A call has not moved for too long.
    Stuck {
        /// Serving process.
        pid: u32,
        /// Its engine, if it is known.
        engine: Option<String>,
        /// How long nothing came.
        lasted: Duration,
        /// As in [`Stall`].
        utilization: Option<f64>,
        /// For how long the engine has ended no step, where they are timed.
        stepless: Option<Duration>,
    },
    /// A process of an engine ended, and not by its own will.
    EngineExit {
        /// The engine.
        engine: String,
        /// The process.
        pid: u32,
        /// Its command name.
        comm: String,
        /// Wait status as in `wait(2)`.
        status: u32,
        /// Whether the kernel killed it for want of memory.
        oom: bool,
        /// Calls of the engine that were under way.
        in_flight: u64,
    },
}

/// Work that nobody waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waste {
    /// When the client had gone.
    pub since: Mono,
    /// How long the server went on.
    pub lasted: Duration,
    /// Chunks that it still sent; absent where it went on without sending, which the GPU alone shows.
    pub chunks: Option<u64>,
    /// Millijoules of the call's share from then on; of work that was not sent, what the GPU used beyond idling.
    pub millijoules: Option<u64>,
}
