//! The GPUs as they were observed: counters and gauges of each over time, and who is on it.
//!
//! Owns what was read of devices, and what follows from it about the time of a call. Which processes belong together is
//! `engine`'s. A device that is not observed has no values, which is not the same as being idle.

use std::collections::{BTreeMap, VecDeque};

use super::track::{Counter, Gauge};
use crate::{
    call::progress::WINDOW_NS,
    gpu::{DeviceInfo, DeviceProcess, DeviceSample, GpuRecord, ProcessUtilization},
    time::Mono,
};

/// Driver errors remembered of each device.
const MAX_XIDS: usize = 32;

/// Kinds of errors counted apart. NVIDIA has numbered some hundred and fifty.
const MAX_CODES: usize = 256;

/// Windows without a call from which the power of an idle device is taken: the last five seconds of them.
const IDLE_WINDOWS: usize = 100;

/// How old the driver's energy counter is when it is read, on average: it is refreshed about every 100 ms.
const REFRESH_AGE_NS: u64 = 50_000_000;

/// How old the shares of processes may be. They are asked for twice a second while calls are active.
const SHARES_AGE_NS: u64 = 3_000_000_000;

/// One device.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// What it is.
    pub info: DeviceInfo,
    /// Millijoules.
    pub energy: Counter,
    /// Milliwatts.
    pub power: Gauge,
    /// Percent.
    pub utilization: Gauge,
    /// Nanoseconds for which clocks were held down, by the longest of the reasons.
    pub throttled: Counter,
    /// Errors that the driver reported, oldest first.
    pub xids: VecDeque<(Mono, u64)>,
    /// Why clocks are held down: bits of the driver's, and since when they are these.
    pub throttle_reasons: Option<(Mono, u64)>,
    /// The last sample, as it came.
    pub last: DeviceSample,
    /// Bytes over PCIe, sent and received, without the counters' wraps.
    pub pcie: (u64, u64),
    /// Bytes over all NVLinks, sent and received.
    pub nvlink: (u64, u64),
    processes: BTreeMap<u32, Option<u64>>,
    xid_counts: BTreeMap<u64, u64>,
    shares: Option<(Mono, Vec<ProcessUtilization>)>,
    violations: [Counter; 5],
    /// Energy of the last windows without a call, millijoules.
    idle: VecDeque<u64>,
    lost: Option<String>,
}

impl Device {
    fn take(&mut self, at: Mono, sample: &DeviceSample) {
        self.lost = None;
        let before = std::mem::replace(&mut self.last, sample.clone());
        grow(&mut self.pcie, before.pcie_bytes, sample.pcie_bytes, 1);
        grow(&mut self.nvlink, before.nvlink_kib, sample.nvlink_kib, 1024);
        if let Some(energy) = sample.energy_mj {
            self.energy.push(Mono(at.0.saturating_sub(REFRESH_AGE_NS)), energy);
        }
        if let Some(power) = sample.power_mw {
            self.power.push(at, power.into());
        }
        if let Some(utilization) = sample.utilization {
            self.utilization.push(at, utilization.into());
        }
        if self.throttle_reasons.map(|(_, reasons)| reasons) != sample.throttle_reasons {
            self.throttle_reasons = sample.throttle_reasons.map(|reasons| (at, reasons));
        }
        let v = &sample.violations;
        let counters = [v.power_ns, v.thermal_ns, v.software_thermal_ns, v.hardware_thermal_ns, v.power_brake_ns];
        let mut most = None;
        for (counter, value) in self.violations.iter_mut().zip(counters) {
            let Some(value) = value else { continue };
            let before = counter.last();
            counter.push(at, value);
            let grew = before.map_or(0, |before| counter.within(before, at));
            most = most.max(Some(grew));
        }
        if let Some(most) = most {
            self.throttled.add(at, most);
        }
    }

