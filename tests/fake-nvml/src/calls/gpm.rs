//! GPM: metrics between two samples.
//!
//! Assumed: samples of two devices, or closer than 100 ms, are `INVALID_ARGUMENT`. A metric that the script does not give
//! is `NOT_SUPPORTED` by itself, but for those that follow from other lines: utilisation (1 and 2), memory bandwidth
//! (10), and traffic of PCIe (20, 21) and NVLink (60, 61) in MiB per second. Of a MIG instance only 1, 2 and 10 are
//! known, as what its processes use.

use std::ffi::{CStr, c_uint};

use nvml_wrapper_sys::bindings as sys;

use super::put;
use crate::{
    code::{self, Answer},
    device::Device,
    driver::{self, At, Driver, HANDLES, result},
};

/// What a sample is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    device: usize,
    gi: Option<u32>,
    at: u64,
}

/// Least time between the two samples of a pair, nanoseconds.
const APART: u64 = 100_000_000;

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmQueryDeviceSupport(
    device: sys::nvmlDevice_t,
    support: *mut sys::nvmlGpmSupport_t,
) -> sys::nvmlReturn_t {
    // SAFETY: the caller gives a struct with its version.
    let version = unsafe { support.as_ref() }.map(|support| support.version);
    let answer = driver::device("nvmlGpmQueryDeviceSupport", device, |at| match version {
        None => Err(code::INVALID_ARGUMENT),
        Some(sys::NVML_GPM_SUPPORT_VERSION) => Ok(sys::nvmlGpmSupport_t {
            version: sys::NVML_GPM_SUPPORT_VERSION,
            isSupportedDevice: at.device().about.gpm as c_uint,
        }),
        Some(_) => Err(code::ARGUMENT_VERSION_MISMATCH),
    });
    // SAFETY: as above.
    result(unsafe { put(support, answer) })
}

