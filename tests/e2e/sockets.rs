//! Every way in which bytes move on a socket: what was copied is what was sent, and what could not be is a gap of its
//! length.
//!
//! `programs/socket_calls.c` makes the exchanges; it knows nothing of the agent and its bytes are known beforehand. The
//! agent records, and the recording is read back record by record.

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use inferscope::{
    record::{self, Direction, Record},
    recording::{Frame, Playback},
};
use inferscope_tests::{
    agent::{Agent, Stopped},
    place,
    process::{Program, Stream, exit_code},
};
use serde_json::{Value, json};

use crate::{
    expect::is_of,
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// Calls that have their bytes in buffers, and what may become of the descriptors that they are made on.
const COPIED: [&str; 13] = [
    "read_write",
    "recvfrom_sendto",
    "readv_writev",
    "preadv2_pwritev2",
    "recvmsg_sendmsg",
    "recvmmsg_sendmmsg",
    "odd",
    "dup",
    "fork",
    "scm",
    "threads",
    "reuse",
    "half",
];

/// Calls that move bodies without a buffer, and at which end: what is written, or what is read.
const PASSED: [(&str, &[Direction]); 5] = [
    ("sendfile", &[Direction::Write]),
    ("splice_out", &[Direction::Write]),
    ("splice_in", &[Direction::Read]),
    ("discard", &[Direction::Read]),
    ("io_uring", &[Direction::Write, Direction::Read]),
];

/// What the program ends with where the kernel has no such call.
const SKIPPED: i32 = 77;

/// Bodies: from one byte to more than a scratch buffer, a record of the ring, and the socket's own buffers.
const SIZES: [usize; 6] = [1, 7, 1_000, 16_384, 65_537, 1_000_000];

/// What is sent in one call at most without a loss.
const LARGEST: usize = 16 << 20;

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    for transport in ["tcp", "unix"] {
        for family in COPIED {
            all.add(format!("sockets::copied::{family}::{transport}"), &[Need::Cc], move || copied(family, transport));
        }
        for (family, ends) in PASSED {
            let name = format!("sockets::passed::{family}::{transport}");
            all.add(name, &[Need::Cc], move || passed(family, transport, ends));
        }
        all.add(format!("sockets::largest::{transport}"), &[Need::Cc], move || largest(transport));
    }
    all.add("sockets::io_uring_is_said", &[Need::Cc], io_uring_is_said);
    all.add("sockets::uvicorn_on_a_unix_socket", &[Need::Curl], uvicorn_on_a_unix_socket);
}

fn copied(family: &str, transport: &str) -> Result<()> {
    // What is read after the end must have fitted into the receiver's buffer.
    let sizes: &[usize] = if family == "half" { &[1, 7, 1_000, 16_384] } else { &SIZES };
    let Some(seen) = watch(family, transport, sizes)? else { return Ok(()) };
    let connections: Vec<&[usize]> =
        if matches!(family, "reuse" | "half") { sizes.chunks(1).collect() } else { vec![sizes] };
    let mut expected = Vec::new();
    for sizes in connections {
        let [requests, responses] = [true, false].map(|request| messages(request, sizes));
        expected.push([responses.clone(), requests.clone()]);
        expected.push([requests, responses]);
    }
    let mut found: Vec<[Vec<u8>; 2]> =
        seen.streams.values().map(|lanes| [0, 1].map(|lane| lanes[lane].whole())).collect();
    ensure!(found.len() == expected.len(), "{} streams instead of {}", found.len(), expected.len());
    found.sort();
    expected.sort();
    for (found, expected) in found.iter().zip(&expected) {
        for (found, expected) in found.iter().zip(expected) {
            ensure!(found.len() == expected.len(), "{} bytes instead of {}", found.len(), expected.len());
            ensure!(found == expected, "the bytes are not those that were sent");
        }
    }
    for lanes in seen.streams.values() {
        ensure!(lanes.iter().all(|lane| lane.gaps.is_empty()), "gaps: {:?}", lanes.each_ref().map(|lane| &lane.gaps));
    }
    seen.is_lossless()?;
    ensure!(seen.counter("kernel.bytes_unseen")? == 0, "something passed unseen: {}", seen.ledger);
    Ok(())
}

