//! GPUs of this host, through NVML.
//!
//! Owns the only use of the NVML library, which is loaded at run time and need not be there. Today it says which
//! GPUs there are; counters come with the join of calls to GPUs.

mod counters;
mod library;
mod meter;
mod nvml;
mod purse;
mod sample;
mod schedule;

pub use counters::{Absent, Counter, State};
pub use library::{GpuError, LIBRARY_VARIABLE, Settings};
pub use meter::{Call, CallCost, NvmlCost};
pub use sample::{DeviceInfo, DeviceProcess, DeviceSample, Gpm, GpuRecord, ProcessUtilization, Violations};

use nvml_wrapper::{Nvml, error::NvmlError};

/// A GPU as NVML describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// NVML's index.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// Stable identity.
    pub uuid: String,
    /// Memory, bytes; absent if the query failed.
    pub memory_bytes: Option<u64>,
}

/// Lists the GPUs. An error says why there are none to be seen, which is not the same as there being none.
pub fn list() -> Result<Vec<Gpu>, NvmlError> {
    let nvml = Nvml::init()?;
    (0..nvml.device_count()?)
        .map(|index| {
            let device = nvml.device_by_index(index)?;
            Ok(Gpu {
                index,
                name: device.name()?,
                uuid: device.uuid()?,
                memory_bytes: device.memory_info().ok().map(|memory| memory.total),
            })
        })
        .collect()
}
