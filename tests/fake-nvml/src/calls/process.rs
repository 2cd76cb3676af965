//! Processes: who is on a device, and what each used.
//!
//! Assumed: a call of `nvmlDeviceGetProcessUtilization` gives one sample per process, the mean from `lastSeenTimeStamp`
//! (or the oldest that is kept) to the driver's last refresh, with that refresh's time. A process whose memory the
//! driver does not say has `NVML_VALUE_NOT_AVAILABLE`. Processes outside of MIG have instance ids of all ones.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as sys;

use super::{
    board::{MIB, versioned},
    put_list,
};
use crate::{
    code::{self, Answer},
    device::Used,
    driver::{self, At, result},
    timeline::{Kind, Process},
};

/// `NVML_VALUE_NOT_AVAILABLE` as an unsigned number.
const NOT_AVAILABLE: u64 = sys::NVML_VALUE_NOT_AVAILABLE as i64 as u64;
/// The id of no instance.
const NO_INSTANCE: c_uint = c_uint::MAX;
/// Refreshes that the driver remembers, of samples and of what processes used.
pub const REMEMBERED: u64 = 120;

fn info(at: &mut At<'_>, process: &Process) -> sys::nvmlProcessInfo_t {
    let mig = at.device().about.mig.iter().find(|mig| Some(mig.gi) == process.gi).cloned();
    sys::nvmlProcessInfo_t {
        pid: process.pid,
        usedGpuMemory: process.memory_mib.map_or(NOT_AVAILABLE, |mib| mib * MIB),
        gpuInstanceId: mig.as_ref().map_or(NO_INSTANCE, |mig| mig.gi),
        computeInstanceId: mig.as_ref().map_or(NO_INSTANCE, |mig| mig.ci),
    }
}

fn list(at: &mut At<'_>, kind: Kind) -> Vec<sys::nvmlProcessInfo_t> {
    let (now, gi) = (at.now, at.gi());
    let processes = at.device().list(now, gi, kind);
    processes.iter().map(|process| info(at, process)).collect()
}

/// # Safety
///
/// As for [`put_list`].
unsafe fn put_processes(
    call: &str,
    device: sys::nvmlDevice_t,
    kind: Kind,
    count: *mut c_uint,
    infos: *mut sys::nvmlProcessInfo_t,
) -> sys::nvmlReturn_t {
    result(driver::device(call, device, |at| {
        let processes = list(at, kind);
        // SAFETY: the caller vouches for it.
        let room = unsafe { count.as_ref() }.copied().unwrap_or(0) as usize;
        // SAFETY: the caller vouches for it.
        let answer = unsafe { put_list(infos, count, &processes) };
        if infos.is_null() || room < processes.len() {
            let now = at.now;
            at.device().counted(now).map_err(|_| code::UNKNOWN)?;
        }
        answer
    }))
}

/// The lists, of which versions 2 and 3 have the same struct.
macro_rules! lists {
    ($($name:ident: $kind:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            device: sys::nvmlDevice_t,
            count: *mut c_uint,
            infos: *mut sys::nvmlProcessInfo_t,
        ) -> sys::nvmlReturn_t {
            // SAFETY: the caller says how much room it has.
            unsafe { put_processes(stringify!($name), device, $kind, count, infos) }
        }
    )*};
}

