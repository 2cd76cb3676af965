//! What a collector receives is what the file says, field by field.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::{Agent, EXIT},
    call::Call,
    client::{Client, Kind},
    place,
    process::{Program, Stream},
    server::{Pace, Stack, Uvicorn},
};
use serde_json::{Value, json};

use crate::{
    expect::is_of,
    scenario::{Room, SOON, Scenarios},
};

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("otlp::equal_to_the_file", &[], || equal(false));
    all.add("otlp::from_the_environment", &[], || equal(true));
    all.add("otlp::collector_away", &[], collector_away);
}

/// The independent receiver: grpcio and opentelemetry-proto from PyPI.
pub struct Receiver {
    program: Program,
    port: u16,
    out: PathBuf,
}

impl Receiver {
    /// Starts one on a free port.
    pub fn start(room: &Room) -> Result<Self> {
        let out = room.file("spans.jsonl");
        let asked = place::free_port()?;
        let mut command = Command::new(place::python()?);
        command.arg(place::script("otlp_receiver.py")).arg(asked.to_string()).arg(&out);
        let program = Program::spawn("otlp_receiver", &mut command)?;
        let line = program.wait_for_line(Stream::Stdout, "ready", SOON, |line| line.starts_with("ready "))?;
        let port = line.trim_start_matches("ready ").trim().parse()?;
        Ok(Self { program, port, out })
    }

    /// A configuration that exports to it and to a file.
    pub fn config(&self, room: &Room, jsonl: &Path) -> Result<PathBuf> {
        config(room, jsonl, Some(self.port))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The spans it received.
    pub fn spans(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.out).context("the receiver wrote nothing")?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The requests it received, as bytes.
    pub fn raw(&self) -> Result<Vec<u8>> {
        let mut path = self.out.clone().into_os_string();
        path.push(".raw");
        fs::read(path).context("the receiver wrote no raw requests")
    }
}

fn config(room: &Room, jsonl: &Path, otlp: Option<u16>) -> Result<PathBuf> {
    let mut text = format!("[export.jsonl]\npath = {}\n", json!(jsonl));
    if let Some(port) = otlp {
        text += &format!("\n[export.otlp]\nendpoint = \"http://127.0.0.1:{port}\"\n");
    }
    let path = room.file("config.toml");
    fs::write(&path, text)?;
    Ok(path)
}

/// Good, refused and cut calls, in the file and at the collector.
fn equal(by_environment: bool) -> Result<()> {
    let room = Room::new()?;
    let receiver = Receiver::start(&room)?;
    let jsonl = room.file("calls.jsonl");
    let mut command = Command::new(place::agent()?);
    command.args(["run", "--config"]);
    if by_environment {
        command.arg(config(&room, &jsonl, None)?);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", receiver.port));
        command.env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip").env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=e2e");
    } else {
        command.arg(receiver.config(&room, &jsonl)?);
    }
    let agent = Agent::ready(&mut command)?;
    let server = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    let variants: [&[&str]; 5] =
        [&[], &["--tools"], &["--model", "no-such-model"], &["--stop-after", "3"], &["--api", "completions"]];
    for options in variants {
        for stream in [true, false] {
            let client = Client::new(Kind::OpenAiSync, &server.base_url(), None).stream(stream);
            client.options(options.iter().copied()).run(SOON)?;
        }
    }
    agent.stop()?.clean()?;

    let written = fs::read_to_string(&jsonl).context("no file was written")?;
    let calls = written.lines().map(Call::parse).collect::<Result<Vec<_>>>()?;
    let of_server = calls.iter().filter(|call| is_of(call, server.pid())).count();
    ensure!(of_server == 2 * variants.len(), "{of_server} server spans in the file:\n{written}");
    let in_file = by_span(calls.iter().map(|call| plain(call.json())));
    let at_collector = by_span(receiver.spans()?.iter().map(plain));
    ensure!(
        in_file.keys().eq(at_collector.keys()),
        "the file has the spans {:?}, the collector {:?}",
        in_file.keys(),
        at_collector.keys()
    );
    for (span, call) in &in_file {
        let received = &at_collector[span];
        ensure!(call == received, "in the file:\n  {call}\nat the collector:\n  {received}");
    }
    Ok(())
}

/// Nobody listens at the endpoint: the file is written all the same, and the end comes in time.
fn collector_away() -> Result<()> {
    let room = Room::new()?;
    let jsonl = room.file("calls.jsonl");
    let agent = Agent::run(&config(&room, &jsonl, Some(place::free_port()?))?)?;
    let server = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    let client = Client::new(Kind::OpenAiSync, &server.base_url(), None).stream(true).run(SOON)?;
    ensure!(client.only()?.end == "done", "the client failed: {client:?}");
    let asked = Instant::now();
    let stopped = agent.stop()?;
    ensure!(asked.elapsed() <= EXIT, "it took {:?} to stop without a collector", stopped.took);
    let stopped = stopped.clean()?;
    let written = fs::read_to_string(&jsonl).context("no file was written")?;
    let calls = written.lines().map(Call::parse).collect::<Result<Vec<_>>>()?;
    ensure!(calls.iter().filter(|call| is_of(call, server.pid())).count() == 1, "the file lacks the call");
    let said = stopped.stderr.join("\n").to_lowercase();
    ensure!(said.contains("otlp") || said.contains("export"), "nothing said that the collector was away:\n{said}");
    Ok(())
}

fn by_span(spans: impl Iterator<Item = Value>) -> BTreeMap<String, Value> {
    spans.map(|span| (span["span_id"].as_str().unwrap_or("").to_owned(), span)).collect()
}

/// A span without what only one of the two notations can say: the schema's number, and absent against null or empty.
fn plain(span: &Value) -> Value {
    match span {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, value)| name.as_str() != "schema" && !is_empty(value));
            Value::Object(kept.map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        other => other.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
