//! What it costs to observe engines: the agent's own CPU and its time in NVML, with 8 devices and 32 processes on them.
//!
//! Devices and engines are stand-ins (`tests/fake-nvml`, the mock engine), so a call of NVML costs what reading a script
//! costs and not what a driver does. How often the agent asks, and what it does with the answers, is what it is with real
//! ones.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    engine::{MockEngine, Options},
    gpu::{
        nvml,
        timeline::{self, Device, Header, Timeline},
    },
};

use super::{Plan, results::Results, rig::Rig, rig::Watcher};
use crate::prepare;

/// Devices, and engines that each have a worker on every one of them.
const DEVICES: u32 = 8;
const ENGINES: usize = 4;

/// One slice of a measurement.
const SLICE: Duration = Duration::from_secs(2);

/// How long the agent gets to find who is who.
const SETTLE: Duration = Duration::from_secs(12);

/// How slow the engines are, so that a call lasts and the cost of its chunks is next to nothing.
const RATE: f64 = 0.01;

/// Measures, if the plan wants it.
pub fn run(rig: &Rig, plan: &Plan, results: &mut Results) {
    const NAME: &str = "8 GPUs and 32 processes";
    if plan.wants(NAME) {
        let outcome = observe(rig, plan, results, NAME);
        results.note(NAME, outcome);
    }
}

fn observe(rig: &Rig, plan: &Plan, results: &mut Results, name: &str) -> Result<()> {
    prepare::build(&["--package", "inferscope-tests", "--bin", "inferscope-mock-engine"])?;
    let script = rig.file("gpus.jsonl");
    Timeline::create(&script, &Header::new((0..DEVICES).map(Device::h100)))?;
    let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = rig.file("engines.toml");
    let lines = rig.file("engines.jsonl");
    let text = format!(
        "[gpu]\nnvml_library = {:?}\n[export.prometheus]\nlisten = \"{metrics}\"\n[export.jsonl]\npath = {:?}\n",
        nvml::path()?.display().to_string(),
        lines.display().to_string(),
    );
    fs::write(&config, text)?;
    let options = Options {
        devices: (0..DEVICES).collect(),
        rate_scale: RATE,
        timeline: Some(script.clone()),
        ..Options::default()
    };
    let engines = (0..ENGINES).map(|_| MockEngine::start(&options)).collect::<Result<Vec<_>>>()?;
    let mut command = rig.command(&["run", "--config", &config.display().to_string()]);
    let watcher = Watcher::ready(command.env(timeline::ENV, &script))?;
    for engine in &engines {
        drop(call(engine.address(), 1)?.join());
    }
    thread::sleep(SETTLE);
    slices(&watcher, metrics, plan, results, name, "no call")?;
    // More tokens than are made in the time.
    let calls = engines.iter().map(|engine| call(engine.address(), 4000)).collect::<Result<Vec<_>>>()?;
    thread::sleep(SLICE);
    slices(&watcher, metrics, plan, results, name, "4 calls")?;
    ensure!(calls.iter().all(|call| !call.is_finished()), "the calls were over too early");
    let processes = engines.iter().map(|engine| engine.pids().workers.len()).sum::<usize>();
    ensure!(processes == 32, "{processes} workers");
    drop(engines);
    calls.into_iter().for_each(|call| drop(call.join()));
    watcher.stop()?;
    Ok(())
}

/// Begins a call of so many tokens, and reads its answer in a thread.
fn call(to: SocketAddr, tokens: u32) -> Result<thread::JoinHandle<std::io::Result<u64>>> {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"one two three"}}],"max_tokens":{tokens},"stream":true}}"#
    );
    let mut stream = TcpStream::connect(to)?;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink())))
}

fn slices(
    watcher: &Watcher,
    metrics: SocketAddr,
    plan: &Plan,
    results: &mut Results,
    name: &str,
    state: &str,
) -> Result<()> {
    let mut cpu = Vec::new();
    // Being asked for metrics costs too, and is not what is measured.
    let nvml_before = nvml_seconds(metrics)?;
    let began = Instant::now();
    for _ in 0..plan.scale(10) {
        let (began, cpu_before) = (Instant::now(), watcher.cpu()?);
        thread::sleep(SLICE);
        cpu.push((watcher.cpu()?.saturating_sub(cpu_before)).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0);
    }
    let nvml = (nvml_seconds(metrics)? - nvml_before) / began.elapsed().as_secs_f64() * 1e3;
    results.sample(name, &format!("agent CPU, {state}"), "% of a core", &cpu, 0.5);
    results.sample(name, &format!("time in NVML a second, {state}"), "ms", &[nvml], 0.5);
    Ok(())
}

/// Seconds that the agent says it was in NVML.
fn nvml_seconds(metrics: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(metrics)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let lines = text.lines().filter(|line| line.starts_with("inferscope_nvml_time_seconds_total"));
    let values: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    ensure!(!values.is_empty(), "the agent tells no time in NVML");
    Some(values.iter().sum()).context("no time")
}
