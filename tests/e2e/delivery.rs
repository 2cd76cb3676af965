//! From a real call to the collector, once: with a real agent, and with one that is known to the number and is killed.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    env, fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
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
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    expect::is_of,
    scenario::{Room, SOON, Scenarios, say},
};

/// Seconds of faults of each oracle, unless `INFERSCOPE_ORACLE_SECONDS` says otherwise.
const FAULTS: u64 = 20;

/// After the last fault everything has to get on within this time.
const PROGRESS: Duration = Duration::from_secs(10);

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("delivery::equal_to_the_file", &[], equal_to_the_file);
    all.add("delivery::collector_away_and_agent_killed", &[], collector_away_and_agent_killed);
    all.add("delivery::oracle_of_kills", &[], || oracle(&Oracle { seed: 1, faults: KILLS, small_disk: false }));
    all.add("delivery::oracle_of_a_full_disk", &[], || {
        oracle(&Oracle { seed: 2, faults: &[Fault::FillDisk, Fault::KillAgent], small_disk: true })
    });
}

/// A collector of this build.
pub struct Collector {
    program: Program,
    listen: u16,
    ui: u16,
    dir: PathBuf,
}

impl Collector {
    /// Starts one on free ports, which it keeps for its restarts.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_at(dir, place::free_port()?, place::free_port()?)
    }

    fn start_at(dir: &Path, listen: u16, ui: u16) -> Result<Self> {
        let mut command = Command::new(place::agent()?);
        command.args(["collector", "--data-dir"]).arg(dir);
        command.args(["--listen", &format!("127.0.0.1:{listen}"), "--ui", &format!("127.0.0.1:{ui}")]);
        let program = Program::spawn("collector", &mut command)?;
        program.wait_for_line(Stream::Stderr, "collector ready", SOON, |line| {
            line.starts_with("inferscope: collector ready")
        })?;
        Ok(Self { program, listen, ui, dir: dir.to_owned() })
    }

    /// Ends it at once, whatever it is doing, and starts it anew.
    fn kill_and_start(self) -> Result<Self> {
        let Self { program, listen, ui, dir } = self;
        program.kill()?;
        Self::start_at(&dir, listen, ui)
    }

    /// Asks it something.
    pub fn ask(&self, path: &str) -> Result<Value> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.ui))?;
        socket.set_read_timeout(Some(SOON))?;
        write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.contains(" 200 "), "{path}: {answer}");
        Ok(serde_json::from_str(body)?)
    }

    /// All calls that it lists, by trace and span.
    pub fn calls(&self) -> Result<Vec<(String, String)>> {
        let (mut calls, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.ask(&format!("/api/v1/calls?limit=1000{cursor}"))?;
            let text = |call: &Value, key: &str| call[key].as_str().unwrap_or_default().to_owned();
            let listed = page["calls"].as_array().context("no list of calls")?;
            calls.extend(listed.iter().map(|call| (text(call, "trace_id"), text(call, "span_id"))));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(calls),
            }
        }
    }

    fn wait_for(&self, what: &str, within: Duration, done: impl Fn(&[(String, String)]) -> bool) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let calls = self.calls()?;
            if done(&calls) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{what}: not within {within:?}; {} calls are stored", calls.len());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(self) -> Result<()> {
        self.program.signal(Signal::TERM)?;
        let status = self.program.wait_exit(EXIT)?;
        ensure!(status.success(), "the collector ended with {status}: {:#?}", self.program.stderr());
        Ok(())
    }
}

fn config(room: &Room, collector: &Collector) -> Result<(PathBuf, PathBuf)> {
    let (path, jsonl) = (room.file("config.toml"), room.file("calls.jsonl"));
    let text = format!(
        "[wal]\ndir = {}\n[export.ship]\nendpoint = \"http://127.0.0.1:{}\"\n[export.jsonl]\npath = {}\n",
        json!(room.file("wal")),
        collector.listen,
        json!(jsonl)
    );
    fs::write(&path, text)?;
    Ok((path, jsonl))
}

fn spans(lines: &str) -> Result<BTreeMap<(String, String), Value>> {
    let parse = |line: &str| {
        let call = Call::parse(line)?.json().clone();
        let id = |key: &str| call[key].as_str().unwrap_or_default().to_owned();
        Ok(((id("trace_id"), id("span_id")), call))
    };
    lines.lines().map(parse).collect()
}

