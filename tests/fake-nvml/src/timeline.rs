//! The script that the stand-in follows, and its writer.
//!
//! A time line is a file of JSON lines: one [`Header`], then [`Line`]s. The stand-in reads what was appended before
//! each call, so a test may append while others use the library, and several programs may append to one file: every
//! [`Timeline::write`] is one `write` to a file opened with `O_APPEND`.
//!
//! Owns the format, for the one who writes and the one who reads. What a line does to a device is `device`'s.
//!
//! To add a member: a field here, a method that sets it, and its use in `device`. Both structs refuse members that they
//! do not know, so a misspelt script fails and is not taken for an idle GPU.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Environment variable that names the time line to the stand-in.
pub const ENV: &str = "INFERSCOPE_FAKE_NVML";
/// What the name of a copy of the library is followed by in the name of a time line for this copy alone; it comes before
/// [`ENV`].
pub const BESIDE: &str = ".jsonl";

/// Nanoseconds of `CLOCK_MONOTONIC`: what times mean with [`Clock::Monotonic`].
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// What the times of a script are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    #[default]
    Monotonic,
    /// What the last [`Line::now`] said; 0 before the first.
    Manual,
}

/// The first line: what does not change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The GPUs, by NVML's index.
    pub devices: Vec<Device>,
    /// Version of the driver; from 580.82 on the ids of fields have their new numbers.
    #[serde(default = "default_driver")]
    pub driver: String,
    /// Version of CUDA that the driver is for: 1000 × major + 10 × minor.
    #[serde(default = "default_cuda")]
    pub cuda: i32,
    /// How often the driver refreshes counters and samples, milliseconds.
    #[serde(default = "default_refresh")]
    pub refresh_ms: u64,
    /// What times mean.
    #[serde(default)]
    pub clock: Clock,
    /// Calls that the driver does not have. They return `FUNCTION_NOT_FOUND`, as a symbol can't go away by a script; see
    /// `library::without_symbols` for a copy of the library that has no such symbol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// When the driver was loaded: counters are 0 at this time, and every device idle from then on. Without it, 0 with a
    /// manual clock, and else the time at which a process first loads the library, so that two processes differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ns: Option<u64>,
}

fn default_driver() -> String {
    "580.95.05".to_owned()
}

fn default_cuda() -> i32 {
    13_000
}

fn default_refresh() -> u64 {
    100
}

impl Header {
    /// A driver with devices, on the monotonic clock from now on.
    pub fn new(devices: impl IntoIterator<Item = Device>) -> Self {
        Self {
            devices: devices.into_iter().collect(),
            driver: default_driver(),
            cuda: default_cuda(),
            refresh_ms: default_refresh(),
            clock: Clock::Monotonic,
            absent: Vec::new(),
            start_ns: Some(monotonic_ns()),
        }
    }

    /// The test says what time it is, from 0.
    pub fn manual(self) -> Self {
        Self { clock: Clock::Manual, start_ns: Some(0), ..self }
    }

    /// Of another version.
    pub fn driver(self, version: &str) -> Self {
        Self { driver: version.to_owned(), ..self }
    }

    /// With another refresh of counters.
    pub fn refresh(self, every: Duration) -> Self {
        Self { refresh_ms: every.as_millis() as u64, ..self }
    }

    /// Without a call.
    pub fn absent(mut self, call: &str) -> Self {
        self.absent.push(call.to_owned());
        self
    }
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its identity, `GPU-…`.
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Power until a line says otherwise, watts.
    pub idle_power_w: f64,
    /// Most power that it may draw, watts.
    pub power_limit_w: f64,
    /// PCI address, `00000000:01:00.0`.
    pub pci: String,
    /// Its MIG instances; MIG is on if there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mig: Vec<Mig>,
    /// Whether it has GPM.
    #[serde(default)]
    pub gpm: bool,
    /// NVLinks that are up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nvlinks: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Device {
    /// A device as an H100 is, the `n`th of its host.
    pub fn h100(n: u32) -> Self {
        Self {
            uuid: format!("GPU-fake-{n}"),
            name: "Fake H100".to_owned(),
            memory_mib: 81_559,
            idle_power_w: 120.0,
            power_limit_w: 700.0,
            pci: format!("00000000:{:02X}:00.0", n + 1),
            mig: Vec::new(),
            gpm: true,
            nvlinks: 0,
        }
    }

    /// With one more MIG instance.
    pub fn mig(mut self, gi: u32, ci: u32, memory_mib: u64) -> Self {
        let uuid = format!("MIG-{}-{gi}-{ci}", self.uuid.trim_start_matches("GPU-"));
        self.mig.push(Mig { uuid, gi, ci, memory_mib });
        self
    }

    /// With or without GPM.
    pub fn gpm(self, gpm: bool) -> Self {
        Self { gpm, ..self }
    }

    /// With NVLinks that are up.
    pub fn nvlinks(self, nvlinks: u32) -> Self {
        Self { nvlinks, ..self }
    }
}

/// A MIG instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mig {
    /// Its identity, `MIG-…`.
    pub uuid: String,
    /// GPU instance.
    pub gi: u32,
    /// Compute instance.
    pub ci: u32,
    /// Memory, MiB.
    pub memory_mib: u64,
}

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

/// A time line being written.
#[derive(Debug)]
pub struct Timeline {
    file: File,
    path: PathBuf,
}

impl Timeline {
    /// A new time line, in place of one that may be there.
    ///
    /// # Errors
    ///
    /// If the file can't be made or written.
    pub fn create(path: impl Into<PathBuf>, header: &Header) -> io::Result<Self> {
        let path = path.into();
        // Not truncated: a library that reads the old file is to go on reading it.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut timeline = Self { file: OpenOptions::new().create_new(true).append(true).open(&path)?, path };
        timeline.put([header])?;
        Ok(timeline)
    }

    /// A time line that another program began.
    ///
    /// # Errors
    ///
    /// If there is none, or it can't be written.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        Ok(Self { file: OpenOptions::new().append(true).open(&path)?, path })
    }

    /// Where it is: the value for [`ENV`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds lines, which the library sees before its next call, all or none of them.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn write<'a>(&mut self, lines: impl IntoIterator<Item = &'a Line>) -> io::Result<()> {
        self.put(lines)
    }

    fn put<T: Serialize>(&mut self, lines: impl IntoIterator<Item = T>) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        self.file.write_all(&text)
    }
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
