//! What the join knows of GPUs and engines at one moment, for the metrics.

use super::{Serving, devices::Device, engine::Engine};
use crate::{
    metrics::machines::{Engine as EngineNow, Gpu, GpuProcess, Machines, Traffic},
    time::Mono,
};

impl Serving {
    /// Everything that is observed at `now`. What was read too long ago is not; what NVML costs is for the edge to add.
    pub fn snapshot(&mut self, now: Mono) -> Machines {
        let mut processes = Vec::new();
        for (_, device) in self.machines.devices.all() {
            for (pid, memory) in device.processes() {
                processes.push(GpuProcess {
                    gpu: device.info.uuid.clone(),
                    pid,
                    executable: self.machines.executable(pid),
                    engine: self
                        .machines
                        .engine_of(pid)
                        .and_then(|number| self.machines.engine(number))
                        .map(|engine| engine.identity.id.clone()),
                    memory,
                    utilization: device.share_of(now, pid),
                });
            }
        }
        let queued = |number: usize| {
            self.flights.of(number).filter(|flight| flight.over.is_none() && flight.first_chunk.is_none()).count()
                as u64
        };
        let queued: Vec<u64> = (0..self.machines.places()).map(queued).collect();
        let gpus = self.machines.devices.all().map(|(number, device)| {
            let parent = device.info.parent.and_then(|parent| self.machines.devices.get(parent));
            gpu(number, device, parent)
        });
        let gpus = gpus.collect();
        let engines = self.machines.numbered_mut().map(|(number, one)| engine(one, queued[number], now)).collect();
        Machines { at: now, gpus, processes, engines, ..Machines::default() }
    }
}

fn gpu(index: u32, device: &Device, parent: Option<&Device>) -> Gpu {
    let Device { info, last, .. } = device;
    let mega = |clock: Option<u32>| clock.map(|clock| u64::from(clock) * 1_000_000);
    Gpu {
        index,
        uuid: info.uuid.clone(),
        name: info.name.clone(),
        parent: parent.map(|parent| parent.info.uuid.clone()),
        unobserved: device.lost().map(str::to_owned),
        utilization: last.utilization.map(|percent| f64::from(percent) / 100.0),
        memory_activity: last.memory_utilization.map(|percent| f64::from(percent) / 100.0),
        memory_used: last.memory_used,
        memory_total: info.memory_bytes,
        power_watts: last.power_mw.map(|power| f64::from(power) / 1e3),
        energy_joules: last.energy_mj.map(|_| device.energy.sum() as f64 / 1e3),
        temperature: last.temperature.map(f64::from),
        sm_clock_hz: mega(last.sm_clock_mhz),
        memory_clock_hz: mega(last.memory_clock_mhz),
        throttle_seconds: device.throttle_seconds(),
        pcie_bytes: last.pcie_bytes.map(|_| traffic(device.pcie)),
        nvlink_bytes: last.nvlink_kib.map(|_| traffic(device.nvlink)),
        ecc_uncorrected: last.ecc_uncorrected,
        xids: device.xid_counts(),
    }
}

fn traffic((sent, received): (u64, u64)) -> Traffic {
    Traffic { received, sent }
}

fn engine(engine: &mut Engine, queued: u64, now: Mono) -> EngineNow {
    let sums = engine.windows.sums();
    let joules = |millijoules: u64| (!engine.identity.devices.is_empty()).then_some(millijoules as f64 / 1e3);
    EngineNow {
        id: engine.identity.id.clone(),
        kind: engine.identity.kind.map(str::to_owned),
        in_flight: Some(engine.in_flight),
        queued: Some(queued),
        shared_joules: joules(sums.shared),
        idle_joules: joules(sums.idle),
        unattributed_joules: joules(sums.unattributed),
        processes: Some(engine.identity.members.len() as u64),
        tokens_per_second: engine.tokens_per_second(now),
    }
}
