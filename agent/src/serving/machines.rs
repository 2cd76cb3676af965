//! Engines, devices and processes as they were last told, and who belongs to whom.
//!
//! Owns the table of engines and its rebuilding when processes come and go: an engine keeps what it has for as long as its
//! group keeps its id.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    devices::{Device, Devices},
    energy::Sealed,
    engine::{Engine, Identity, MemberExit},
    facts::{EnergyShare, GpuFacts, Notice},
    flights::{Flight, Flights},
    track::covered,
};
use crate::{
    call::progress::{WINDOW_NS, window_of},
    gpu::GpuRecord,
    host::{Group, GroupId, Groups, Hop, HostRecord, Kind, LocalLink, ProcessIdentity, ProcessInfo},
    time::Mono,
};

/// Engines that are kept. A host runs some.
const MAX_ENGINES: usize = 256;

/// Processes that are remembered.
const MAX_PROCESSES: usize = 4096;

/// Serving processes remembered; beyond it the oldest is not observed until it serves again.
const MAX_SERVERS: usize = 256;

/// Windows that are closed at one time; a clock that jumps must not keep the pipeline.
const MAX_SEAL: u64 = 2048;

/// How sure it is that a server alone is all of an engine.
const ALONE: f64 = 0.3;

/// Utilisation from which a device without calls is not idle, percent.
const BUSY_PERCENT: f64 = 5.0;

/// See the module.
#[derive(Default)]
pub struct Machines {
    /// The GPUs.
    pub devices: Devices,
    engines: Vec<Option<Engine>>,
    by_pid: BTreeMap<u32, usize>,
    processes: BTreeMap<u32, ProcessInfo>,
    groups: Groups,
    links: BTreeSet<(u32, u32)>,
    victims: BTreeSet<u32>,
    /// Processes that serve calls, in the order in which they began to.
    servers: Vec<u32>,
    regrouped: bool,
}

impl Machines {
    /// The engine of a process, by its place.
    pub fn engine_of(&self, pid: u32) -> Option<usize> {
        self.by_pid.get(&pid).copied()
    }

    /// By its place.
    pub fn engine(&self, number: usize) -> Option<&Engine> {
        self.engines.get(number)?.as_ref()
    }

    /// By its place.
    pub fn engine_mut(&mut self, number: usize) -> Option<&mut Engine> {
        self.engines.get_mut(number)?.as_mut()
    }

    /// Places in the table.
    pub fn places(&self) -> usize {
        self.engines.len()
    }

    /// All, with their places.
    pub fn numbered_mut(&mut self) -> impl Iterator<Item = (usize, &mut Engine)> {
        self.engines.iter_mut().enumerate().filter_map(|(number, engine)| Some((number, engine.as_mut()?)))
    }

    /// Base name of a process's executable, as far as it is known.
    pub fn executable(&self, pid: u32) -> Option<String> {
        let exe = self.processes.get(&pid)?.exe.as_ref()?;
        exe.rsplit('/').next().map(str::to_owned)
    }

    /// What is known of a process.
    pub fn identity(&self, pid: u32) -> ProcessIdentity {
        let known = self.processes.get(&pid);
        ProcessIdentity {
            pid,
            start_boottime_ns: known.map_or(0, |process| process.start_boottime_ns),
            uid: known.and_then(|process| process.uid),
            comm: known.and_then(|process| process.comm.clone()),
            executable: self.executable(pid),
            container_id: known.and_then(|process| process.container_id.clone()),
        }
    }