fn to_handle(number: usize) -> sys::nvmlGpmSample_t {
    std::ptr::without_provenance_mut(number)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmSampleAlloc(out: *mut sys::nvmlGpmSample_t) -> sys::nvmlReturn_t {
    let answer = driver::system("nvmlGpmSampleAlloc", |driver| {
        if driver.samples.len() >= HANDLES {
            return Err(code::INSUFFICIENT_RESOURCES);
        }
        let number = driver.new_handle();
        driver.samples.insert(number, None);
        Ok(to_handle(number))
    });
    // SAFETY: the caller gives a place for the handle.
    result(unsafe { put(out, answer) })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleFree(sample: sys::nvmlGpmSample_t) -> sys::nvmlReturn_t {
    result(driver::system("nvmlGpmSampleFree", |driver| {
        driver.samples.remove(&sample.addr()).map(|_| ()).ok_or(code::INVALID_ARGUMENT)
    }))
}

/// Takes a sample.
fn take(at: &mut At<'_>, gi: Option<u32>, into: sys::nvmlGpmSample_t) -> Answer<()> {
    let (place, now) = (at.place, at.now);
    let about = &at.device().about;
    if !about.gpm {
        return Err(code::NOT_SUPPORTED);
    }
    if gi.is_some_and(|gi| about.mig.iter().all(|mig| mig.gi != gi)) {
        return Err(code::INVALID_ARGUMENT);
    }
    let sample = at.driver.samples.get_mut(&into.addr()).ok_or(code::INVALID_ARGUMENT)?;
    *sample = Some(Sample { device: place.device, gi, at: now });
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleGet(device: sys::nvmlDevice_t, sample: sys::nvmlGpmSample_t) -> sys::nvmlReturn_t {
    result(driver::device("nvmlGpmSampleGet", device, |at| {
        let gi = at.gi();
        take(at, gi, sample)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMigSampleGet(
    device: sys::nvmlDevice_t,
    gi: c_uint,
    sample: sys::nvmlGpmSample_t,
) -> sys::nvmlReturn_t {
    result(driver::device("nvmlGpmMigSampleGet", device, |at| {
        at.whole()?;
        take(at, Some(gi), sample)
    }))
}

fn metric(device: &Device, id: c_uint, gi: Option<u32>, from: u64, to: u64) -> Answer<f64> {
    if gi.is_some() {
        let used = device.used(from, to, gi);
        return match id {
            1 | 2 => Ok(used.iter().map(|used| used.sm).sum()),
            10 => Ok(used.iter().map(|used| used.memory).sum()),
            _ => Err(code::NOT_SUPPORTED),
        };
    }
    if let Some(value) = device.gpm(id, from, to) {
        return Ok(value);
    }
    let links = f64::from(device.about.nvlinks);
    match id {
        1 | 2 => Ok(device.utilization.mean(from, to)),
        10 => Ok(device.memory_utilization.mean(from, to)),
        20 => Ok(device.pcie_sent.mean(from, to) / 1024.0),
        21 => Ok(device.pcie_received.mean(from, to) / 1024.0),
        60 => Ok(device.nvlink_received.mean(from, to) / 1024.0 * links),
        61 => Ok(device.nvlink_sent.mean(from, to) / 1024.0 * links),
        _ => Err(code::NOT_SUPPORTED),
    }
}

/// Short name, long name and unit of a metric.
fn about(id: c_uint) -> [&'static CStr; 3] {
    match id {
        1 => [c"gr_util", c"graphics utilisation", c"%"],
        2 => [c"sm_util", c"multiprocessor utilisation", c"%"],
        3 => [c"sm_occ", c"multiprocessor occupancy", c"%"],
        4 => [c"int_util", c"integer utilisation", c"%"],
        5 => [c"any_tensor", c"tensor utilisation", c"%"],
        10 => [c"dram_bw", c"memory bandwidth utilisation", c"%"],
        20 => [c"pcie_tx", c"PCIe sent", c"MiB/s"],
        21 => [c"pcie_rx", c"PCIe received", c"MiB/s"],
        60 => [c"nvlink_rx", c"NVLink received", c"MiB/s"],
        61 => [c"nvlink_tx", c"NVLink sent", c"MiB/s"],
        _ => [c"metric", c"metric", c""],
    }
}

fn pair(driver: &Driver, request: &sys::nvmlGpmMetricsGet_t) -> Answer<(Sample, Sample)> {
    let sample = |handle: sys::nvmlGpmSample_t| driver.samples.get(&handle.addr()).copied().flatten();
    let (Some(first), Some(second)) = (sample(request.sample1), sample(request.sample2)) else {
        return Err(code::INVALID_ARGUMENT);
    };
    if (first.device, first.gi) != (second.device, second.gi) || second.at.saturating_sub(first.at) < APART {
        return Err(code::INVALID_ARGUMENT);
    }
    Ok((first, second))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmMetricsGet(request: *mut sys::nvmlGpmMetricsGet_t) -> sys::nvmlReturn_t {
    result(driver::system("nvmlGpmMetricsGet", |driver| {
        // SAFETY: the caller gives a struct with its version.
        let Some(request) = (unsafe { request.as_mut() }) else { return Err(code::INVALID_ARGUMENT) };
        if request.version != sys::NVML_GPM_METRICS_GET_VERSION {
            return Err(code::ARGUMENT_VERSION_MISMATCH);
        }
        let (first, second) = pair(driver, request)?;
        let n = request.numMetrics as usize;
        let device = &driver.devices[first.device];
        for wanted in request.metrics.get_mut(..n).ok_or(code::INVALID_ARGUMENT)? {
            let answer = metric(device, wanted.metricId, first.gi, first.at, second.at);
            wanted.nvmlReturn = answer.err().unwrap_or(code::SUCCESS);
            wanted.value = answer.unwrap_or(0.0);
            let [short, long, unit] = about(wanted.metricId).map(|text| text.as_ptr().cast_mut());
            (wanted.metricInfo.shortName, wanted.metricInfo.longName, wanted.metricInfo.unit) = (short, long, unit);
        }
        Ok(())
    }))
}
