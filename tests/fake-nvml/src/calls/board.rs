//! What a device is and how it does: names, memory, utilisation, power, clocks, temperature, errors, PCIe.
//!
//! Assumed: `nvmlDeviceGetPowerUsage` is the power at this moment; from Ampere on the real call averages over a second,
//! which here only field 185 does. Of memory, nothing is reserved.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as sys;

use super::{getters, put, put_text, system::pci};
use crate::{
    code::{self, Answer},
    device::{DOUBLE_BIT_ECC, Device, XID},
    driver::{self, At, result},
    series::Tally,
};

pub const MIB: u64 = 1 << 20;

fn milliwatts(watts: f64) -> c_uint {
    (watts * 1000.0).round() as c_uint
}

fn power_limit(at: &mut At<'_>) -> Answer<c_uint> {
    Ok(milliwatts(at.whole()?.about.power_limit_w))
}

fn throttle_reasons(at: &mut At<'_>) -> Answer<c_ulonglong> {
    let now = at.now;
    Ok(at.whole()?.throttle_reasons.at(now))
}

/// Total, used and free memory, bytes.
fn memory(at: &mut At<'_>) -> (u64, u64, u64) {
    let (gi, now) = (at.gi(), at.now);
    let total = at.mig().map(|mig| mig.memory_mib);
    let device = at.device();
    let total = total.unwrap_or(device.about.memory_mib);
    let used = device.memory_used(now, gi).min(total);
    (total * MIB, used * MIB, (total - used) * MIB)
}

getters! {
    nvmlDeviceGetIndex: c_uint = |at| Ok(at.place.mig.unwrap_or(at.place.device) as c_uint);
    nvmlDeviceGetMinorNumber: c_uint = |at| { at.whole()?; Ok(at.place.device as c_uint) };
    nvmlDeviceGetArchitecture: sys::nvmlDeviceArchitecture_t =
        |at| Ok(if at.device().about.gpm { sys::NVML_DEVICE_ARCH_HOPPER } else { sys::NVML_DEVICE_ARCH_AMPERE });
    nvmlDeviceGetPowerUsage: c_uint = |at| { let now = at.now; Ok(at.whole()?.power.at(now) as c_uint) };
    nvmlDeviceGetPowerManagementLimit: c_uint = power_limit;
    nvmlDeviceGetPowerManagementDefaultLimit: c_uint = power_limit;
    nvmlDeviceGetEnforcedPowerLimit: c_uint = power_limit;
    nvmlDeviceGetTotalEnergyConsumption: c_ulonglong = |at| {
        let (now, refresh) = (at.now, at.refresh());
        Ok(at.whole()?.energy(now, refresh))
    };
    nvmlDeviceGetUtilizationRates: sys::nvmlUtilization_t = |at| {
        let now = at.now;
        let device = at.undivided()?;
        let (gpu, memory) = (device.utilization.at(now) as c_uint, device.memory_utilization.at(now) as c_uint);
        Ok(sys::nvmlUtilization_t { gpu, memory })
    };
    nvmlDeviceGetMemoryInfo: sys::nvmlMemory_t = |at| {
        let (total, used, free) = memory(at);
        Ok(sys::nvmlMemory_t { total, free, used })
    };
    nvmlDeviceGetCurrentClocksThrottleReasons: c_ulonglong = throttle_reasons;
    nvmlDeviceGetCurrentClocksEventReasons: c_ulonglong = throttle_reasons;
    nvmlDeviceGetSupportedEventTypes: c_ulonglong = |at| { at.whole()?; Ok(XID | DOUBLE_BIT_ECC) };
    nvmlDeviceGetPciInfo_v3: sys::nvmlPciInfo_t = |at| {
        let text = at.whole()?.about.pci.clone();
        let (domain, bus, device) = pci(&text).ok_or(code::UNKNOWN)?;
        let mut info = sys::nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain,
            bus,
            device,
            // An H100 with 80 GB.
            pciDeviceId: 0x2330_10DE,
            pciSubSystemId: 0x16C1_10DE,
            busId: [0; 32],
        };
        copy(&mut info.busId, &text);
        copy(&mut info.busIdLegacy, &format!("{domain:04X}:{bus:02X}:{device:02X}.0"));
        Ok(info)
    };
}