/// Heads are copied at both ends; bodies are gaps at the ends that moved them without a buffer, each of its length, the
/// last one too, behind which nothing follows.
fn passed(family: &str, transport: &str, ends: &[Direction]) -> Result<()> {
    // On a UNIX socket nothing is thrown away.
    let stored = family == "discard" && transport == "unix";
    let Some(seen) = watch(family, transport, &SIZES)? else { return Ok(()) };
    ensure!(seen.streams.len() == 2, "{} streams instead of 2", seen.streams.len());
    let mut missing = 0;
    for lanes in seen.streams.values() {
        let is_server = lanes[0].bytes.starts_with(b"POST");
        for (lane, direction) in lanes.iter().zip([Direction::Read, Direction::Write]) {
            let request = is_server == (direction == Direction::Read);
            if stored || !ends.contains(&direction) {
                ensure!(lane.whole() == messages(request, &SIZES), "{direction:?}: not what was sent");
                continue;
            }
            let heads: Vec<u8> = SIZES.iter().flat_map(|&size| head(request, size)).collect();
            ensure!(lane.bytes == heads, "{direction:?}: not the heads: {}", String::from_utf8_lossy(&lane.bytes));
            let mut at = 0;
            let bodies = SIZES.map(|size| {
                let begin = at + head(request, size).len();
                at = begin + size;
                (begin as u64, size as u64)
            });
            ensure!(lane.gaps == bodies, "{direction:?}: gaps {:?} instead of {bodies:?}", lane.gaps);
            missing += SIZES.iter().sum::<usize>() as u64;
        }
    }
    seen.is_lossless()?;
    let (lost, unseen) = (seen.counter("pipeline.bytes_lost")?, seen.counter("kernel.bytes_unseen")?);
    ensure!((lost, unseen) == (missing, missing), "{missing} bytes passed: {}", seen.ledger);
    Ok(())
}

/// One call with as much as is promised, and the head in it.
fn largest(transport: &str) -> Result<()> {
    let Some(seen) = watch("read_write", transport, &[LARGEST])? else { return Ok(()) };
    for lanes in seen.streams.values() {
        for (lane, name) in lanes.iter().zip(["read", "write"]) {
            let request = lane.bytes.starts_with(b"POST");
            ensure!(
                lane.whole() == messages(request, &[LARGEST]),
                "{name}: {} bytes, {:?}",
                lane.bytes.len(),
                lane.gaps
            );
        }
    }
    seen.is_lossless()
}

/// A server and a client that leave everything to io_uring: nothing is captured, and the report says of whom and why.
fn io_uring_is_said() -> Result<()> {
    let room = Room::new()?;
    let program = compiled(&room)?;
    let agent = Agent::trace(&["--comm", "socket_calls"])?;
    let Some(run) = run(&program, "io_uring_only", "tcp", &[100_000], room.path())? else { return Ok(()) };
    let stopped = agent.stop()?.clean()?;
    let ledger = stopped.ledger().context("no ledger")?;
    let both = 2 * (messages(true, &[100_000]).len() + messages(false, &[100_000]).len());
    ensure!(ledger["kernel.bytes_uring"] == json!(both), "not {both} bytes by io_uring: {ledger}");
    let processes = ledger["processes"].as_array().context("no processes")?;
    let server =
        processes.iter().find(|process| process["pid"] == json!(run.pid())).context("the server is not named")?;
    ensure!(server["io_uring"] == json!(both / 2), "{server}");
    Ok(())
}

/// A real server on a UNIX socket and a real client: both ends are seen, linked, and named as UNIX sockets are.
fn uvicorn_on_a_unix_socket() -> Result<()> {
    let room = Room::new()?;
    let path = room.file("llm.sock");
    let mut command = Command::new(place::python()?);
    command.arg(place::script("model_server.py")).args(["--loop", "uvloop", "--http", "httptools"]);
    command.args(["--chunks", "12", "--interval-ms", "2", "--first-token-ms", "5", "--log"]).arg(room.file("log"));
    let server = Program::spawn("uvicorn", command.arg("--uds").arg(&path))?;
    server.wait_for_line(Stream::Stdout, "ready", SOON, |line| line.starts_with("ready "))?;
    let agent = Agent::trace(&[])?;
    let body = json!({"model": "inferscope-test-model", "stream": true,
        "messages": [{"role": "user", "content": "hello"}], "stream_options": {"include_usage": true}});
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--no-buffer", "--json", &body.to_string(), "--unix-socket"]);
    let curl = Program::spawn("curl", curl.arg(&path).arg("http://localhost/v1/chat/completions"))?;
    curl.wait_success(SOON)?;
    let calls = agent.wait_for_calls(2, SOON, |call| is_of(call, server.pid()) || is_of(call, curl.pid()))?;
    agent.stop()?.clean()?;
    let of = |pid| calls.iter().find(|call| is_of(call, pid)).with_context(|| format!("no call of {pid}"));
    let (of_server, of_client) = (of(server.pid())?, of(curl.pid())?);
    ensure!((of_server.kind(), of_client.kind()) == ("server", "client"), "sides: {calls:?}");
    let member = |call: &inferscope_tests::call::Call, name: &str| call.member(name).map(str::to_owned);
    ensure!(member(of_server, "trace_id") == member(of_client, "trace_id"), "two traces: {calls:?}");
    ensure!(member(of_server, "parent_span_id") == member(of_client, "span_id"), "no link: {calls:?}");
    for call in [of_server, of_client] {
        let right = call.text("network.transport") == Some("unix")
            && call.text("server.address") == path.to_str()
            && call.attr("server.port").is_none()
            && call.completion() == Some("done")
            && call.capture() == Some("complete")
            && call.number("inferscope.chunk.count") == Some(12);
        ensure!(right, "not what a call over a UNIX socket should be: {}", call.json());
    }
    ensure!(of_client.text("network.peer.address") == path.to_str(), "{}", of_client.json());
    ensure!(of_server.attr("network.peer.address").is_none(), "{}", of_server.json());
    Ok(())
}

