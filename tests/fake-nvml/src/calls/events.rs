//! Events: sets, what is registered in them, and the wait.
//!
//! Assumed: an event is given once to each set that had its device and kind registered when it happened, in order of
//! time; unlike the real driver, which repeats the latest XID for those before it. A wait fails with `GPU_IS_LOST` while a
//! registered device is lost and nothing else is to be told.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{c_uint, c_ulonglong},
    time::{Duration, Instant},
};

use nvml_wrapper_sys::bindings as sys;

use super::put;
use crate::{
    code::{self, Answer},
    device::{DOUBLE_BIT_ECC, Reported, XID},
    driver::{self, Driver, HANDLES, Place, result},
    script::Watch,
};

/// A set of events.
#[derive(Debug, Default)]
pub struct Set {
    /// Devices by index: which kinds, and since when.
    registered: BTreeMap<usize, (u64, u64)>,
    /// Numbers of the events that were given.
    given: BTreeSet<u64>,
}

/// Longest single wait, in case the clock that events are scripted by differs from the one that waits.
const NAP: Duration = Duration::from_secs(1);

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetCreate(out: *mut sys::nvmlEventSet_t) -> sys::nvmlReturn_t {
    let answer = driver::system("nvmlEventSetCreate", |driver| {
        if driver.sets.len() >= HANDLES {
            return Err(code::INSUFFICIENT_RESOURCES);
        }
        let number = driver.new_handle();
        driver.sets.insert(number, Set::default());
        Ok(std::ptr::without_provenance_mut(number))
    });
    // SAFETY: the caller gives a place for the handle.
    result(unsafe { put(out, answer) })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: sys::nvmlEventSet_t) -> sys::nvmlReturn_t {
    result(driver::system("nvmlEventSetFree", |driver| {
        driver.sets.remove(&set.addr()).map(|_| ()).ok_or(code::INVALID_ARGUMENT)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(
    device: sys::nvmlDevice_t,
    kinds: c_ulonglong,
    set: sys::nvmlEventSet_t,
) -> sys::nvmlReturn_t {
    result(driver::device("nvmlDeviceRegisterEvents", device, |at| {
        at.whole()?;
        if kinds & !(XID | DOUBLE_BIT_ECC) != 0 {
            return Err(code::NOT_SUPPORTED);
        }
        let set = at.driver.sets.get_mut(&set.addr()).ok_or(code::INVALID_ARGUMENT)?;
        let (registered, _) = set.registered.entry(at.place.device).or_insert((0, at.now));
        *registered |= kinds;
        Ok(())
    }))
}

/// What a look at a set found.
enum Found {
    Event(usize, Reported),
    /// Nothing yet; the next one that the script has is so far away.
    Nothing(Option<Duration>),
}

fn look(driver: &mut Driver, set: usize) -> Answer<Found> {
    let now = driver.script.now();
    let set = driver.sets.get_mut(&set).ok_or(code::INVALID_ARGUMENT)?;
    let mut waiting: Vec<(usize, Reported)> = Vec::new();
    for (device, (kinds, since)) in &set.registered {
        let reported = driver.devices[*device].reported.iter();
        let new = reported.filter(|event| event.event & kinds != 0 && event.at >= *since);
        waiting.extend(new.filter(|event| !set.given.contains(&event.number)).map(|event| (*device, *event)));
    }
    match waiting.into_iter().min_by_key(|(_, event)| (event.at, event.number)) {
        Some((device, event)) if event.at <= now => {
            set.given.insert(event.number);
            Ok(Found::Event(device, event))
        }
        _ if set.registered.keys().any(|device| driver.devices[*device].is_lost(now)) => Err(code::GPU_IS_LOST),
        next => Ok(Found::Nothing(next.map(|(_, event)| Duration::from_nanos(event.at - now)))),
    }
}

fn wait(call: &str, set: sys::nvmlEventSet_t, timeout: c_uint) -> Answer<(usize, Reported)> {
    let end = Instant::now() + Duration::from_millis(timeout.into());
    let mut watch: Option<Watch> = None;
    loop {
        let found = driver::system(call, |driver| {
            let found = look(driver, set.addr())?;
            let first = watch.is_none();
            watch.get_or_insert_with(|| driver.script.watch());
            // What was appended before there was a watch is looked at once more.
            Ok(if let (true, Found::Nothing(_)) = (first, &found) {
                Found::Nothing(Some(Duration::ZERO))
            } else {
                found
            })
        })?;
        let next = match found {
            Found::Event(device, event) => return Ok((device, event)),
            Found::Nothing(next) => next.unwrap_or(NAP),
        };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(code::TIMEOUT);
        }
        if let (Some(watch), false) = (&watch, next.is_zero()) {
            watch.wait(left.min(next).min(NAP));
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait_v2(
    set: sys::nvmlEventSet_t,
    data: *mut sys::nvmlEventData_t,
    timeout: c_uint,
) -> sys::nvmlReturn_t {
    let answer = wait("nvmlEventSetWait_v2", set, timeout).map(|(device, event)| sys::nvmlEventData_t {
        device: Place { device, mig: None }.handle(),
        eventType: event.event,
        eventData: event.data,
        gpuInstanceId: c_uint::MAX,
        computeInstanceId: c_uint::MAX,
    });
    // SAFETY: the caller gives a place for the event.
    result(unsafe { put(data, answer) })
}

/// What the first version of the call writes: no instance ids.
#[repr(C)]
struct EventDataV1 {
    device: sys::nvmlDevice_t,
    event: c_ulonglong,
    data: c_ulonglong,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait(
    set: sys::nvmlEventSet_t,
    data: *mut sys::nvmlEventData_t,
    timeout: c_uint,
) -> sys::nvmlReturn_t {
    let answer = wait("nvmlEventSetWait", set, timeout).map(|(device, event)| EventDataV1 {
        device: Place { device, mig: None }.handle(),
        event: event.event,
        data: event.data,
    });
    // SAFETY: the caller gives a place for the event, whose newer version begins with the older.
    result(unsafe { put(data.cast::<EventDataV1>(), answer) })
}
