//! Fields, of which one call asks for many, and the driver's buffers of samples.
//!
//! The numbers of fields from 251 to 273 changed their meaning with driver 580.82: see [`meaning`].
//!
//! Assumed: PCIe counters are 32 bits wide, as those take them who read them on real devices; NVIDIA says only that they
//! wrap. NVLink counters of data and of everything ("raw") are one. Fields of NVLink
//! are of the link that `scopeId` names, or of all for all ones.

use std::ffi::{c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{self as sys, field_id as id};

use super::process::REMEMBERED;
use crate::{
    code::{self, Answer},
    device::Device,
    driver::{self, At, result},
    series::Series,
};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// What a number means: its field, by the number that this had before driver 580.82. From that version on the five
/// fields about reasons of low clocks and power balancing lie behind those about power smoothing instead of before them.
pub fn meaning(driver: &str, number: u32) -> u32 {
    let mut parts = driver.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match number {
        251..=268 if version >= (580, 82) => number + 5,
        269..=273 if version >= (580, 82) => number - 18,
        _ => number,
    }
}

/// A value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Int(u32),
    Long(u64),
}

/// Traffic over NVLink between the start and now, KiB.
fn nvlink(device: &Device, rate: &Series, scope: u32, now: u64) -> Answer<Value> {
    let links = match scope {
        u32::MAX => device.about.nvlinks,
        link if link < device.about.nvlinks => 1,
        _ => return Err(code::INVALID_ARGUMENT),
    };
    if device.about.nvlinks == 0 {
        return Err(code::NOT_SUPPORTED);
    }
    Ok(Value::Long((rate.integral(device.start, now) * u128::from(links) / u128::from(SECOND)) as u64))
}

/// Bytes between the start and now, as far as 32 bits hold them.
fn bytes(device: &Device, rate: &Series, now: u64) -> Answer<Value> {
    Ok(Value::Int((rate.integral(device.start, now) * 1024 / u128::from(SECOND)) as u32))
}

fn value(device: &mut Device, field: u32, scope: u32, now: u64, refresh: u64) -> Answer<Value> {
    let milliwatts = |watts: f64| Ok(Value::Int((watts * 1000.0).round() as u32));
    let violations = &device.violations;
    match field {
        id::NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION | id::NVML_FI_DEV_ENERGY => {
            Ok(Value::Long(device.energy(now, refresh)))
        }
        id::NVML_FI_DEV_POWER_INSTANT => Ok(Value::Int(device.power.at(now) as u32)),
        id::NVML_FI_DEV_POWER_AVERAGE => {
            let from = now.saturating_sub(SECOND).max(device.start);
            Ok(Value::Int(device.power.mean(from, now).round() as u32))
        }
        id::NVML_FI_DEV_POWER_MIN_LIMIT => milliwatts(device.about.idle_power_w),
        id::NVML_FI_DEV_POWER_MAX_LIMIT
        | id::NVML_FI_DEV_POWER_DEFAULT_LIMIT
        | id::NVML_FI_DEV_POWER_CURRENT_LIMIT
        | id::NVML_FI_DEV_POWER_REQUESTED_LIMIT => milliwatts(device.about.power_limit_w),
        id::NVML_FI_DEV_PERF_POLICY_POWER => Ok(Value::Long(violations.power.at(now))),
        id::NVML_FI_DEV_PERF_POLICY_THERMAL => Ok(Value::Long(violations.thermal.at(now))),
        id::NVML_FI_DEV_PERF_POLICY_SYNC_BOOST => Ok(Value::Long(violations.sync_boost.at(now))),
        id::NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT => Ok(Value::Long(violations.board_limit.at(now))),
        id::NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION => Ok(Value::Long(violations.low_utilization.at(now))),
        id::NVML_FI_DEV_PERF_POLICY_RELIABILITY => Ok(Value::Long(violations.reliability.at(now))),
        id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN => Ok(Value::Long(violations.software_thermal.at(now))),
        id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN => Ok(Value::Long(violations.hardware_thermal.at(now))),
        id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN => Ok(Value::Long(violations.power_brake.at(now))),
        id::NVML_FI_DEV_ECC_DBE_VOL_TOTAL | id::NVML_FI_DEV_ECC_DBE_AGG_TOTAL => Ok(Value::Long(device.ecc.at(now))),
        id::NVML_FI_DEV_ECC_SBE_VOL_TOTAL | id::NVML_FI_DEV_ECC_SBE_AGG_TOTAL => Ok(Value::Long(0)),
        id::NVML_FI_DEV_PCIE_COUNT_TX_BYTES => bytes(device, &device.pcie_sent, now),
        id::NVML_FI_DEV_PCIE_COUNT_RX_BYTES => bytes(device, &device.pcie_received, now),
        id::NVML_FI_DEV_NVLINK_LINK_COUNT => Ok(Value::Int(device.about.nvlinks)),
        id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX | id::NVML_FI_DEV_NVLINK_THROUGHPUT_RAW_TX => {
            nvlink(device, &device.nvlink_sent, scope, now)
        }
        id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX | id::NVML_FI_DEV_NVLINK_THROUGHPUT_RAW_RX => {
            nvlink(device, &device.nvlink_received, scope, now)
        }
        // So that a reader who mistakes one scheme for the other reads a number, as on a real device, and not an error.
        id::NVML_FI_PWR_SMOOTHING_ENABLED..=id::NVML_FI_PWR_SMOOTHING_ADMIN_OVERRIDE_RAMP_DOWN_HYST_VAL => {
            Ok(Value::Int(0))
        }
        _ => Err(code::NOT_SUPPORTED),
    }
}

