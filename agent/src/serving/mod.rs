//! The machinery behind a server's call: its engine, the GPUs, the host, and why it was slow.
//!
//! Owns the join of calls with what was observed beside them. Takes calls as they begin, go on and end, and records of
//! the host and its GPUs; hands out the calls with [`ServingFacts`], a moment later than they ended: until the time of the
//! call has been observed, or for [`HOLD_NS`]. Calls of which nothing is observed pass at once.
//!
//! Who reads the host and NVML, and how often, is the edge's business; it is told what is of interest
//! ([`Serving::wish`]). Which processes are one engine is `host::group`'s. Pure: the same records give the same facts,
//! live or replayed.

mod baseline;
mod causes;
mod devices;
mod energy;
mod engine;
mod events;
mod facts;
mod flights;
mod loads;
mod machines;
mod report;
mod snapshot;
mod sockets;
mod steps;
mod track;
mod wish;

use std::{collections::VecDeque, time::Duration};

use baseline::Baselines;
pub use baseline::Limits;
pub use energy::Sums;
use engine::Engine;
pub use facts::{
    Cause, CauseKind, EnergyShare, EngineFacts, GpuFacts, LoadPhase, Measure, ModelLoad, Notice, ServingFacts, Slow,
    Stall, StepFacts, Waste,
};
pub use flights::FlightKey;
use flights::{Flight, Flights};
use loads::Loads;
use machines::Machines;
pub use sockets::Limited;
use sockets::Sockets;
use steps::Steps;
pub use wish::Wish;

use crate::{
    call::{
        Completion, FinishedCall,
        link::End,
        progress::{Look, window_of},
    },
    gpu::GpuRecord,
    host::{Hop, HostRecord},
    record::Address,
    stream::StreamKey,
    time::Mono,
};

/// How long a call waits for what was observed of its last moments. Samples come five and ten times a second, and a window closes
/// [`SLACK_NS`] after its end.
pub const HOLD_NS: u64 = 1_500_000_000;

/// How long a call whose client has left waits for its engine to stop working.
const AFTER_NS: u64 = 30_000_000_000;

/// How long an engine may go on before it counts as working for nobody: a step, and the time until the GPU's utilisation shows
/// that it is over.
const LAST_STEPS: Duration = Duration::from_millis(300);

/// How long after its end a window is closed: what happened in it may still be on its way.
const SLACK_NS: u64 = 150_000_000;

/// How often calls under way are looked at, at most.
const LOOK_NS: u64 = 50_000_000;

/// Calls that wait. Beyond it the oldest goes with what is known.
const MAX_HELD: usize = 4096;

/// How long courses are kept when no call is under way.
const KEEP_NS: u64 = 10_000_000_000;

/// How old the last sample may be for a call to wait for the next: slower sampling is once a second.
const FRESH_NS: u64 = 2_500_000_000;

/// Share of GPU time that captured calls must explain, or no energy is told.
const MIN_COVERAGE: f64 = 0.5;

/// What was left out for want of room, counted since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that nothing was observed beside.
    pub unobserved: u64,
    /// Calls that were told before their time was observed whole.
    pub hurried: u64,
    /// Processes whose loading was not followed.
    pub loads_refused: u64,
    /// Notices that nobody was given.
    pub notices_dropped: u64,
}

/// A call that is over and waits.
struct Held {
    key: Option<FlightKey>,
    call: Box<FinishedCall>,
    /// Both ends of its connection.
    ends: Option<(End, End)>,
}

/// Where finished calls go.
pub type Sink<'a> = dyn FnMut(Box<FinishedCall>) + 'a;

/// See the module.
pub struct Serving {
    machines: Machines,
    flights: Flights,
    held: VecDeque<Held>,
    sockets: Sockets,
    steps: Steps,
    baselines: Baselines,
    loads: Loads,
    loaded: Vec<ModelLoad>,
    now: Mono,
    /// What was wished last, and whether it may have changed since.
    wished: Wish,
    stirred: bool,
    changes: u64,
    /// Nanoseconds after which a call that does not move is told.
    stuck_ns: u64,
    notices: Vec<Notice>,
    counts: Counts,
}

