//! The step clock: an engine's steps on its GPU, against the mock engine's own account of them, and what is said of a call
//! whose engine did not get memory. The agent is the service with a configuration, because that is where the clock is set.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    engine::{
        MockEngine, Options,
        client::{Ask, End},
        load::{Length, Load, Planned, drive},
    },
    gpu::{
        self,
        timeline::{Device, Header, Timeline},
    },
    place,
    process::Stream,
};
use serde_json::json;

use crate::{
    scenario::{Room, SOON, Scenarios, say},
    serving::{Stage, pass_some_tokens},
};

/// Said when a runtime library gets its probes.
const PROBED: &str = "CUDA's runtime probed";

/// Memory of the device in the scenario in which there is too little, and what is asked for, MiB.
const HAS: u64 = 64;
const WANTS: u64 = 512;

/// Adds the scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("serving::step_clock", &[], steps);
    all.add("serving::step_clock::off", &[], off);
    all.add("serving::step_clock::deleted", &[], deleted);
    all.add("serving::step_clock::gpu_memory", &[], gpu_memory);
}

/// The service, which tells its calls on its standard output.
fn service(engine: &MockEngine, room: &Room, gpu: &str) -> Result<Agent> {
    let config = room.file("config.toml");
    let nvml = json!(gpu::nvml::path()?);
    let text = format!("[gpu]\nnvml_library = {nvml}\n{gpu}\n[export.jsonl]\npath = \"/dev/stdout\"\n");
    fs::write(&config, text)?;
    let mut command = Command::new(place::agent()?);
    command.args(["run", "--config"]).arg(&config);
    command.env(gpu::timeline::ENV, engine.timeline()).env("INFERSCOPE_LOG", "info");
    Agent::ready(&mut command)
}

/// An engine whose worker has the stand-in under a name that the real one has, and an agent that times its steps.
fn timed(room: &Room, options: &Options) -> Result<(Stage, PathBuf)> {
    let library = gpu::cudart::copy(room.path(), "libcudart.so.12.8.90")?;
    let engine = MockEngine::start(&Options { cudart: Some(library.clone()), ..options.clone() })?;
    let agent = service(&engine, room, "step_clock = true")?;
    Ok((Stage { engine, agent }, library))
}

/// The first call makes the engine known; what is served before has no machinery.
fn become_known(stage: &Stage) -> Result<()> {
    stage.told(&stage.call(&[Ask::stream(50, 8)], Duration::ZERO)?).map(drop)
}

fn probed(agent: &Agent, library: &Path) -> Result<()> {
    let path = library.display().to_string();
    let is_it = |line: &str| line.contains(PROBED) && line.contains(&path);
    agent.program().wait_for_line(Stream::Stderr, PROBED, SOON, is_it).map(drop)
}

/// How many steps each call is off by, of calls that the engine gave to the end, smallest first.
fn errors(told: &[Call], stage: &Stage) -> Result<Vec<u64>> {
    let truth = stage.engine.truth()?;
    let steps: HashMap<&str, u64> =
        truth.requests.iter().filter_map(|request| Some((request.id.as_str(), u64::from(request.steps?)))).collect();
    let mut errors = Vec::new();
    for call in told {
        let exact = steps.get(call.id().context("no id")?).context("not in the truth")?;
        let count = call.number("inferscope.gpu.step.count").with_context(|| format!("no steps: {}", call.json()))?;
        errors.push(count.abs_diff(*exact));
    }
    errors.sort_unstable();
    Ok(errors)
}

/// Steps of each call against those that the engine had it part of, and their times.
fn steps() -> Result<()> {
    let room = Room::new()?;
    let (stage, library) = timed(&room, &Options::default())?;
    probed(&stage.agent, &library)?;
    ensure!(on_runtimes(stage.agent.program().pid())?.is_none_or(|links| links > 0), "no probe is in the runtime");
    become_known(&stage)?;
    let short = Length { mu: 4.0, sigma: 0.5, least: 16, most: 200 };
    let load = Load { rate: 5.0, duration: Duration::from_secs(8), prompt: short, output: short, ..Load::default() };
    let told = stage.told(&drive(stage.engine.address(), &load.plan(), false)?)?;
    ensure!(told.len() >= 20, "{} calls", told.len());
    let errors = errors(&told, &stage)?;
    let mut sample = String::new();
    for call in &told {
        let part = |name: &str| {
            let value = call.seconds(&format!("inferscope.gpu.step.{name}"));
            value.with_context(|| format!("no {name}: {}", call.json()))
        };
        let (p50, max) = (part("duration.p50")?, part("duration.max")?);
        let (wait, gap) = (part("wait_ratio")?, part("host_gap_ratio")?);
        // The worker waits all of the time in which its device computes, and the rest of a step it does nothing.
        ensure!(p50 > 0.0 && p50 <= max && max < 10.0, "{}", call.json());
        ensure!(wait > 0.3 && gap > 0.0 && wait + gap <= 1.0, "{}", call.json());
        sample = format!("a step {:.2} ms (longest {:.2} ms), wait {wait:.2}, gap {gap:.2}", p50 * 1e3, max * 1e3);
    }
    let (median, most) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    say(&format!("{} calls, off by {median} steps (median) and {most} at most; the last: {sample}", told.len()));
    // A step that is planned when the request comes may be launched after it, and one after it may end before the answer.
    ensure!(median <= 1 && errors[errors.len() * 9 / 10] <= 2, "{errors:?}");
    let (stopped, _) = stage.stop()?;
    let ledger = stopped.ledger().context("no ledger")?;
    // Other engines of the machine are timed too, and may have been in the middle of a wait when their probes were set.
    for name in ["kernel.cuda_events_lost", "kernel.cuda_skipped"] {
        ensure!(ledger[name] == 0, "{name}: {ledger}");
    }
    Ok(())
}