    /// All.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.engines.iter().flatten()
    }

    /// All.
    pub fn engines_mut(&mut self) -> impl Iterator<Item = &mut Engine> {
        self.engines.iter_mut().flatten()
    }

    /// Processes that serve calls.
    pub fn servers(&self) -> &[u32] {
        &self.servers
    }

    /// A process serves calls; true if that is new. One that is nobody's engine is observed by itself.
    pub fn serves(&mut self, pid: u32) -> bool {
        let is_new = !self.servers.contains(&pid);
        if is_new {
            if self.servers.len() >= MAX_SERVERS {
                self.servers.remove(0);
            }
            self.servers.push(pid);
        }
        is_new
    }

    /// The engine of a process and its place, to change it.
    pub fn serving_mut(&mut self, pid: u32) -> Option<(usize, &mut Engine)> {
        let number = self.engine_of(pid)?;
        Some((number, self.engine_mut(number)?))
    }

    /// Takes a record of the host.
    pub fn host(&mut self, at: Mono, record: &HostRecord) {
        match record {
            HostRecord::Processes { processes, links } => {
                for process in processes {
                    if self.processes.len() < MAX_PROCESSES || self.processes.contains_key(&process.pid) {
                        self.processes.insert(process.pid, process.clone());
                    }
                }
                self.links = links.iter().map(|LocalLink { one, other }| (*one, *other)).collect();
                self.rebuild();
                self.learn_memory(at);
            }
            HostRecord::Usage { processes, cgroups } => {
                self.engines_mut().for_each(|engine| engine.usage(at, processes, cgroups));
            }
        }
    }

    /// Takes a record of GPUs.
    pub fn gpu(&mut self, at: Mono, record: &GpuRecord) {
        if self.devices.take(at, record) {
            self.rebuild();
        }
        if let GpuRecord::Processes { .. } = record {
            self.learn_memory(at);
        }
    }

    /// How much memory each engine has on its devices, by what was last heard of them.
    fn learn_memory(&mut self, at: Mono) {
        let devices = &self.devices;
        for engine in self.engines.iter_mut().flatten() {
            let pids = engine.pids();
            let known = engine.identity.devices.iter().filter_map(|number| devices.get(*number)?.memory_of(&pids));
            let known: Vec<u64> = known.collect();
            if !known.is_empty() {
                engine.memory.push(at, known.iter().sum());
            }
        }
    }

    /// A process ended. Tells what an operator should hear: that one of an engine's did, and not by its own will.
    pub fn exited(&mut self, at: Mono, pid: u32, status: u32) -> Option<Notice> {
        let oom = self.victims.remove(&pid);
        self.servers.retain(|server| *server != pid);
        let comm = self.processes.remove(&pid).and_then(|process| process.comm).unwrap_or_else(|| "process".to_owned());
        let (_, engine) = self.serving_mut(pid)?;
        // Its calls are still to be told: the group changes with the next that is heard of its processes.
        engine.exited(MemberExit { at, pid, comm: comm.clone(), status, oom });
        let (in_flight, engine) = (engine.in_flight, engine.identity.id.clone());
        (status != 0).then_some(Notice::EngineExit { engine, pid, comm, status, oom, in_flight })
    }

    /// A process is about to be killed for want of memory.
    pub fn oom_victim(&mut self, pid: u32) {
        if self.victims.len() >= MAX_ENGINES {
            self.victims.clear();
        }
        self.victims.insert(pid);
    }

    /// Whether engines have changed since this was last asked.
    pub fn regrouped(&mut self) -> bool {
        std::mem::take(&mut self.regrouped)
    }

    /// Processes and control groups whose counters are of interest.
    pub fn watched(&self) -> (BTreeSet<u32>, Vec<String>) {
        let serving: BTreeSet<usize> = self.servers.iter().filter_map(|pid| self.engine_of(*pid)).collect();
        let (mut pids, mut cgroups) = (BTreeSet::new(), BTreeSet::new());
        for engine in serving.iter().filter_map(|number| self.engine(*number)) {
            pids.extend(engine.pids());
            cgroups.extend(engine.identity.cgroups.iter().cloned());
        }
        (pids, cgroups.into_iter().collect())
    }

    /// See [`Groups::hop`].
    pub fn hop(&self, front: u32, back: u32) -> Option<Hop> {
        self.groups.hop(front, back)
    }

    /// Builds the engines anew of what is known.
    fn rebuild(&mut self) {
        let processes: Vec<ProcessInfo> = self.processes.values().cloned().collect();
        let links: Vec<LocalLink> = self.links.iter().map(|&(one, other)| LocalLink { one, other }).collect();
        let groups = Groups::build(&processes, &links, &self.devices.processes());
        let mut before: BTreeMap<String, usize> = self
            .engines
            .iter()
            .enumerate()
            .filter_map(|(number, engine)| Some((engine.as_ref()?.identity.id.clone(), number)))
            .collect();
        self.by_pid.clear();
        for identity in self.identities(&groups) {
            let number = match before.remove(&identity.id) {
                Some(number) => number,
                None => match self.engines.iter().position(Option::is_none) {
                    Some(free) => free,
                    None if self.engines.len() < MAX_ENGINES => {
                        self.engines.push(None);
                        self.engines.len() - 1
                    }
                    None => continue,
                },
            };
            for (pid, _) in &identity.members {
                self.by_pid.insert(*pid, number);
            }
            match &mut self.engines[number] {
                Some(engine) => engine.become_known(identity),
                free => *free = Some(Engine::new(identity)),
            }
        }
        // A group that is gone keeps its place until no call needs it; here, until the next one takes it.
        for number in before.into_values() {
            if self.engines[number].as_ref().is_some_and(|engine| engine.exits.is_empty()) {
                self.engines[number] = None;
            }
        }
        self.groups = groups;
        self.regrouped = true;
    }

    /// What the groups are known by, and the servers that are in none of them.
    fn identities(&self, groups: &Groups) -> Vec<Identity> {
        let of_group = |group: &Group| Identity {
            id: group.id.to_string(),
            kind: (group.kind != Kind::Unknown).then(|| group.kind.as_str()),
            version: group.version.clone(),
            model: group.served_name.clone().or_else(|| group.model.clone()),
            cgroups: self.cgroups_of(group.members.iter().map(|member| member.pid)),
            members: group.members.iter().map(|member| (member.pid, member.start_boottime_ns)).collect(),
            devices: group.devices.clone(),
            confidence: group.confidence,
        };
        let alone = self.servers.iter().filter(|pid| groups.serving(**pid).is_none());
        let alone = alone.filter_map(|pid| self.processes.get(pid)).map(|process| Identity {
            id: GroupId { pid: process.pid, start_boottime_ns: process.start_boottime_ns }.to_string(),
            members: vec![(process.pid, process.start_boottime_ns)],
            cgroups: self.cgroups_of([process.pid].into_iter()),
            confidence: ALONE,
            ..Identity::default()
        });
        groups.all().iter().map(of_group).chain(alone).collect()
    }

    fn cgroups_of(&self, pids: impl Iterator<Item = u32>) -> Vec<String> {
        let mut paths: Vec<String> =
            pids.filter_map(|pid| self.processes.get(&pid)?.cgroup.clone()).filter(|path| path != "/").collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// What the devices of an engine did after a time, when none of its calls was under way: until when they worked, and
    /// what they used beyond what they use when idle, millijoules. `None` if they did nothing.
    pub fn work_after(&self, number: usize, from: Mono, to: Mono) -> Option<(Mono, Option<u64>)> {
        let engine = self.engine(number)?;
        let devices: Vec<&Device> =
            engine.identity.devices.iter().filter_map(|number| self.devices.get(*number)).collect();
        let until =
            devices.iter().filter_map(|device| device.utilization.last_above(from, to, BUSY_PERCENT as u64)).max()?;
        let beyond = |device: &&Device| {
            let idle = u128::from(device.idle_energy()?) * u128::from(until.0 - from.0) / u128::from(WINDOW_NS);
            Some(device.energy.between(from, until)?.saturating_sub(idle as u64))
        };
        Some((until, devices.iter().map(beyond).sum()))
    }

    /// Closes the windows of every engine that were observed whole, and are over for `slack`.
    pub fn seal(&mut self, flights: &Flights, slack: u64) {
        for number in 0..self.engines.len() {
            let Some(engine) = self.engines[number].as_ref() else { continue };
            let Some(until) = self.devices.observed_until(&engine.identity.devices) else { continue };
            let until = window_of(Mono(until.0.saturating_sub(slack)));
            let first = engine.windows.sealed().max(until.saturating_sub(MAX_SEAL));
            for window in first..until {
                let sealed = self.sealed(number, window, flights);
                if let Some(engine) = self.engine_mut(number) {
                    engine.windows.seal(window, sealed);
                }
            }
        }
    }

    fn sealed(&mut self, number: usize, window: u64, flights: &Flights) -> Sealed {
        let Some(engine) = self.engines.get(number).and_then(Option::as_ref) else { return Sealed::default() };
        let (pids, numbers) = (engine.pids(), engine.identity.devices.clone());
        let (from, to) = (Mono(window * WINDOW_NS), Mono((window + 1) * WINDOW_NS));
        let own = busy(flights.of(number), from, to);
        let mut sealed = Sealed { devices: Some(0), ..Sealed::default() };
        let (mut explained, mut active_all) = (0.0, 0.0);
        for device_number in numbers {
            let on_device = |flight: &&Flight| {
                let other = flight.engine.and_then(|other| self.engine(other));
                other.is_some_and(|other| other.identity.devices.contains(&device_number))
            };
            let busy_any = busy(flights.iter().filter(on_device), from, to);
            let Some(device) = self.devices.get_mut(device_number) else { return Sealed::default() };
            let Some(energy) = device.energy_in(window) else { return Sealed::default() };
            let works = device.utilization.over(from, to).is_some_and(|course| course.mean > BUSY_PERCENT);
            let idle = if busy_any == 0 && !works {
                device.was_idle(energy);
                energy
            } else {
                // Never seen idle: the time decides.
                let whole = device.idle_energy().unwrap_or(energy);
                energy.min((u128::from(whole) * u128::from(WINDOW_NS - busy_any) / u128::from(WINDOW_NS)) as u64)
            };
            let active = energy - idle;
            let share = if own == 0 { 0.0 } else { device.explained(to, &pids).unwrap_or(0.0) };
            sealed.devices = sealed.devices.map(|sum| sum + energy);
            sealed.idle += idle;
            sealed.active += (active as f64 * share) as u64;
            explained += active as f64 * share;
            active_all += active as f64;
        }
        sealed.explained = if active_all > 0.0 { (explained / active_all) as f32 } else { 0.0 };
        sealed
    }

    /// Mean utilisation of an engine's GPUs over a time, percent.
    pub fn utilization(&self, number: usize, from: Mono, to: Mono) -> Option<f64> {
        let devices = self.engine(number)?.identity.devices.iter().filter_map(|number| self.devices.get(*number));
        let means: Vec<f64> =
            devices.filter_map(|device| device.utilization.over(from, to)).map(|course| course.mean).collect();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    }

    /// What is known of an engine's GPUs during a time.
    pub fn gpu_facts(&self, number: usize, from: Mono, to: Mono, energy: Option<EnergyShare>) -> Option<GpuFacts> {
        let engine = self.engine(number)?;
        if engine.identity.devices.is_empty() {
            return None;
        }
        let devices: Vec<_> = engine.identity.devices.iter().filter_map(|number| self.devices.get(*number)).collect();
        let courses: Vec<_> = devices.iter().filter_map(|device| device.utilization.over(from, to)).collect();
        let power: Option<Vec<f64>> =
            devices.iter().map(|device| device.power.over(from, to).map(|course| course.mean / 1000.0)).collect();
        Some(GpuFacts {
            ids: devices.iter().map(|device| device.info.uuid.clone()).collect(),
            utilization_mean: self.utilization(number, from, to),
            utilization_max: courses.iter().map(|course| course.max).max(),
            memory: engine.memory.over(from, to).map(|course| (course.start, course.max, course.end)),
            power_watts: power.map(|watts| watts.iter().sum()),
            energy,
        })
    }

    /// Forgets what was before a time.
    pub fn forget_before(&mut self, at: Mono) {
        self.devices.forget_before(at);
        self.engines_mut().for_each(|engine| engine.forget_before(at));
    }
}

/// How long at least one of these calls was there in a window, nanoseconds.
fn busy<'a>(flights: impl Iterator<Item = &'a Flight>, from: Mono, to: Mono) -> u64 {
    covered(flights.map(|flight| (flight.start, flight.over.unwrap_or(to))), from, to)
}
