//! MIG: whether it is on, its instances, and what a handle is of.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings as sys;

use super::{getters, put};
use crate::{
    code,
    driver::{self, Place, result},
};

getters! {
    nvmlDeviceIsMigDeviceHandle: c_uint = |at| Ok(at.mig().is_some() as c_uint);
    nvmlDeviceGetGpuInstanceId: c_uint = |at| at.mig().map(|mig| mig.gi).ok_or(code::NOT_SUPPORTED);
    nvmlDeviceGetComputeInstanceId: c_uint = |at| at.mig().map(|mig| mig.ci).ok_or(code::NOT_SUPPORTED);
    // As many as a device can have, not as it has: those beyond are not found.
    nvmlDeviceGetMaxMigDeviceCount: c_uint = |at| Ok(if at.whole()?.has_mig() { MOST } else { 0 });
    nvmlDeviceGetDeviceHandleFromMigDeviceHandle: sys::nvmlDevice_t = |at| match at.mig() {
        Some(_) => Ok(Place { mig: None, ..at.place }.handle()),
        None => Err(code::INVALID_ARGUMENT),
    };
}

/// Instances that a device may have; an H100 has as many slices.
const MOST: c_uint = 7;

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: sys::nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetMigMode", device, |at| Ok(at.whole()?.has_mig() as c_uint));
    // SAFETY: the caller gives a place for each.
    let first = unsafe { put(current, answer) };
    // SAFETY: as above.
    result(first.and_then(|()| unsafe { put(pending, answer) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: sys::nvmlDevice_t,
    index: c_uint,
    out: *mut sys::nvmlDevice_t,
) -> sys::nvmlReturn_t {
    let answer = driver::device("nvmlDeviceGetMigDeviceHandleByIndex", device, |at| {
        let n = at.whole()?.about.mig.len();
        match index as usize {
            _ if n == 0 => Err(code::NOT_SUPPORTED),
            mig if mig < n => Ok(Place { mig: Some(mig), ..at.place }.handle()),
            _ if index < MOST => Err(code::NOT_FOUND),
            _ => Err(code::INVALID_ARGUMENT),
        }
    });
    // SAFETY: the caller gives a place for the handle.
    result(unsafe { put(out, answer) })
}