/// Without the setting no probe is set in the runtime, and nothing is said of steps.
fn off() -> Result<()> {
    let room = Room::new()?;
    let library = gpu::cudart::copy(room.path(), "libcudart.so.12")?;
    let engine = MockEngine::start(&Options { cudart: Some(library), ..Options::default() })?;
    let agent = service(&engine, &room, "")?;
    let stage = Stage { engine, agent };
    become_known(&stage)?;
    let told = stage.told(&stage.call(&[Ask::stream(50, 30)], Duration::ZERO)?)?;
    ensure!(told[0].attr("inferscope.engine.id").is_some(), "{}", told[0].json());
    ensure!(!told[0].json().to_string().contains("gpu.step"), "{}", told[0].json());
    ensure!(on_runtimes(stage.agent.program().pid())?.is_none_or(|links| links == 0), "a probe is in a runtime");
    let (stopped, _) = stage.stop()?;
    ensure!(!stopped.stderr.iter().any(|line| line.contains(PROBED)), "{:?}", stopped.stderr);
    Ok(())
}

/// Links of a process to places in a runtime; `None` where the kernel does not say what links are on (before 6.16).
fn on_runtimes(pid: u32) -> Result<Option<usize>> {
    let folder = fs::read_dir(format!("/proc/{pid}/fdinfo"))?;
    let infos = folder.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let paths: Vec<String> =
        infos.filter_map(|info| info.lines().find(|line| line.starts_with("path:")).map(str::to_owned)).collect();
    let found = paths.iter().filter(|path| path.contains("libcudart")).count();
    Ok((!paths.is_empty()).then_some(found))
}

/// A runtime that was upgraded under its engine, so that no name leads to it any more, and one that is mapped after the agent
/// has started.
fn deleted() -> Result<()> {
    let room = Room::new()?;
    let library = gpu::cudart::copy(room.path(), "libcudart.so.12.8.90")?;
    // Of both engines: there is one driver.
    let timeline = room.file("gpus.jsonl");
    Timeline::create(&timeline, &Header::new([Device::h100(0)]))?;
    let options = Options { timeline: Some(timeline), ..Options::default() };
    let engine = MockEngine::start(&Options { cudart: Some(library.clone()), ..options.clone() })?;
    fs::remove_file(&library)?;
    let agent = service(&engine, &room, "step_clock = true")?;
    let stage = Stage { engine, agent };
    probed(&stage.agent, &library)?;
    become_known(&stage)?;
    let told = stage.told(&stage.call(&[Ask::stream(50, 40)], Duration::ZERO)?)?;
    let first = errors(&told, &stage)?;
    ensure!(first[0] <= 2, "off by {first:?}: {}", told[0].json());

    let late = gpu::cudart::copy(room.path(), "libcudart.so.13")?;
    let Stage { engine, agent } = stage;
    engine.stop()?;
    let engine = MockEngine::start(&Options { cudart: Some(late.clone()), ..options })?;
    let stage = Stage { engine, agent };
    probed(&stage.agent, &late)?;
    become_known(&stage)?;
    let told = stage.told(&stage.call(&[Ask::stream(50, 40)], Duration::ZERO)?)?;
    let second = errors(&told, &stage)?;
    say(&format!("deleted: off by {} steps, mapped late: {}", first[0], second[0]));
    ensure!(second[0] <= 2, "off by {second:?}: {}", told[0].json());
    stage.stop()?;
    Ok(())
}

/// A worker does not get memory of its GPU and ends: that is why the call failed, and the end is what followed.
fn gpu_memory() -> Result<()> {
    let room = Room::new()?;
    let limit = format!("{}={}", gpu::cudart::LIMIT, HAS << 20);
    let wrapper = ["env", &limit].map(Into::into).to_vec();
    let (stage, library) = timed(&room, &Options { wrapper, ..Options::default() })?;
    probed(&stage.agent, &library)?;
    become_known(&stage)?;
    let address = stage.engine.address();
    let plan = [Planned { due: Duration::ZERO, ask: Ask::stream(100, 2000) }];
    let calls = std::thread::spawn(move || drive(address, &plan, false));
    pass_some_tokens(&stage.engine)?;
    stage.engine.control(&json!({"worker": "gpu_allocate", "mib": WANTS}))?;
    let called = calls.join().map_err(|_| anyhow::anyhow!("the call panicked"))??;
    ensure!(called[0].end != End::Done, "{called:?}");
    let told = stage
        .agent
        .wait_for_calls(1, SOON, |call| call.kind() == "server" && call.attr("inferscope.cause.kinds").is_some())?;
    let kinds = told[0].list("inferscope.cause.kinds").context("no causes")?;
    ensure!(kinds.first() == Some(&"gpu_memory"), "{}", told[0].json());
    let evidence = told[0].json()["events"].to_string();
    ensure!(evidence.contains("GPU memory refused 1 times, 536 MB at once"), "{evidence}");
    say(&format!("gpu_memory: {kinds:?}"));
    stage.agent.stop()?.clean()?;
    Ok(())
}
