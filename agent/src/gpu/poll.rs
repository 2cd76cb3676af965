//! The polling thread: does what the schedule says and tells what it read.
//!
//! Owns the loop. When is `schedule`'s business, what a query means `nvml`'s.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::SyncSender},
    time::Duration,
};

use nvml_wrapper::Nvml;

use super::{
    DeviceInfo, DeviceSample, GpuError, GpuRecord, Which,
    controls::Wishes,
    counters::Counter,
    events, library,
    nvml::{Devices, Lost},
    schedule::{Query, Schedule, Step, after},
    thread::Shared,
};
use crate::time::Mono;

/// Least time between two searches for devices that an event asked for.
const LOOK_GAP: Duration = Duration::from_secs(1);

/// How far apart samples are read that travel in one record, with the time of the first.
const TOGETHER: Duration = Duration::from_millis(2);

/// Longest time without a look at the plan: one without devices has nothing to wait for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl Query {
    /// What is gone when a device has none of these.
    fn counters(self) -> &'static [Counter] {
        match self {
            Self::Fast => &Counter::FAST,
            Self::Slow => &Counter::SLOW,
            Self::Utilization => &[Counter::Utilization],
            Self::Gpm => &[Counter::Gpm],
            Self::ProcessUtilization => &[Counter::ProcessUtilization],
            Self::Processes => &[Counter::Processes],
        }
    }
}

/// Loads the library, and polls until the end. Says by `started` that the library is there.
pub(super) fn run(shared: &Arc<Shared>, started: &SyncSender<Result<(), GpuError>>) -> Result<(), GpuError> {
    let nvml = Arc::new(library::load(&shared.settings, &shared.meter)?);
    let mut poll = Poll::new(shared, &nvml)?;
    // Taken, unless the start has waited for long enough: then records say that it works.
    let _ = started.send(Ok(()));
    let events = Arc::clone(&nvml);
    if let Err(error) = shared.spawn("gpu-events", move |shared| events::run(shared, &events)) {
        tracing::warn!(%error, "errors of GPUs are not reported: no thread for them");
    }
    while poll.step() {}
    Ok(())
}

struct Poll<'n> {
    shared: &'n Shared,
    nvml: &'n Nvml,
    devices: Devices<'n>,
    /// What was said of each device last: one that is lost keeps its identity.
    known: Vec<DeviceInfo>,
    schedule: Schedule,
    looked: Mono,
    /// The devices are to be looked for again, when the last time is long enough ago.
    look_again: bool,
    /// Samples of several devices that were read one after the other, and when the first was.
    read: Option<(Mono, Vec<DeviceSample>)>,
}

impl<'n> Poll<'n> {
    fn new(shared: &'n Shared, nvml: &'n Nvml) -> Result<Self, GpuError> {
        let meter = &shared.meter;
        let (devices, lost) = Devices::open(nvml, meter.clone()).map_err(GpuError::List)?;
        let now = meter.now();
        let schedule = Schedule::new(shared.settings.active_hz, now);
        let mut poll =
            Self { shared, nvml, devices, known: Vec::new(), schedule, looked: now, look_again: false, read: None };
        poll.found(lost);
        Ok(poll)
    }

    /// One step; whether there is another.
    fn step(&mut self) -> bool {
        let now = self.shared.meter.now();
        let Wishes { all, active, poke, look_again, end } = self.shared.controls.take();
        if end {
            return false;
        }
        if let Some(active) = all {
            self.schedule.set_active(now, Which::All, active);
        }
        for (device, active) in active {
            self.schedule.set_active(now, Which::These(&[device]), active);
        }
        if poke {
            self.schedule.poke(now);
        }
        self.look_again |= look_again;
        let may_look = after(self.looked, LOOK_GAP);
        if self.look_again && may_look <= now {
            self.look_for_devices();
            return true;
        }
        match self.schedule.next(now) {
            Step::Wait(until) => {
                self.flush();
                let until = if self.look_again { until.min(may_look) } else { until };
                self.shared.controls.wait(until.since(now).min(LONGEST_WAIT));
            }
            Step::Ask(device, queries) => self.ask(device, &queries),
            Step::Retry(device) => {
                self.flush();
                if self.devices.answers(device) {
                    self.look_for_devices();
                } else {
                    self.schedule.lost(self.shared.meter.now(), device);
                }
            }
        }
        true
    }