/// After how long without a byte a call is told to be stuck, unless the configuration says otherwise.
pub const STUCK: Duration = Duration::from_secs(30);

/// Notices that wait to be fetched; they are after every record.
const MAX_NOTICES: usize = 64;

impl Serving {
    /// Nothing observed yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            machines: Machines::default(),
            flights: Flights::default(),
            held: VecDeque::new(),
            sockets: Sockets::default(),
            steps: Steps::default(),
            baselines: Baselines::new(limits),
            loads: Loads::default(),
            loaded: Vec::new(),
            now: Mono(0),
            wished: Wish::default(),
            stirred: false,
            changes: 0,
            stuck_ns: u64::try_from(limits.stuck.unwrap_or(STUCK).as_nanos()).unwrap_or(u64::MAX),
            notices: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// A call begins at a server.
    pub fn began(&mut self, key: FlightKey, tgid: u32, start: Mono) {
        self.stirred |= self.machines.serves(tgid) || !self.wished.active;
        let mut flight = Flight::new(tgid, start);
        if let Some((number, engine)) = self.machines.serving_mut(tgid) {
            flight.in_flight_at_start = Some(engine.in_flight);
            flight.board(number, engine);
        }
        self.counts.unobserved += u64::from(!self.flights.insert(key, flight));
    }

    /// Calls that are of interest while they run.
    pub fn open(&self) -> Vec<FlightKey> {
        self.flights.open()
    }

    /// How far a call is that has not ended by `now`.
    pub fn looked(&mut self, key: FlightKey, look: &Look, now: Mono) {
        if let Some(flight) = self.flights.get_mut(key) {
            let engine = flight.engine.and_then(|engine| self.machines.engine_mut(engine));
            let had_token = flight.first_chunk.is_some();
            flight.take(look, now, engine);
            if let Some(token) = flight.first_chunk.filter(|_| !had_token) {
                self.loads.served(flight.tgid, flight.asked(), token, None);
            }
        }
    }

    /// The client of the calls on a connection has gone.
    pub fn client_gone(&mut self, stream: StreamKey, at: Mono) {
        for flight in self.flights.on_mut(stream) {
            flight.gone.get_or_insert((at, flight.chunks));
        }
    }

    /// What began was no call.
    pub fn dropped(&mut self, key: FlightKey) {
        if let Some(mut flight) = self.flights.remove(key)
            && let Some(engine) = flight.engine.and_then(|engine| self.machines.engine_mut(engine))
        {
            flight.land(engine);
            engine.windows.leave(&mut flight.weights);
        }
    }

    /// A call is over. `key` and the last look are those of a server's.
    pub fn finished(&mut self, key: Option<(FlightKey, Look)>, call: Box<FinishedCall>, out: &mut Sink<'_>) {
        let ends = |local: &Address, peer: &Address| Some((End::of(local)?, End::of(peer)?));
        let ends = call.local.as_ref().zip(call.peer.as_ref()).and_then(|(local, peer)| ends(local, peer));
        let end = call.timing.end;
        if key.is_some() {
            self.has_served(&call);
        }
        let key = key.map(|(key, look)| {
            if let Some(flight) = self.flights.get_mut(key) {
                let mut engine = flight.engine.and_then(|engine| self.machines.engine_mut(engine));
                flight.take(&look, end, engine.as_deref_mut());
                flight.over = Some(end);
                if let Some(engine) = engine {
                    flight.land(engine);
                }
            }
            key
        });
        let held = Held { key, call, ends };
        if !self.is_observed(&held) {
            self.release(held, out);
            return;
        }
        self.held.push_back(held);
        if self.held.len() > MAX_HELD
            && let Some(oldest) = self.held.pop_front()
        {
            self.counts.hurried += 1;
            self.release(oldest, out);
        }
    }

