//! The devices as NVML gives them: one method for each thing that is asked, an answer that may lack what it has not got.
//!
//! Owns the handles, which device a number means, MIG instances as devices of their own, and what NVML wants to have back
//! (the newest time stamp of utilization by process, the last GPM sample). Which counters a device has is `counters`'
//! business, when to ask is `schedule`'s. Changes nothing on any device.
//!
//! Three answers are not the same: a value; nothing, because the device has no such counter or the call failed; and a
//! device that is [`Lost`]. That nobody uses a device is a value: an empty list.
//!
//! Left out, because nvml-wrapper 0.13 reaches it only through its raw symbols, which take `unsafe`:
//! * `nvmlDeviceGetRunningProcessDetailList`, `nvmlDeviceGetProcessesUtilizationInfo`: the plain lists are used;
//! * `nvmlDeviceGetCurrentClocksEventReasons`: its older name `…ThrottleReasons` gives the same bits;
//! * `nvmlDeviceGetTemperatureV`, `…GetRemappedRows_v2`, `…GetSramEccErrorStatus`, `…GetPlatformInfo`;
//! * fields with a scope: NVLink's counters are those of link 0, so they are read only where there is one link;
//! * `nvmlDeviceGetGpuInstanceId` and `…GetComputeInstanceId`: an instance's ids come from its first process, which
//!   names them, or from an old driver's `MIG-GPU-…/gi/ci`. They are absent until then;
//! * a kept buffer for the process list, which would halve its two calls into the driver.
//!
//! To add something that is asked: a counter, a method here, and its query in `schedule`.

use std::collections::BTreeMap;

use nvml_wrapper::{
    Device, Nvml, error::NvmlError, structs::device::FieldId, sys_exports::field_id::NVML_FI_DEV_NVLINK_LINK_COUNT,
};

use super::{
    DeviceInfo,
    counters::{Absent, Counter, State, Support},
    meter::{Call, Meter},
};

mod gpm;
mod numbers;
mod processes;

/// Most devices that are read, instances included: hosts have at most sixteen devices of seven instances each.
pub const MAX_DEVICES: usize = 128;

/// A device does not answer any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Which.
    pub(super) device: u32,
    /// What NVML said.
    pub(super) reason: String,
}

/// The devices of one initialised library.
pub(super) struct Devices<'n> {
    nvml: &'n Nvml,
    meter: Meter,
    slots: BTreeMap<u32, Slot<'n>>,
    /// Something of [`Devices::infos`] became known since it was last taken.
    changed: bool,
}

struct Slot<'n> {
    info: DeviceInfo,
    handle: Device<'n>,
    /// MIG is on: the instances have the processes.
    divided: bool,
    support: Support,
    /// Newest time stamp of utilization by process, as NVML counts it.
    last_seen: Option<u64>,
    gpm: gpm::Pair<'n>,
}

/// What a device is, for the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Its number.
    pub(super) device: u32,
    /// The device that it is an instance of.
    pub(super) parent: Option<u32>,
    /// It is divided into instances.
    pub(super) divided: bool,
}

/// Whether an error says that a device is gone.
fn is_lost(error: &NvmlError) -> bool {
    matches!(error, NvmlError::GpuLost | NvmlError::ResetRequired)
}

impl<'n> Devices<'n> {
    /// Looks for devices. Those that are known to NVML and do not answer are given by name.
    pub(super) fn open(nvml: &'n Nvml, meter: Meter) -> Result<(Self, Vec<Lost>), NvmlError> {
        let count = meter.time(Call::DeviceCount, || nvml.device_count()).0?;
        let count = count.min(MAX_DEVICES as u32);
        let mut devices = Self { nvml, meter, slots: BTreeMap::new(), changed: false };
        let mut lost = Vec::new();
        let mut divided = Vec::new();
        for device in 0..count {
            let slot = devices.time(Call::HandleByIndex, || nvml.device_by_index(device));
            match slot.and_then(|handle| devices.describe(device, handle, None)) {
                Ok(slot) => {
                    divided.extend(slot.divided.then_some(device));
                    devices.slots.insert(device, slot);
                }
                Err(error) => lost.push(Lost { device, reason: error.to_string() }),
            }
        }
        let mut next = count;
        for parent in divided {
            for instance in devices.instances(parent) {
                if devices.slots.len() >= MAX_DEVICES {
                    break;
                }
                // One that is being destroyed is no device any more.
                if let Ok(slot) = devices.describe(next, instance, Some(parent)) {
                    devices.slots.insert(next, slot);
                    next += 1;
                }
            }
        }
        Ok((devices, lost))
    }

    fn time<T>(&self, call: Call, make: impl FnOnce() -> Result<T, NvmlError>) -> Result<T, NvmlError> {
        self.meter.time(call, make).0
    }

