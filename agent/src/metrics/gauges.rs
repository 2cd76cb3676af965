//! What a snapshot of the machinery says, as series.
//!
//! Owns the caps on what a snapshot may hold, and that what was not observed makes no series: these series are made anew
//! from each snapshot, so one that is not in it ends.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    machines::{Engine, Gpu, GpuProcess, Machines, NvmlCall, Traffic},
    names::{self, Metric},
    series::{LabelSet, Point, Value},
    top::{OTHER, cut},
};
use crate::export::attributes::*;

/// Devices and MIG instances: eight devices of seven instances, twice.
const MAX_GPUS: usize = 128;
/// Processes on devices that have series; the others of a device are one.
const MAX_PROCESSES: usize = 256;
/// Engines.
const MAX_ENGINES: usize = 64;
/// Functions of NVML; inferscope calls some thirty.
const MAX_CALLS: usize = 64;
/// Kinds of errors, and reasons for throttling, of one device.
const MAX_KINDS: usize = 32;

/// Series by metric.
pub(super) type Points = BTreeMap<&'static str, Vec<Point>>;

/// The series of `machines`, and how much found no place, by what was full. `start` is when the agent began to count.
pub(super) fn points(machines: &Machines, start: u64) -> (Points, Vec<(&'static str, u64)>) {
    let Machines { at: _, gpus, unobserved, processes, engines, nvml, samples_lost } = machines;
    let mut out = Out { points: Points::new(), start };
    if let Some(reason) = unobserved {
        let labels = LabelSet::default().with(INFERSCOPE_REASON, Some(cut(reason)));
        out.push(&names::GPU_OBSERVED, &labels, Since::Reading, Some(Value::Int(0)));
    }
    for gpu in gpus.iter().take(MAX_GPUS) {
        device(&mut out, gpu);
    }
    let folded = on_devices(&mut out, processes);
    for engine in engines.iter().take(MAX_ENGINES) {
        of_engine(&mut out, engine);
    }
    for NvmlCall { name, count, seconds, longest } in nvml.iter().take(MAX_CALLS) {
        let labels = LabelSet::default().with(names::INFERSCOPE_NVML_CALL, Some(cut(name)));
        out.push(&names::NVML_CALLS, &labels, Since::Start, Some(Value::Int(*count)));
        out.push(&names::NVML_TIME, &labels, Since::Start, double(Some(*seconds)));
        out.push(&names::NVML_LONGEST, &labels, Since::Reading, double(Some(*longest)));
    }
    out.push(&names::SAMPLES_LOST, &LabelSet::default(), Since::Start, samples_lost.map(Value::Int));
    let beyond = |has: usize, cap: usize| has.saturating_sub(cap) as u64;
    let full = [
        (names::HW_ID, beyond(gpus.len(), MAX_GPUS)),
        (PROCESS_PID, folded),
        (INFERSCOPE_ENGINE_ID, beyond(engines.len(), MAX_ENGINES)),
        (names::INFERSCOPE_NVML_CALL, beyond(nvml.len(), MAX_CALLS)),
    ];
    (out.points, full.into_iter().filter(|(_, count)| *count > 0).collect())
}

/// Since when a number counts.
#[derive(Clone, Copy)]
enum Since {
    /// It does not: it is a reading.
    Reading,
    /// The agent's start.
    Start,
    /// Some time before: the driver's counters.
    Unknown,
}

struct Out {
    points: Points,
    start: u64,
}

impl Out {
    fn push(&mut self, metric: &'static Metric, labels: &LabelSet, since: Since, value: Option<Value>) {
        let Some(value) = value else { return };
        let start_unix_nano = matches!(since, Since::Start).then_some(self.start);
        let points = self.points.entry(metric.name).or_default();
        let labels = labels.of(metric);
        // Two of one name would be one series twice, which readers refuse as a whole. At most a few hundred are compared.
        if !points.iter().any(|point| point.labels == labels) {
            points.push(Point { labels, start_unix_nano, value });
        }
    }
}

/// A reading or sum; what is not finite is none.
fn double(value: Option<f64>) -> Option<Value> {
    value.filter(|value| value.is_finite()).map(Value::Double)
}

fn device(out: &mut Out, gpu: &Gpu) {
    let Gpu {
        index,
        uuid,
        name,
        parent,
        unobserved,
        utilization,
        memory_activity,
        memory_used,
        memory_total,
        power_watts,
        energy_joules,
        temperature,
        sm_clock_hz,
        memory_clock_hz,
        throttle_seconds,
        pcie_bytes,
        nvlink_bytes,
        ecc_uncorrected,
        xids,
    } = gpu;
    let mut labels = LabelSet::default()
        .with(names::HW_ID, Some(cut(uuid)))
        .with(names::HW_TYPE, Some("gpu"))
        .with(names::HW_NAME, Some(format!("GPU {index}")))
        .with(names::HW_MODEL, Some(cut(name)))
        .with(names::HW_PARENT, parent.as_deref().map(cut))
        .with(names::HW_GPU_TASK, Some("general"))
        .with(INFERSCOPE_REASON, unobserved.as_deref().map(cut))
        .with(ERROR_TYPE, Some("uncorrected"));
    let observed = Value::Int(u64::from(unobserved.is_none()));
    out.push(&names::GPU_OBSERVED, &labels, Since::Reading, Some(observed));
    if unobserved.is_some() {
        return;
    }
    out.push(&names::GPU_UTILIZATION, &labels, Since::Reading, double(*utilization));
    out.push(&names::GPU_MEMORY_ACTIVITY, &labels, Since::Reading, double(*memory_activity));
    out.push(&names::GPU_MEMORY_LIMIT, &labels, Since::Unknown, memory_total.map(Value::Int));
    out.push(&names::GPU_MEMORY_USAGE, &labels, Since::Unknown, memory_used.map(Value::Int));
    let share =
        memory_used.zip(memory_total.filter(|&total| total > 0)).map(|(used, total)| used as f64 / total as f64);
    out.push(&names::GPU_MEMORY_UTILIZATION, &labels, Since::Reading, double(share));
    out.push(&names::GPU_POWER, &labels, Since::Reading, double(*power_watts));
    out.push(&names::GPU_ENERGY, &labels, Since::Unknown, double(*energy_joules));
    out.push(&names::GPU_TEMPERATURE, &labels, Since::Reading, double(*temperature));
    out.push(&names::GPU_ERRORS, &labels, Since::Unknown, ecc_uncorrected.map(Value::Int));
    for (clock, hertz) in [("sm", sm_clock_hz), ("memory", memory_clock_hz)] {
        labels.set(names::INFERSCOPE_GPU_CLOCK, clock);
        out.push(&names::GPU_CLOCK, &labels, Since::Reading, hertz.map(Value::Int));
    }
    for (reason, seconds) in throttle_seconds.iter().take(MAX_KINDS) {
        labels.set(names::INFERSCOPE_GPU_THROTTLE_REASON, *reason);
        out.push(&names::GPU_THROTTLE, &labels, Since::Unknown, double(Some(*seconds)));
    }
    for (metric, bytes) in [(&names::GPU_IO, pcie_bytes), (&names::GPU_NVLINK, nvlink_bytes)] {
        if let Some(Traffic { received, sent }) = bytes {
            for (direction, bytes) in [("receive", received), ("transmit", sent)] {
                labels.set(names::NETWORK_IO_DIRECTION, direction);
                out.push(metric, &labels, Since::Unknown, Some(Value::Int(*bytes)));
            }
        }
    }
    for (code, count) in xids.iter().take(MAX_KINDS) {
        labels.set(names::INFERSCOPE_GPU_XID, code.to_string());
        out.push(&names::GPU_XID, &labels, Since::Start, Some(Value::Int(*count)));
    }
}

/// The processes on devices, those with most memory first; how many found no place.
fn on_devices(out: &mut Out, processes: &[GpuProcess]) -> u64 {
    let mut largest: Vec<&GpuProcess> = processes.iter().collect();
    largest.sort_by_key(|process| std::cmp::Reverse(process.memory));
    let rest = largest.split_off(largest.len().min(MAX_PROCESSES));
    for GpuProcess { gpu, pid, executable, engine, memory, utilization } in largest {
        let labels = LabelSet::default()
            .with(names::HW_ID, Some(cut(gpu)))
            .with(PROCESS_PID, Some(pid.to_string()))
            .with(PROCESS_EXECUTABLE_NAME, executable.as_deref().map(cut))
            .with(INFERSCOPE_ENGINE_ID, engine.as_deref().map(cut));
        out.push(&names::GPU_PROCESS_MEMORY, &labels, Since::Unknown, memory.map(Value::Int));
        out.push(&names::GPU_PROCESS_UTILIZATION, &labels, Since::Reading, double(*utilization));
    }
    let mut others: BTreeMap<&str, (Option<u64>, Option<f64>)> = BTreeMap::new();
    for GpuProcess { gpu, memory, utilization, .. } in &rest {
        let (bytes, share) = others.entry(gpu).or_default();
        *bytes = (*memory).map(|more| bytes.unwrap_or(0) + more).or(*bytes);
        *share = (*utilization).map(|more| share.unwrap_or(0.0) + more).or(*share);
    }
    for (gpu, (bytes, share)) in others {
        let other: Option<Arc<str>> = Some(OTHER.into());
        let labels = LabelSet::default().with(names::HW_ID, Some(cut(gpu))).with(PROCESS_EXECUTABLE_NAME, other);
        out.push(&names::GPU_PROCESS_MEMORY, &labels, Since::Unknown, bytes.map(Value::Int));
        out.push(&names::GPU_PROCESS_UTILIZATION, &labels, Since::Reading, double(share));
    }
    rest.len() as u64
}

fn of_engine(out: &mut Out, engine: &Engine) {
    let Engine {
        id,
        kind,
        in_flight,
        queued,
        tokens_per_second,
        shared_joules,
        idle_joules,
        unattributed_joules,
        processes,
    } = engine;
    let mut labels = LabelSet::default()
        .with(INFERSCOPE_ENGINE_ID, Some(cut(id)))
        .with(INFERSCOPE_ENGINE_NAME, kind.as_deref().map(cut));
    out.push(&names::ENGINE_ACTIVE, &labels, Since::Unknown, in_flight.map(Value::Int));
    out.push(&names::ENGINE_QUEUED, &labels, Since::Unknown, queued.map(Value::Int));
    out.push(&names::ENGINE_TOKENS, &labels, Since::Reading, double(*tokens_per_second));
    out.push(&names::ENGINE_PROCESSES, &labels, Since::Unknown, processes.map(Value::Int));
    let states = [("shared", shared_joules), ("idle", idle_joules), ("unattributed", unattributed_joules)];
    for (state, joules) in states {
        labels.set(names::INFERSCOPE_ENERGY_STATE, state);
        out.push(&names::ENGINE_ENERGY, &labels, Since::Start, double(*joules));
    }
}
