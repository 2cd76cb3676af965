//! What stands behind a server's calls: which processes and GPU, whose energy, and why a call was slow. Against the mock
//! engine and the stand-in for NVML, which say what is true.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::{Agent, Stopped},
    call::Call,
    engine::{
        MockEngine, Options,
        client::{Ask, Called, End},
        load::{Length, Load, Planned, drive},
        truth::RequestTruth,
    },
    gpu,
};
use serde_json::json;

use crate::scenario::{Need, SOON, Scenarios, say};

/// Adds the scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("serving::energy", &[], energy);
    all.add("serving::crash", &[], crash);
    all.add("serving::waste", &[], waste);
    all.add("serving::nvml_missing", &[], nvml_missing);
    all.add("serving::nvml_hangs", &[], nvml_hangs);
    all.add("serving::replay", &[Need::Curl], replayed);
}

/// An engine on a GPU that is not there, and an agent that sees both.
pub struct Stage {
    pub engine: MockEngine,
    pub agent: Agent,
}

impl Stage {
    /// Starts both.
    pub fn start(options: &Options) -> Result<Self> {
        let cudart = options.cudart.clone().map_or_else(cudart, Ok)?;
        let engine = MockEngine::start(&Options { cudart: Some(cudart), ..options.clone() })?;
        let agent = Agent::ready(&mut agent(&engine, &gpu::nvml::path()?)?)?;
        Ok(Self { engine, agent })
    }

    /// Calls one after the other, `gap` apart, and waits until the agent has told them.
    pub fn call(&self, asks: &[Ask], gap: Duration) -> Result<Vec<Called>> {
        let plan: Vec<Planned> =
            asks.iter().enumerate().map(|(at, ask)| Planned { due: gap * at as u32, ask: *ask }).collect();
        drive(self.engine.address(), &plan, false)
    }

    /// What the agent says of the server's side of these calls.
    pub fn told(&self, called: &[Called]) -> Result<Vec<Call>> {
        let ids: Vec<&str> = called.iter().filter_map(|called| called.id.as_deref()).collect();
        self.agent.wait_for_calls(ids.len(), SOON, |call| {
            call.kind() == "server" && call.id().is_some_and(|id| ids.contains(&id))
        })
    }

    /// Ends both, the agent cleanly.
    pub fn stop(self) -> Result<(Stopped, inferscope_tests::engine::truth::Truth)> {
        let stopped = self.agent.stop()?.clean()?;
        Ok((stopped, self.engine.stop()?))
    }
}

/// Lets the engine go on for as long as it takes to write thirty tokens of a call beside all others, some 0.2 s.
pub fn pass_some_tokens(engine: &MockEngine) -> Result<()> {
    drive(engine.address(), &[Planned { due: Duration::ZERO, ask: Ask::stream(16, 30) }], false)?;
    Ok(())
}

fn agent(engine: &MockEngine, nvml: &std::path::Path) -> Result<Command> {
    let mut command = Command::new(inferscope_tests::place::agent()?);
    command.args(["trace", "--output", "jsonl"]);
    command.env("INFERSCOPE_NVML_LIBRARY", nvml).env(gpu::timeline::ENV, engine.timeline());
    Ok(command)
}

fn cudart() -> Result<PathBuf> {
    gpu::cudart::path().context("the stand-in for libcudart is not built")
}

