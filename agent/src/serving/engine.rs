//! One engine while it serves: its processes' counters over time, its windows of energy, what happened to it.
//!
//! Owns what was observed of an engine group, folded from many processes and control groups into few courses. Who belongs
//! to the group is `host::group`'s; what the courses say of a call is `causes`'.

use std::collections::{HashMap, VecDeque};

use super::{
    energy::Windows,
    facts::{CauseKind, EngineFacts},
    track::{Counter, Gauge},
};
use crate::{
    host::{CgroupUsage, ProcessUsage, same_start},
    time::Mono,
};

/// Ends of processes, opened weights and finished prefills that are remembered.
const MAX_EVENTS: usize = 64;
const MAX_PREFILLS: usize = 1024;

/// Reading that slows: storage reads of a megabyte, or page faults that wait for it, in a tenth of a second.
const READING_BYTES_PER_SECOND: u64 = 10 << 20;
const READING_FAULTS_PER_SECOND: u64 = 200;

/// How fast what is usual follows.
const TYPICAL: f64 = 0.05;

/// A process of the engine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberExit {
    /// When.
    pub at: Mono,
    /// Which.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// Wait status as in `wait(2)`.
    pub status: u32,
    /// Whether the kernel killed it for want of memory.
    pub oom: bool,
}

/// The time in which a call's prompt waited and was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prefill {
    /// When the request had come.
    pub start: Mono,
    /// First token.
    pub end: Mono,
    /// Tokens of the prompt that were not cached, if known.
    pub tokens: Option<u64>,
}

/// What a group of processes is known by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// Names it as long as it lives.
    pub id: String,
    /// What software it is.
    pub kind: Option<&'static str>,
    /// Version of it.
    pub version: Option<String>,
    /// The model, where a command line names it.
    pub model: Option<String>,
    /// Process ids and starts.
    pub members: Vec<(u32, u64)>,
    /// Control groups of the members.
    pub cgroups: Vec<String>,
    /// Numbers of the devices that they use.
    pub devices: Vec<u32>,
    /// 0 to 1.
    pub confidence: f64,
}

