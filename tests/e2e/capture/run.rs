//! One cell: the subject, its other end, the agent in between, and the comparison.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use inferscope_tests::{
    agent,
    call::Call,
    place,
    process::{Program, Stream as Output},
};
use serde_json::Value;

use super::{
    Agent, Expect, bodies,
    streams::{self, Captured, Stream},
    subjects::{Role, Site, Subject},
    truth::{Connection, Speaks, Truth},
};
use crate::{
    expect::list,
    scenario::{Room, SOON},
};

/// Number of the answer whose end a server holds back until the agent is there.
const HELD: u64 = 2;

/// Exchanges after which a client waits for the agent.
const GATE: u64 = 1;

/// Runs a cell.
pub fn cell(subject: &Subject, agent: Agent) -> Result<()> {
    let room = Room::new()?;
    let recording = room.file("recording");
    let ran = match subject.role {
        Role::Client | Role::Piped => client(subject, agent, &room, &recording)?,
        Role::Server { close } => server(subject, agent, &room, &recording, close)?,
    };
    let streams = streams::of_recording(&recording, |pid| ran.pids.contains(&pid))?;
    let unread = ran.unread();
    match subject.expect(agent) {
        Expect::Nothing(_) | Expect::Unread(_) => {
            let bytes: usize = streams.iter().map(|stream| stream.read.bytes.len() + stream.written.bytes.len()).sum();
            ensure!(bytes == 0, "{bytes} bytes of it were captured: say so in the table");
            let named = matches!(subject.expect(agent), Expect::Unread(_));
            ensure!(named == unread, "whether the ledger names it as unread is {unread}: {}", ran.ledger);
            Ok(())
        }
        expect @ (Expect::Exact | Expect::Partial(_)) => {
            ensure!(!unread, "the ledger says that it was not read: {}", ran.ledger);
            compare(&ran, streams)?;
            let capture = if expect == Expect::Exact { "complete" } else { "partial_start" };
            check_calls(&ran, &replay(&recording, &ran.pids)?, capture)
        }
    }
}

/// What happened.
struct Ran {
    /// The subject's processes.
    pids: Vec<u32>,
    ends: Vec<End>,
    /// The agent's.
    ledger: Value,
}

impl Ran {
    /// Whether the ledger names a process of the subject whose TLS nobody read.
    fn unread(&self) -> bool {
        let named = self.ledger["processes"].as_array().into_iter().flatten();
        named.filter(|line| line["tls_unread"].is_u64()).any(|line| self.pids.iter().any(|&pid| line["pid"] == pid))
    }
}

/// One side of the subject: all its connections in one role, as their other end saw them.
struct End {
    /// `client` or `server`, the subject's role.
    kind: &'static str,
    source: &'static str,
    connections: Vec<Connection>,
    /// [`Subject::unread`].
    unread: usize,
    /// Exchanges that were over, or half over, when the agent came.
    past: u64,
}

fn record(file: &Path) -> Result<agent::Agent> {
    agent::Agent::start(&["record".as_ref(), file.as_os_str(), "--all-http".as_ref(), "-v".as_ref()])
}

/// Has the agent search a subject's program, which then does nothing else.
fn search(agent: &agent::Agent, subject: &Subject) -> Result<()> {
    if let Some(large) = subject.searched {
        Program::spawn(large.name, Command::new(large.program()).arg("--version"))?.wait_success(SOON)?;
    }
    wait_searched(agent, subject)
}

/// Waits until a subject's program has been searched, which the agent's being ready does not wait for.
fn wait_searched(agent: &agent::Agent, subject: &Subject) -> Result<()> {
    let Some(large) = subject.searched else { return Ok(()) };
    let program = large.program().canonicalize()?;
    let probed = |line: &str| line.contains("probed") && line.contains(&*program.to_string_lossy());
    agent.program().wait_for_line(Output::Stderr, "probed", SOON, probed).map(drop)
}

