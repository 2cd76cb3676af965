//! What is known of GPUs, of the engines on them and of the way to them, at one moment.
//!
//! Owns the shape and the units. Plain data: somebody else fills it once a second ([`Metrics::on_machines`]). What was not
//! observed is absent and makes no series; zero is a measurement.
//!
//! [`Metrics::on_machines`]: super::Metrics::on_machines

use crate::time::Mono;

/// A snapshot of the host's machinery.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machines {
    /// When it was taken. A snapshot that nobody renews is no longer shown after [`STALE`](super::STALE).
    pub at: Mono,
    /// Devices and MIG instances, those that are lost included.
    pub gpus: Vec<Gpu>,
    /// Why no device can be observed at all, for people; absent where devices are, or where there is no driver.
    pub unobserved: Option<String>,
    /// Processes with memory on a device, or that use it.
    pub processes: Vec<GpuProcess>,
    /// Engines.
    pub engines: Vec<Engine>,
    /// What asking NVML has cost.
    pub nvml: Vec<NvmlCall>,
    /// Samples that were taken and not used because a queue was full, since the agent began.
    pub samples_lost: Option<u64>,
}

/// A device or a MIG instance. Counters are the driver's, since it was loaded, without their wraps; whoever fills them in
/// sees to it that they only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gpu {
    /// NVML's index; of a MIG instance the number that samples name it by.
    pub index: u32,
    /// NVML's id.
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// The id of the device that a MIG instance is a part of.
    pub parent: Option<String>,
    /// Why it is not observed, for people. None of the members below is shown then.
    pub unobserved: Option<String>,
    /// Share of time with a kernel running, 0 to 1.
    pub utilization: Option<f64>,
    /// Share of time with memory being read or written, 0 to 1.
    pub memory_activity: Option<f64>,
    /// Memory in use, bytes.
    pub memory_used: Option<u64>,
    /// Memory, bytes.
    pub memory_total: Option<u64>,
    /// Power, watts.
    pub power_watts: Option<f64>,
    /// Energy, joules; a counter.
    pub energy_joules: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
    /// Clock of the multiprocessors, hertz.
    pub sm_clock_hz: Option<u64>,
    /// Clock of the memory, hertz.
    pub memory_clock_hz: Option<u64>,
    /// Seconds for which clocks were held down, by reason; counters.
    pub throttle_seconds: Vec<(&'static str, f64)>,
    /// Bytes received and sent over PCIe; counters.
    pub pcie_bytes: Option<Traffic>,
    /// Bytes received and sent over all NVLinks; counters.
    pub nvlink_bytes: Option<Traffic>,
    /// Memory errors that could not be corrected; a counter.
    pub ecc_uncorrected: Option<u64>,
    /// Errors that the driver reported since the agent began, by NVIDIA's number. A device without any has none here.
    pub xids: Vec<(u64, u64)>,
}

/// Bytes in two directions, as the device sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To the device.
    pub received: u64,
    /// From it.
    pub sent: u64,
}

/// A process on a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuProcess {
    /// Id of the device.
    pub gpu: String,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Base name of the executable.
    pub executable: Option<String>,
    /// Id of the engine that it belongs to.
    pub engine: Option<String>,
    /// Memory, bytes.
    pub memory: Option<u64>,
    /// Share of the multiprocessors' time, 0 to 1.
    pub utilization: Option<f64>,
}

/// Processes that serve one model together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Engine {
    /// Names the group as long as it lives; the same as in its calls' spans.
    pub id: String,
    /// What software it is, if it was recognised.
    pub kind: Option<String>,
    /// Calls under way.
    pub in_flight: Option<u64>,
    /// Of them, those without a first token.
    pub queued: Option<u64>,
    /// Output tokens a second.
    pub tokens_per_second: Option<f64>,
    /// Joules that calls have taken, since the engine is known; a counter like the next two.
    pub shared_joules: Option<f64>,
    /// Joules of the time in which nobody was served.
    pub idle_joules: Option<f64>,
    /// Joules of others, or of nobody that was seen.
    pub unattributed_joules: Option<f64>,
    /// Processes.
    pub processes: Option<u64>,
}

/// What calling one function of NVML has cost since the agent began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NvmlCall {
    /// Name of the function.
    pub name: String,
    /// Calls.
    pub count: u64,
    /// Seconds that they took together.
    pub seconds: f64,
    /// Seconds that the longest took.
    pub longest: f64,
}
