//! Programs that come and go, and what they leave to be used again: process ids, descriptors, addresses of TLS objects.

use std::{collections::HashSet, fs, path::Path, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::{Agent, Stopped},
    bpf::{Loaded, wait_gone},
    client::{Client, Kind},
    process::Program,
    server::{Pace, Stack, Uvicorn},
};

use crate::{
    expect::{is_of, pair},
    libssl::{Libssl, Said, library, talkative, wait_probed},
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// An answer in one piece, at once.
const AT_ONCE: Pace = Pace { chunks: 3, interval_ms: 0.0, first_token_ms: 0.0 };

/// Resident memory that the agent may gain over a run, in KiB: what its tables take when they fill for the first time.
const GROWTH_KB: u64 = 16 << 10;

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    let few = Churn { programs: 1_500, clients: 60, mappings: 5_000 };
    let many = Churn { programs: 10_000, clients: 500, mappings: 100_000 };
    all.add("churn::processes", &[Need::Curl], move || processes(few));
    all.add("capture_full::churn::processes", &[Need::Curl], move || processes(many));
    all.add("churn::one_address_again_and_again", &[], one_address);
    all.add("churn::one_object_cleared", &[], one_object_cleared);
    all.add("churn::one_address_in_two_processes", &[], two_processes);
    all.add("churn::one_process_id", &[], one_process_id);
    all.add("churn::odd_names", &[Need::Curl], odd_names);
}

/// How much comes and goes.
#[derive(Clone, Copy)]
struct Churn {
    /// Programs that do nothing.
    programs: usize,
    /// Programs that make one call over TLS.
    clients: usize,
    /// Times that a library is mapped and unmapped.
    mappings: usize,
}

/// Short programs, short clients and a library that is mapped and unmapped, all at once: every call is there, and the agent
/// holds what it held before.
fn processes(churn: Churn) -> Result<()> {
    let before = Loaded::now()?;
    let room = Room::new()?;
    let pki = room.pki(true)?;
    let server = Uvicorn::start(Stack::Fast, pki.as_ref(), AT_ONCE, room.path())?;
    // A file of its own, so that it has no probes yet and is a library that comes and goes.
    let copy = room.file("libssl.so.3");
    fs::copy(library()?, &copy)?;
    let agent = talkative()?;
    let call = || Client::new(Kind::Curl, &server.base_url(), server.ca()).run(SOON);
    // Once round before it is looked at, so that its tables and its allocator have what they need.
    let first = call()?;
    // Mapped to stay, until it has its probes.
    let mut mapper = Libssl::with(&copy)?;
    wait_probed(&agent, &copy, 1)?;
    mapper.tell(&format!("call {}", server.port()))?;
    agent.wait_for_calls(2, SOON, |call| is_of(call, first.pid) || is_of(call, mapper.pid()))?;
    agent.wait_for_calls(2, SOON, |call| is_of(call, server.pid()))?;
    let pid = agent.program().pid();
    let (held, memory, began) = (Held::by(pid)?, resident_kb(pid)?, Instant::now());

    mapper.send(&format!("map {} {}", copy.display(), churn.mappings))?;
    let script = "i=0; while [ $i -lt \"$1\" ]; do /bin/true; i=$((i+1)); done";
    let programs =
        Program::spawn("programs", Command::new("sh").args(["-c", script, "sh", &churn.programs.to_string()]))?;
    let mut made = HashSet::new();
    for _ in 0..churn.clients {
        let finished = call()?;
        made.insert((finished.only()?.id.clone().context("no id")?, finished.pid));
    }
    programs.wait_success(10 * SOON)?;
    mapper.wait()?;
    let took = began.elapsed();

    ensure!(made.len() == churn.clients, "{} different calls", made.len());
    agent.wait_for_calls(churn.clients, SOON, |call| made.iter().any(|(_, pid)| is_of(call, *pid)))?;
    agent.wait_for_calls(churn.clients + 2, SOON, |call| is_of(call, server.pid()))?;
    let (held_after, memory_after) = (Held::by(pid)?, resident_kb(pid)?);
    let stopped = agent.stop()?.clean()?;
    let calls = stopped.calls()?;
    for (id, pid) in &made {
        let (client, _) = pair(&calls, id)?;
        ensure!(is_of(client, *pid), "of process {pid}: {}", client.json());
    }
    say(&format!(
        "churn::processes: {} programs, {} clients, {} mappings in {took:.1?}: {} links, {} descriptors, {} -> {} KiB",
        churn.programs, churn.clients, churn.mappings, held_after.links, held_after.descriptors, memory, memory_after,
    ));
    ensure!(held_after == held, "held before {held:?}, after {held_after:?}");
    ensure!(memory_after <= memory + GROWTH_KB, "memory grew from {memory} to {memory_after} KiB");
    nothing_lost(&stopped)?;
    wait_gone(&before, SOON)
}

