//! The scenarios that are measured in blocks, with the agent and without.
//!
//! To add one: a row in [`CALLS`], or a function that measures and a line in [`run`].

use std::collections::HashMap;

use anyhow::{Result, ensure};
use inferscope_tests::{
    call::Call,
    load::{
        order::{Driven, Habit, Idle, Idled, Load, Lockstep, Served, Slice, Stepped},
        schedule::interval_for,
        wire::{Shape, call_of},
    },
    usage::Memory,
};

use super::{
    Plan,
    complete::{Completeness, Ends, Made},
    measure::{self, Compared, Samples},
    results::{Results, Wanted},
    rig::{Rig, Watcher},
};

/// How the agent runs unless a scenario is about something else: as on a host where nothing is narrowed.
pub const AGENT: [&str; 3] = ["trace", "--output", "jsonl"];

/// A scenario of calls by schedule.
struct Calls {
    name: &'static str,
    tls: bool,
    shape: Shape,
    /// Streams under way at once, or requests per second.
    load: Rate,
    keep_alive: bool,
}

enum Rate {
    Concurrent(u64),
    PerSecond(u64),
}

/// 1 KB of request, half as much of answer.
const UNARY: Shape = Shape { stream: false, prompt_words: 100, chunks: 8, chunk_words: 8, first_us: 0, interval_us: 0 };
/// 128 KiB of prompt, as of an agent with a long history.
const LONG: Shape = Shape { prompt_words: 16_384, ..UNARY };
/// A fast model's pace: 100 tokens a second.
const STREAM: Shape =
    Shape { stream: true, prompt_words: 50, chunks: 20, chunk_words: 1, first_us: 0, interval_us: 10_000 };
/// With a prefill, so that there is a time to first token to be right or wrong about.
const PREFILLED: Shape = Shape { first_us: 10_000, ..STREAM };
/// 50 tokens a second.
const STREAM_50: Shape = Shape { interval_us: 20_000, chunks: 25, ..STREAM };
/// 20 tokens a second: a thousand of these are 20,000 chunks a second, sent and received.
const STREAM_20: Shape = Shape { interval_us: 50_000, ..STREAM };

const fn calls(name: &'static str, tls: bool, shape: Shape, load: Rate) -> Calls {
    Calls { name, tls, shape, load, keep_alive: true }
}

const fn churn(name: &'static str, tls: bool, per_second: u64) -> Calls {
    Calls { name, tls, shape: UNARY, load: Rate::PerSecond(per_second), keep_alive: false }
}

/// All of them.
const CALLS: [Calls; 12] = [
    calls("1 KB requests, plain", false, UNARY, Rate::PerSecond(1000)),
    calls("1 KB requests, TLS", true, UNARY, Rate::PerSecond(1000)),
    calls("1 stream, plain", false, STREAM, Rate::Concurrent(1)),
    calls("10 streams, plain", false, PREFILLED, Rate::Concurrent(10)),
    calls("10 streams, TLS", true, PREFILLED, Rate::Concurrent(10)),
    calls("100 streams, plain", false, STREAM_50, Rate::Concurrent(100)),
    calls("1,000 streams, plain", false, STREAM_20, Rate::Concurrent(1000)),
    calls("1,000 streams, TLS", true, STREAM_20, Rate::Concurrent(1000)),
    calls("128 KB prompts, plain", false, LONG, Rate::PerSecond(50)),
    calls("128 KB prompts, TLS", true, LONG, Rate::PerSecond(50)),
    churn("connection per request, plain", false, 200),
    churn("connection per request, TLS", true, 100),
];

/// Measures everything that the plan wants.
pub fn run(rig: &mut Rig, plan: &Plan, results: &mut Results) {
    for (name, tls) in [("chunks in one thread, plain", false), ("chunks in one thread, TLS", true)] {
        if plan.wants(name) {
            let outcome = lockstep(rig, plan, results, name, tls);
            results.note(name, outcome);
        }
    }
    let server = rig.server.pid().to_string();
    let narrowed = [&AGENT[..], &["--pid", &server]].concat();
    for (name, agent) in [("other processes", &AGENT[..]), ("other processes, capture narrowed to one", &narrowed)] {
        if plan.wants(name) {
            let outcome = bystanders(rig, plan, results, name, agent);
            results.note(name, outcome);
        }
    }
    for calls in &CALLS {
        if plan.wants(calls.name) {
            let outcome = by_schedule(rig, plan, results, calls);
            results.note(calls.name, outcome);
        }
    }
}

