//! The thread that waits for what the driver reports by itself: XID errors and changes of MIG.
//!
//! Owns the event set. The wait is the driver's, up to a second, because it cannot be called off; it is no polling and
//! holds no lock. A device whose registration fails is left out, not all of them.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use nvml_wrapper::{
    Device, EventSet, Nvml, bitmasks::event::EventTypes, enums::event::XidError, error::NvmlError,
    struct_wrappers::event::EventData,
};

use super::{
    GpuRecord,
    counters::Absent,
    meter::{Call, Meter},
    nvml::MAX_DEVICES,
    thread::Shared,
};

/// Longest wait, so that the thread can end.
const WAIT: Duration = Duration::from_secs(1);

/// What the driver calls an error that it has no number for.
const UNKNOWN_XID: u64 = 999;

/// What is waited for.
fn wanted() -> EventTypes {
    EventTypes::CRITICAL_XID_ERROR | EventTypes::MIG_CONFIG_CHANGE
}

/// Waits for events until the end.
pub(super) fn run(shared: &Arc<Shared>, nvml: &Nvml) {
    // Nobody watches this thread's calls: one of them is made to block.
    let meter = shared.meter.unwatched();
    loop {
        let generation = shared.generation.load(Relaxed);
        match register(nvml, &meter) {
            Ok(Some(set)) => {
                while shared.generation.load(Relaxed) == generation {
                    if shared.controls.wait_for_end(Duration::ZERO) {
                        return;
                    }
                    if let Err(error) = wait(shared, &meter, &set) {
                        tracing::debug!(%error, "the wait for events of GPUs failed");
                        // An error that comes at once must not become a busy loop.
                        if Absent::of(&error).is_some() || shared.controls.wait_for_end(WAIT) {
                            return;
                        }
                    }
                }
            }
            // There may be one that has events when the devices are looked for again.
            Ok(None) => {
                if shared.controls.wait_for_end(WAIT) {
                    return;
                }
            }
            Err(error) => {
                tracing::info!(%error, "errors of GPUs are not reported: the driver has no events");
                return;
            }
        }
    }
}

/// A set with the events of all devices that have some.
fn register<'n>(nvml: &'n Nvml, meter: &Meter) -> Result<Option<EventSet<'n>>, NvmlError> {
    let count = nvml.device_count()?.min(MAX_DEVICES as u32);
    let mut able: Vec<(Device<'n>, EventTypes)> = Vec::new();
    for n in 0..count {
        let Ok(device) = nvml.device_by_index(n) else { continue };
        match meter.time(Call::EventTypes, || device.supported_event_types()).0 {
            Ok(types) if types.intersects(wanted()) => able.push((device, types & wanted())),
            Err(error @ NvmlError::FailedToLoadSymbol(_)) => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    // A registration that fails takes the set with it, so it begins again without that device.
    while !able.is_empty() {
        match register_all(nvml, meter, &able)? {
            Ok(set) => return Ok(Some(set)),
            Err((n, error)) => {
                tracing::info!(%error, "events of a GPU cannot be had");
                able.remove(n);
            }
        }
    }
    Ok(None)
}

/// A set with these devices' events, or which of them has none after all.
fn register_all<'n>(
    nvml: &'n Nvml,
    meter: &Meter,
    devices: &[(Device<'n>, EventTypes)],
) -> Result<Result<EventSet<'n>, (usize, NvmlError)>, NvmlError> {
    let mut set = nvml.create_event_set()?;
    for (n, (device, types)) in devices.iter().enumerate() {
        let register = || device.register_events(*types, set).map_err(|failed| failed.error);
        match meter.time(Call::EventRegister, register).0 {
            Ok(registered) => set = registered,
            Err(error) => return Ok(Err((n, error))),
        }
    }
    Ok(Ok(set))
}

/// Waits once.
fn wait(shared: &Shared, meter: &Meter, set: &EventSet<'_>) -> Result<(), NvmlError> {
    let EventData { device, event_type, event_data } = match set.wait(WAIT.as_millis() as u32) {
        Ok(event) => event,
        Err(NvmlError::Timeout) => return Ok(()),
        // A device that is lost is one of them. Which one, the polling thread finds out when it asks.
        Err(error) => return Err(error),
    };
    let at = meter.now();
    if event_type.contains(EventTypes::CRITICAL_XID_ERROR) {
        let code = match event_data {
            Some(XidError::Value(code)) => code,
            Some(XidError::Unknown) | None => UNKNOWN_XID,
        };
        // A device that is gone does not tell its number any more.
        let device = meter.time(Call::Index, || device.index()).0.ok();
        shared.outlet.say(at, GpuRecord::Xid { device, code });
    }
    if event_type.contains(EventTypes::MIG_CONFIG_CHANGE) {
        shared.controls.look_again();
    }
    Ok(())
}
