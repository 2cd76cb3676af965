//! What is measured once and not against a run without the agent: content to the byte, the start, the ramp to overload,
//! the replay.

use std::{
    fs,
    process::Stdio,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::LEDGER,
    call::Call,
    load::{
        order::{Driven, Flood, Flooded, Load},
        schedule::interval_for,
        wire::Shape,
    },
    usage,
};
use serde_json::Value;

use super::{
    Plan,
    complete::{Completeness, Ends, Made},
    results::{Figure, Results, Step},
    rig::Rig,
    scenario::AGENT,
};

/// Prompts and answers that a call's content holds as a whole.
const CONTENT: [(bool, Shape); 4] = [(false, STREAM), (true, STREAM), (false, LONG), (true, LONG)];
const STREAM: Shape =
    Shape { stream: true, prompt_words: 500, chunks: 50, chunk_words: 2, first_us: 0, interval_us: 2000 };
const LONG: Shape =
    Shape { stream: false, prompt_words: 16_384, chunks: 1000, chunk_words: 1, first_us: 0, interval_us: 0 };

/// Measures everything that the plan wants.
pub fn run(rig: &mut Rig, plan: &Plan, results: &mut Results) {
    if plan.wants("content to the byte") {
        let outcome = content(rig, plan, results, "content to the byte");
        results.note("content to the byte", outcome);
    }
    for (name, tls) in [("start, plain", false), ("start, TLS", true)] {
        if plan.wants(name) {
            let outcome = start(rig, plan, results, name, tls);
            results.note(name, outcome);
        }
    }
    for ramp in &RAMPS {
        if plan.wants(ramp.name) {
            let outcome = overload(rig, plan, results, ramp);
            results.note(ramp.name, outcome);
        }
    }
    if plan.wants("replay") {
        let outcome = replay(rig, plan, results, "replay");
        results.note("replay", outcome);
    }
}

/// With content on, what the agent tells of prompts and answers is what was sent, to the byte.
fn content(rig: &mut Rig, plan: &Plan, results: &mut Results, name: &str) -> Result<()> {
    let (config, lines) = (rig.file("content.toml"), rig.file("content.jsonl"));
    let text = format!(
        "[privacy]\ncontent = true\ncontent_max_bytes = {}\n[export.jsonl]\npath = {:?}\n",
        1 << 20,
        lines.display().to_string()
    );
    fs::write(&config, text)?;
    let watcher = rig.agent(&["run", "--config", &config.display().to_string()])?;
    let mut made = Vec::new();
    for (tls, shape) in CONTENT {
        let (n, interval_ns) = (plan.scale(100), 4_000_000);
        let first_call = rig.calls(n);
        let (driven, _) = rig.drive(&Load { tls, shape, calls: n, interval_ns, first_call, keep_alive: true })?;
        ensure!(driven.completed == n, "{} of {n} calls were answered: {:?}", driven.completed, driven.failures);
        made.push(Made { first: first_call, n, shape });
    }
    let stopped = watcher.stop()?;
    let told = fs::read_to_string(&lines).context("the agent wrote no calls")?;
    let told = told.lines().map(Call::parse).collect::<Result<Vec<_>>>()?;
    let mut completeness = Completeness::new(name);
    let ends = Ends { client: rig.driver.pid(), server: rig.server.pid() };
    completeness.take(&told, &stopped, &made, ends, true)?;
    results.completeness.push(completeness);
    Ok(())
}

/// From the start of the agent to the start of the first call that it tells, with a call every 5 ms.
fn start(rig: &mut Rig, plan: &Plan, results: &mut Results, name: &str, tls: bool) -> Result<()> {
    let shape = Shape { stream: true, prompt_words: 50, chunks: 4, chunk_words: 1, first_us: 0, interval_us: 0 };
    let mut seconds = Vec::new();
    for _ in 0..plan.short.blocks {
        let n = 800;
        let load = Load { tls, shape, calls: n, interval_ns: 5_000_000, first_call: rig.calls(n), keep_alive: true };
        rig.driver.tell(&load)?;
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let watcher = rig.launch(&AGENT)?;
        let driven: Driven = rig.driver.hear()?;
        ensure!(driven.completed == n, "{} of {n} calls were answered: {:?}", driven.completed, driven.failures);
        let calls = watcher.stop()?.calls()?;
        // A call that the agent joined in its middle was not captured from its start.
        let whole = calls.iter().filter(|call| call.capture() == Some("complete"));
        let of_server = whole.filter(|call| call.pid() == Some(rig.server.pid().into()));
        let starts = of_server.filter_map(|call| call.json()["start_time_unix_nano"].as_u64());
        let first = starts.min().context("no call was told: the agent took longer to start than the load lasted")?;
        seconds
            .push((f64::from(u32::try_from(n)?) * 0.005).min((u128::from(first).saturating_sub(began)) as f64 / 1e9));
    }
    results.sample(name, "start to first captured call", "s", &seconds, 0.5);
    Ok(())
}

/// A rate of chunks that doubles until the generator cannot follow.
struct Ramp {
    name: &'static str,
    tls: bool,
    shape: Shape,
    /// Chunks per second of the first step.
    from: u64,
}

const fn ramp(name: &'static str, tls: bool, chunks: u32, chunk_words: u32, from: u64) -> Ramp {
    let shape = Shape { stream: true, prompt_words: 50, chunks, chunk_words, first_us: 0, interval_us: 0 };
    Ramp { name, tls, shape, from }
}