/// What is added to one write and to one read of a chunk.
fn lockstep(rig: &mut Rig, plan: &Plan, results: &mut Results, name: &str, tls: bool) -> Result<()> {
    // 250 chunks behind each figure, a hundred figures a phase: half a second.
    let shape = Shape { chunks: 250, ..STREAM };
    let n = plan.scale(100);
    let mut made = Vec::new();
    let compared = measure::blocks(rig, plan.short, &AGENT, |rig, watcher| {
        let first = rig.calls(n);
        let before = watcher.map(Told::before).transpose()?;
        let told: Stepped = rig.pair.ask(&Lockstep { tls, shape, calls: n, first_call: first })?;
        let mut samples = Samples::from([("write", told.write_ns), ("read", told.read_ns)]);
        if let Some(before) = before {
            made.push(Made { first, n, shape });
            samples.extend(before.after(2 * n, 2 * n * u64::from(shape.chunks))?);
        }
        Ok(samples)
    })?;
    let added = |series, what| Wanted { series, what, q: 0.5, unit: "ns" };
    results.compare(name, &compared, added("write", "added to a write"));
    results.compare(name, &compared, added("read", "added to a read"));
    results.sample(name, "agent CPU per captured chunk", "us", &compared.with_agent("agent per chunk"), 0.5);
    let pid = rig.pair.pid();
    complete(results, name, &compared, &made, Ends { client: pid, server: pid })?;
    Ok(())
}

/// What is added to the system calls of a process that has nothing to do with models.
fn bystanders(rig: &mut Rig, plan: &Plan, results: &mut Results, name: &str, agent: &[&str]) -> Result<()> {
    let batches = plan.scale(40) as u32;
    let compared = measure::blocks(rig, plan.short, agent, |rig, _| {
        let getppid: Idled = rig.bystander.ask(&Idle { habit: Habit::Getppid, batches, batch: 20_000 })?;
        let pipe: Idled = rig.bystander.ask(&Idle { habit: Habit::Pipe, batches, batch: 10_000 })?;
        Ok(Samples::from([("getppid", getppid.call_ns), ("pipe", pipe.call_ns)]))
    })?;
    let added = |series, what| Wanted { series, what, q: 0.5, unit: "ns" };
    results.compare(name, &compared, added("getppid", "added to getppid"));
    results.compare(name, &compared, added("pipe", "added to a read or write of a pipe"));
    Ok(())
}

/// Calls by schedule: what both ends and the agent pay, what is added to latency, what is captured.
fn by_schedule(rig: &mut Rig, plan: &Plan, results: &mut Results, calls: &Calls) -> Result<()> {
    let Calls { name, tls, shape, load, keep_alive } = calls;
    let interval_ns = match load {
        Rate::Concurrent(n) => interval_for(*n, shape.duration_ns()),
        Rate::PerSecond(n) => 1_000_000_000 / n,
    };
    let n = plan.phase_ns.div_ceil(interval_ns);
    let (mut made, mut own_ttft, mut memory, mut peak) = (Vec::new(), HashMap::new(), Vec::new(), 0);
    let compared = measure::blocks(rig, plan.long, &AGENT, |rig, watcher| {
        let first_call = rig.calls(n);
        let before = watcher.map(Told::before).transpose()?;
        let order = Load { tls: *tls, shape: *shape, calls: n, interval_ns, first_call, keep_alive: *keep_alive };
        let (driven, served) = rig.drive(&order)?;
        ensure!(driven.completed == n, "{} of {n} calls were answered: {:?}", driven.completed, driven.failures);
        peak = peak.max(driven.peak);
        let mut samples = work(shape, &driven, &served);
        if let (Some(before), Some(watcher)) = (before, watcher) {
            made.push(Made { first: first_call, n, shape: *shape });
            samples.extend(before.after(2 * n, 2 * n * u64::from(shape.chunks))?);
            own_ttft.extend(served.ttft_ns);
            memory.push(Memory::of(watcher.pid())?);
        }
        Ok(samples)
    })?;
    figures(results, name, &compared, shape.stream);
    let told = complete(results, name, &compared, &made, Ends { client: rig.driver.pid(), server: rig.server.pid() })?;
    if shape.stream {
        results.sample(name, "most streams at once", "", &[peak as f64], 0.5);
        let errors = ttft_errors(&told, &own_ttft);
        for (q, what) in [(0.5, "TTFT error, p50"), (0.99, "TTFT error, p99")] {
            results.sample(name, what, "us", &errors, q);
        }
    }
    let mib =
        |of: fn(&Memory) -> u64| memory.iter().map(|memory| of(memory) as f64 / f64::from(1 << 20)).collect::<Vec<_>>();
    results.sample(name, "resident memory", "MiB", &mib(|memory| memory.resident), 1.0);
    results.sample(name, "resident memory, most since the start", "MiB", &mib(|memory| memory.peak), 1.0);
    results.sample(name, "memory, each page counted once", "MiB", &mib(|memory| memory.proportional), 1.0);
    results.sample(name, "memory of the heap", "MiB", &mib(|memory| memory.anonymous), 1.0);
    results.sample(name, "resident pages of rings, mapped twice", "MiB", &mib(|memory| memory.rings), 1.0);
    Ok(())
}

