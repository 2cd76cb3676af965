//! The library itself, its versions, and the way from an index or name to a device.

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings as sys;

use super::{get_text, put, put_text};
use crate::{
    code::{self, Answer},
    driver::{self, Driver, Place, result},
};

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> sys::nvmlReturn_t {
    result(driver::init("nvmlInit_v2"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> sys::nvmlReturn_t {
    result(driver::init("nvmlInitWithFlags"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> sys::nvmlReturn_t {
    result(driver::shutdown("nvmlShutdown"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: sys::nvmlReturn_t) -> *const c_char {
    let text = match code {
        code::SUCCESS => c"success",
        code::UNINITIALIZED => c"the library was not initialised",
        code::NOT_SUPPORTED => c"not supported",
        code::NOT_FOUND => c"not found",
        code::GPU_IS_LOST => c"the GPU is lost",
        _ => c"an error of the script",
    };
    text.as_ptr()
}

/// Calls about no device that write one value.
macro_rules! system {
    ($($name:ident: $type:ty = $answer:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(out: *mut $type) -> sys::nvmlReturn_t {
            let answer = driver::system(stringify!($name), |driver| { let answer: fn(&mut Driver) -> $type = $answer; Ok(answer(driver)) });
            // SAFETY: the caller gives a place for the value.
            result(unsafe { put(out, answer) })
        }
    )*};
}

system! {
    nvmlDeviceGetCount_v2: c_uint = |driver| driver.devices.len() as c_uint;
    nvmlSystemGetCudaDriverVersion: c_int = |driver| driver.header.cuda;
    nvmlSystemGetCudaDriverVersion_v2: c_int = |driver| driver.header.cuda;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> sys::nvmlReturn_t {
    let answer = driver::system("nvmlSystemGetDriverVersion", |driver| Ok(driver.header.driver.clone()));
    // SAFETY: the caller gives the length of its buffer.
    result(unsafe { put_text(version, length, answer) })
}

/// The version of NVML is CUDA's first number and the driver's version, as `13.580.95.05`.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> sys::nvmlReturn_t {
    let answer = driver::system("nvmlSystemGetNVMLVersion", |driver| {
        Ok(format!("{}.{}", driver.header.cuda / 1000, driver.header.driver))
    });
    // SAFETY: as above.
    result(unsafe { put_text(version, length, answer) })
}

/// The first device, or MIG instance of one, that is asked for. A lost one can't be had.
fn find(driver: &Driver, is_it: impl Fn(&Driver, Place) -> bool) -> Answer<sys::nvmlDevice_t> {
    let places = driver.devices.iter().enumerate().flat_map(|(device, state)| {
        let instances = (0..state.about.mig.len()).map(Some);
        std::iter::once(None).chain(instances).map(move |mig| Place { device, mig })
    });
    let place = places.into_iter().find(|place| is_it(driver, *place)).ok_or(code::NOT_FOUND)?;
    match driver.devices[place.device].is_lost(driver.script.now()) {
        true => Err(code::GPU_IS_LOST),
        false => Ok(place.handle()),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: *mut sys::nvmlDevice_t) -> sys::nvmlReturn_t {
    let answer = driver::system("nvmlDeviceGetHandleByIndex_v2", |driver| {
        let place = Place { device: index as usize, mig: None };
        find(driver, |_, other| other == place).map_err(|error| match error {
            code::NOT_FOUND => code::INVALID_ARGUMENT,
            other => other,
        })
    });
    // SAFETY: the caller gives a place for the handle.
    result(unsafe { put(out, answer) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, out: *mut sys::nvmlDevice_t) -> sys::nvmlReturn_t {
    // SAFETY: the caller gives a string.
    let uuid = unsafe { get_text(uuid) };
    let answer = driver::system("nvmlDeviceGetHandleByUUID", |driver| {
        let uuid = uuid?;
        find(driver, |driver, place| {
            let about = &driver.devices[place.device].about;
            place.mig.map_or(&about.uuid, |mig| &about.mig[mig].uuid) == uuid
        })
    });
    // SAFETY: the caller gives a place for the handle.
    result(unsafe { put(out, answer) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(
    bus_id: *const c_char,
    out: *mut sys::nvmlDevice_t,
) -> sys::nvmlReturn_t {
    // SAFETY: the caller gives a string.
    let bus_id = unsafe { get_text(bus_id) };
    let answer = driver::system("nvmlDeviceGetHandleByPciBusId_v2", |driver| {
        let address = pci(bus_id?).ok_or(code::INVALID_ARGUMENT)?;
        find(driver, |driver, place| {
            place.mig.is_none() && pci(&driver.devices[place.device].about.pci) == Some(address)
        })
    });
    // SAFETY: the caller gives a place for the handle.
    result(unsafe { put(out, answer) })
}

/// Domain, bus and device of a PCI address as text; the domain has four digits or eight, or is left out.
pub fn pci(text: &str) -> Option<(u32, u32, u32)> {
    let number = |text| u32::from_str_radix(text, 16).ok();
    let mut parts = text.split(':').rev();
    let device = parts.next()?;
    let device = number(device.split_once('.').map_or(device, |(device, _)| device))?;
    let bus = number(parts.next()?)?;
    let domain = parts.next().map_or(Some(0), number)?;
    Some((domain, bus, device))
}

#[cfg(test)]
mod tests {
    use super::pci;

    #[test]
    fn a_pci_address_has_several_forms() {
        for text in ["00000000:0A:00.0", "0000:0a:00.0", "0a:00.0", "0A:0"] {
            assert_eq!(pci(text), Some((0, 10, 0)), "{text}");
        }
        assert_eq!(pci("00000001:41:1F.0"), Some((1, 0x41, 0x1f)));
        assert_eq!(pci("GPU-0"), None);
    }
}
