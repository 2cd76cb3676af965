//! Why a call was slow or failed, as far as something speaks for it.
//!
//! Owns the matrix of symptoms and signals: each signal is a time within the phase that was slow, less what calls of the
//! engine have of it as a rule, against the time that the call took too long. No evidence, no cause.
//!
//! To add a cause: a [`CauseKind`], how it is exported and how it ranks; its signal here; a test that has it first, and one
//! in the end-to-end matrix that provokes it.

use std::time::Duration;

use super::{
    devices::Devices,
    engine::{Engine, MemberExit, Prefill},
    facts::{Cause, CauseKind, Measure, Slow},
    sockets::SocketCourse,
};
use crate::time::Mono;

/// Share of the delay that a signal must explain.
const ENOUGH: f64 = 0.25;

/// Shortest signal that counts.
const SHORTEST: Duration = Duration::from_millis(20);

/// What one lost segment costs at least when its timer has to run out: `TCP_RTO_MIN` of include/net/tcp.h.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// How long before a call ended an engine's process may have ended to be the reason, and how long a driver's error goes on
/// having an effect.
const AROUND: Duration = Duration::from_secs(2);

/// Signals that processes are sent by others: include/uapi/asm-generic/signal.h.
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

/// The call's times that matter here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phases {
    /// First request byte.
    pub start: Mono,
    /// First token, of a stream.
    pub first_chunk: Option<Mono>,
    /// Last token.
    pub last_chunk: Option<Mono>,
    /// Last byte.
    pub end: Mono,
}

impl Phases {
    fn of(&self, what: Measure) -> (Mono, Mono) {
        match what {
            Measure::FirstToken => (self.start, self.first_chunk.unwrap_or(self.end)),
            Measure::OutputToken | Measure::Gap => {
                (self.first_chunk.unwrap_or(self.start), self.last_chunk.unwrap_or(self.end))
            }
        }
    }
}

/// What is looked at.
pub struct Scene<'a> {
    /// The call's times.
    pub phases: Phases,
    /// Time that lies between two tokens times their number: what a slow pace adds up to.
    pub gaps: u64,
    /// The engine that served it; absent for a client's call.
    pub engine: Option<&'a Engine>,
    /// All devices.
    pub devices: &'a Devices,
    /// Its connection.
    pub socket: Option<&'a SocketCourse>,
    /// Prefills of calls that are under way and were there before.
    pub ahead: &'a [Prefill],
    /// Whether the call failed.
    pub failed: bool,
}

/// A time within a phase.
struct Signal {
    kind: CauseKind,
    lasted: Duration,
    at: Mono,
    evidence: String,
}

/// Causes, the likeliest first.
pub fn find(scene: &Scene<'_>, slow: &[Slow]) -> Vec<Cause> {
    let mut causes: Vec<Cause> = if slow.is_empty() && !scene.failed { Vec::new() } else { events(scene) };
    for slow in slow {
        let (from, to) = scene.phases.of(slow.what);
        let phase = to.since(from);
        let times = if slow.what == Measure::OutputToken { scene.gaps.max(1) } else { 1 };
        let excess = slow.took.saturating_sub(slow.usual).saturating_mul(u32::try_from(times).unwrap_or(u32::MAX));
        for signal in signals(scene, from, to) {
            let typical = scene.engine.map_or(0.0, |engine| engine.typical(signal.kind));
            let beyond = signal.lasted.saturating_sub(phase.mul_f64(typical.clamp(0.0, 1.0)));
            let share = (beyond.as_secs_f64() / excess.as_secs_f64().max(1e-9)).min(1.0);
            if share < ENOUGH || beyond < SHORTEST {
                continue;
            }
            match causes.iter_mut().find(|cause| cause.kind == signal.kind) {
                Some(known) if known.share >= share => {}
                Some(known) => {
                    *known = Cause {
                        kind: signal.kind,
                        share,
                        lasted: signal.lasted,
                        at: signal.at,
                        evidence: signal.evidence,
                    };
                }
                None => causes.push(Cause {
                    kind: signal.kind,
                    share,
                    lasted: signal.lasted,
                    at: signal.at,
                    evidence: signal.evidence,
                }),
            }
        }
    }
    causes.sort_by(|a, b| {
        a.kind.rank().cmp(&b.kind.rank()).then(b.share.total_cmp(&a.share)).then(b.lasted.cmp(&a.lasted))
    });
    causes
}

/// The share of a call's time that each signal had, to learn from a call that was not slow.
pub fn shares(scene: &Scene<'_>) -> Vec<(CauseKind, f64)> {
    let (from, to) = (scene.phases.start, scene.phases.end);
    let whole = to.since(from).as_secs_f64();
    if whole <= 0.0 {
        return Vec::new();
    }
    signals(scene, from, to).into_iter().map(|signal| (signal.kind, signal.lasted.as_secs_f64() / whole)).collect()
}