/// Each call's engine, GPU and energy against what the engine did.
fn energy() -> Result<()> {
    let stage = Stage::start(&Options::default())?;
    // The first call makes the engine known; what is served before the first look has no machinery.
    let first = stage.call(&[Ask::stream(50, 8)], Duration::ZERO)?;
    stage.told(&first)?;
    let load = Load { duration: Duration::from_secs(20), ..Load::default() };
    let called = drive(stage.engine.address(), &load.plan(), true)?;
    let told = stage.told(&called)?;
    let front = u64::from(stage.engine.pids().front);
    let (stopped, truth) = stage.stop()?;
    let truth: HashMap<&str, &RequestTruth> =
        truth.requests.iter().map(|request| (request.id.as_str(), request)).collect();

    let engine = told[0].text("inferscope.engine.id").context("no engine")?.to_owned();
    let usual = usual_wait(truth.values().copied());
    let (mut errors, mut shares, mut in_flight) = (Vec::new(), 0.0, Vec::new());
    let (mut queued, mut blamed) = (0, Vec::new());
    for call in &told {
        let id = call.id().context("no id")?;
        let request = truth.get(id).with_context(|| format!("{id} is not in the truth"))?;
        ensure!(call.pid() == Some(front), "served by {:?}", call.pid());
        ensure!(call.text("inferscope.engine.id") == Some(&engine), "{id} has another engine: {:?}", call.json());
        ensure!(call.number("inferscope.engine.process.count") == Some(3), "{:?}", call.json());
        ensure!(call.list("inferscope.gpu.ids") == Some(vec!["GPU-fake-0"]), "{:?}", call.json());
        // Absent where the GPU was not observed for half of the call: a machine that stands still does that.
        if let Some(joules) = call.seconds("inferscope.gpu.energy.joules") {
            let exact = request.energy_mj.context("no energy in the truth")? / 1e3;
            shares += joules;
            errors.push((joules - exact).abs() / exact);
        }
        match call.list("inferscope.cause.kinds").as_deref() {
            None => {}
            // Nobody disturbs, but twenty calls a second come as they like, and some do wait for others.
            Some(["queueing"]) if wait(request).is_some_and(|wait| wait > usual * 2) => queued += 1,
            Some(kinds) => blamed.push(kinds.join("+")),
        }
        let seen = call.number("inferscope.in_flight_at_start").context("no calls in flight")?;
        in_flight.push(seen.abs_diff(request.in_flight as u64));
    }
    errors.sort_by(f64::total_cmp);
    in_flight.sort_unstable();
    let (median, ninth) = (errors[errors.len() / 2], errors[errors.len() * 9 / 10]);
    say(&format!(
        "{} calls, {} with their energy: off by {:.1} % (median) and {:.1} % (p90); {queued} waited for others as they say, \
         causes of the rest: {blamed:?}; in flight off by {} at p99",
        told.len(),
        errors.len(),
        median * 100.0,
        ninth * 100.0,
        in_flight[in_flight.len() * 99 / 100],
    ));
    // 5.2 to 6.1 % on two cores, by what else they do: chunks that are written late count late. The simulation, which has no
    // such noise, is held to 6 %.
    ensure!(median <= 0.08, "median error {median:.3}");
    ensure!(errors.len() * 20 >= told.len() * 19, "{} of {} calls have energy", errors.len(), told.len());
    ensure!(blamed.len() * 20 <= told.len(), "of {} undisturbed calls have a cause: {blamed:?}", told.len());
    // All of the device's energy is somebody's.
    let ledger = stopped.ledger().context("no ledger")?;
    let sums = &ledger["engines"][&engine];
    let joules = |name: &str| sums[name].as_f64().with_context(|| format!("no {name}: {ledger}"));
    let parts =
        joules("shared_joules")? + joules("idle_joules")? + joules("unattributed_joules")? + joules("open_joules")?;
    let whole = joules("device_joules")?;
    ensure!((parts - whole).abs() <= whole * 0.001, "{parts} of {whole} J are accounted for");
    ensure!(shares <= joules("shared_joules")? * 1.001, "calls tell {shares} J: {ledger}");
    Ok(())
}

/// How long a request waited for its first token, by the engine's own account.
fn wait(request: &RequestTruth) -> Option<Duration> {
    Some(Duration::from_nanos(request.first_token_ns?.saturating_sub(request.arrival_ns)))
}

/// The median of that.
fn usual_wait<'a>(requests: impl Iterator<Item = &'a RequestTruth>) -> Duration {
    let mut waits: Vec<Duration> = requests.filter_map(wait).collect();
    waits.sort_unstable();
    waits.get(waits.len() / 2).copied().unwrap_or_default()
}

/// The engine's core dies with calls under way.
fn crash() -> Result<()> {
    let stage = Stage::start(&Options::default())?;
    let first = stage.call(&[Ask::stream(50, 8)], Duration::ZERO)?;
    stage.told(&first)?;
    let core = stage.engine.pids().core;
    let address = stage.engine.address();
    let calls = std::thread::spawn(move || {
        let plan: Vec<Planned> = (0..8).map(|_| Planned { due: Duration::ZERO, ask: Ask::stream(100, 2000) }).collect();
        drive(address, &plan, false)
    });
    pass_some_tokens(&stage.engine)?;
    stage.engine.control(&json!({"core": "abort"}))?;
    let called = calls.join().map_err(|_| anyhow::anyhow!("the calls panicked"))??;
    ensure!(called.iter().all(|called| called.end != End::Done), "{called:?}");
    let killed = stage.agent.wait_for_calls(8, SOON, |call| {
        call.kind() == "server" && call.list("inferscope.cause.kinds").is_some_and(|kinds| kinds[0] == "engine_exit")
    })?;
    for call in &killed {
        let evidence = call.json()["events"].to_string();
        ensure!(evidence.contains(&format!("pid {core}")), "{evidence}");
    }
    let stopped = stage.agent.stop()?.clean()?;
    let told = stopped
        .stderr
        .iter()
        .any(|line| line.contains("a process of an engine has ended") && line.contains(&core.to_string()));
    ensure!(told, "nobody was told: {:?}", stopped.stderr);
    Ok(())
}

