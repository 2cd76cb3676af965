//! The first line of a time line: the driver and its devices, and what does not change of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::monotonic_ns;

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