/// One field, with its own result: the script's, if it has one.
fn fill(at: &mut At<'_>, field: &mut sys::nvmlFieldValue_t) {
    let (now, refresh) = (at.now, at.refresh());
    let known = meaning(&at.driver.header.driver, field.fieldId);
    let scripted = at
        .driver
        .script
        .fate("nvmlDeviceGetFieldValues", Some(at.place.device as u32), Some(known))
        .map_or(code::SUCCESS, |rule| rule.returns);
    let answer = match scripted {
        code::SUCCESS => at.whole().and_then(|device| value(device, known, field.scopeId, now, refresh)),
        error => Err(error),
    };
    field.timestamp = at.driver.stamp(now) as i64;
    field.latencyUsec = 0;
    field.nvmlReturn = answer.err().unwrap_or(code::SUCCESS);
    (field.valueType, field.value) = match answer {
        Ok(Value::Int(uiVal)) => {
            (sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT, sys::nvmlValue_t { ullVal: uiVal.into() })
        }
        Ok(Value::Long(ullVal)) => {
            (sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, sys::nvmlValue_t { ullVal })
        }
        Err(_) => return,
    };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: sys::nvmlDevice_t,
    count: c_int,
    values: *mut sys::nvmlFieldValue_t,
) -> sys::nvmlReturn_t {
    result(driver::device("nvmlDeviceGetFieldValues", device, |at| {
        let count = usize::try_from(count).unwrap_or(0);
        if values.is_null() || count == 0 {
            return Err(code::INVALID_ARGUMENT);
        }
        // SAFETY: the caller says how many structs it has filled in.
        let values = unsafe { std::slice::from_raw_parts_mut(values, count) };
        values.iter_mut().for_each(|field| fill(at, field));
        Ok(())
    }))
}

/// Samples after a time stamp, one per refresh: means of power and utilisation, and clocks as they were.
fn samples(at: &mut At<'_>, kind: sys::nvmlSamplingType_t, last_seen: u64) -> Answer<Vec<sys::nvmlSample_t>> {
    let (now, refresh) = (at.now, at.refresh());
    let since = at.driver.unstamp(last_seen);
    let device = at.whole()?;
    let (series, mean) = match kind {
        sys::nvmlSamplingType_enum_NVML_TOTAL_POWER_SAMPLES => (device.power.clone(), true),
        sys::nvmlSamplingType_enum_NVML_GPU_UTILIZATION_SAMPLES => (at.undivided()?.utilization.clone(), true),
        sys::nvmlSamplingType_enum_NVML_MEMORY_UTILIZATION_SAMPLES => {
            (at.undivided()?.memory_utilization.clone(), true)
        }
        sys::nvmlSamplingType_enum_NVML_PROCESSOR_CLK_SAMPLES => (device.sm_clock.clone(), false),
        sys::nvmlSamplingType_enum_NVML_MEMORY_CLK_SAMPLES => (device.memory_clock.clone(), false),
        _ => return Err(code::NOT_SUPPORTED),
    };
    let device = at.whole()?;
    let newest = device.tick(now, refresh);
    let n = ((newest - device.start) / refresh).min(REMEMBERED);
    let found: Vec<_> = (0..n)
        .rev()
        .map(|back| newest - back * refresh)
        .filter(|tick| *tick > since)
        .map(|tick| {
            let value = if mean { series.mean(tick - refresh, tick).round() as u64 } else { series.at(tick) };
            sys::nvmlSample_t { timeStamp: at.driver.stamp(tick), sampleValue: sys::nvmlValue_t { ullVal: value } }
        })
        .collect();
    if found.is_empty() { Err(code::NOT_FOUND) } else { Ok(found) }
}

/// Without a place for samples it says how many there are; with too small a one, the oldest.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetSamples(
    device: sys::nvmlDevice_t,
    kind: sys::nvmlSamplingType_t,
    last_seen: c_ulonglong,
    value_type: *mut sys::nvmlValueType_t,
    count: *mut c_uint,
    out: *mut sys::nvmlSample_t,
) -> sys::nvmlReturn_t {
    result(driver::device("nvmlDeviceGetSamples", device, |at| {
        let mut found = samples(at, kind, last_seen)?;
        // SAFETY: the caller gives a place for the number.
        let Some(room) = (unsafe { count.as_mut() }) else { return Err(code::INVALID_ARGUMENT) };
        // SAFETY: the caller gives a place for the type.
        unsafe { super::put(value_type, Ok(sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT)) }?;
        if out.is_null() {
            *room = found.len() as c_uint;
            return Ok(());
        }
        found.truncate(*room as usize);
        // SAFETY: the caller says how much room it has, and there are no more samples.
        unsafe { super::put_list(out, count, &found) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_changed_their_meaning_with_580_82() {
        for old in ["535.183.01", "580.65.06", "580.81"] {
            assert_eq!([250, 251, 253, 269, 273, 274].map(|n| meaning(old, n)), [250, 251, 253, 269, 273, 274]);
        }
        for new in ["580.82", "580.95.05", "610.57.04"] {
            assert_eq!(
                [250, 251, 268, 269, 271, 273, 274].map(|n| meaning(new, n)),
                [250, 256, 273, 251, 253, 255, 274]
            );
        }
    }
}