    /// Why it is not observed, if it is not.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Processes on it and their memory, bytes.
    pub fn processes(&self) -> impl Iterator<Item = (u32, Option<u64>)> {
        self.processes.iter().map(|(pid, memory)| (*pid, *memory))
    }

    /// Share of the multiprocessors' time that a process has, 0 to 1, while that is asked for.
    pub fn share_of(&self, now: Mono, pid: u32) -> Option<f64> {
        let (at, shares) = self.shares.as_ref()?;
        let share = shares.iter().find(|share| share.pid == pid).map_or(0, |share| share.sm);
        (now.0.saturating_sub(at.0) < SHARES_AGE_NS).then_some(f64::from(share) / 100.0)
    }

    /// Seconds for which clocks were held down since they are observed, by reason.
    pub fn throttle_seconds(&self) -> Vec<(&'static str, f64)> {
        const REASONS: [&str; 5] = ["power", "thermal", "software_thermal", "hardware_thermal", "power_brake"];
        let counted = REASONS.iter().zip(&self.violations).filter(|(_, counter)| counter.last().is_some());
        counted.map(|(reason, counter)| (*reason, counter.sum() as f64 / 1e9)).collect()
    }

    /// Errors that the driver reported since the agent began, by their number.
    pub fn xid_counts(&self) -> Vec<(u64, u64)> {
        self.xid_counts.iter().map(|(code, count)| (*code, *count)).collect()
    }

    /// Bytes that these processes have on it, as far as the driver says.
    pub fn memory_of(&self, pids: &[u32]) -> Option<u64> {
        let mut known = pids.iter().filter_map(|pid| *self.processes.get(pid)?).peekable();
        known.peek()?;
        Some(known.sum())
    }

    /// Which share of its busy time these processes have, at a time: of what the driver measured where it does, else all
    /// if nobody else is on it.
    pub fn explained(&self, at: Mono, pids: &[u32]) -> Option<f64> {
        if let Some((when, shares)) = &self.shares
            && at.0.abs_diff(when.0) < SHARES_AGE_NS
        {
            let all: u32 = shares.iter().map(|share| share.sm).sum();
            let own: u32 = shares.iter().filter(|share| pids.contains(&share.pid)).map(|share| share.sm).sum();
            if all > 0 {
                return Some(f64::from(own) / f64::from(all));
            }
        }
        if self.processes.is_empty() {
            return None;
        }
        let own = self.processes.keys().filter(|pid| pids.contains(pid)).count();
        match own {
            0 => Some(0.0),
            own if own == self.processes.len() => Some(1.0),
            _ => None,
        }
    }

    /// Energy in a window, millijoules. Windows add up to what the counter says.
    pub fn energy_in(&self, window: u64) -> Option<u64> {
        let edge = |number: u64| Mono(number * WINDOW_NS);
        self.energy.between(edge(window), edge(window + 1))
    }

    /// A window in which nobody was served had so much.
    pub fn was_idle(&mut self, energy: u64) {
        self.idle.push_back(energy);
        if self.idle.len() > IDLE_WINDOWS {
            self.idle.pop_front();
        }
    }

    /// Energy of an idle window: the median of the last ones, so that a refresh of the counter that comes late does not
    /// matter. `None` if it was never seen idle.
    pub fn idle_energy(&self) -> Option<u64> {
        let mut seen: Vec<u64> = self.idle.iter().copied().collect();
        seen.sort_unstable();
        seen.get(seen.len() / 2).copied()
    }

    fn forget_before(&mut self, at: Mono) {
        self.energy.forget_before(at);
        self.power.forget_before(at);
        self.utilization.forget_before(at);
        self.throttled.forget_before(at);
        self.violations.iter_mut().for_each(|counter| counter.forget_before(at));
        while self.xids.front().is_some_and(|(when, _)| *when < at) {
            self.xids.pop_front();
        }
    }
}

/// All devices.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    by_number: BTreeMap<u32, Device>,
}