    /// Notes the first token of a call that is over.
    fn has_served(&mut self, call: &FinishedCall) {
        let timing = &call.timing;
        let is_whole = matches!(call.completion, Some(Completion::Done | Completion::Length));
        let token = timing.first_chunk.or_else(|| is_whole.then(|| timing.response_start.unwrap_or(timing.end)));
        if let Some(token) = token {
            self.loads.served(call.process.pid, timing.request_end.unwrap_or(timing.start), token, Some(call.ids));
        }
    }

    /// Takes a record of the host.
    pub fn host(&mut self, at: Mono, record: &HostRecord) {
        self.machines.host(at, record);
        if let HostRecord::Usage { processes, .. } = record {
            self.loads.usage(at, processes);
        }
        self.regroup();
    }

    /// Takes a record of GPUs.
    pub fn gpu(&mut self, at: Mono, record: &GpuRecord) {
        self.machines.gpu(at, record);
        self.regroup();
    }

    /// Whether it is time to look at the calls under way again: records come from several threads, and each look costs.
    pub fn is_due(&self, now: Mono) -> bool {
        now.0.saturating_sub(self.now.0) >= LOOK_NS
    }

    /// Time has come to `now`: closes windows and hands out calls whose time was observed. Open calls are to be looked at
    /// before.
    pub fn advance(&mut self, now: Mono, out: &mut Sink<'_>) {
        self.now = self.now.max(now);
        self.machines.seal(&self.flights, SLACK_NS);
        self.take_old_shares();
        self.tell_stuck();
        self.tell_loads(self.now);
        let mut waiting = VecDeque::with_capacity(self.held.len());
        while let Some(held) = self.held.pop_front() {
            let waited = self.now.0.saturating_sub(held.call.timing.end.0);
            if (waited < HOLD_NS && !self.is_ready(&held)) || (waited < AFTER_NS && self.works_for_nobody(&held)) {
                waiting.push_back(held);
            } else {
                self.release(held, out);
            }
        }
        self.held = waiting;
        let oldest = self.flights.iter().map(|flight| flight.start).min().unwrap_or(self.now);
        let oldest = Mono(oldest.0.saturating_sub(KEEP_NS));
        self.machines.forget_before(oldest);
        self.steps.forget_before(oldest);
        self.stirred |= self.wished.active && !self.is_active();
        self.stirred |= self.wished.loading != self.loads.is_reading(self.now);
    }

    /// Hands out everything. For the end.
    pub fn finish(&mut self, out: &mut Sink<'_>) {
        while let Some(held) = self.held.pop_front() {
            self.release(held, out);
        }
        self.tell_loads(Mono(self.now.0.saturating_add(loads::CALL_NS)));
    }

    /// What was left out.
    pub fn counts(&self) -> Counts {
        Counts { loads_refused: self.loads.refused(), ..self.counts }
    }

    /// What lies between a server and another one that it has sent a request on to.
    pub fn hop(&self, front: u32, back: u32) -> Option<Hop> {
        self.machines.hop(front, back)
    }

    /// Energy of each engine, by its id.
    pub fn energy(&self) -> Vec<(String, Sums)> {
        let on_gpus = self.machines.engines().filter(|engine| !engine.identity.devices.is_empty());
        on_gpus.map(|engine| (engine.identity.id.clone(), engine.windows.sums())).collect()
    }

    /// Engines may have come, gone or changed: calls under way learn whose they are.
    fn regroup(&mut self) {
        if !self.machines.regrouped() {
            return;
        }
        self.stirred = true;
        self.tell_opens();
        for flight in self.flights.iter_mut() {
            if flight.engine.is_none_or(|engine| self.machines.engine(engine).is_none()) {
                flight.engine = None;
                flight.is_counted = false;
                if let Some((number, engine)) = self.machines.serving_mut(flight.tgid) {
                    flight.board(number, engine);
                }
            }
        }
    }