/// The subject calls a server of ours.
fn client(subject: &Subject, agent: Agent, room: &Room, recording: &Path) -> Result<Ran> {
    let pki = room.pki(subject.tls)?;
    let hold = (agent == Agent::After).then_some(HELD);
    let mut truth = Truth::server(&room.file("truth"), pki.as_ref(), subject.speaks, hold)?;
    let site = Site { room, pki: pki.as_ref(), port: truth.port() };
    let mut recorder = None;
    if agent == Agent::Before {
        let agent = record(recording)?;
        search(&agent, subject)?;
        recorder = Some(agent);
    }
    let mut program = Program::spawn(subject.name, &mut (subject.command)(&site)?)?;
    let mut attach = |truth: &mut Truth, program: &Program| -> Result<()> {
        if agent == Agent::After {
            truth.wait_held().with_context(|| words(program))?;
            let agent = record(recording)?;
            wait_searched(&agent, subject)?;
            recorder = Some(agent);
            truth.release()?;
        }
        Ok(())
    };
    if subject.role == Role::Piped {
        for (n, request) in (1..).zip(bodies::requests()) {
            program.write(request.as_bytes())?;
            if n == HELD {
                attach(&mut truth, &program)?;
            }
            truth.wait_answered(n as usize).with_context(|| words(&program))?;
        }
        program.close_stdin();
    } else {
        attach(&mut truth, &program)?;
    }
    let pids = program.tree();
    program.wait_success(SOON)?;
    truth.wait_closed()?;
    let stopped = recorder.context("no agent")?.stop()?.clean()?;
    let ledger = stopped.ledger().context("no ledger")?;
    let past = hold.unwrap_or(0);
    let (source, unread) = (subject.source, subject.unread);
    let end = End { kind: "client", source, unread, connections: truth.connections()?, past };
    Ok(Ran { pids, ends: vec![end], ledger })
}

/// What a program said, for a message about its silence.
fn words(program: &Program) -> String {
    [program.stdout(), program.stderr()].concat().join("\n")
}

/// A client of ours calls the subject, which may call a server of ours in its turn.
fn server(subject: &Subject, agent: Agent, room: &Room, recording: &Path, close: bool) -> Result<Ran> {
    let pki = room.pki(subject.tls)?;
    let upstream = Truth::server(&room.file("upstream"), None, Speaks::Http1, None)?;
    let site = Site { room, pki: pki.as_ref(), port: upstream.port() };
    let mut recorder = None;
    if agent == Agent::Before {
        recorder = Some(record(recording)?);
    }
    let program = Program::spawn(subject.name, &mut (subject.command)(&site)?)?;
    let line = program.wait_for_line(Output::Stdout, "ready", SOON, |line| line.starts_with("ready "))?;
    let port = line.trim_start_matches("ready ").parse()?;
    let gate = (agent == Agent::After).then_some(GATE);
    let ca = pki.as_ref().map(|pki| pki.ca.as_path());
    let mut truth = Truth::client(&room.file("truth"), port, ca, gate, close)?;
    if agent == Agent::After {
        truth.wait_held()?;
        recorder = Some(record(recording)?);
        truth.release()?;
    }
    truth.program().wait_success(SOON).with_context(|| words(&program))?;
    let pids = program.tree();
    program.kill()?;
    let stopped = recorder.context("no agent")?.stop()?.clean()?;
    let ledger = stopped.ledger().context("no ledger")?;
    let past = gate.unwrap_or(0);
    let (source, unread) = (subject.source, subject.unread);
    let mut ends = vec![End { kind: "server", source, unread, connections: truth.connections()?, past }];
    let connections = upstream.connections()?;
    if !connections.is_empty() {
        ends.push(End { kind: "client", source: "syscall", unread, connections, past });
    }
    Ok(Ran { pids, ends, ledger })
}

/// Every connection is one stream, byte for byte, and there is no other stream.
fn compare(ran: &Ran, mut streams: Vec<Stream>) -> Result<()> {
    // What a client prints may begin like a message of JSON-RPC.
    streams.retain(|stream| stream.source != "pipe");
    for End { kind, source, unread, connections, past } in &ran.ends {
        for (number, connection) in connections.iter().enumerate() {
            let rest = connection.rest(*past);
            if rest == (0, 0) {
                continue;
            }
            let wanted = Wanted { connection, rest, source, unread: *unread };
            if let Err(problems) = wanted.take(&mut streams) {
                bail!(
                    "{kind} connection {number} ({} bytes read, {} written, of which {rest:?} after the agent came) is \
                     none of the streams: {problems:#?}",
                    connection.read.len(),
                    connection.written.len(),
                );
            }
        }
    }
    let left = |stream: &Stream| (stream.source, stream.read.bytes.len(), stream.written.bytes.len());
    ensure!(
        streams.is_empty(),
        "streams that nobody sent, or sent once: {:?}",
        streams.iter().map(left).collect::<Vec<_>>()
    );
    Ok(())
}

/// A connection that must be among the streams.
struct Wanted<'a> {
    connection: &'a Connection,
    /// Bytes read and written that had to come.
    rest: (usize, usize),
    source: &'static str,
    /// [`Subject::unread`].
    unread: usize,
}