impl Identity {
    fn owns(&self, usage: &ProcessUsage) -> bool {
        self.members.iter().any(|(pid, start)| *pid == usage.pid && same_start(*start, usage.start_boottime_ns))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Engine {
    /// Who it is.
    pub identity: Identity,
    /// Calls of it that are under way.
    pub in_flight: u64,
    /// Its energy.
    pub windows: Windows,
    /// Bytes of GPU memory of its processes.
    pub memory: Gauge,
    /// Ready and without a processor, nanoseconds, of all threads: what passes a token on is one after the other. No more than
    /// the time itself.
    pub runqueue: Counter,
    /// Control group's quota used up, nanoseconds.
    pub throttled: Counter,
    /// Reading from storage, nanoseconds.
    pub reading: Counter,
    /// Bytes read.
    pub read_bytes: Counter,
    /// Major page faults.
    pub faults: Counter,
    /// Waiting for memory, nanoseconds.
    pub pressure: Counter,
    /// Times that memory ran into the control group's limit.
    pub limit_hits: Counter,
    /// Ends of members, oldest first.
    pub exits: VecDeque<MemberExit>,
    /// When files with weights were opened, and which.
    pub weights: VecDeque<(Mono, String)>,
    /// Calls' prefills, oldest first.
    pub prefills: VecDeque<Prefill>,
    /// Tokens that a byte of a request makes, over the last calls.
    pub tokens_per_byte: f64,
    /// Tokens that a chunk carries, over the last calls.
    pub tokens_per_chunk: f64,
    /// Tokens that were written, as far as chunks tell.
    pub tokens: f64,
    counted: Option<(Mono, f64)>,
    processes: HashMap<(u32, u64), ProcessUsage>,
    cgroups: HashMap<String, CgroupUsage>,
    usage_at: Option<Mono>,
    typical: HashMap<CauseKind, f64>,
}

impl Engine {
    /// One that was just found.
    pub fn new(identity: Identity) -> Self {
        Self { identity, tokens_per_byte: 0.25, tokens_per_chunk: 1.0, ..Self::default() }
    }

    /// What is told of it.
    pub fn facts(&self) -> EngineFacts {
        let Identity { id, kind, version, members, confidence, .. } = &self.identity;
        EngineFacts {
            id: id.clone(),
            kind: *kind,
            version: version.clone(),
            processes: members.len() as u64,
            confidence: *confidence,
        }
    }

    /// Process ids.
    pub fn pids(&self) -> Vec<u32> {
        self.identity.members.iter().map(|(pid, _)| *pid).collect()
    }

    /// Process ids, with those that have ended: what they did is still to be told.
    pub fn pids_ever(&self) -> Vec<u32> {
        let mut pids = self.pids();
        let ended: Vec<u32> = self.exits.iter().map(|exit| exit.pid).filter(|ended| !pids.contains(ended)).collect();
        pids.extend(ended);
        pids
    }

    /// Takes counters of processes and control groups, its own and others.
    pub fn usage(&mut self, at: Mono, processes: &[ProcessUsage], cgroups: &[CgroupUsage]) {
        let passed = self.usage_at.map_or(0, |before| at.0.saturating_sub(before.0));
        let (mut waited, mut faults, mut bytes, mut blocked) = (0, 0, 0, false);
        let Self { identity, processes: known, cgroups: known_groups, .. } = self;
        for now in processes.iter().filter(|now| identity.owns(now)) {
            if let Some(before) = known.insert((now.pid, now.start_boottime_ns), *now) {
                waited += now.runqueue_ns.saturating_sub(before.runqueue_ns);
                faults += now.major_faults.saturating_sub(before.major_faults);
                if let (Some(now), Some(before)) = (now.read_bytes, before.read_bytes) {
                    bytes += now.saturating_sub(before);
                }
                blocked |= now.uninterruptible > 0 && before.uninterruptible > 0;
            }
        }
        let (mut throttled, mut pressure, mut hits) = (0, 0, 0);
        for now in cgroups.iter().filter(|now| identity.cgroups.contains(&now.path)) {
            if let Some(before) = known_groups.insert(now.path.clone(), now.clone()) {
                let grew = |now: Option<u64>, before: Option<u64>| {
                    now.zip(before).map_or(0, |(now, before)| now.saturating_sub(before))
                };
                throttled = grew(now.throttled_ns, before.throttled_ns).max(throttled);
                pressure = grew(now.memory_pressure_ns, before.memory_pressure_ns).max(pressure);
                hits += grew(now.memory_limit_hits, before.memory_limit_hits);
            }
        }
        // A wait that is told when it is over may be longer than the time since the last look: a counter of many threads too.
        self.throttled.add(at, throttled.min(passed));
        self.runqueue.add(at, waited.min(passed).saturating_sub(throttled.min(passed)));
        self.pressure.add(at, pressure.min(passed));
        self.limit_hits.add(at, hits);
        self.faults.add(at, faults);
        self.read_bytes.add(at, bytes);
        let per_second = |count: u64| u128::from(count) * 1_000_000_000 / u128::from(passed.max(1));
        let reads = per_second(bytes) >= u128::from(READING_BYTES_PER_SECOND)
            || per_second(faults) >= u128::from(READING_FAULTS_PER_SECOND)
            || blocked;
        self.reading.add(at, if reads { passed } else { 0 });
        self.usage_at = Some(at);
    }

    /// Its group has changed.
    pub fn become_known(&mut self, identity: Identity) {
        self.identity = identity;
        let Self { identity, processes, cgroups, .. } = self;
        processes.retain(|_, usage| identity.owns(usage));
        cgroups.retain(|path, _| identity.cgroups.contains(path));
    }

    /// Until when its processes were observed.
    pub fn observed_until(&self) -> Option<Mono> {
        self.usage_at
    }

    /// A process of it ended.
    pub fn exited(&mut self, exit: MemberExit) {
        keep(&mut self.exits, exit, MAX_EVENTS);
    }

    /// A file with weights was opened.
    pub fn opened(&mut self, at: Mono, path: String) {
        keep(&mut self.weights, (at, path), MAX_EVENTS);
    }

    /// A call's prompt was read.
    pub fn read_prompt(&mut self, prefill: Prefill) {
        keep(&mut self.prefills, prefill, MAX_PREFILLS);
    }

    /// Tokens a second since this was last asked; `None` the first time.
    pub fn tokens_per_second(&mut self, now: Mono) -> Option<f64> {
        let (at, before) = self.counted.replace((now, self.tokens))?;
        let seconds = now.since(at).as_secs_f64();
        (seconds > 0.0).then(|| (self.tokens - before) / seconds)
    }

    /// What share of a call's time this takes as a rule.
    pub fn typical(&self, kind: CauseKind) -> f64 {
        self.typical.get(&kind).copied().unwrap_or(0.0)
    }

    /// A call that was not slow had this share of it.
    pub fn learn(&mut self, kind: CauseKind, share: f64) {
        let typical = self.typical.entry(kind).or_insert(share);
        *typical += TYPICAL * (share - *typical);
    }

    /// Learns from a call whose tokens are known.
    pub fn learn_tokens(&mut self, per_byte: Option<f64>, per_chunk: Option<f64>) {
        if let Some(per_byte) = per_byte.filter(|ratio| ratio.is_finite()) {
            self.tokens_per_byte += TYPICAL * (per_byte.clamp(0.0, 10.0) - self.tokens_per_byte);
        }
        if let Some(per_chunk) = per_chunk.filter(|ratio| ratio.is_finite()) {
            self.tokens_per_chunk += TYPICAL * (per_chunk.clamp(0.0, 1000.0) - self.tokens_per_chunk);
        }
    }

    /// Forgets what was before a time.
    pub fn forget_before(&mut self, at: Mono) {
        let Self { memory, runqueue, throttled, reading, read_bytes, faults, pressure, limit_hits, .. } = self;
        for counter in [runqueue, throttled, reading, read_bytes, faults, pressure, limit_hits] {
            counter.forget_before(at);
        }
        memory.forget_before(at);
        while self.prefills.front().is_some_and(|prefill| prefill.end < at) {
            self.prefills.pop_front();
        }
    }
}

fn keep<T>(events: &mut VecDeque<T>, event: T, most: usize) {
    events.push_back(event);
    if events.len() > most {
        events.pop_front();
    }
}