/// Series of one phase.
fn work(shape: &Shape, driven: &Driven, served: &Served) -> Samples {
    let us = |ns: &[u64]| ns.iter().map(|&ns| ns as f64 / 1e3).collect::<Vec<_>>();
    Samples::from([
        ("latency", us(&driven.latency_ns)),
        ("ttft", us(&driven.ttft_ns)),
        ("server", cpu_per_piece(&served.slices, shape.stream)),
        ("client", cpu_per_piece(&driven.slices, shape.stream)),
    ])
}

/// Microseconds of CPU per chunk or call, slice by slice. Slices with little in them are the beginning and the end.
fn cpu_per_piece(slices: &[Slice], stream: bool) -> Vec<f64> {
    let pieces = |slice: &Slice| if stream { slice.chunks } else { slice.calls };
    let most = slices.iter().map(pieces).max().unwrap_or(0);
    let full = slices.iter().filter(|slice| pieces(slice) * 10 >= most * 6 && pieces(slice) > 0);
    full.map(|slice| slice.cpu_ns as f64 / 1e3 / pieces(slice) as f64).collect()
}

fn figures(results: &mut Results, name: &str, compared: &Compared, stream: bool) {
    let piece = if stream { "chunk" } else { "request" };
    let mut wanted = vec![
        ("server", format!("added to the server's CPU per {piece}"), 0.5),
        ("client", format!("added to the client's CPU per {piece}"), 0.5),
        ("latency", "added to latency, p50".to_owned(), 0.5),
        ("latency", "added to latency, p99".to_owned(), 0.99),
    ];
    if stream {
        wanted.push(("ttft", "added to TTFT, p50".to_owned(), 0.5));
        wanted.push(("ttft", "added to TTFT, p99".to_owned(), 0.99));
    }
    for (series, what, q) in &wanted {
        results.compare(name, compared, Wanted { series, what, q: *q, unit: "us" });
    }
    results.sample(name, "agent CPU per captured call", "us", &compared.with_agent("agent per call"), 0.5);
    if stream {
        results.sample(name, "agent CPU per captured chunk", "us", &compared.with_agent("agent per chunk"), 0.5);
    }
}

/// An agent before a phase: what it has used and told.
struct Told<'a> {
    watcher: &'a Watcher,
    cpu_us: f64,
    lines: usize,
}

impl<'a> Told<'a> {
    fn before(watcher: &'a Watcher) -> Result<Self> {
        Ok(Self { watcher, cpu_us: watcher.cpu()?.as_secs_f64() * 1e6, lines: watcher.n_lines()? })
    }

    /// The agent's CPU per piece, after it has told all calls. A call is seen at both ends: that is two.
    fn after(self, calls: u64, chunks: u64) -> Result<Samples> {
        self.watcher.wait_for_lines(self.lines + calls as usize);
        let used = self.watcher.cpu()?.as_secs_f64() * 1e6 - self.cpu_us;
        Ok(Samples::from([
            ("agent per call", vec![used / calls as f64]),
            ("agent per chunk", vec![used / chunks as f64]),
        ]))
    }
}

/// Checks what was told of the calls; gives what was told.
fn complete(results: &mut Results, name: &str, compared: &Compared, made: &[Made], ends: Ends) -> Result<Vec<Call>> {
    let mut completeness = Completeness::new(name);
    let mut all = Vec::new();
    // Two phases a block had an agent.
    for (stopped, made) in compared.stopped.iter().zip(made.chunks(2)) {
        let told = stopped.calls()?;
        completeness.take(&told, stopped, made, ends, false)?;
        all.extend(told);
    }
    results.completeness.push(completeness);
    Ok(all)
}

/// Microseconds between the agent's time to first token and the server's own, as it saw each call.
fn ttft_errors(told: &[Call], own_ns: &HashMap<u64, u64>) -> Vec<f64> {
    let server = told.iter().filter(|call| call.kind() == "server");
    let error = |call: &Call| {
        let own = *own_ns.get(&call.id().and_then(call_of)?)? as f64 / 1e3;
        Some((call.seconds("inferscope.time_to_first_token")? * 1e6 - own).abs())
    };
    server.filter_map(error).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_at_the_edges_do_not_count() {
        let slice = |cpu_ns, chunks| Slice { cpu_ns, calls: 1, chunks };
        let slices = [slice(900_000, 10), slice(200_000, 100), slice(300_000, 100), slice(1000, 0)];
        assert_eq!(cpu_per_piece(&slices, true), [2.0, 3.0]);
        assert_eq!(cpu_per_piece(&slices, false).len(), 4);
        assert!(cpu_per_piece(&[], true).is_empty());
    }

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<_> = CALLS.iter().map(|calls| calls.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CALLS.len());
    }
}
