//! Programs in Go, whose TLS is Go's own: stripped and position-independent ones, with the agent there first and with it
//! coming to connections that are open, and stacks that are moved during the calls that are probed.
//!
//! Two Go programs talk to each other, so every byte is read twice, where it is written and where it is read: the two must
//! be the same, and the body that was sent must be in them. The calls come from a replay of that recording.
//!
//! "The agent is there first" means that it knows the program's file: a program that nobody has run since the agent came may
//! make its first call in the milliseconds that looking at it takes.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use inferscope::{
    record::{self, Direction, ObjectId, Record, Source},
    recording::{Frame, Playback},
    stream::Lane,
};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    client::{Client, Kind, Report},
    go::{Build, Mode, OLD},
    pki::Pki,
    place,
    process::{Program, Stream},
    server::{Entry, Pace, Stack, Uvicorn},
};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    expect::{Ends, Server, is_of, pair},
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// Words of a prompt of one megabyte: each has five bytes.
const LARGE_PROMPT: usize = 200_000;

/// Adds this topic's scenarios, and those of old releases to the large suite.
pub fn add(all: &mut Scenarios) {
    let current = Mode::ALL.map(|mode| ("go", Build::current(mode)));
    let old = OLD.into_iter().flat_map(|release| Mode::ALL.map(|mode| ("capture_full::go", Build::old(release, mode))));
    for (topic, build) in current.into_iter().chain(old) {
        for agent in [Arrival::Before, Arrival::After] {
            let name = format!("{topic}::{}::{}", build.name(), agent.name());
            all.add(name, &[Need::Go(build)], move || both_ends(build, agent));
        }
        if build.mode == Mode::Plain {
            all.add(format!("{topic}::{}::client", build.name()), &[Need::Go(build)], move || client(build));
            all.add(format!("{topic}::{}::server", build.name()), &[Need::Go(build)], move || server(build));
        }
    }
    let stripped = Build::current(Mode::Stripped);
    let growth = |seconds, pause_ms| move || growing_stacks(stripped, seconds, pause_ms);
    all.add("go::growing_stacks", &[Need::Go(stripped)], growth(20, 1_000));
    all.add("capture_full::go::growing_stacks_10_minutes", &[Need::Go(stripped)], growth(600, 5_000));
}

/// When the agent comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// Before either program starts.
    Before,
    /// When each connection is open and has carried a call.
    After,
}

impl Arrival {
    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// A running server in Go.
pub struct GoServer {
    program: Program,
    port: u16,
}

impl GoServer {
    /// Starts one, with more options if need be.
    pub fn start(build: Build, pki: &Pki, pace: Pace, more: &[&str]) -> Result<Self> {
        let mut command = Command::new(build.program("server"));
        command.args(more);
        command.args([OsStr::new("-cert"), pki.cert.as_ref(), "-key".as_ref(), pki.key.as_ref()]);
        command.args(["-chunks", &pace.chunks.to_string(), "-interval-ms", &pace.interval_ms.to_string()]);
        let program = Program::spawn("go-server", &mut command)?;
        let line = program.wait_for_line(Stream::Stdout, "ready", SOON, |line| line.starts_with("ready "))?;
        let port = line.trim_start_matches("ready ").parse().context("no port after ready")?;
        Ok(Self { program, port })
    }

    /// What clients call.
    pub fn base_url(&self) -> String {
        format!("https://127.0.0.1:{}/v1", self.port)
    }
}

impl Server for GoServer {
    fn pid(&self) -> u32 {
        self.program.pid()
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn tls(&self) -> bool {
        true
    }

    fn log(&self) -> Result<Vec<Entry>> {
        Ok(Vec::new())
    }
}

/// A client in Go at work.
pub struct GoClient {
    /// The process.
    pub program: Program,
    stream: bool,
}

impl GoClient {
    /// Starts one, with more options if need be.
    pub fn start(build: Build, base_url: &str, ca: &Path, kind: ClientKind, more: &[&str]) -> Result<Self> {
        let mut command = Command::new(build.program("client"));
        command.args(["-base-url", base_url, "-ca"]).arg(ca).args(kind.options()).args(more);
        // A proxy that the environment names would stand between the two ends.
        command.env("NO_PROXY", "*").env("no_proxy", "*");
        Ok(Self { program: Program::spawn("go-client", &mut command)?, stream: kind == ClientKind::Stream })
    }