/// Every signal over a time, those that are zero too.
fn signals(scene: &Scene<'_>, from: Mono, to: Mono) -> Vec<Signal> {
    let mut found = Vec::new();
    let mut add = |kind, nanos: u64, evidence: String| {
        found.push(Signal { kind, lasted: Duration::from_nanos(nanos), at: from, evidence });
    };
    if let Some(engine) = scene.engine {
        let waited = engine.runqueue.within(from, to);
        add(CauseKind::CpuRunQueue, waited, format!("{} ready to run and without a processor", ms(waited)));
        let throttled = engine.throttled.within(from, to);
        add(CauseKind::CpuThrottle, throttled, format!("{} beyond the control group's processor quota", ms(throttled)));
        let (reading, bytes) = (engine.reading.within(from, to), engine.read_bytes.within(from, to));
        let faults = engine.faults.within(from, to);
        let what = engine.weights.iter().rev().find(|(at, _)| (from..=to).contains(at)).map(|(_, path)| path.as_str());
        let name = what.map(|path| format!(", {} opened", path.rsplit('/').next().unwrap_or(path))).unwrap_or_default();
        let evidence =
            format!("{} reading {} MB from storage, {faults} major page faults{name}", ms(reading), bytes / 1_000_000);
        add(CauseKind::StorageRead, reading, evidence);
        let (pressure, hits) = (engine.pressure.within(from, to), engine.limit_hits.within(from, to));
        add(
            CauseKind::MemoryPressure,
            pressure,
            format!("{} waiting for memory, limit hit {hits} times", ms(pressure)),
        );
        for number in &engine.identity.devices {
            let Some(device) = scene.devices.get(*number) else { continue };
            let held = device.throttled.within(from, to);
            let reasons = device.throttle_reasons.map_or(0, |(_, reasons)| reasons);
            let evidence = format!("{} with clocks held down on GPU {number} (reasons 0x{reasons:x})", ms(held));
            add(CauseKind::GpuThrottle, held, evidence);
        }
        let mut ahead: Vec<Prefill> = engine
            .prefills
            .iter()
            .chain(scene.ahead)
            .copied()
            .filter(|other| other.start < from && other.end > from)
            .collect();
        ahead.sort_unstable_by_key(|other| other.start);
        let queued = covered(&ahead, from, to);
        let tokens: u64 = ahead.iter().filter_map(|other| other.tokens).sum();
        let evidence =
            format!("{} while {} prompts that came before were read ({tokens} tokens)", ms(queued), ahead.len());
        add(CauseKind::Queueing, queued, evidence);
    }
    if let Some(socket) = scene.socket {
        let limited = socket.limited(from, to);
        add(CauseKind::SlowReader, limited, format!("{} in which the client did not take what was sent", ms(limited)));
        let count = socket.retransmits(from, to);
        let lasted = RETRANSMIT.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(to.since(from));
        let lasted = u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX);
        add(CauseKind::NetworkRetransmit, lasted, format!("{count} segments sent again"));
    }
    found
}

/// What happened once and explains by itself.
fn events(scene: &Scene<'_>) -> Vec<Cause> {
    let Some(engine) = scene.engine else { return Vec::new() };
    let Phases { start, end, first_chunk, .. } = scene.phases;
    let late = Mono(end.0.saturating_add(AROUND.as_nanos() as u64));
    let early = Mono(start.0.saturating_sub(AROUND.as_nanos() as u64));
    let event = |kind, at, lasted, evidence| Cause { kind, share: 1.0, lasted, at, evidence };
    let mut found = Vec::new();
    // One that was told to end, or killed with its parent, is an effect: a parent's thread may be gone before the parent is.
    let is_told = |exit: &&MemberExit| matches!(exit.status & 0x7f, SIGKILL | SIGTERM);
    let exits = engine.exits.iter().filter(|exit| exit.at >= start && exit.at <= late);
    if scene.failed
        && let Some(exit) = exits.min_by_key(|exit| (!exit.oom, is_told(exit), exit.at))
    {
        let how = match (exit.status & 0x7f, exit.status >> 8 & 0xff) {
            (0, code) => format!("exit code {code}"),
            (signal, _) => format!("signal {signal}"),
        };
        let kind = if exit.oom { CauseKind::OomKill } else { CauseKind::EngineExit };
        let oom = if exit.oom { ", killed for want of memory" } else { "" };
        found.push(event(
            kind,
            exit.at,
            Duration::ZERO,
            format!("{} (pid {}) ended with {how}{oom}", exit.comm, exit.pid),
        ));
    }
    for number in &engine.identity.devices {
        let Some(device) = scene.devices.get(*number) else { continue };
        if let Some((at, code)) = device.xids.iter().rev().find(|(at, _)| *at >= early && *at <= late) {
            found.push(event(CauseKind::Xid, *at, Duration::ZERO, format!("XID {code} on GPU {number}")));
        }
    }
    let until = first_chunk.unwrap_or(end);
    let mut opened = engine.weights.iter().filter(|(at, _)| *at >= start && *at <= until);
    if let Some((at, path)) = opened.next() {
        // Weights that are read later, while it writes, are a read like others.
        let is_first = engine.prefills.iter().all(|other| other.end > *at);
        if is_first {
            let name = path.rsplit('/').next().unwrap_or(path);
            let more = opened.count();
            let evidence = format!("{name} and {more} more files with weights were opened before the first token");
            found.push(event(CauseKind::ModelLoading, *at, until.since(*at), evidence));
        }
    }
    found
}

/// How long at least one of these was under way in a time; they are sorted by their start.
fn covered(prefills: &[Prefill], from: Mono, to: Mono) -> u64 {
    let (mut sum, mut until) = (0, from);
    for prefill in prefills {
        let (begin, end) = (prefill.start.max(until), prefill.end.min(to));
        if end > begin {
            sum += end.0 - begin.0;
            until = end;
        }
    }
    sum
}

fn ms(nanos: u64) -> String {
    format!("{} ms", nanos / 1_000_000)
}
