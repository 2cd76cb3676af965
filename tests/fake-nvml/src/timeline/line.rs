//! The other lines of a time line: what happens to devices, and what calls do.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// What kind of context a process has; each has its own list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// CUDA.
    #[default]
    Compute,
    /// Graphics.
    Graphics,
    /// CUDA through the multi-process service.
    Mps,
}

/// A process that has memory on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// As the initial pid namespace names it.
    pub pid: u32,
    /// Memory, MiB; 0 takes the process off the device. Without it the driver does not say, as for a process of another
    /// user.
    #[serde(default)]
    pub memory_mib: Option<u64>,
    /// Share of the multiprocessors' time, percent.
    #[serde(default)]
    pub sm: u32,
    /// Share of the memory's bandwidth, percent.
    #[serde(default)]
    pub mem: u32,
    /// Takes the process off the device.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gone: bool,
    /// Its list.
    #[serde(default, skip_serializing_if = "is_compute")]
    pub kind: Kind,
    /// The MIG instance that it runs on: GPU instance's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gi: Option<u32>,
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_compute(kind: &Kind) -> bool {
    *kind == Kind::Compute
}

impl Process {
    /// A process with memory that computes nothing.
    pub fn new(pid: u32, memory_mib: u64) -> Self {
        Self { pid, memory_mib: Some(memory_mib), ..Self::default() }
    }

    /// A process of which the driver does not say how much memory it has.
    pub fn hidden(pid: u32) -> Self {
        Self { pid, ..Self::default() }
    }

    /// A process that is no longer on the device.
    pub fn gone(pid: u32) -> Self {
        Self { pid, gone: true, ..Self::default() }
    }

    /// With shares of the multiprocessors' time and the memory's bandwidth, percent.
    pub fn uses(self, sm: u32, mem: u32) -> Self {
        Self { sm, mem, ..self }
    }

    /// In another list.
    pub fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// On a MIG instance.
    pub fn on_mig(self, gi: u32) -> Self {
        Self { gi: Some(gi), ..self }
    }
}

/// Nanoseconds for which clocks were held down, to be added to the device's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Violation {
    /// By the power limit.
    pub power_ns: u64,
    /// By the thermal limit.
    pub thermal_ns: u64,
    /// To keep boards in step.
    pub sync_boost_ns: u64,
    /// By the board's limit.
    pub board_limit_ns: u64,
    /// For want of work.
    pub low_utilization_ns: u64,
    /// For the board's reliability.
    pub reliability_ns: u64,
    /// By software's thermal slowdown.
    pub software_thermal_ns: u64,
    /// By hardware's thermal slowdown.
    pub hardware_thermal_ns: u64,
    /// By the power brake.
    pub power_brake_ns: u64,
}

/// Something that happens at a time, or is so from then on. What a line does not name stays as it was.
///
/// Lines need not be in order of time. One that comes late counts from its own time: integrals are as if it had been
/// there, but that no counter goes back from what was read of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Line {
    /// The time now, with a manual clock. Nothing else stands in such a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now_ns: Option<u64>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t_ns: Option<u64>,
    /// The device, by index. Only lines of calls may be without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
    /// Power, watts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_w: Option<f64>,
    /// Share of time with a kernel running, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub util: Option<u32>,
    /// Share of time with memory in use, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_util: Option<u32>,
    /// Degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<u32>,
    /// Clock of the multiprocessors, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sm_clock_mhz: Option<u32>,
    /// Clock of the memory, MHz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_clock_mhz: Option<u32>,
    /// Bits of `nvmlClocksEventReason*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_reasons: Option<u64>,
    /// PCIe traffic that the device sends, KiB per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie_tx_kib_s: Option<u64>,
    /// PCIe traffic that it receives, KiB per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie_rx_kib_s: Option<u64>,
    /// What it sends over each NVLink, KiB per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvlink_tx_kib_s: Option<u64>,
    /// What it receives over each NVLink, KiB per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvlink_rx_kib_s: Option<u64>,
    /// Values of GPM metrics, by the metric's id (`nvmlGpmMetricId_t`). Metrics 1 and 2 are `util` and 10 is `mem_util`
    /// where they are not given; others are then not supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpm: Option<BTreeMap<u32, f64>>,
    /// Every process on the device: others are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Vec<Process>>,
    /// One process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Processes that appear right after the next call that asks how many there are (with a buffer that is too small):
    /// a list that grows between count and data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_processes: Option<Vec<Process>>,
    /// Time for which clocks were held down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violation: Option<Violation>,
    /// The driver reports an error with this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xid: Option<u64>,
    /// Memory errors that could not be corrected, added to the counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecc: Option<u64>,
    /// Whether the device has fallen off the bus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<bool>,
    /// A call whose latency and result are scripted: its symbol, or `*` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// How long the call takes, microseconds. A later line about the call ends a wait before its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_us: Option<u64>,
    /// The `nvmlReturn_t` that it returns; 0 to answer as usual.
    #[serde(rename = "return", skip_serializing_if = "Option::is_none")]
    pub returns: Option<u32>,
    /// Whether every other call waits too while this one takes its time: a driver that hangs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<bool>,
    /// With the call `nvmlDeviceGetFieldValues`: that [`Line::returns`] is this one field's, by its number before 580.82.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<u32>,
}

