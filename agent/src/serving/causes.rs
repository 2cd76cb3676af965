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
    sockets::{Limited, SocketCourse},
    steps::Refused,
    track::covered,
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
    /// Memory of a GPU that the engine did not get during the call.
    pub gpu_memory: Option<Refused>,
    /// Whether the call failed.
    pub failed: bool,
}

/// Is told each signal: how many nanoseconds of the phase, and what to say of it where it is a cause.
type Sink<'a> = dyn FnMut(CauseKind, u64, &dyn Fn() -> String) + 'a;

/// Causes, the likeliest first.
pub fn find(scene: &Scene<'_>, slow: &[Slow]) -> Vec<Cause> {
    let mut causes: Vec<Cause> = if slow.is_empty() && !scene.failed { Vec::new() } else { events(scene) };
    for slow in slow {
        let (from, to) = scene.phases.of(slow.what);
        let phase = to.since(from);
        let times = if slow.what == Measure::OutputToken { scene.gaps.max(1) } else { 1 };
        let excess = slow.took.saturating_sub(slow.usual).saturating_mul(u32::try_from(times).unwrap_or(u32::MAX));
        signals(scene, from, to, &mut |kind, nanos, evidence| {
            let lasted = Duration::from_nanos(nanos);
            let typical = scene.engine.map_or(0.0, |engine| engine.typical(kind));
            let beyond = lasted.saturating_sub(phase.mul_f64(typical.clamp(0.0, 1.0)));
            let share = (beyond.as_secs_f64() / excess.as_secs_f64().max(1e-9)).min(1.0);
            let known = causes.iter().position(|cause| cause.kind == kind);
            if share < ENOUGH || beyond < SHORTEST || known.is_some_and(|known| causes[known].share >= share) {
                return;
            }
            let cause = Cause { kind, share, lasted, at: from, evidence: evidence() };
            match known {
                Some(known) => causes[known] = cause,
                None => causes.push(cause),
            }
        });
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
    let mut shares = Vec::new();
    signals(scene, from, to, &mut |kind, nanos, _| {
        shares.push((kind, Duration::from_nanos(nanos).as_secs_f64() / whole))
    });
    shares
}

/// Every signal over a time, those that are zero too.
fn signals(scene: &Scene<'_>, from: Mono, to: Mono, sink: &mut Sink<'_>) {
    if let Some(engine) = scene.engine {
        let waited = engine.runqueue.within(from, to);
        sink(CauseKind::CpuRunQueue, waited, &|| format!("{} ready to run and without a processor", ms(waited)));
        let throttled = engine.throttled.within(from, to);
        sink(CauseKind::CpuThrottle, throttled, &|| {
            format!("{} beyond the control group's processor quota", ms(throttled))
        });
        let reading = engine.reading.within(from, to);
        sink(CauseKind::StorageRead, reading, &|| {
            let (bytes, faults) = (engine.read_bytes.within(from, to), engine.faults.within(from, to));
            let opened = engine.weights.iter().rev().find(|(at, _)| (from..=to).contains(at));
            let name = opened.map(|(_, path)| format!(", {} opened", base_name(path))).unwrap_or_default();
            format!("{} reading {} MB from storage, {faults} major page faults{name}", ms(reading), bytes / 1_000_000)
        });
        let pressure = engine.pressure.within(from, to);
        sink(CauseKind::MemoryPressure, pressure, &|| {
            let hits = engine.limit_hits.within(from, to);
            format!("{} waiting for memory, limit hit {hits} times", ms(pressure))
        });
        for number in &engine.identity.devices {
            let Some(device) = scene.devices.get(*number) else { continue };
            let held = device.throttled.within(from, to);
            sink(CauseKind::GpuThrottle, held, &|| {
                let reasons = device.throttle_reasons.map_or(0, |(_, reasons)| reasons);
                format!("{} with clocks held down on GPU {number} (reasons 0x{reasons:x})", ms(held))
            });
        }
        let others = engine.prefills.iter().chain(scene.ahead);
        let ahead: Vec<&Prefill> = others.filter(|other| other.start < from && other.end > from).collect();
        let queued = covered(ahead.iter().map(|other| (other.start, other.end)), from, to);
        sink(CauseKind::Queueing, queued, &|| {
            let tokens: u64 = ahead.iter().filter_map(|other| other.tokens).sum();
            format!("{} while {} prompts that came before were read ({tokens} tokens)", ms(queued), ahead.len())
        });
    }
    if let Some(socket) = scene.socket {
        let Limited { peer, buffer } = socket.limited(from, to);
        sink(CauseKind::SlowReader, peer, &|| format!("{} in which the client did not take what was sent", ms(peer)));
        let count = socket.retransmits(from, to);
        let lasted = RETRANSMIT.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(to.since(from));
        let lasted = u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX);
        // What is lost keeps its room in the sender's buffer until it has arrived.
        let lasted = if count > 0 { lasted.max(buffer) } else { 0 };
        sink(CauseKind::NetworkRetransmit, lasted, &|| format!("{count} segments sent again"));
    }
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
    if let Some(Refused { at, pid, size, count }) = scene.gpu_memory {
        let evidence = format!("GPU memory refused {count} times, {} MB at once (pid {pid})", size / 1_000_000);
        found.push(event(CauseKind::GpuMemory, at, Duration::ZERO, evidence));
    }
    let until = first_chunk.unwrap_or(end);
    let mut opened = engine.weights.iter().filter(|(at, _)| *at >= start && *at <= until);
    if let Some((at, path)) = opened.next() {
        // Weights that are read later, while it writes, are a read like others.
        let is_first = engine.prefills.iter().all(|other| other.end > *at);
        if is_first {
            let (name, more) = (base_name(path), opened.count());
            let evidence = format!("{name} and {more} more files with weights were opened before the first token");
            found.push(event(CauseKind::ModelLoading, *at, until.since(*at), evidence));
        }
    }
    found
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn ms(nanos: u64) -> String {
    format!("{} ms", nanos / 1_000_000)
}