    fn describe(&self, device: u32, handle: Device<'n>, parent: Option<u32>) -> Result<Slot<'n>, NvmlError> {
        let uuid = self.time(Call::Uuid, || handle.uuid())?;
        let divided =
            parent.is_none() && self.time(Call::MigMode, || handle.mig_mode()).is_ok_and(|mig| mig.current == 1);
        let whole = |call, get: &dyn Fn() -> Result<u32, NvmlError>| match parent {
            None => self.time(call, get).ok(),
            Some(_) => None,
        };
        let info = DeviceInfo {
            device,
            parent,
            name: self.time(Call::Name, || handle.name()).unwrap_or_default(),
            memory_bytes: self.time(Call::Memory, || handle.memory_info()).ok().map(|memory| memory.total),
            instance: ids_of_old_uuid(&uuid),
            power_limit_mw: whole(Call::PowerLimit, &|| handle.enforced_power_limit()),
            pci: match parent {
                None => self.time(Call::PciInfo, || handle.pci_info()).ok().map(|pci| pci.bus_id),
                Some(parent) => self.slots.get(&parent).and_then(|parent| parent.info.pci.clone()),
            },
            uuid,
        };
        let mut support = Support::default();
        let no_links = match parent.is_none().then(|| self.links(&handle)).flatten() {
            Some(1) => None,
            Some(2..) => Some(Absent::Ambiguous),
            Some(0) | None => Some(Absent::NotSupported),
        };
        if let Some(why) = no_links {
            support.leave_out(Counter::NvlinkSent, why);
            support.leave_out(Counter::NvlinkReceived, why);
        }
        if parent.is_some() {
            for counter in NOT_OF_INSTANCES {
                support.leave_out(counter, Absent::NotSupported);
            }
        }
        Ok(Slot { info, handle, divided, support, last_seen: None, gpm: gpm::Pair::default() })
    }

    /// How many NVLinks a device has.
    fn links(&self, handle: &Device<'n>) -> Option<u64> {
        let fields = [FieldId(NVML_FI_DEV_NVLINK_LINK_COUNT)];
        let values = self.time(Call::FieldValues, || handle.field_values_for(&fields)).ok()?;
        values.into_iter().next()?.and_then(|sample| sample.value).ok().and_then(numbers::as_u64)
    }

    /// The MIG instances of a device. Numbers without an instance are gaps, not the end.
    fn instances(&self, parent: u32) -> Vec<Device<'n>> {
        let Some(Slot { handle, .. }) = self.slots.get(&parent) else { return Vec::new() };
        let count = self.time(Call::MigCount, || handle.mig_device_count()).unwrap_or(0);
        (0..count.min(MAX_DEVICES as u32))
            .filter_map(|n| self.time(Call::MigHandle, || handle.mig_device_by_index(n)).ok())
            .collect()
    }

    /// Has calls measured by another one from now on.
    pub(super) fn measure_with(&mut self, meter: Meter) {
        self.meter = meter;
    }

    /// What the devices are, for records.
    pub(super) fn infos(&self) -> Vec<DeviceInfo> {
        self.slots.values().map(|slot| slot.info.clone()).collect()
    }

    /// Whether what the devices are became better known since this was last asked.
    pub(super) fn changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What the devices are, for the schedule.
    pub(super) fn shapes(&self) -> Vec<Shape> {
        let shape = |slot: &Slot<'_>| {
            let Slot { info: DeviceInfo { device, parent, .. }, divided, .. } = *slot;
            Shape { device, parent, divided }
        };
        self.slots.values().map(shape).collect()
    }

    /// What is known of a counter of a device.
    pub(super) fn state(&self, device: u32, counter: Counter) -> Option<&State> {
        self.slots.get(&device).map(|slot| slot.support.state(counter))
    }

    /// Whether any of these is still worth asking for.
    pub(super) fn asks_any(&self, device: u32, counters: &[Counter]) -> bool {
        self.slots.get(&device).is_some_and(|slot| counters.iter().any(|&counter| slot.support.asks(counter)))
    }

    /// Whether a device that was lost answers.
    pub(super) fn answers(&self, device: u32) -> bool {
        let handle = self.time(Call::HandleByIndex, || self.nvml.device_by_index(device));
        // What does not change may come from the library's memory, so that something of the device itself is asked.
        handle.is_ok_and(|handle| match self.time(Call::Memory, || handle.memory_info()) {
            Ok(_) => true,
            Err(error) => Absent::of(&error).is_some(),
        })
    }

    fn ask<T>(
        &mut self,
        device: u32,
        counter: Counter,
        call: Call,
        make: impl FnOnce(&mut Slot<'n>) -> Result<T, NvmlError>,
    ) -> Result<Option<T>, Lost> {
        let Self { meter, slots, .. } = self;
        let Some(slot) = slots.get_mut(&device).filter(|slot| slot.support.asks(counter)) else { return Ok(None) };
        match meter.time(call, || make(slot)).0 {
            Ok(value) => {
                slot.support.worked(counter);
                Ok(Some(value))
            }
            Err(error) if is_lost(&error) => Err(Lost { device, reason: error.to_string() }),
            Err(error) => {
                slot.support.failed(counter, &error);
                Ok(None)
            }
        }
    }
}

/// What NVML tells of whole devices only.
const NOT_OF_INSTANCES: [Counter; 13] = [
    Counter::Energy,
    Counter::Power,
    Counter::PowerViolation,
    Counter::ThermalViolation,
    Counter::SoftwareThermalViolation,
    Counter::HardwareThermalViolation,
    Counter::PowerBrakeViolation,
    Counter::Utilization,
    Counter::ThrottleReasons,
    Counter::PcieSent,
    Counter::PcieReceived,
    Counter::ProcessUtilization,
    Counter::EccUncorrected,
];

/// The ids in the identity of an instance as drivers before 470 wrote it: `MIG-GPU-…/gi/ci`.
fn ids_of_old_uuid(uuid: &str) -> Option<(u32, u32)> {
    let mut parts = uuid.strip_prefix("MIG-GPU-")?.split('/').skip(1);
    let ids = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_old_identity_names_its_instance() {
        assert_eq!(ids_of_old_uuid("MIG-GPU-b8ea3855-276c-c9cb-b366-c6fa655957c5/1/5"), Some((1, 5)));
        assert_eq!(ids_of_old_uuid("MIG-b8ea3855-276c-c9cb-b366-c6fa655957c5"), None);
        assert_eq!(ids_of_old_uuid("MIG-GPU-b8ea3855/1"), None);
        assert_eq!(ids_of_old_uuid("GPU-b8ea3855"), None);
    }
}