impl Wanted<'_> {
    /// Takes it out: one stream, or one for each direction.
    fn take(&self, streams: &mut Vec<Stream>) -> Result<(), Vec<String>> {
        let read = |stream: &Stream| self.read(&stream.read);
        let written = |stream: &Stream| self.written(&stream.written);
        if streams.iter().any(|stream| stream.half) {
            self.take_one(streams, |stream| read(stream).or((!stream.half).then(|| "it is whole".into())))?;
            return self.take_one(streams, |stream| written(stream).or((!stream.half).then(|| "it is whole".into())));
        }
        self.take_one(streams, |stream| read(stream).or_else(|| written(stream)))
    }

    /// Takes the first stream out of which `lacks` has nothing to say.
    fn take_one(
        &self,
        streams: &mut Vec<Stream>,
        lacks: impl Fn(&Stream) -> Option<String>,
    ) -> Result<(), Vec<String>> {
        let other = |stream: &Stream| (stream.source != self.source).then(|| format!("it is {}", stream.source));
        let problems: Vec<_> =
            streams.iter().map(|stream| other(stream).or_else(|| lacks(stream)).unwrap_or_default()).collect();
        let place = problems.iter().position(String::is_empty).ok_or(problems)?;
        streams.remove(place);
        Ok(())
    }

    fn read(&self, got: &Captured) -> Option<String> {
        let (want, rest) = (&self.connection.read, self.rest.0);
        // The end of what was sent, unless the program went away before it read that.
        let left = if want.ends_with(&got.bytes) { 0 } else { self.unread.min(rest) };
        lacks("read", &want[..want.len() - left], rest - left, got)
    }

    fn written(&self, got: &Captured) -> Option<String> {
        lacks("written", &self.connection.written, self.rest.1, got)
    }
}

/// In what a direction is not what it had to be; nothing if it is the same.
fn lacks(name: &str, want: &[u8], rest: usize, got: &Captured) -> Option<String> {
    let Captured { bytes, missing, repeated, .. } = got;
    if *repeated > 0 {
        Some(format!("{name}: {repeated} bytes came twice"))
    } else if bytes.len() < rest || !want.ends_with(bytes) {
        let place = want.iter().zip(bytes).position(|(a, b)| a != b);
        Some(format!(
            "{name}: {} bytes, {missing} missing before them, of {} ({rest} of which had to come); the first that differs \
             is {place:?}",
            bytes.len(),
            want.len()
        ))
    } else {
        None
    }
}

/// The calls of the subject in a recording.
fn replay(recording: &Path, pids: &[u32]) -> Result<Vec<Call>> {
    let mut command = Command::new(place::agent()?);
    command.arg("replay").arg(recording).args(["--output", "jsonl"]);
    let program = Program::spawn("replay", &mut command)?;
    program.wait_success(SOON)?;
    let calls = program.stdout().iter().map(|line| Call::parse(line)).collect::<Result<Vec<_>>>()?;
    Ok(calls.into_iter().filter(|call| pids.iter().any(|&pid| call.pid() == Some(pid.into()))).collect())
}

/// Every exchange that began when the agent was there is one call, whole; what was under way may be one that was joined.
fn check_calls(ran: &Ran, calls: &[Call], capture: &str) -> Result<()> {
    let mut whole = 0;
    for End { kind, source, connections, past, .. } in &ran.ends {
        for mark in connections.iter().flat_map(|connection| &connection.marks).filter(|mark| mark.n >= *past) {
            let of_id = |call: &&Call| call.kind() == *kind && call.id() == Some(&mark.id);
            let found: Vec<_> = calls.iter().filter(of_id).collect();
            let [call] = found[..] else {
                bail!("{} {kind} spans of call {} ({})\n{}", found.len(), mark.n, mark.id, list(calls));
            };
            let right = call.capture() == Some(capture)
                && call.completion() == Some("done")
                && call.text("inferscope.capture.source") == Some(source)
                && call.number("gen_ai.usage.output_tokens").is_some()
                && mark.chunks.is_none_or(|chunks| call.number("inferscope.chunk.count") == Some(chunks));
            ensure!(right, "not what call {} was ({mark:?}): {}", mark.n, call.json());
            whole += 1;
        }
    }
    ensure!(whole > 0, "no call was made");
    // What was under way when the agent came.
    let is_past = |call: &&Call| {
        let marks = ran.ends.iter().flat_map(|end| end.connections.iter().map(|connection| (end.past, connection)));
        let began = |(past, connection): (u64, &Connection)| {
            connection.marks.iter().any(|mark| mark.n >= past && call.id() == Some(&mark.id))
        };
        call.capture() == Some("partial_start") && !marks.into_iter().any(began)
    };
    let joined = calls.iter().filter(is_past).count();
    ensure!(calls.len() == whole + joined, "{whole} calls were made\n{}", list(calls));
    Ok(())
}