lists! {
    nvmlDeviceGetComputeRunningProcesses_v2: Kind::Compute;
    nvmlDeviceGetComputeRunningProcesses_v3: Kind::Compute;
    nvmlDeviceGetGraphicsRunningProcesses_v2: Kind::Graphics;
    nvmlDeviceGetGraphicsRunningProcesses_v3: Kind::Graphics;
    nvmlDeviceGetMPSComputeRunningProcesses_v2: Kind::Mps;
    nvmlDeviceGetMPSComputeRunningProcesses_v3: Kind::Mps;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetRunningProcessDetailList(
    device: sys::nvmlDevice_t,
    list: *mut sys::nvmlProcessDetailList_t,
) -> sys::nvmlReturn_t {
    result(driver::device("nvmlDeviceGetRunningProcessDetailList", device, |at| {
        // SAFETY: the caller gives a struct with its version.
        let Some(list) = (unsafe { list.as_mut() }) else { return Err(code::INVALID_ARGUMENT) };
        if list.version != versioned::<sys::nvmlProcessDetailList_t>(1) {
            return Err(code::ARGUMENT_VERSION_MISMATCH);
        }
        let kind = match list.mode {
            0 => Kind::Compute,
            1 => Kind::Graphics,
            2 => Kind::Mps,
            _ => return Err(code::INVALID_ARGUMENT),
        };
        let details: Vec<_> = self::list(at, kind)
            .into_iter()
            .map(|info| sys::nvmlProcessDetail_v1_t {
                pid: info.pid,
                usedGpuMemory: info.usedGpuMemory,
                gpuInstanceId: info.gpuInstanceId,
                computeInstanceId: info.computeInstanceId,
                usedGpuCcProtectedMemory: 0,
            })
            .collect();
        // SAFETY: the caller's struct says how much room it has.
        unsafe { put_list(list.procArray, &raw mut list.numProcArrayEntries, &details) }
    }))
}

/// What processes used since a time stamp, and the stamp of the answer. Nothing is an error, as it is of NVML.
fn used(at: &mut At<'_>, last_seen: u64) -> Answer<(u64, Vec<Used>)> {
    let (now, refresh) = (at.now, at.refresh());
    let since = at.driver.unstamp(last_seen);
    let device = at.undivided()?;
    let to = device.tick(now, refresh);
    let from = since.max(to.saturating_sub(REMEMBERED * refresh)).max(device.start);
    let used = if from < to { device.used(from, to, None) } else { Vec::new() };
    if used.is_empty() { Err(code::NOT_FOUND) } else { Ok((at.driver.stamp(to), used)) }
}

/// A share that was not 0 is not told as 0.
fn percent(share: f64) -> c_uint {
    if share > 0.0 { (share.round() as c_uint).max(1) } else { 0 }
}

/// How much room a caller needs who asks: also for processes that have gone since they used something.
fn room_for_used(at: &mut At<'_>) -> Answer<c_uint> {
    Ok(at.undivided()?.n_processes().max(1) as c_uint)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: sys::nvmlDevice_t,
    samples: *mut sys::nvmlProcessUtilizationSample_t,
    count: *mut c_uint,
    last_seen: c_ulonglong,
) -> sys::nvmlReturn_t {
    result(driver::device("nvmlDeviceGetProcessUtilization", device, |at| {
        if samples.is_null() {
            // SAFETY: the caller gives a place for the number.
            let Some(count) = (unsafe { count.as_mut() }) else { return Err(code::INVALID_ARGUMENT) };
            *count = room_for_used(at)?;
            return Err(code::INSUFFICIENT_SIZE);
        }
        let (timeStamp, used) = used(at, last_seen)?;
        let answer: Vec<_> = used
            .iter()
            .map(|used| sys::nvmlProcessUtilizationSample_t {
                pid: used.pid,
                timeStamp,
                smUtil: percent(used.sm),
                memUtil: percent(used.memory),
                encUtil: 0,
                decUtil: 0,
            })
            .collect();
        // SAFETY: the caller says how much room it has.
        unsafe { put_list(samples, count, &answer) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetProcessesUtilizationInfo(
    device: sys::nvmlDevice_t,
    info: *mut sys::nvmlProcessesUtilizationInfo_t,
) -> sys::nvmlReturn_t {
    result(driver::device("nvmlDeviceGetProcessesUtilizationInfo", device, |at| {
        // SAFETY: the caller gives a struct with its version.
        let Some(info) = (unsafe { info.as_mut() }) else { return Err(code::INVALID_ARGUMENT) };
        if info.version != versioned::<sys::nvmlProcessesUtilizationInfo_t>(1) {
            return Err(code::ARGUMENT_VERSION_MISMATCH);
        }
        if info.procUtilArray.is_null() {
            info.processSamplesCount = room_for_used(at)?;
            return Err(code::INSUFFICIENT_SIZE);
        }
        let (timeStamp, used) = used(at, info.lastSeenTimeStamp)?;
        let answer: Vec<_> = used
            .iter()
            .map(|used| sys::nvmlProcessUtilizationInfo_v1_t {
                timeStamp,
                pid: used.pid,
                smUtil: percent(used.sm),
                memUtil: percent(used.memory),
                encUtil: 0,
                decUtil: 0,
                jpgUtil: 0,
                ofaUtil: 0,
            })
            .collect();
        // SAFETY: the caller's struct says how much room it has.
        unsafe { put_list(info.procUtilArray, &raw mut info.processSamplesCount, &answer) }
    }))
}