/// Good, refused and cut calls, in the file and at the collector.
fn equal_to_the_file() -> Result<()> {
    let room = Room::new()?;
    let collector = Collector::start(&room.file("data"))?;
    let (config, jsonl) = config(&room, &collector)?;
    let agent = Agent::run(&config)?;
    let server = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    let variants: [&[&str]; 4] = [&[], &["--tools"], &["--model", "no-such-model"], &["--stop-after", "3"]];
    for options in variants {
        for stream in [true, false] {
            let client = Client::new(Kind::OpenAiSync, &server.base_url(), None).stream(stream);
            client.options(options.iter().copied()).run(SOON)?;
        }
    }
    agent.stop()?.clean()?;
    let in_file = spans(&fs::read_to_string(&jsonl)?)?;
    let of_server = in_file.values().filter(|call| call["attributes"]["process.pid"] == server.pid()).count();
    ensure!(of_server == 2 * variants.len(), "{of_server} server spans in the file");
    let stored: BTreeSet<_> = collector.calls()?.into_iter().collect();
    ensure!(stored.iter().eq(in_file.keys()), "stored: {stored:?}\nin the file: {:?}", in_file.keys());
    for ((trace, span), call) in &in_file {
        let whole = collector.ask(&format!("/api/v1/calls/{trace}/{span}"))?;
        let row = &whole["call"];
        for key in ["name", "kind", "status", "start_time_unix_nano", "end_time_unix_nano", "parent_span_id"] {
            ensure!(row[key] == call[key], "{key}: {} is stored, {} is in the file", row[key], call[key]);
        }
        ensure!(whole["attributes"] == call["attributes"], "{} and\n{}", whole["attributes"], call["attributes"]);
        ensure!(whole["events"] == call["events"], "{} and\n{}", whole["events"], call["events"]);
    }
    let ledger = collector.ask("/api/v1/ledger")?;
    let counter = |name: &str| {
        let counters = ledger[0]["counters"].as_array().into_iter().flatten();
        counters.filter(|counter| counter["name"] == name).filter_map(|counter| counter["value"].as_u64()).sum::<u64>()
    };
    let calls = in_file.len() as u64;
    ensure!(counter("spans_offered") == calls && counter("spans_accepted") == calls, "{ledger}");
    collector.stop()
}

/// Nobody listens, the agent is killed, and both come back: what was durable arrives, once.
fn collector_away_and_agent_killed() -> Result<()> {
    let room = Room::new()?;
    let collector = Collector::start(&room.file("data"))?;
    let (config, jsonl) = config(&room, &collector)?;
    let (listen, ui) = (collector.listen, collector.ui);
    collector.stop()?;
    let agent = Agent::run(&config)?;
    let server = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    for _ in 0..5 {
        Client::new(Kind::OpenAiSync, &server.base_url(), None).stream(true).run(SOON)?;
    }
    let written = |n| {
        let deadline = Instant::now() + SOON;
        loop {
            let lines = spans(&fs::read_to_string(&jsonl).unwrap_or_default())?;
            let calls = lines.values().filter(|call| call["kind"] == "server").count();
            if calls >= n {
                return anyhow::Ok(());
            }
            ensure!(Instant::now() < deadline, "{calls} calls in the file");
            thread::sleep(Duration::from_millis(20));
        }
    };
    written(5)?;
    agent.program().kill()?;
    let durable = exported(&room.file("wal"))?;
    ensure!(durable.len() >= 8, "{} spans are durable of five calls of two ends", durable.len());
    let collector = Collector::start_at(&room.file("data"), listen, ui)?;
    let agent = Agent::run(&config)?;
    collector.wait_for("what was durable", SOON, |calls| durable.iter().all(|span| calls.contains(span)))?;
    // Both go on as if nothing had been, and once more with a collector that is killed under load.
    let client = Client::new(Kind::OpenAiSync, &server.base_url(), None).stream(true).run(SOON)?;
    ensure!(client.only()?.end == "done", "{client:?}");
    let collector = collector.kill_and_start()?;
    Client::new(Kind::OpenAiSync, &server.base_url(), None).stream(true).run(SOON)?;
    written(7)?;
    agent.stop()?.clean()?;
    let calls = collector.calls()?;
    let unique: HashSet<_> = calls.iter().collect();
    ensure!(unique.len() == calls.len(), "{} calls are stored, {} of them different", calls.len(), unique.len());
    let lines = spans(&fs::read_to_string(&jsonl)?)?;
    let after: Vec<_> =
        lines.iter().filter(|(_, call)| is_of(&Call::parse(&call.to_string()).unwrap(), server.pid())).collect();
    ensure!(after.len() == 7, "{} of seven calls are in the file", after.len());
    collector.stop()
}

/// The spans that a log holds.
fn exported(dir: &Path) -> Result<Vec<(String, String)>> {
    let output = Command::new(place::agent()?).args(["wal", "export", "--dir"]).arg(dir).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut spans = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let item: Value = serde_json::from_str(line)?;
        if item["kind"] == "span" {
            let id = |key: &str| item["span"][key].as_str().map(str::to_owned).with_context(|| line.to_owned());
            spans.push((id("trace_id")?, id("span_id")?));
        }
    }
    Ok(spans)
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillAgent,
    KillCollector,
    StopAgent,
    StopCollector,
    FillDisk,
}

const KILLS: &[Fault] = &[Fault::KillAgent, Fault::KillCollector, Fault::StopAgent, Fault::StopCollector];