fn copy(to: &mut [c_char], text: &str) {
    let room = to.len() - 1;
    to.iter_mut().zip(text.bytes().take(room)).for_each(|(to, byte)| *to = byte as c_char);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(
    device: sys::nvmlDevice_t,
    name: *mut c_char,
    length: c_uint,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetName", device, |at| {
        let name = at.device().about.name.clone();
        Ok(at.mig().map_or_else(|| name.clone(), |mig| format!("{name} MIG {}gb", mig.memory_mib.div_ceil(1024))))
    });
    // SAFETY: the caller gives the length of its buffer.
    result(unsafe { put_text(name, length, answer) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(
    device: sys::nvmlDevice_t,
    uuid: *mut c_char,
    length: c_uint,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetUUID", device, |at| {
        let mig = at.mig().map(|mig| mig.uuid.clone());
        Ok(mig.unwrap_or_else(|| at.device().about.uuid.clone()))
    });
    // SAFETY: the caller gives the length of its buffer.
    result(unsafe { put_text(uuid, length, answer) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: sys::nvmlDevice_t,
    info: *mut sys::nvmlMemory_v2_t,
) -> sys::nvmlReturn_t {
    // SAFETY: the caller gives a struct with its version.
    let version = unsafe { info.as_ref() }.map(|info| info.version);
    let answer = driver::device("nvmlDeviceGetMemoryInfo_v2", device, |at| {
        let version = version.ok_or(code::INVALID_ARGUMENT)?;
        if version != versioned::<sys::nvmlMemory_v2_t>(2) {
            return Err(code::ARGUMENT_VERSION_MISMATCH);
        }
        let (total, used, free) = memory(at);
        Ok(sys::nvmlMemory_v2_t { version, total, reserved: 0, free, used })
    });
    // SAFETY: as above.
    result(unsafe { put(info, answer) })
}

/// How NVML marks the version of a struct: its size, and the version in the highest byte.
pub fn versioned<T>(version: u32) -> u32 {
    size_of::<T>() as u32 | version << 24
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPowerManagementLimitConstraints(
    device: sys::nvmlDevice_t,
    least: *mut c_uint,
    most: *mut c_uint,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetPowerManagementLimitConstraints", device, |at| {
        let about = &at.whole()?.about;
        Ok((milliwatts(about.idle_power_w), milliwatts(about.power_limit_w)))
    });
    // SAFETY: the caller gives a place for each.
    let first = unsafe { put(least, answer.map(|(least, _)| least)) };
    // SAFETY: as above.
    result(first.and_then(|()| unsafe { put(most, answer.map(|(_, most)| most)) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: sys::nvmlDevice_t,
    sensor: sys::nvmlTemperatureSensors_t,
    out: *mut c_uint,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetTemperature", device, |at| match sensor {
        sys::nvmlTemperatureSensors_enum_NVML_TEMPERATURE_GPU => {
            let now = at.now;
            Ok(at.whole()?.temperature.at(now) as c_uint)
        }
        _ => Err(code::INVALID_ARGUMENT),
    });
    // SAFETY: the caller gives a place for the value.
    result(unsafe { put(out, answer) })
}

fn clock(at: &mut At<'_>, kind: sys::nvmlClockType_t) -> Answer<c_uint> {
    let now = at.now;
    let device = at.whole()?;
    let clock = match kind {
        sys::nvmlClockType_enum_NVML_CLOCK_GRAPHICS
        | sys::nvmlClockType_enum_NVML_CLOCK_SM
        | sys::nvmlClockType_enum_NVML_CLOCK_VIDEO => &device.sm_clock,
        sys::nvmlClockType_enum_NVML_CLOCK_MEM => &device.memory_clock,
        _ => return Err(code::INVALID_ARGUMENT),
    };
    Ok(clock.at(now) as c_uint)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetClockInfo(
    device: sys::nvmlDevice_t,
    kind: sys::nvmlClockType_t,
    out: *mut c_uint,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetClockInfo", device, |at| clock(at, kind));
    // SAFETY: the caller gives a place for the value.
    result(unsafe { put(out, answer) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetClock(
    device: sys::nvmlDevice_t,
    kind: sys::nvmlClockType_t,
    id: sys::nvmlClockId_t,
    out: *mut c_uint,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetClock", device, |at| match id {
        sys::nvmlClockId_enum_NVML_CLOCK_ID_CURRENT => clock(at, kind),
        _ => Err(code::NOT_SUPPORTED),
    });
    // SAFETY: the caller gives a place for the value.
    result(unsafe { put(out, answer) })
}

/// The counter of a policy of performance.
fn violation(device: &Device, policy: sys::nvmlPerfPolicyType_t) -> Answer<&Tally> {
    let violations = &device.violations;
    match policy {
        sys::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_POWER => Ok(&violations.power),
        sys::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_THERMAL => Ok(&violations.thermal),
        sys::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_SYNC_BOOST => Ok(&violations.sync_boost),
        sys::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_BOARD_LIMIT => Ok(&violations.board_limit),
        sys::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_LOW_UTILIZATION => Ok(&violations.low_utilization),
        sys::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_RELIABILITY => Ok(&violations.reliability),
        sys::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_TOTAL_APP_CLOCKS
        | sys::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_TOTAL_BASE_CLOCKS => Err(code::NOT_SUPPORTED),
        _ => Err(code::INVALID_ARGUMENT),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetViolationStatus(
    device: sys::nvmlDevice_t,
    policy: sys::nvmlPerfPolicyType_t,
    out: *mut sys::nvmlViolationTime_t,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetViolationStatus", device, |at| {
        let now = at.now;
        let referenceTime = at.driver.stamp(now);
        let violationTime = violation(at.whole()?, policy)?.at(now);
        Ok(sys::nvmlViolationTime_t { referenceTime, violationTime })
    });
    // SAFETY: the caller gives a place for the value.
    result(unsafe { put(out, answer) })
}

/// Errors that were corrected are never scripted: there are none.
fn ecc(at: &mut At<'_>, kind: sys::nvmlMemoryErrorType_t) -> Answer<c_ulonglong> {
    let now = at.now;
    let device = at.whole()?;
    match kind {
        sys::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_CORRECTED => Ok(0),
        sys::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_UNCORRECTED => Ok(device.ecc.at(now)),
        _ => Err(code::INVALID_ARGUMENT),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: sys::nvmlDevice_t,
    kind: sys::nvmlMemoryErrorType_t,
    _counter: sys::nvmlEccCounterType_t,
    out: *mut c_ulonglong,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetTotalEccErrors", device, |at| ecc(at, kind));
    // SAFETY: the caller gives a place for the value.
    result(unsafe { put(out, answer) })
}

/// All errors are of the device's own memory.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryErrorCounter(
    device: sys::nvmlDevice_t,
    kind: sys::nvmlMemoryErrorType_t,
    _counter: sys::nvmlEccCounterType_t,
    location: sys::nvmlMemoryLocation_t,
    out: *mut c_ulonglong,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetMemoryErrorCounter", device, |at| match location {
        sys::nvmlMemoryLocation_enum_NVML_MEMORY_LOCATION_DEVICE_MEMORY => ecc(at, kind),
        _ => Err(code::NOT_SUPPORTED),
    });
    // SAFETY: the caller gives a place for the value.
    result(unsafe { put(out, answer) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetEccMode(
    device: sys::nvmlDevice_t,
    current: *mut sys::nvmlEnableState_t,
    pending: *mut sys::nvmlEnableState_t,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetEccMode", device, |at| {
        at.whole()?;
        Ok(sys::nvmlEnableState_enum_NVML_FEATURE_ENABLED)
    });
    // SAFETY: the caller gives a place for each.
    let first = unsafe { put(current, answer) };
    // SAFETY: as above.
    result(first.and_then(|()| unsafe { put(pending, answer) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPcieThroughput(
    device: sys::nvmlDevice_t,
    counter: sys::nvmlPcieUtilCounter_t,
    out: *mut c_uint,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetPcieThroughput", device, |at| {
        let now = at.now;
        let device = at.whole()?;
        match counter {
            sys::nvmlPcieUtilCounter_enum_NVML_PCIE_UTIL_TX_BYTES => Ok(device.pcie_sent.at(now) as c_uint),
            sys::nvmlPcieUtilCounter_enum_NVML_PCIE_UTIL_RX_BYTES => Ok(device.pcie_received.at(now) as c_uint),
            _ => Err(code::INVALID_ARGUMENT),
        }
    });
    // SAFETY: the caller gives a place for the value.
    result(unsafe { put(out, answer) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: sys::nvmlDevice_t,
    major: *mut c_int,
    minor: *mut c_int,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetCudaComputeCapability", device, |at| {
        Ok(if at.device().about.gpm { (9, 0) } else { (8, 0) })
    });
    // SAFETY: the caller gives a place for each.
    let first = unsafe { put(major, answer.map(|(major, _)| major)) };
    // SAFETY: as above.
    result(first.and_then(|()| unsafe { put(minor, answer.map(|(_, minor)| minor)) }))
}