/// What was recorded of a run.
struct Seen {
    /// Bytes read and written, by stream.
    streams: BTreeMap<(u64, u64), [Lane; 2]>,
    ledger: Value,
}

/// One direction of a stream as it was recorded.
#[derive(Debug, Default)]
struct Lane {
    /// What was copied, in the order of positions.
    bytes: Vec<u8>,
    /// Position behind the last byte that was copied or passed.
    end: u64,
    /// Position and length of what was not copied.
    gaps: Vec<(u64, u64)>,
}

impl Lane {
    /// The whole direction; what is incomplete equals nothing that was sent.
    fn whole(&self) -> Vec<u8> {
        if self.gaps.is_empty() { self.bytes.clone() } else { Vec::new() }
    }

    fn take(&mut self, offset: u64, payload: &[u8]) -> Result<()> {
        ensure!(offset >= self.end, "position {offset} comes after {}", self.end);
        // A body may pass in several calls.
        match self.gaps.last_mut() {
            _ if offset == self.end => {}
            Some((at, len)) if *at + *len == self.end => *len += offset - self.end,
            _ => self.gaps.push((self.end, offset - self.end)),
        }
        self.bytes.extend_from_slice(payload);
        self.end = offset + payload.len() as u64;
        Ok(())
    }
}

impl Seen {
    fn counter(&self, name: &str) -> Result<u64> {
        self.ledger[name].as_u64().with_context(|| format!("the ledger has no {name}"))
    }

    fn is_lossless(&self) -> Result<()> {
        ensure!(self.counter("lost_bytes")? == 0, "bytes were lost: {}", self.ledger);
        Ok(())
    }
}

/// Records a run of the program; nothing where this kernel cannot run it.
fn watch(family: &str, transport: &str, sizes: &[usize]) -> Result<Option<Seen>> {
    let room = Room::new()?;
    let program = compiled(&room)?;
    let file = room.file("recording");
    let agent = Agent::start(&["record".as_ref(), "--comm".as_ref(), "socket_calls".as_ref(), file.as_os_str()])?;
    if run(&program, family, transport, sizes, room.path())?.is_none() {
        return Ok(None);
    }
    let stopped = agent.stop()?.clean()?;
    read_back(&file, &stopped).map(Some)
}

fn run(program: &Path, family: &str, transport: &str, sizes: &[usize], room: &Path) -> Result<Option<Program>> {
    let mut command = Command::new(program);
    command.args([family, transport]).arg(room).args(sizes.iter().map(usize::to_string));
    let program = Program::spawn("socket_calls", &mut command)?;
    let status = program.wait_exit(SOON)?;
    match exit_code(status) {
        0 => Ok(Some(program)),
        SKIPPED => {
            say(&format!("SKIPPED {family}: {}", program.stdout().join(" ")));
            Ok(None)
        }
        _ => bail!("{family} over {transport} ended with {status}: {}", program.stderr().join("\n")),
    }
}

fn compiled(room: &Room) -> Result<PathBuf> {
    let binary = room.file("socket_calls");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/socket_calls.c");
    let output = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&binary).arg(source).output()?;
    ensure!(output.status.success(), "it does not compile: {}", String::from_utf8_lossy(&output.stderr));
    Ok(binary)
}

fn read_back(file: &Path, stopped: &Stopped) -> Result<Seen> {
    let mut playback = Playback::open(BufReader::new(File::open(file)?))?;
    let mut streams: BTreeMap<_, [Lane; 2]> = BTreeMap::new();
    loop {
        let bytes = match playback.next_frame()? {
            Frame::Record(bytes) => bytes,
            Frame::End => break,
            Frame::Damaged => bail!("the recording is damaged"),
        };
        if let Record::Data(_, data) = record::parse(bytes)? {
            let lanes = streams.entry((data.stream.address, data.stream.generation)).or_default();
            lanes[usize::from(data.direction == Direction::Write)].take(data.offset, data.payload)?;
        }
    }
    Ok(Seen { streams, ledger: stopped.ledger().context("no ledger")? })
}

/// The bytes of one direction, as the program makes them.
fn messages(request: bool, sizes: &[usize]) -> Vec<u8> {
    sizes.iter().flat_map(|&size| head(request, size).into_iter().chain(body(size))).collect()
}

fn head(request: bool, size: usize) -> Vec<u8> {
    let first =
        if request { "POST /v1/chat/completions HTTP/1.1\r\nhost: model" } else { "HTTP/1.1 200 OK\r\nserver: model" };
    format!("{first}\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n").into_bytes()
}

fn body(size: usize) -> impl Iterator<Item = u8> {
    (0..size).map(|i| b'a' + ((i * 7 + i / 251) % 26) as u8)
}