    /// What is older than the windows that are kept is taken now.
    fn take_old_shares(&mut self) {
        for flight in self.flights.iter_mut() {
            if let Some(engine) = flight.engine.and_then(|engine| self.machines.engine_mut(engine)) {
                let horizon = engine.windows.horizon();
                engine.windows.take(&mut flight.weights, horizon);
            }
        }
        self.machines.engines_mut().for_each(|engine| engine.windows.forget());
    }

    /// Tells the calls that have not moved for too long, each once.
    fn tell_stuck(&mut self) {
        let (now, limit) = (self.now, self.stuck_ns);
        let is_stuck = |flight: &&mut Flight| {
            flight.over.is_none() && flight.stuck.is_none() && now.0.saturating_sub(flight.last_seen.0) >= limit
        };
        let mut found = Vec::new();
        for flight in self.flights.iter_mut().filter(is_stuck) {
            flight.stuck = Some(flight.last_seen);
            found.push((flight.tgid, flight.engine, flight.last_seen));
        }
        for (pid, number, since) in found {
            let engine = number.and_then(|number| self.machines.engine(number));
            let stepless =
                engine.and_then(|engine| self.steps.last(&engine.pids_ever())).map(|stepped| now.since(stepped));
            let engine = engine.map(|engine| engine.identity.id.clone());
            let utilization = number.and_then(|number| self.machines.utilization(number, since, now));
            self.notice(Notice::Stuck { pid, engine, lasted: now.since(since), utilization, stepless });
        }
    }

    fn notice(&mut self, notice: Notice) {
        if self.notices.len() < MAX_NOTICES {
            self.notices.push(notice);
        } else {
            self.counts.notices_dropped += 1;
        }
    }

    /// What an operator should hear of now.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The engine that served a call, and its place.
    fn engine_of(&self, held: &Held) -> Option<(usize, &Engine)> {
        let number = self.flights.get(held.key?)?.engine?;
        Some((number, self.machines.engine(number)?))
    }

    /// Whether something is observed beside the call, so that waiting is of use.
    fn is_observed(&self, held: &Held) -> bool {
        let Some((_, engine)) = self.engine_of(held) else { return false };
        let end = held.call.timing.end.0;
        let fresh = |until: Option<Mono>| until.is_some_and(|until| end.saturating_sub(until.0) < FRESH_NS);
        fresh(engine.observed_until()) || fresh(self.machines.devices.observed_until(&engine.identity.devices))
    }

    /// Whether the client has left, no other call is under way, and the engine still works: for whom is known by then.
    fn works_for_nobody(&self, held: &Held) -> bool {
        if held.call.completion != Some(Completion::ClientClosed) {
            return false;
        }
        let Some((number, engine)) = self.engine_of(held).filter(|(_, engine)| engine.in_flight == 0) else {
            return false;
        };
        let end = held.call.timing.end;
        let observed = self.machines.devices.observed_until(&engine.identity.devices);
        let worked = self.machines.work_after(number, end, self.now).map(|(until, _)| until);
        // Until the last that was observed: it may still go on.
        worked.is_some() && worked >= observed
    }

    fn is_ready(&self, held: &Held) -> bool {
        let Some((_, engine)) = self.engine_of(held) else { return true };
        let end = held.call.timing.end;
        // A device that is lost is not waited for.
        let observed = self.machines.devices.observed_until(&engine.identity.devices);
        let is_lost = observed.is_none_or(|until| end.0.saturating_sub(until.0) >= FRESH_NS);
        (is_lost || engine.windows.sealed() > window_of(end))
            && engine.observed_until().is_none_or(|until| until >= end)
    }
}

#[cfg(test)]
mod tests;
