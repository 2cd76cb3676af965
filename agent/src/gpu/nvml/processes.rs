//! Who uses a device: the processes with a context on it, and their shares of its time.

use std::collections::BTreeMap;

use nvml_wrapper::{Device, enums::device::UsedGpuMemory, error::NvmlError, struct_wrappers::device::ProcessInfo};

use super::{Devices, Lost};
use crate::gpu::{DeviceProcess, ProcessUtilization, counters::Counter, meter::Call};

/// Most processes of one device that are told: each has a context of some hundred MiB, so no device holds as many.
pub const MAX_PROCESSES: usize = 4096;

/// How often a list is asked for when it grew between its count and its data.
const LIST_TRIES: usize = 3;

type List = Result<Vec<ProcessInfo>, NvmlError>;

impl<'n> Devices<'n> {
    /// Every process with a context, those under MPS too. Absent if NVML did not say.
    pub(in crate::gpu) fn processes(&mut self, device: u32) -> Result<Option<Vec<DeviceProcess>>, Lost> {
        let plain = self.list(device, Counter::Processes, Call::Processes, Device::running_compute_processes)?;
        let mps =
            self.list(device, Counter::MpsProcesses, Call::MpsProcesses, Device::mps_running_compute_processes)?;
        let Some(plain) = plain else { return Ok(None) };
        let mut processes = BTreeMap::<u32, Option<u64>>::new();
        for ProcessInfo { pid, used_gpu_memory, .. } in plain.iter().chain(mps.iter().flatten()) {
            let memory = match *used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            };
            if processes.len() < MAX_PROCESSES || processes.contains_key(pid) {
                let told = processes.entry(*pid).or_default();
                *told = (*told).max(memory);
            }
        }
        Ok(Some(processes.into_iter().map(|(pid, memory)| DeviceProcess { pid, memory }).collect()))
    }

    fn list(
        &mut self,
        device: u32,
        counter: Counter,
        call: Call,
        get: fn(&Device<'n>) -> List,
    ) -> Result<Option<Vec<ProcessInfo>>, Lost> {
        let list = self.ask(device, counter, call, |slot| {
            let grew = |list: &List| matches!(list, Err(NvmlError::InsufficientSize(_)));
            (1..LIST_TRIES).fold(get(&slot.handle), |list, _| if grew(&list) { get(&slot.handle) } else { list })
        })?;
        if let (Some(list), Some(slot)) = (&list, self.slots.get_mut(&device))
            && slot.info.parent.is_some()
            && slot.info.instance.is_none()
        {
            let ids = |process: &ProcessInfo| process.gpu_instance_id.zip(process.compute_instance_id);
            slot.info.instance = list.iter().find_map(ids);
            self.changed |= slot.info.instance.is_some();
        }
        Ok(list)
    }

    /// Who used a device since this was last asked; empty if nobody did. Absent if NVML did not say.
    pub(in crate::gpu) fn process_utilization(&mut self, device: u32) -> Result<Option<Vec<ProcessUtilization>>, Lost> {
        let samples = self.ask(device, Counter::ProcessUtilization, Call::ProcessUtilization, |slot| {
            // Without the newest stamp it is the mean of all that the driver keeps.
            match slot.handle.process_utilization_stats(slot.last_seen) {
                Err(NvmlError::NotFound) => Ok(Vec::new()),
                answer => answer,
            }
        })?;
        let (Some(samples), Some(slot)) = (samples, self.slots.get_mut(&device)) else { return Ok(None) };
        slot.last_seen = slot.last_seen.max(samples.iter().map(|sample| sample.timestamp).max());
        // Of several samples of a process the newest counts.
        let mut by_pid = BTreeMap::new();
        for sample in samples {
            let this = (sample.timestamp, sample.sm_util, sample.mem_util);
            let told = by_pid.entry(sample.pid).or_insert(this);
            *told = (*told).max(this);
        }
        let processes = by_pid.into_iter().take(MAX_PROCESSES);
        Ok(Some(processes.map(|(pid, (_, sm, memory))| ProcessUtilization { pid, sm, memory }).collect()))
    }
}
