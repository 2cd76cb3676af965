//! What was read of the GPUs, as records carry it: from the thread that asks NVML to the join, and into recordings.
//!
//! Owns the shape and the units. A member is absent where the query failed or the device has no such counter: a failed
//! query never looks like an idle GPU. Pure; who fills it is `nvml`.

use serde::{Deserialize, Serialize};

/// A device or a MIG instance of one, by what does not change while the driver is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Number that samples name it by: NVML's index, or for a MIG instance one behind all of them.
    pub device: u32,
    /// The device that a MIG instance is a part of.
    pub parent: Option<u32>,
    /// NVML's stable identity, `GPU-…` or `MIG-…`.
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// MIG's ids of the instance: GPU instance and compute instance.
    pub instance: Option<(u32, u32)>,
    /// Most power that it may draw, milliwatts.
    pub power_limit_mw: Option<u32>,
    /// PCI address.
    pub pci: Option<String>,
}

/// One look at one device. Counters are those of the driver, since it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSample {
    /// As in [`DeviceInfo`].
    pub device: u32,
    /// Share of the driver's sample period with a kernel running, percent (`nvmlDeviceGetUtilizationRates`).
    pub utilization: Option<u8>,
    /// Share of it with memory being read or written, percent.
    pub memory_utilization: Option<u8>,
    /// Energy since the driver was loaded, millijoules (field 83). The driver refreshes it about every 100 ms.
    pub energy_mj: Option<u64>,
    /// Power now, milliwatts (field 186, or `nvmlDeviceGetPowerUsage`).
    pub power_mw: Option<u32>,
    /// Memory in use, bytes.
    pub memory_used: Option<u64>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Clock of the multiprocessors, MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Clock of the memory, MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Why clocks are held down: bits of `nvmlClocksEventReason*`.
    pub throttle_reasons: Option<u64>,
    /// How long clocks were held down.
    pub violations: Violations,
    /// Bytes over PCIe, sent and received (fields 197 and 198; they wrap).
    pub pcie_bytes: Option<(u64, u64)>,
    /// KiB over all NVLinks, sent and received.
    pub nvlink_kib: Option<(u64, u64)>,
    /// Memory errors that could not be corrected.
    pub ecc_uncorrected: Option<u64>,
    /// Metrics of a pair of GPM samples, by name, where the device has them.
    pub gpm: Option<Gpm>,
}

/// Nanoseconds for which clocks were held down, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violations {
    /// Power limit (field 74).
    pub power_ns: Option<u64>,
    /// Thermal limit (field 75).
    pub thermal_ns: Option<u64>,
    /// Software's thermal slowdown.
    pub software_thermal_ns: Option<u64>,
    /// Hardware's thermal slowdown.
    pub hardware_thermal_ns: Option<u64>,
    /// The power brake that the rack pulls.
    pub power_brake_ns: Option<u64>,
}

/// Metrics that GPM gives, in hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpm {
    /// Multiprocessors with work.
    pub sm: Option<u32>,
    /// Warps, of those that would fit.
    pub occupancy: Option<u32>,
    /// Tensor pipes.
    pub tensor: Option<u32>,
    /// Memory bandwidth.
    pub dram: Option<u32>,
}

/// A process that has memory on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceProcess {
    /// As NVML names it: an id of the initial pid namespace.
    pub pid: u32,
    /// Bytes; absent where the driver does not say.
    pub memory: Option<u64>,
}

/// How much of the multiprocessors' time a process used since the driver was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUtilization {
    /// As in [`DeviceProcess`].
    pub pid: u32,
    /// Percent.
    pub sm: u32,
    /// Memory bandwidth, percent.
    pub memory: u32,
}

/// What a record of GPUs says. Its time is when the query returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GpuRecord {
    /// Which devices there are. Replaces what was said before.
    Devices(Vec<DeviceInfo>),
    /// A look at devices.
    Samples(Vec<DeviceSample>),
    /// Every process on a device.
    Processes {
        /// The device.
        device: u32,
        /// Its processes.
        processes: Vec<DeviceProcess>,
    },
    /// The processes that used a device since it was last asked; an empty list is an idle device.
    Utilization {
        /// The device.
        device: u32,
        /// Who used it.
        processes: Vec<ProcessUtilization>,
    },
    /// The driver reported an error of a device.
    Xid {
        /// The device, if the driver said.
        device: Option<u32>,
        /// NVIDIA's number of the error.
        code: u64,
    },
    /// From now on a device is not observed: it fell off the bus, or the driver does not answer.
    Lost {
        /// The device; absent for all of them.
        device: Option<u32>,
        /// Why, for people.
        reason: String,
    },
}