    /// Waits until `n` calls were reported.
    pub fn wait_reports(&self, n: usize) -> Result<Vec<Report>> {
        self.program.wait_for("reports", SOON, |state| {
            let lines = state.stdout.iter().filter_map(|line| serde_json::from_str(line).ok());
            let reports: Vec<Report> = lines.map(|line| Report::from_line(&line)).collect();
            (reports.len() >= n).then_some(reports)
        })
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// A stream.
    Stream,
    /// An answer in one.
    Whole,
    /// The same, for a prompt of a megabyte.
    Large,
}

impl ClientKind {
    const ALL: [Self; 3] = [Self::Stream, Self::Whole, Self::Large];

    fn options(self) -> Vec<String> {
        match self {
            Self::Stream => vec!["-stream".into()],
            Self::Whole => vec![],
            Self::Large => vec!["-prompt-words".into(), LARGE_PROMPT.to_string()],
        }
    }
}

/// Calls of each client that are looked at.
const CALLS: usize = 2;

/// A client and a server in Go.
fn both_ends(build: Build, arrival: Arrival) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?.context("no authority")?;
    let file = room.file("recording");
    let wanted = ["--comm", "go-client", "--comm", "go-server"];
    let record = || -> Result<Agent> { Agent::ready(talkative()?.arg("record").arg(&file).args(wanted)) };
    let start = |server: &GoServer, gate: usize| {
        let more = ["-gate", &gate.to_string(), "-calls", &(CALLS + gate).to_string()];
        let start = |kind| GoClient::start(build, &server.base_url(), &pki.ca, kind, &more);
        ClientKind::ALL.into_iter().map(start).collect::<Result<Vec<_>>>()
    };
    let (agent, server, mut clients, unseen) = match arrival {
        Arrival::Before => {
            let agent = record()?;
            let server = GoServer::start(build, &pki, Pace::QUICK, &[])?;
            let clients = start(&server, 0)?;
            (agent, server, clients, 0)
        }
        Arrival::After => {
            let server = GoServer::start(build, &pki, Pace::QUICK, &[])?;
            let clients = start(&server, 1)?;
            clients.iter().try_for_each(|client| client.wait_reports(1).map(drop))?;
            (record()?, server, clients, 1)
        }
    };
    ["client", "server"].iter().try_for_each(|name| wait_probed(&agent, build, name))?;
    clients.iter_mut().try_for_each(|client| client.program.write_line(""))?;
    let mut reports = Vec::new();
    for client in &mut clients {
        let mut all = client.wait_reports(CALLS + unseen)?;
        client.program.write_line("")?;
        client.program.wait_success(SOON)?;
        reports.push(all.split_off(unseen));
    }
    agent.stop()?.clean()?;

    let calls = replay(&file)?;
    for (client, reports) in clients.iter().zip(&reports) {
        let ends = Ends::chat(&server, client.program.pid(), client.stream);
        ends.check(&calls, reports)?;
        reports.iter().try_for_each(|report| check_bound(&calls, report, server.port))?;
    }
    let of_server = calls.iter().filter(|call| is_of(call, server.pid())).count();
    ensure!(of_server == CALLS * clients.len(), "{of_server} spans of the server");