    /// Looks for devices again. If they cannot be listed, those that are known go on.
    fn look_for_devices(&mut self) {
        self.looked = self.shared.meter.now();
        self.look_again = false;
        match Devices::open(self.nvml, self.shared.meter.clone()) {
            Ok((devices, lost)) => {
                self.devices = devices;
                self.found(lost);
            }
            Err(error) => tracing::warn!(%error, "the GPUs cannot be listed again"),
        }
    }

    fn found(&mut self, lost: Vec<Lost>) {
        let numbers: Vec<_> = lost.iter().map(|lost| lost.device).collect();
        self.schedule.set_devices(self.shared.meter.now(), &self.devices.shapes(), &numbers);
        let gone = std::mem::take(&mut self.known).into_iter().filter(|known| numbers.contains(&known.device));
        self.known = self.devices.infos();
        self.known.extend(gone);
        self.known.sort_by_key(|known| known.device);
        self.shared.generation.fetch_add(1, Relaxed);
        self.tell_devices();
        for Lost { device, reason } in lost {
            self.say(GpuRecord::Lost { device: Some(device), reason });
        }
    }

    fn ask(&mut self, device: u32, queries: &[Query]) {
        let mut sample = DeviceSample { device, ..DeviceSample::default() };
        let mut read_at = None;
        for &query in queries {
            let began = self.shared.meter.now();
            let result = self.query(device, query, &mut sample);
            let now = self.shared.meter.now();
            let resumed = self.shared.outlet.resumed();
            self.schedule.took(now, device, query, (!resumed).then(|| now.since(began)));
            if resumed {
                // Before anything else is said of them.
                self.tell_devices();
            }
            match result {
                Ok(Some(record)) => self.say_at(now, record),
                // The stamp is that of the first query, which has the energy.
                Ok(None) => read_at = read_at.or(Some(now)),
                Err(Lost { device, reason }) => {
                    self.schedule.lost(now, device);
                    self.say(GpuRecord::Lost { device: Some(device), reason });
                    return;
                }
            }
            if !self.devices.asks_any(device, query.counters()) {
                self.schedule.leave_out(device, query);
            }
        }
        let empty = DeviceSample { device, ..DeviceSample::default() };
        if let Some(at) = read_at.filter(|_| sample != empty) {
            self.keep(at, sample);
        }
        if self.devices.changed() {
            for info in self.devices.infos() {
                if let Some(known) = self.known.iter_mut().find(|known| known.device == info.device) {
                    *known = info;
                }
            }
            self.tell_devices();
        }
    }

    /// Makes one query: a record of its own, or members of the sample.
    fn query(&mut self, device: u32, query: Query, sample: &mut DeviceSample) -> Result<Option<GpuRecord>, Lost> {
        let devices = &mut self.devices;
        match query {
            Query::Fast => devices.fast(device, sample)?,
            Query::Utilization => devices.utilization(device, sample)?,
            Query::Slow => devices.slow(device, sample)?,
            Query::Gpm => devices.gpm(device, sample)?,
            Query::Processes => {
                let processes = devices.processes(device)?;
                return Ok(processes.map(|processes| GpuRecord::Processes { device, processes }));
            }
            Query::ProcessUtilization => {
                let processes = devices.process_utilization(device)?;
                return Ok(processes.map(|processes| GpuRecord::Utilization { device, processes }));
            }
        }
        Ok(None)
    }

    fn tell_devices(&mut self) {
        self.say(GpuRecord::Devices(self.known.clone()));
    }

    fn say(&mut self, record: GpuRecord) {
        self.say_at(self.shared.meter.now(), record);
    }

    /// Says something, after the samples that were read before it.
    fn say_at(&mut self, at: Mono, record: GpuRecord) {
        self.flush();
        self.shared.outlet.say(at, record);
    }

    /// Keeps a sample for a record that it shares with those of other devices: each record wakes who takes it.
    fn keep(&mut self, at: Mono, sample: DeviceSample) {
        let is_other = |(first, samples): &(Mono, Vec<DeviceSample>)| {
            at.since(*first) > TOGETHER || samples.iter().any(|other| other.device == sample.device)
        };
        if self.read.as_ref().is_some_and(is_other) {
            self.flush();
        }
        self.read.get_or_insert_with(|| (at, Vec::new())).1.push(sample);
    }

    /// Tells the samples that were kept.
    fn flush(&mut self) {
        if let Some((at, samples)) = self.read.take() {
            self.shared.outlet.say(at, GpuRecord::Samples(samples));
        }
    }
}