const RAMPS: [Ramp; 3] = [
    ramp("overload with tokens, plain", false, 100, 1, 20_000),
    ramp("overload with tokens, TLS", true, 100, 1, 20_000),
    ramp("overload with 16 KB chunks, plain", false, 50, 2000, 4000),
];

/// Of a rate that was asked for, what must be reached for it to count as followed.
const FOLLOWED: f64 = 0.9;

/// Loss against offered rate, until the generator's threads, one for each processor, are at their end.
fn overload(rig: &mut Rig, plan: &Plan, results: &mut Results, ramp: &Ramp) -> Result<()> {
    let mut asked = ramp.from;
    loop {
        let step = overload_step(rig, plan, results, ramp, asked)?;
        let followed = asked > 0 && step.reached >= FOLLOWED * asked as f64;
        results.ramp.push(step);
        match (asked, followed) {
            // As many as go: the last step.
            (0, _) => break,
            (_, true) => asked *= 2,
            (_, false) => asked = 0,
        }
    }
    let highest = results.ramp_of(ramp.name).max_by(|a, b| a.reached.total_cmp(&b.reached)).cloned();
    let lossless = results.ramp_of(ramp.name).filter(|step| step.lost_bytes == 0).map(|step| step.reached);
    let lossless = lossless.fold(0.0, f64::max);
    if let Some(highest) = highest {
        single(results, ramp.name, "loss at the highest rate", "%", highest.loss * 100.0);
        single(results, ramp.name, "highest rate of the generator", "chunks/s", highest.reached);
        single(results, ramp.name, "highest rate without loss", "chunks/s", lossless);
    }
    Ok(())
}

fn overload_step(rig: &mut Rig, plan: &Plan, results: &mut Results, ramp: &Ramp, rate: u64) -> Result<Step> {
    // Numbers enough for every thread's own range.
    let first_call = rig.calls(1 << 30);
    let threads = thread::available_parallelism()?.get() as u64;
    let Ramp { name, tls, shape, .. } = *ramp;
    let watcher = rig.agent(&AGENT)?;
    let before = watcher.cpu()?;
    let duration_ms = plan.ramp_ms;
    let flooded: Flooded = rig.flood.ask(&Flood { tls, shape, threads, rate, duration_ms, first_call })?;
    let agent_cores = (watcher.cpu()? - before).as_secs_f64() / (flooded.wall_ns as f64 / 1e9);
    let stopped = watcher.stop()?;
    let mut completeness = Completeness::new(name);
    let (offered, lost) = completeness.take_ledger(&stopped)?;
    let seconds = flooded.wall_ns as f64 / 1e9;
    if lost == 0 {
        let pid = u64::from(rig.flood.pid());
        let told = stopped.calls()?.iter().filter(|call| call.pid() == Some(pid)).count() as u64;
        let undelivered = stopped.ledger().and_then(|ledger| ledger["output.queue_full"].as_u64()).unwrap_or(0);
        if told + undelivered != 2 * flooded.calls {
            let problem =
                format!("{told} calls told and {undelivered} counted as undelivered of {}", 2 * flooded.calls);
            completeness.complain(format!("{problem}, and no byte lost"));
        }
    }
    let balanced = completeness.balanced;
    if !completeness.problems.is_empty() {
        results.completeness.push(completeness);
    }
    Ok(Step {
        ramp: name.to_owned(),
        asked: (rate > 0).then_some(rate as f64),
        reached: flooded.chunks as f64 / seconds,
        offered_bytes_per_s: offered as f64 / seconds,
        loss: if offered > 0 { lost as f64 / offered as f64 } else { 0.0 },
        lost_bytes: lost,
        balanced,
        agent_cores,
    })
}

/// Records per second of CPU that `inferscope replay` takes from a recording of a thousand streams.
fn replay(rig: &mut Rig, plan: &Plan, results: &mut Results, name: &str) -> Result<()> {
    let file = rig.file("recording").display().to_string();
    let shape = Shape { stream: true, prompt_words: 50, chunks: 20, chunk_words: 1, first_us: 0, interval_us: 50_000 };
    let interval_ns = interval_for(1000, shape.duration_ns());
    let calls = plan.phase_ns.div_ceil(interval_ns);
    let watcher = rig.agent(&["record", &file])?;
    rig.drive(&Load { tls: false, shape, calls, interval_ns, first_call: rig.calls(calls), keep_alive: true })?;
    watcher.stop()?;
    let mut rates = Vec::new();
    for _ in 0..plan.scale(10) {
        let before = usage::cpu_of_children()?;
        let output = rig.command(&["replay", &file, "--output", "jsonl"]).stdout(Stdio::null()).output()?;
        let used = usage::cpu_of_children()? - before;
        ensure!(output.status.success(), "replay: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stderr);
        let ledger = said.lines().find_map(|line| line.split_once(LEDGER)).context("replay gave no ledger")?.1;
        let ledger: Value = serde_json::from_str(ledger)?;
        let records = ledger["pipeline.records"].as_u64().context("no number of records")?;
        rates.push(records as f64 / used.as_secs_f64());
    }
    results.sample(name, "records per second of CPU, start included", "1/s", &rates, 0.5);
    Ok(())
}

fn single(results: &mut Results, scenario: &str, what: &str, unit: &'static str, value: f64) {
    results.figures.push(Figure {
        scenario: scenario.to_owned(),
        what: what.to_owned(),
        unit,
        value,
        interval: None,
        off: None,
        on: None,
        control: None,
    });
}