    let mut bytes = plaintext(&file)?;
    let at_server = bytes.remove(&server.pid()).context("nothing of the server was recorded")?;
    for client in &clients {
        let at_client = bytes.remove(&client.program.pid()).context("nothing of a client was recorded")?;
        let [(written, read)] = at_client.as_slice() else { bail!("{} connections of a client", at_client.len()) };
        let same =
            at_server.iter().filter(|(written_there, read_there)| (written_there, read_there) == (read, written));
        ensure!(
            same.count() == 1,
            "what the client and the server saw differs: {} and {} bytes",
            written.len(),
            read.len()
        );
    }
    let large = "word ".repeat(LARGE_PROMPT);
    let sent = at_server.iter().filter(|(_, read)| count(read, large.as_bytes()) == CALLS).count();
    ensure!(sent == 1, "the large prompt was seen on {sent} connections");
    Ok(())
}

/// The socket is known on both ends, and so they are linked.
fn check_bound(calls: &[Call], report: &Report, port: u16) -> Result<()> {
    let (client, server) = pair(calls, report.id()?)?;
    ensure!(client.attr("network.peer.port") == Some(&json!(port)), "the client's socket: {}", client.json());
    ensure!(server.number("network.peer.port").is_some_and(|peer| peer != u64::from(port)), "{}", server.json());
    let parent = server.member("parent_span_id");
    ensure!(parent.is_some() && parent == client.member("span_id"), "not linked: {}", server.json());
    Ok(())
}

/// A client in Go and a server that is not.
fn client(build: Build) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?.context("no authority")?;
    let agent = Agent::ready(talkative()?.args(["trace", "--output", "jsonl"]))?;
    let server = Uvicorn::start(Stack::Fast, Some(&pki), Pace::QUICK, room.path())?;
    let mut runs = Vec::new();
    for kind in [ClientKind::Stream, ClientKind::Whole] {
        let mut client = GoClient::start(build, &server.base_url(), &pki.ca, kind, &["-gate", "0"])?;
        wait_probed(&agent, build, "client")?;
        client.program.write_line("")?;
        let reports = client.wait_reports(1)?;
        client.program.write_line("")?;
        client.program.wait_success(SOON)?;
        runs.push((client, reports));
    }
    agent.wait_for_calls(4, SOON, |call| {
        is_of(call, server.pid()) || runs.iter().any(|(client, _)| is_of(call, client.program.pid()))
    })?;
    let calls = agent.stop()?.clean()?.calls()?;
    for (client, reports) in &runs {
        Ends::chat(&server, client.program.pid(), client.stream).check(&calls, reports)?;
        reports.iter().try_for_each(|report| check_bound(&calls, report, server.port()))?;
    }
    Ok(())
}

/// A server in Go and a client that is not.
fn server(build: Build) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?.context("no authority")?;
    let agent = Agent::ready(talkative()?.args(["trace", "--output", "jsonl"]))?;
    let server = GoServer::start(build, &pki, Pace::QUICK, &[])?;
    wait_probed(&agent, build, "server")?;
    let mut runs = Vec::new();
    for stream in [true, false] {
        let client = Client::new(Kind::OpenAiSync, &server.base_url(), Some(&pki.ca)).stream(stream);
        runs.push((stream, client.run(SOON)?));
    }
    agent.wait_for_calls(4, SOON, |call| {
        is_of(call, server.pid()) || runs.iter().any(|(_, client)| is_of(call, client.pid))
    })?;
    let calls = agent.stop()?.clean()?.calls()?;
    for (stream, client) in &runs {
        Ends::chat(&server, client.pid, *stream).check(&calls, &client.reports)?;
        client.reports.iter().try_for_each(|report| check_bound(&calls, report, server.port))?;
    }
    Ok(())
}