/// A client leaves and the engine does not care.
fn waste() -> Result<()> {
    let stage = Stage::start(&Options { ignore_disconnect: true, ..Options::default() })?;
    let first = stage.call(&[Ask::stream(50, 8)], Duration::ZERO)?;
    stage.told(&first)?;
    let mut ask = Ask::stream(100, 200);
    ask.leave_after = Some(20);
    ask.output = 400;
    let called = stage.call(&[ask], Duration::ZERO)?;
    ensure!(called[0].end == End::Left, "{called:?}");
    let told = stage.told(&called)?;
    ensure!(told[0].completion() == Some("client_closed"), "{:?}", told[0].json());
    let truth = stage.engine.stop()?;
    let request = truth.requests.iter().find(|request| Some(request.id.as_str()) == called[0].id.as_deref());
    let request = request.context("not in the truth")?;
    let (seconds, joules) = (told[0].seconds("inferscope.waste.seconds"), told[0].seconds("inferscope.waste.joules"));
    let exact = (request.last_token_ns.context("no token")? - called[0].end_ns) as f64 / 1e9;
    say(&format!("{} tokens in {exact:.2} s for nobody; told: {seconds:?} s, {joules:?} J", request.tokens_after_gone));
    let seconds = seconds.with_context(|| format!("no waste: {}", told[0].json()))?;
    ensure!((seconds - exact).abs() < 0.4, "{seconds} s instead of {exact} s");
    ensure!(joules.is_some_and(|joules| joules > 0.0), "{joules:?}");
    stage.agent.stop()?.clean()?;
    Ok(())
}

/// Without NVML calls go on, and nothing is said of GPUs.
fn nvml_missing() -> Result<()> {
    let engine = MockEngine::start(&Options::default())?;
    let agent = Agent::ready(&mut agent(&engine, std::path::Path::new("/nonexistent/libnvidia-ml.so.1"))?)?;
    let stage = Stage { engine, agent };
    let called = stage.call(&[Ask::stream(50, 8), Ask::stream(50, 8)], Duration::from_millis(300))?;
    let told = stage.told(&called)?;
    ensure!(told[1].attr("inferscope.engine.id").is_some(), "{:?}", told[1].json());
    ensure!(told.iter().all(|call| call.attr("inferscope.gpu.ids").is_none()), "{:?}", told[0].json());
    stage.stop()?;
    Ok(())
}

/// A driver that does not answer for five seconds holds up nobody.
fn nvml_hangs() -> Result<()> {
    let engine = MockEngine::start(&Options::default())?;
    let mut timeline = gpu::timeline::Timeline::open(engine.timeline())?;
    let now = gpu::timeline::monotonic_ns();
    timeline.write(&[gpu::timeline::Line::call(now, "*").delay(Duration::from_secs(5)).lock()])?;
    let agent = Agent::ready(&mut agent(&engine, &gpu::nvml::path()?)?)?;
    let stage = Stage { engine, agent };
    let begun = Instant::now();
    let called = stage.call(&[Ask::stream(50, 8), Ask::stream(50, 8)], Duration::from_millis(300))?;
    let told = stage.told(&called)?;
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(5), "the calls were told after {took:?}");
    ensure!(told.iter().all(|call| call.attr("inferscope.gpu.energy.joules").is_none()), "{:?}", told[0].json());
    stage.stop()?;
    Ok(())
}

/// A recording has what was observed, and its replay says the same of each call.
fn replayed() -> Result<()> {
    let engine = MockEngine::start(&Options { cudart: Some(cudart()?), ..Options::default() })?;
    let room = crate::scenario::Room::new()?;
    let file = room.file("calls.rec");
    let mut command = Command::new(inferscope_tests::place::agent()?);
    command.arg("record").arg(&file);
    command.env("INFERSCOPE_NVML_LIBRARY", gpu::nvml::path()?).env(gpu::timeline::ENV, engine.timeline());
    let agent = Agent::ready(&mut command)?;
    let short = Length { mu: 5.0, sigma: 0.5, least: 16, most: 500 };
    let load = Load { rate: 5.0, duration: Duration::from_secs(3), prompt: short, output: short, ..Load::default() };
    drive(engine.address(), &load.plan(), false)?;
    // What was observed of the last call's end comes after it.
    drive(engine.address(), &[Planned { due: Duration::ZERO, ask: Ask::stream(16, 100) }], false)?;
    agent.stop()?.clean()?;
    let output =
        Command::new(inferscope_tests::place::agent()?).args(["replay", "--output", "jsonl"]).arg(&file).output()?;
    let text = String::from_utf8(output.stdout)?;
    let calls: Vec<Call> = text.lines().map(Call::parse).collect::<Result<_>>()?;
    let served: Vec<&Call> = calls.iter().filter(|call| call.kind() == "server").collect();
    let with_energy = served.iter().filter(|call| call.attr("inferscope.gpu.energy.joules").is_some()).count();
    ensure!(served.len() >= 5 && with_energy * 10 >= served.len() * 8, "{with_energy} of {} have energy", served.len());
    engine.stop()?;
    Ok(())
}