/// What a process holds of the kernel's.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    links: usize,
    descriptors: usize,
}

impl Held {
    pub fn by(pid: u32) -> Result<Self> {
        let descriptors = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"))?.count();
        Ok(Self { links: Loaded::held_by(pid)?.links.len(), descriptors })
    }
}

fn resident_kb(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Demands that the ledger knows of no loss and of no call whose beginning was not seen.
pub fn nothing_lost(stopped: &Stopped) -> Result<()> {
    let ledger = stopped.ledger().context("no ledger")?;
    for name in [
        "lost_bytes",
        "pipeline.bytes_lost",
        "kernel.event_records_lost",
        "kernel.bytes_untracked",
        "kernel.tls_return_unmatched",
        "kernel.tls_count_unreadable",
        "discover.files_slow",
        "discover.files_died",
        "discover.probes_failed",
    ] {
        ensure!(ledger[name] == 0, "{name} is not zero: {ledger}");
    }
    Ok(())
}

/// An agent, two servers with TLS, and a client that is told what to do.
struct Stage {
    agent: Agent,
    servers: [Uvicorn; 2],
    client: Libssl,
    _rooms: [Room; 2],
}

impl Stage {
    fn new() -> Result<Self> {
        let rooms = [Room::new()?, Room::new()?];
        let server = |room: &Room| Uvicorn::start(Stack::Fast, room.pki(true)?.as_ref(), AT_ONCE, room.path());
        let servers = [server(&rooms[0])?, server(&rooms[1])?];
        let client = Libssl::with(&library()?)?;
        Ok(Self { agent: Agent::trace(&[])?, servers, client, _rooms: rooms })
    }

    /// The servers' ports in turn, as words.
    fn ports(&self, n: usize) -> String {
        (0..n).map(|i| self.servers[i % 2].port().to_string()).collect::<Vec<_>>().join(" ")
    }

    /// Checks every call that the client made.
    fn check(self, said: &[Said]) -> Result<()> {
        let pids: HashSet<u64> = said.iter().map(|call| call.pid).collect();
        self.agent.wait_for_calls(said.len(), SOON, |call| call.pid().is_some_and(|pid| pids.contains(&pid)))?;
        let served = |call: &inferscope_tests::call::Call| self.servers.iter().any(|server| is_of(call, server.pid()));
        self.agent.wait_for_calls(said.len(), SOON, served)?;
        let stopped = self.agent.stop()?.clean()?;
        let calls = stopped.calls()?;
        said.iter().try_for_each(|call| call.check(&calls))?;
        nothing_lost(&stopped)
    }
}

/// Two hundred connections, one after the other: the address of the object and the number of the descriptor are the same,
/// the server is another each time.
fn one_address() -> Result<()> {
    let mut stage = Stage::new()?;
    let said = stage.client.tell(&format!("call {}", stage.ports(200)))?;
    let different = |value: fn(&Said) -> u64| said.iter().map(value).collect::<HashSet<_>>().len();
    let (objects, descriptors) = (different(|call| call.object), different(|call| call.fd));
    say(&format!("churn::one_address_again_and_again: {} calls, {objects} objects, {descriptors} fds", said.len()));
    ensure!(said.len() == 200 && objects < 20 && descriptors < 20, "nothing is used again");
    stage.check(&said)
}

/// One object that is cleared and connected to another server, twenty times.
fn one_object_cleared() -> Result<()> {
    let mut stage = Stage::new()?;
    let said = stage.client.tell(&format!("clear {}", stage.ports(20)))?;
    ensure!(said.len() == 20 && said.iter().all(|call| call.object == said[0].object), "{said:?}");
    stage.check(&said)
}

/// A fork after the handshake: parent and child use the same address for different connections at once.
fn two_processes() -> Result<()> {
    let mut stage = Stage::new()?;
    let mut said = Vec::new();
    for _ in 0..10 {
        said.extend(stage.client.tell(&format!("fork {}", stage.ports(2)))?);
    }
    let own = u64::from(stage.client.pid());
    ensure!(said.len() == 20 && said.iter().filter(|call| call.pid == own).count() == 10, "{said:?}");
    let pairs = said.chunks(2).filter(|pair| pair[0].object == pair[1].object && pair[0].pid != pair[1].pid).count();
    ensure!(pairs == 10, "different objects: {said:?}");
    stage.check(&said)
}

/// Processes with one number, one after the other, which use an object at one address and die without freeing it. The
/// first talks something that makes the stream one of no interest, which must not stick to the others.
fn one_process_id() -> Result<()> {
    let mut stage = Stage::new()?;
    let pid_max: u32 = fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse()?;
    // Numbers are given out from below, so one from the top is free.
    let pid = (1..1000).map(|n| pid_max - n).find(|pid| !Path::new("/proc").join(pid.to_string()).exists());
    let pid = pid.context("no number is free")?;
    let said = stage.client.tell(&format!("same-pid {pid} 12 {}", stage.servers[0].port()))?;
    ensure!(said.len() == 11 && said.iter().all(|call| call.pid == u64::from(pid)), "{said:?}");
    let same = said.iter().filter(|call| call.object == said[0].object).count();
    ensure!(same == said.len(), "different objects: {said:?}");
    stage.check(&said)
}

/// A program whose name holds a line end and the beginning of an escape sequence: one call is one line, and nothing of the
/// name reaches a terminal as it is.
fn odd_names() -> Result<()> {
    let room = Room::new()?;
    let server = Uvicorn::start(Stack::Fast, None, AT_ONCE, room.path())?;
    let odd = room.file("c\n\u{1b}[31m\u{7}l");
    fs::copy(inferscope_tests::place::on_path("curl").context("no curl")?, &odd)?;
    let pretty = Agent::start(&["trace"])?;
    let lines = Agent::trace(&[])?;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    let url = format!("{}/chat/completions", server.base_url());
    let mut command = Command::new(&odd);
    command.args(["--silent", "--noproxy", "*", "--header", "content-type: application/json", "--data", body, &url]);
    let curl = Program::spawn("curl", &mut command)?;
    curl.wait_success(SOON)?;
    let calls = lines.wait_for_calls(1, SOON, |call| is_of(call, curl.pid()))?;
    let name = calls[0].text("process.executable.name").context("no name")?.to_owned();
    ensure!(name.contains('\u{1b}'), "JSON escapes by itself, so the name is as it is: {name:?}");
    lines.stop()?.clean()?.calls()?;
    let shown = format!("[{}]", curl.pid());
    pretty
        .program()
        .wait_for("line", SOON, |state| state.stdout.iter().any(|line| line.contains(&shown)).then_some(()))?;
    let stopped = pretty.stop()?.clean()?;
    for line in stopped.stdout.iter().chain(&stopped.stderr) {
        ensure!(!line.contains(['\u{1b}', '\u{7}']), "an escape sequence of a program's: {line:?}");
    }
    Ok(())
}