/// A thousand goroutines whose stacks are moved while they are in Read and Write. The program checks every answer itself, and
/// every call must be told by both of its ends, whole.
fn growing_stacks(build: Build, seconds: u64, pause_ms: u64) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?.context("no authority")?;
    let file = room.file("calls.jsonl");
    // Into a file: a test that keeps hundreds of thousands of lines in its memory would be in the way of what it tests.
    let mut command = Command::new("sh");
    command.env("INFERSCOPE_LOG", "info");
    command.args(["-c", "exec \"$0\" trace --output jsonl --comm go-growth >\"$1\""]).arg(place::agent()?).arg(&file);
    let agent = Agent::ready(&mut command)?;
    let mut command = Command::new(build.program("growth"));
    command.args([OsStr::new("-cert"), pki.cert.as_ref(), "-key".as_ref(), pki.key.as_ref(), "-ca".as_ref()]);
    command.arg(&pki.ca).args(["-seconds", &seconds.to_string(), "-pause", &format!("{pause_ms}ms")]);
    let mut program = Program::spawn("go-growth", &mut command)?;
    program.wait_for_line(Stream::Stdout, "ready", SOON, |line| line == "ready")?;
    wait_probed(&agent, build, "growth")?;
    program.write_line("")?;
    program.wait_success(Duration::from_secs(seconds) + SOON)?;
    let lines = program.stdout();
    let answered = lines.iter().find_map(|line| line.strip_prefix("answered ")).context("it did not say how many")?;
    let answered: usize = answered.parse()?;
    let stopped = agent.stop_with(Signal::INT)?.clean()?;

    let mut told = HashMap::from([("client".to_owned(), 0), ("server".to_owned(), 0)]);
    for line in BufReader::new(File::open(&file)?).lines() {
        let call = Call::parse(&line?)?;
        let source = call.text("inferscope.capture.source");
        ensure!(call.capture() == Some("complete") && source == Some("go"), "{}", call.json());
        *told.get_mut(call.kind()).context("a call of no kind")? += 1;
    }
    say(&format!(
        "go::growing_stacks: {answered} answers in {seconds} s, told {told:?}, ledger {:?}",
        stopped.ledger()
    ));
    ensure!(answered > 1000, "only {answered} calls were made");
    ensure!(told.values().all(|n| *n == answered), "{answered} calls were made, and told were {told:?}");
    Ok(())
}

/// An agent that says which files it has probed.
pub fn talkative() -> Result<Command> {
    let mut command = Command::new(place::agent()?);
    command.env("INFERSCOPE_LOG", "info");
    Ok(command)
}

/// Waits until the probes are in a program's file.
pub fn wait_probed(agent: &Agent, build: Build, name: &str) -> Result<()> {
    let file = build.program(name).display().to_string();
    let probed = |line: &str| line.contains("TLS library probed") && line.contains(&file);
    agent.program().wait_for_line(Stream::Stderr, "probes", SOON, probed).map(drop)
}

/// The calls of a recording.
fn replay(file: &Path) -> Result<Vec<Call>> {
    let mut command = Command::new(place::agent()?);
    command.arg("replay").arg(file).args(["--output", "jsonl"]);
    let program = Program::spawn("inferscope replay", &mut command)?;
    program.wait_success(SOON)?;
    program.stdout().iter().map(|line| Call::parse(line)).collect()
}

/// What one end of a connection wrote and read.
type Plaintext = (Vec<u8>, Vec<u8>);

/// The two directions of a stream under construction.
type Lanes = [(Lane, Vec<u8>); 2];

/// What Go's TLS connections carried, by process. An error if any of it is missing or was read twice.
fn plaintext(file: &Path) -> Result<HashMap<u32, Vec<Plaintext>>> {
    let mut playback = Playback::open(BufReader::new(File::open(file)?))?;
    let mut streams: HashMap<(u32, ObjectId), Lanes> = HashMap::new();
    loop {
        let bytes = match playback.next_frame()? {
            Frame::Record(bytes) => bytes,
            Frame::End => break,
            Frame::Damaged => bail!("the recording is damaged"),
        };
        let Record::Data(origin, data) = record::parse(bytes)? else { continue };
        if data.source != Source::Go {
            continue;
        }
        let stream = streams.entry((origin.tgid, data.stream)).or_default();
        let (lane, bytes) = &mut stream[usize::from(data.direction == Direction::Read)];
        let piece = lane.accept(data.offset, data.skipped, data.payload);
        ensure!(
            (piece.skipped, piece.lost, piece.repeated) == (0, 0, 0),
            "bytes are missing or repeated in {origin:?}"
        );
        bytes.extend_from_slice(piece.bytes);
    }
    let mut all: HashMap<u32, Vec<Plaintext>> = HashMap::new();
    for ((tgid, _), [(_, written), (_, read)]) in streams {
        all.entry(tgid).or_default().push((written, read));
    }
    Ok(all)
}

/// How often `what` is in `bytes`, one after the other.
fn count(bytes: &[u8], what: &[u8]) -> usize {
    let (mut found, mut at) = (0, 0);
    while at + what.len() <= bytes.len() {
        if bytes[at..].starts_with(what) {
            found += 1;
            at += what.len();
        } else {
            at += 1;
        }
    }
    found
}
