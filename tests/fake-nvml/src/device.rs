//! A scripted GPU: its counters, processes and errors over time.
//!
//! Owns what lines do to a device and what it says at a time. Every counter is derived from the script, so that its value
//! at a time is exact. Knows nothing of NVML's structs and calls: those are in `calls`.
//!
//! To add a measure: a [`Series`] in [`Device`], its line in [`Device::apply`], and a call or field in `calls` that
//! answers with it.

use std::collections::BTreeMap;

use crate::{
    series::{Series, Tally},
    timeline::{self, Kind, Line, Process, Violation},
};

/// Degrees until a line says otherwise.
const IDLE_TEMPERATURE: u64 = 32;
/// Clock of the multiprocessors until a line says otherwise, MHz.
const IDLE_SM_CLOCK: u64 = 345;
/// Clock of the memory until a line says otherwise, MHz.
const IDLE_MEMORY_CLOCK: u64 = 2619;
/// Most processes that one device has ever had; a script with more of them is not read further.
const PROCESSES: usize = 1 << 14;
/// Most errors that one device reports; more are not kept.
const ERRORS: usize = 1 << 14;
/// GPM values are kept in millionths, as a series has whole numbers.
const MICRO: f64 = 1e6;

/// How long clocks were held down, by reason.
#[derive(Debug, Default)]
pub struct Violations {
    pub power: Tally,
    pub thermal: Tally,
    pub sync_boost: Tally,
    pub board_limit: Tally,
    pub low_utilization: Tally,
    pub reliability: Tally,
    pub software_thermal: Tally,
    pub hardware_thermal: Tally,
    pub power_brake: Tally,
}

/// An error that the driver reports to those who registered for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// When.
    pub at: u64,
    /// Bit of `nvmlEventType*`.
    pub event: u64,
    /// XID of an XID event.
    pub data: u64,
    /// Number in the order of the script's lines, of all devices.
    pub number: u64,
}

/// A process over time.
#[derive(Debug)]
struct History {
    /// Its states by time; absent from the device before the first.
    states: Vec<(u64, Process)>,
    sm: Series,
    memory: Series,
}

impl History {
    fn at(&self, at: u64) -> Option<&Process> {
        let index = self.states.partition_point(|(t, _)| *t <= at);
        let process = &self.states[index.checked_sub(1)?].1;
        (!process.gone && process.memory_mib != Some(0)).then_some(process)
    }
}

/// What a process used in a span of time, percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    pub pid: u32,
    pub sm: f64,
    pub memory: f64,
}

/// A GPU.
#[derive(Debug)]
pub struct Device {
    pub about: timeline::Device,
    /// When counters are 0.
    pub start: u64,
    /// Milliwatts.
    pub power: Series,
    pub utilization: Series,
    pub memory_utilization: Series,
    pub temperature: Series,
    pub sm_clock: Series,
    pub memory_clock: Series,
    pub throttle_reasons: Series,
    /// KiB per second.
    pub pcie_sent: Series,
    /// KiB per second.
    pub pcie_received: Series,
    /// KiB per second and link.
    pub nvlink_sent: Series,
    /// KiB per second and link.
    pub nvlink_received: Series,
    pub violations: Violations,
    /// Errors of memory that could not be corrected.
    pub ecc: Tally,
    /// In the order of lines.
    pub reported: Vec<Reported>,
    gpm: BTreeMap<u32, Series>,
    lost: Series,
    processes: BTreeMap<u32, History>,
    late: Vec<(u64, Vec<Process>)>,
    /// Most energy that was read, millijoules: a counter does not go back when a late line says that there was less.
    energy_read: u64,
}

fn milliwatts(watts: f64) -> u64 {
    (watts * 1000.0).round() as u64
}

