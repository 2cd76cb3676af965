//! How long it took to load a model: from the start of the program to the first token, against the mock engine, whose workers
//! read a file before it serves.

use std::{fs::File, io::Write as _, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    engine::{
        MockEngine, Options,
        client::{Ask, End},
        load::{Planned, drive},
    },
    gpu::{
        self,
        timeline::{Device, Header, Timeline},
    },
};

use crate::scenario::{Room, SOON, Scenarios, say};

/// Adds the scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("serving::model_load", &[], model_load);
}

/// Bytes of the file with weights.
const SIZE: u64 = 96 << 20;

/// An engine starts with two workers that read the same file, and serves a call after a while.
fn model_load() -> Result<()> {
    let room = Room::new()?;
    let path = room.file("model-00001-of-00001.safetensors");
    let mut file = File::create(&path)?;
    for _ in 0..SIZE >> 20 {
        file.write_all(&[7; 1 << 20])?;
    }
    file.sync_all()?;
    drop(file);
    let mut command = Command::new(inferscope_tests::place::agent()?);
    command.args(["trace", "--output", "jsonl"]);
    // Who is on the GPUs is what makes the workers part of the engine.
    let timeline = room.file("gpus.jsonl");
    Timeline::create(&timeline, &Header::new((0..2).map(Device::h100)))?;
    command.env("INFERSCOPE_NVML_LIBRARY", gpu::nvml::path()?).env(gpu::timeline::ENV, &timeline);
    let agent = Agent::ready(&mut command)?;
    let engine = MockEngine::start(&Options {
        weights: Some(path.clone()),
        devices: vec![0, 1],
        timeline: Some(timeline),
        ..Options::default()
    })?;
    let called =
        drive(engine.address(), &[Planned { due: Duration::from_millis(300), ask: Ask::stream(50, 8) }], false)?;
    ensure!(called[0].end == End::Done, "{called:?}");
    let seen = agent.wait_for_calls(1, SOON, |call| call.member("name") == Some("model_load"))?;
    // A second call is one more call and no second load.
    drive(engine.address(), &[Planned { due: Duration::ZERO, ask: Ask::stream(50, 8) }], false)?;
    let served = agent.wait_for_calls(2, SOON, |call| call.kind() == "server")?;
    let pids = engine.pids().clone();
    let stopped = agent.stop()?.clean()?;
    engine.stop()?;
    let calls = stopped.calls()?;
    let loads = calls.iter().filter(|call| call.member("name") == Some("model_load")).count();
    ensure!(loads == 1, "{loads} loads");

    let load = &seen[0];
    let json = load.json();
    ensure!(load.kind() == "internal" && load.member("parent_span_id").is_none(), "{json}");
    let is_worker = load.pid().is_some_and(|pid| pids.workers.iter().any(|worker| u64::from(*worker) == pid));
    ensure!(is_worker, "{:?} is none of {pids:?}", load.pid());
    ensure!(load.text("inferscope.load.path") == path.to_str(), "{json}");
    ensure!(load.number("inferscope.load.process.count") == Some(2), "{json}");
    ensure!(load.number("inferscope.load.file.count") == Some(1), "{json}");
    ensure!(load.number("inferscope.load.file.bytes") == Some(SIZE), "{json}");
    ensure!(load.number("inferscope.engine.process.count") == Some(4), "{json}");
    // The first token, by the call's own span.
    let first = served.iter().find(|call| call.id() == called[0].id.as_deref()).context("no first call")?;
    let engine = load.text("inferscope.engine.id").context("no engine")?;
    let engines: Vec<_> = served.iter().map(|call| call.text("inferscope.engine.id")).collect();
    ensure!(engines.contains(&Some(engine)), "{engines:?}, not {engine}");
    let end = time(load, "end_time_unix_nano")?;
    let ttft = first.seconds("inferscope.time_to_first_token").context("no first token")?;
    let token = time(first, "start_time_unix_nano")? as f64 + ttft * 1e9;
    ensure!((end as f64 - token).abs() < 1e6, "ended {} ns beside the first token", end as f64 - token);
    // One phase after the other, from the start of the program to the end.
    let phases = phases(load)?;
    let names: Vec<&str> = phases.iter().map(|(name, ..)| name.as_str()).collect();
    ensure!(names == ["start_up", "weights", "warm_up", "idle", "first_token"], "{json}");
    let mut at = time(load, "start_time_unix_nano")? as f64;
    for (name, from, seconds) in &phases {
        ensure!(
            (*from as f64 - at).abs() < 1e5,
            "{name} begins {} ns beside the one before: {json}",
            *from as f64 - at
        );
        at += seconds * 1e9;
    }
    ensure!((at - end as f64).abs() < 1e5, "the phases end {} ns beside the span", at - end as f64);
    let idle = phases.iter().find(|(name, ..)| name == "idle").map_or(0.0, |(.., seconds)| *seconds);
    ensure!(idle > 0.25, "nobody asked for 0.3 s: {idle}");
    say(&format!("{phases:?}, {:?} of {SIZE} bytes from storage", load.number("inferscope.load.read.bytes")));
    Ok(())
}

fn time(call: &Call, name: &str) -> Result<u64> {
    call.json()[name].as_u64().with_context(|| format!("no {name}: {}", call.json()))
}

/// Name, beginning and seconds of each phase.
fn phases(load: &Call) -> Result<Vec<(String, u64, f64)>> {
    let events = load.json()["events"].as_array().context("no events")?;
    let phase = |event: &serde_json::Value| {
        let attributes = &event["attributes"];
        Some((
            attributes["inferscope.load.phase.name"].as_str()?.to_owned(),
            event["time_unix_nano"].as_u64()?,
            attributes["inferscope.load.phase.seconds"].as_f64()?,
        ))
    };
    events.iter().map(|event| phase(event).with_context(|| format!("no phase: {event}"))).collect()
}