impl Devices {
    /// Takes what was read. True if who is on which device may have changed.
    pub fn take(&mut self, at: Mono, record: &GpuRecord) -> bool {
        match record {
            GpuRecord::Devices(infos) => {
                let known: BTreeMap<u32, Device> = infos
                    .iter()
                    .map(|info| {
                        let mut device = self.by_number.remove(&info.device).unwrap_or_default();
                        if device.info.uuid != info.uuid {
                            device = Device::default();
                        }
                        device.info = info.clone();
                        (info.device, device)
                    })
                    .collect();
                self.by_number = known;
                true
            }
            GpuRecord::Samples(samples) => {
                for sample in samples {
                    if let Some(device) = self.by_number.get_mut(&sample.device) {
                        device.take(at, sample);
                    }
                }
                false
            }
            GpuRecord::Processes { device, processes } => {
                let Some(device) = self.by_number.get_mut(device) else { return false };
                let now: BTreeMap<u32, Option<u64>> =
                    processes.iter().map(|DeviceProcess { pid, memory }| (*pid, *memory)).collect();
                let changed = !now.keys().eq(device.processes.keys());
                device.processes = now;
                changed
            }
            GpuRecord::Utilization { device, processes } => {
                if let Some(device) = self.by_number.get_mut(device) {
                    device.shares = Some((at, processes.clone()));
                }
                false
            }
            GpuRecord::Xid { device, code } => {
                for (_, known) in
                    self.by_number.iter_mut().filter(|(number, _)| device.is_none_or(|one| one == **number))
                {
                    known.xids.push_back((at, *code));
                    if known.xid_counts.len() < MAX_CODES || known.xid_counts.contains_key(code) {
                        *known.xid_counts.entry(*code).or_default() += 1;
                    }
                    if known.xids.len() > MAX_XIDS {
                        known.xids.pop_front();
                    }
                }
                false
            }
            GpuRecord::Lost { device, reason } => {
                for (_, known) in
                    self.by_number.iter_mut().filter(|(number, _)| device.is_none_or(|one| one == **number))
                {
                    known.lost = Some(reason.clone());
                }
                false
            }
        }
    }

    /// A device by its number.
    pub fn get(&self, number: u32) -> Option<&Device> {
        self.by_number.get(&number)
    }

    /// The same, to note something.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Device> {
        self.by_number.get_mut(&number)
    }

    /// Their numbers and what is known of them.
    pub fn all(&self) -> impl Iterator<Item = (u32, &Device)> {
        self.by_number.iter().map(|(number, device)| (*number, device))
    }

    /// Processes and the devices they are on.
    pub fn processes(&self) -> Vec<(u32, u32)> {
        self.all().flat_map(|(number, device)| device.processes.keys().map(move |&pid| (pid, number))).collect()
    }

    /// Until when all of these devices were observed; `None` if one never was or is lost.
    pub fn observed_until(&self, numbers: &[u32]) -> Option<Mono> {
        let until = |number: &u32| {
            let device = self.get(*number)?;
            if device.lost.is_some() { None } else { device.energy.last() }
        };
        numbers.iter().map(until).min().flatten()
    }

    /// Forgets what was before a time.
    pub fn forget_before(&mut self, at: Mono) {
        self.by_number.values_mut().for_each(|device| device.forget_before(at));
    }
}

/// Adds what two counters have grown by. Those of PCIe have 32 bits.
fn grow(sums: &mut (u64, u64), before: Option<(u64, u64)>, now: Option<(u64, u64)>, unit: u64) {
    let Some((before, now)) = before.zip(now) else { return };
    let grown = |before: u64, now: u64| match now.checked_sub(before) {
        Some(grown) => grown,
        None if before <= u64::from(u32::MAX) => now + (1 << 32) - before,
        None => 0,
    };
    sums.0 = sums.0.saturating_add(grown(before.0, now.0).saturating_mul(unit));
    sums.1 = sums.1.saturating_add(grown(before.1, now.1).saturating_mul(unit));
}
