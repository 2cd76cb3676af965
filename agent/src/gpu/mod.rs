//! GPUs of this host, through NVML.
//!
//! Owns the only use of the NVML library, which is loaded at run time and need not be there. [`GpuSampler`] reads on threads
//! of its own and tells [`GpuRecord`]s; [`checks`] says for `doctor` what can be read here. What is made of the records is
//! others' business. Nothing here changes the state of a device.
//!
//! `sample` is the shape of what was read, `counters` the table of what there is and from where, `nvml` asks, `schedule` (with
//! `purse` and `typical`) says when, `thread`, `poll`, `events` and `outlet` are the threads and their way out, `meter` times
//! every call.
//!
//! To add a counter: see `counters`.

mod controls;
mod counters;
mod events;
mod library;
mod meter;
mod nvml;
mod outlet;
mod poll;
mod purse;
mod report;
mod sample;
mod schedule;
mod survey;
mod thread;
mod typical;

pub use counters::{Absent, Counter, State};
pub use library::{GpuError, LIBRARY_VARIABLE, Settings};
pub use meter::{Call, CallCost, NvmlCost};
pub use report::checks;
pub use sample::{DeviceInfo, DeviceProcess, DeviceSample, Gpm, GpuRecord, ProcessUtilization, Violations};
pub use schedule::Which;
pub use survey::{CallSurvey, Survey, poll_steadily, survey};
pub use thread::GpuSampler;

/// Lists the GPUs, and their MIG instances. An error says why there are none to be seen, which is not the same as there
/// being none.
pub fn list(settings: &Settings) -> Result<Vec<DeviceInfo>, GpuError> {
    let meter = meter::Meter::new(crate::kernel::clock::now, std::sync::Arc::new(()));
    let nvml = library::load(settings, &meter)?;
    let (devices, _) = nvml::Devices::open(&nvml, meter).map_err(GpuError::List)?;
    Ok(devices.infos())
}