/// Methods that set one member.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        impl Line {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$name = Some($name);
                self
            })*
        }
    };
}

setters! {
    /// With power, watts.
    power_w: f64,
    /// With a share of time with a kernel running, percent.
    util: u32,
    /// With a share of time with memory in use, percent.
    mem_util: u32,
    /// With a temperature, degrees Celsius.
    temperature: u32,
    /// With a clock of the multiprocessors, MHz.
    sm_clock_mhz: u32,
    /// With a clock of the memory, MHz.
    mem_clock_mhz: u32,
    /// With reasons for low clocks, bits of `nvmlClocksEventReason*`.
    throttle_reasons: u64,
    /// With PCIe traffic sent, KiB per second.
    pcie_tx_kib_s: u64,
    /// With PCIe traffic received, KiB per second.
    pcie_rx_kib_s: u64,
    /// With traffic sent over each NVLink, KiB per second.
    nvlink_tx_kib_s: u64,
    /// With traffic received over each NVLink, KiB per second.
    nvlink_rx_kib_s: u64,
    /// With all processes of the device.
    processes: Vec<Process>,
    /// With one process's state.
    process: Process,
    /// With processes that appear after the next count.
    late_processes: Vec<Process>,
    /// With more time of low clocks.
    violation: Violation,
    /// With an error that the driver reports.
    xid: u64,
    /// With more memory errors that could not be corrected.
    ecc: u64,
    /// Lost, or there again.
    lost: bool,
    /// Only about a device, in a line about a call.
    device: u32,
    /// With a result, in a line about a call.
    returns: u32,
    /// Of one field, in a line about `nvmlDeviceGetFieldValues`.
    field: u32,
}

impl Line {
    /// About a device, from a time on.
    pub fn at(t_ns: u64, device: u32) -> Self {
        Self { t_ns: Some(t_ns), device: Some(device), ..Self::default() }
    }

    /// The time now, with a manual clock.
    pub fn now(now_ns: u64) -> Self {
        Self { now_ns: Some(now_ns), ..Self::default() }
    }

    /// About a call (its symbol, or `*` for all), from a time on: as usual, unless it is told otherwise.
    pub fn call(t_ns: u64, call: &str) -> Self {
        Self { t_ns: Some(t_ns), call: Some(call.to_owned()), delay_us: Some(0), returns: Some(0), ..Self::default() }
    }

    /// With a latency, in a line about a call.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay_us = Some(delay.as_micros() as u64);
        self
    }

    /// With every other call waiting too, in a line about a call.
    #[must_use]
    pub fn lock(mut self) -> Self {
        self.lock = Some(true);
        self
    }

    /// With the value of one GPM metric; other metrics keep theirs.
    #[must_use]
    pub fn gpm(mut self, metric: u32, value: f64) -> Self {
        self.gpm.get_or_insert_default().insert(metric, value);
        self
    }
}