struct Oracle {
    seed: u64,
    faults: &'static [Fault],
    /// The log is on a file system of a few MiB of its own.
    small_disk: bool,
}

/// Numbers that look random and are the same for the same seed.
struct Random(u64);

impl Random {
    /// One below `below` (SplitMix64).
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// A file system in memory, of a few MiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Result<Self> {
        fs::create_dir_all(&at)?;
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "inferscope-e2e"]).arg(&at).status()?;
        ensure!(status.success(), "no file system can be mounted at {}", at.display());
        Ok(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// An agent that is known to the number, and its files.
struct Numbered {
    program: Program,
}

impl Numbered {
    fn start(wal: &Path, truth: &Path, collector: &Collector, rate: u64) -> Result<Self> {
        let mut command = Command::new(place::delivery_agent()?);
        command.arg("--dir").arg(wal).arg("--truth").arg(truth);
        command.args(["--endpoint", &format!("http://127.0.0.1:{}", collector.listen)]);
        command.args(["--rate", &rate.to_string()]);
        let program = Program::spawn("delivery-agent", &mut command)?;
        program.wait_for_line(Stream::Stdout, "ready", SOON, |line| line == "ready")?;
        Ok(Self { program })
    }
}

/// Faults at random times, from a seed; then everything that became durable is at the collector, once.
fn oracle(oracle: &Oracle) -> Result<()> {
    let seconds = env::var("INFERSCOPE_ORACLE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(FAULTS);
    let seed = env::var("INFERSCOPE_ORACLE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(oracle.seed);
    say(&format!("seed {seed}, {seconds} s of {:?}", oracle.faults));
    let room = Room::new()?;
    let disk = oracle.small_disk.then(|| SmallDisk::mount(room.file("disk"))).transpose()?;
    let wal = match &disk {
        Some(disk) => disk.0.join("wal"),
        None => room.file("wal"),
    };
    let truth = room.file("truth");
    let mut collector = Collector::start(&room.file("data"))?;
    let mut agent = Numbered::start(&wal, &truth, &collector, 300)?;
    let mut random = Random(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut counts = BTreeMap::new();
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(100 + random.next(900)));
        let fault = oracle.faults[random.next(oracle.faults.len() as u64) as usize];
        *counts.entry(format!("{fault:?}")).or_insert(0) += 1;
        let pause = Duration::from_millis(100 + random.next(1_400));
        match fault {
            Fault::KillAgent => {
                agent.program.kill()?;
                agent = Numbered::start(&wal, &truth, &collector, 300)?;
            }
            Fault::KillCollector => collector = collector.kill_and_start()?,
            Fault::StopAgent => stop_for(&agent.program, pause)?,
            Fault::StopCollector => stop_for(&collector.program, pause)?,
            Fault::FillDisk => {
                // Nobody else is to have the rest: what cannot be written is the log's trouble.
                let filling = wal.with_file_name("filling");
                let _full = fs::write(&filling, vec![0; 8 << 20]);
                thread::sleep(pause);
                fs::remove_file(&filling)?;
            }
        }
    }
    // Everything gets on, and what is made from now on arrives too.
    let before = numbers(&collector)?.len();
    collector.wait_for("progress after the last fault", PROGRESS, |calls| calls.len() > before)?;
    agent.program.signal(Signal::TERM)?;
    let status = agent.program.wait_exit(SOON)?;
    ensure!(status.success(), "the agent ended with {status}: {:#?}", agent.program.stderr());
    let durable: BTreeSet<u64> = fs::read_to_string(&truth)?.lines().map(str::parse).collect::<Result<_, _>>()?;
    let stored = numbers(&collector)?;
    let unique: BTreeSet<u64> = stored.iter().copied().collect();
    let missing: Vec<_> = durable.difference(&unique).take(10).collect();
    say(&format!("{counts:?}: {} durable, {} stored", durable.len(), stored.len()));
    ensure!(stored.len() == unique.len(), "seed {seed}: {} stored, {} of them different", stored.len(), unique.len());
    ensure!(missing.is_empty(), "seed {seed}: durable and not stored: {missing:?}");
    ensure!(durable.len() as u64 > seconds * 20, "only {} numbers became durable", durable.len());
    let agents = collector.ask("/api/v1/agents")?;
    let rejections = agents[0]["rejections"].as_array().map_or(0, Vec::len);
    ensure!(rejections == 0, "seed {seed}: {agents}");
    collector.stop()
}

fn stop_for(program: &Program, time: Duration) -> Result<()> {
    program.signal(Signal::STOP)?;
    thread::sleep(time);
    program.signal(Signal::CONT)
}

/// The numbers that are stored.
fn numbers(collector: &Collector) -> Result<Vec<u64>> {
    let number = |(_, span): &(String, String)| Ok(u64::from_str_radix(span, 16)?);
    collector.calls()?.iter().map(number).collect()
}