impl Device {
    /// A device that is idle from a time on.
    pub fn new(about: timeline::Device, start: u64) -> Self {
        let zero = || Series::new(start, 0);
        Self {
            start,
            power: Series::new(start, milliwatts(about.idle_power_w)),
            utilization: zero(),
            memory_utilization: zero(),
            temperature: Series::new(start, IDLE_TEMPERATURE),
            sm_clock: Series::new(start, IDLE_SM_CLOCK),
            memory_clock: Series::new(start, IDLE_MEMORY_CLOCK),
            throttle_reasons: zero(),
            pcie_sent: zero(),
            pcie_received: zero(),
            nvlink_sent: zero(),
            nvlink_received: zero(),
            violations: Violations::default(),
            ecc: Tally::default(),
            reported: Vec::new(),
            gpm: BTreeMap::new(),
            lost: zero(),
            processes: BTreeMap::new(),
            late: Vec::new(),
            energy_read: 0,
            about,
        }
    }

    /// Does what a line says, at its time. `number` is the line's.
    pub fn apply(&mut self, at: u64, line: &Line, number: u64) -> Result<(), &'static str> {
        for (series, value) in [
            (&mut self.power, line.power_w.map(milliwatts)),
            (&mut self.utilization, line.util.map(u64::from)),
            (&mut self.memory_utilization, line.mem_util.map(u64::from)),
            (&mut self.temperature, line.temperature.map(u64::from)),
            (&mut self.sm_clock, line.sm_clock_mhz.map(u64::from)),
            (&mut self.memory_clock, line.mem_clock_mhz.map(u64::from)),
            (&mut self.throttle_reasons, line.throttle_reasons),
            (&mut self.pcie_sent, line.pcie_tx_kib_s),
            (&mut self.pcie_received, line.pcie_rx_kib_s),
            (&mut self.nvlink_sent, line.nvlink_tx_kib_s),
            (&mut self.nvlink_received, line.nvlink_rx_kib_s),
            (&mut self.lost, line.lost.map(u64::from)),
        ] {
            if let Some(value) = value {
                series.set(at, value);
            }
        }
        for (metric, value) in line.gpm.iter().flatten() {
            let value = (value * MICRO).round() as u64;
            self.gpm.entry(*metric).or_insert_with(|| Series::new(self.start, 0)).set(at, value);
        }
        if let Some(all) = &line.processes {
            let gone: Vec<u32> =
                self.processes.keys().filter(|pid| all.iter().all(|process| process.pid != **pid)).copied().collect();
            gone.into_iter().try_for_each(|pid| self.process(at, &Process::gone(pid)))?;
            all.iter().try_for_each(|process| self.process(at, process))?;
        }
        line.process.iter().try_for_each(|process| self.process(at, process))?;
        self.late.extend(line.late_processes.iter().map(|processes| (at, processes.clone())));
        line.violation.iter().for_each(|violation| self.violations.add(at, violation));
        if let Some(n) = line.ecc {
            self.ecc.add(at, n);
            self.report(Reported { at, event: DOUBLE_BIT_ECC, data: 0, number });
        }
        if let Some(xid) = line.xid {
            self.report(Reported { at, event: XID, data: xid, number });
        }
        Ok(())
    }

    fn report(&mut self, reported: Reported) {
        if self.reported.len() < ERRORS {
            self.reported.push(reported);
        }
    }

    fn process(&mut self, at: u64, process: &Process) -> Result<(), &'static str> {
        if self.processes.len() >= PROCESSES && !self.processes.contains_key(&process.pid) {
            return Err("too many processes");
        }
        let history = self.processes.entry(process.pid).or_insert_with(|| History {
            states: Vec::new(),
            sm: Series::new(self.start, 0),
            memory: Series::new(self.start, 0),
        });
        let index = history.states.partition_point(|(t, _)| *t <= at);
        history.states.insert(index, (at, process.clone()));
        let uses = |percent| if process.gone || process.memory_mib == Some(0) { 0 } else { u64::from(percent) };
        history.sm.set(at, uses(process.sm));
        history.memory.set(at, uses(process.mem));
        Ok(())
    }

    /// Whether it has fallen off the bus.
    pub fn is_lost(&self, at: u64) -> bool {
        self.lost.at(at) != 0
    }

    /// Whether MIG is on.
    pub fn has_mig(&self) -> bool {
        !self.about.mig.is_empty()
    }

    /// Energy used until a time, millijoules, as the driver knew it at the last multiple of `refresh` since the start.
    pub fn energy(&mut self, at: u64, refresh: u64) -> u64 {
        let until = self.tick(at, refresh);
        // mW × ns = 10⁻¹² J.
        let exact = self.power.integral(self.start, until) / 1_000_000_000;
        self.energy_read = self.energy_read.max(exact as u64);
        self.energy_read
    }

    /// The last time at or before one at which the driver refreshed what it knows.
    pub fn tick(&self, at: u64, refresh: u64) -> u64 {
        let since = at.saturating_sub(self.start);
        self.start + since - since % refresh.max(1)
    }

    /// Processes that are on the device, or on one of its MIG instances.
    pub fn processes(&self, at: u64, gi: Option<u32>) -> impl Iterator<Item = &Process> {
        self.processes
            .values()
            .filter_map(move |history| history.at(at))
            .filter(move |process| gi.is_none() || process.gi == gi)
    }

    /// Those of one list.
    pub fn list(&self, at: u64, gi: Option<u32>, kind: Kind) -> Vec<Process> {
        self.processes(at, gi).filter(|process| process.kind == kind).cloned().collect()
    }

    /// How many processes there have ever been.
    pub fn n_processes(&self) -> usize {
        self.processes.len()
    }

    /// Memory that processes have, MiB.
    pub fn memory_used(&self, at: u64, gi: Option<u32>) -> u64 {
        self.processes(at, gi).filter_map(|process| process.memory_mib).sum()
    }

    /// Processes that wait for somebody to count now appear.
    pub fn counted(&mut self, at: u64) -> Result<(), &'static str> {
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|(t, _)| *t <= at);
        self.late = later;
        let due: Vec<(u64, Vec<Process>)> = due;
        due.iter().flat_map(|(_, processes)| processes).try_for_each(|process| self.process(at, process))
    }

    /// What processes used between two times, of those that used anything.
    pub fn used(&self, from: u64, to: u64, gi: Option<u32>) -> Vec<Used> {
        self.processes
            .iter()
            .filter(|(_, history)| gi.is_none() || history.states.iter().any(|(_, process)| process.gi == gi))
            .map(|(pid, history)| Used {
                pid: *pid,
                sm: history.sm.mean(from, to),
                memory: history.memory.mean(from, to),
            })
            .filter(|used| used.sm > 0.0 || used.memory > 0.0)
            .collect()
    }

    /// Mean of a GPM metric between two times, if the script gives it.
    pub fn gpm(&self, metric: u32, from: u64, to: u64) -> Option<f64> {
        Some(self.gpm.get(&metric)?.mean(from, to) / MICRO)
    }
}

/// `nvmlEventTypeXidCriticalError`
pub const XID: u64 = nvml_wrapper_sys::bindings::nvmlEventTypeXidCriticalError as u64;
/// `nvmlEventTypeDoubleBitEccError`
pub const DOUBLE_BIT_ECC: u64 = nvml_wrapper_sys::bindings::nvmlEventTypeDoubleBitEccError as u64;

impl Violations {
    fn add(&mut self, at: u64, more: &Violation) {
        let Violation {
            power_ns,
            thermal_ns,
            sync_boost_ns,
            board_limit_ns,
            low_utilization_ns,
            reliability_ns,
            software_thermal_ns,
            hardware_thermal_ns,
            power_brake_ns,
        } = *more;
        self.power.add(at, power_ns);
        self.thermal.add(at, thermal_ns);
        self.sync_boost.add(at, sync_boost_ns);
        self.board_limit.add(at, board_limit_ns);
        self.low_utilization.add(at, low_utilization_ns);
        self.reliability.add(at, reliability_ns);
        self.software_thermal.add(at, software_thermal_ns);
        self.hardware_thermal.add(at, hardware_thermal_ns);
        self.power_brake.add(at, power_brake_ns);
    }
}
