//! What narrows a capture: each selector with one process that is wanted and one that is not, and what is not copied
//! of traffic that can be no model's.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::{Agent, Stopped},
    call::Call,
    client::{Client, Kind},
    place,
    process::Program,
    server::{Pace, Stack, Uvicorn},
};

use crate::{
    expect::is_of,
    group::Group,
    otlp::Receiver,
    raw,
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("targets::exe_of_a_short_client", &[Need::Curl], || short_client(Selector::Exe));
    all.add("targets::comm_excluded", &[Need::Curl], || short_client(Selector::ExcludeComm));
    for (name, by) in [("cgroup", Selector::Cgroup), ("unit", Selector::Unit), ("container", Selector::Container)] {
        all.add(format!("targets::{name}"), &[Need::Curl, Need::Cgroups], move || short_client(by));
    }
    all.add("targets::port", &[], || port(false));
    all.add("targets::port_excluded", &[], || port(true));
    all.add("targets::host", &[], || host(false));
    all.add("targets::host_excluded", &[], || host(true));
    all.add("targets::never_its_own_export", &[], own_export);
    all.add("targets::dull_paths_are_not_copied", &[], dull_paths);
    all.add("targets::dull_paths_do_not_shift_answers", &[], dull_between_calls);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Selector {
    Exe,
    ExcludeComm,
    Cgroup,
    Unit,
    Container,
}

/// As container runtimes name them.
const CONTAINER: &str = "docker-5f1a7c0de0000000000000000000000000000000000000000000000000c0ffee.scope";

impl Selector {
    /// The control group that the wanted program runs in.
    fn group(self) -> Result<Option<Group>> {
        let name = match self {
            Self::Exe | Self::ExcludeComm => return Ok(None),
            Self::Cgroup => format!("inferscope-e2e-{}", std::process::id()),
            Self::Unit => format!("inferscope-e2e-{}.service", std::process::id()),
            Self::Container => CONTAINER.to_owned(),
        };
        Group::make(&name).map(Some)
    }
}

/// Two copies of curl call the same server; one of them is wanted.
fn short_client(by: Selector) -> Result<()> {
    let room = Room::new()?;
    let curl = place::on_path("curl").context("no curl")?;
    let (wanted, other) = (room.file("wanted-curl"), room.file("other-curl"));
    fs::copy(&curl, &wanted)?;
    fs::copy(&curl, &other)?;
    let group = by.group()?;
    let server = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    let pattern = format!("{}/wanted-*", room.path().display());
    let path = group.as_ref().map(Group::path).unwrap_or_default();
    let agent = match by {
        Selector::Exe => Agent::trace(&["--exe", &pattern])?,
        Selector::ExcludeComm => Agent::trace(&["--exclude-comm", "other-curl"])?,
        Selector::Cgroup => Agent::trace(&["--cgroup", &path])?,
        Selector::Unit => Agent::trace(&["--unit", path.trim_start_matches('/')])?,
        Selector::Container => Agent::trace(&["--container", "5f1a7c0de000"])?,
    };
    let mut pids = Vec::new();
    for program in [&other, &wanted, &other, &wanted] {
        let group = group.as_ref().filter(|_| program == &wanted);
        pids.push((program == &wanted, call_with(program, group, &server)?));
    }
    let wanted: Vec<u32> = pids.iter().filter(|(wanted, _)| *wanted).map(|(_, pid)| *pid).collect();
    agent.wait_for_calls(wanted.len(), SOON, |call| wanted.iter().any(|&pid| is_of(call, pid)))?;
    let stopped = agent.stop()?.clean()?;
    let calls = stopped.calls()?;
    for (wanted, pid) in pids {
        let seen = calls.iter().filter(|call| is_of(call, pid)).count();
        ensure!(seen == usize::from(wanted), "{seen} calls of a process that is wanted: {wanted}");
    }
    let of_server = calls.iter().filter(|call| is_of(call, server.pid())).count();
    let expect = if by == Selector::ExcludeComm { 4 } else { 0 };
    ensure!(of_server == expect, "{of_server} calls of the server, not {expect}");
    Ok(())
}

/// One streamed call; gives the pid.
fn call_with(program: &Path, group: Option<&Group>, server: &Uvicorn) -> Result<u32> {
    // The shell enters the group and becomes the program, which the agent sees as an exec.
    let script = "if [ -n \"$1\" ]; then echo $$ > \"$1/cgroup.procs\"; fi; shift; exec \"$@\"";
    let body = serde_json::json!({"model": inferscope_tests::client::MODEL, "stream": true,
        "messages": [{"role": "user", "content": "hello there"}]});
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(group.map_or(Path::new(""), Group::dir)).arg(program);
    command.args(["-sS", "-o", "/dev/null", "-H", "content-type: application/json", "-d", &body.to_string()]);
    command.arg(format!("{}/chat/completions", server.base_url()));
    let client = Program::spawn("curl", &mut command)?;
    let pid = client.pid();
    ensure!(client.wait_exit(SOON)?.success(), "curl failed");
    Ok(pid)
}

/// Two servers; only connections to the one's port are of interest.
fn port(excluded: bool) -> Result<()> {
    let room = Room::new()?;
    let wanted = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    let other = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    let agent = match excluded {
        false => Agent::trace(&["--port", &wanted.port().to_string()])?,
        true => Agent::trace(&["--exclude-port", &other.port().to_string()])?,
    };
    let mut clients = Vec::new();
    for server in [&other, &wanted] {
        clients.push(Client::new(Kind::OpenAiSync, &server.base_url(), None).stream(true).run(SOON)?);
    }
    agent.wait_for_calls(2, SOON, |call| is_of(call, wanted.pid()) || is_of(call, clients[1].pid))?;
    let calls = agent.stop()?.clean()?.calls()?;
    let unwanted = calls.iter().filter(|call| is_of(call, other.pid()) || is_of(call, clients[0].pid)).count();
    ensure!(unwanted == 0, "{unwanted} calls on another port");
    Ok(())
}

/// One connection per host name, to the same server.
fn host(excluded: bool) -> Result<()> {
    let flag = if excluded { "--exclude-host" } else { "--host" };
    let agent = Agent::trace(&[flag, "*.Wanted.test", "--pid", &std::process::id().to_string()])?;
    let hosts = ["other.test", "a.wanted.test:8000", "wanted.test", "b.wanted.test"];
    let server = raw::Canned::start(hosts.iter().map(|_| raw::answer()).collect())?;
    for host in hosts {
        let request = String::from_utf8(raw::request(host))?.replace("host: 127.0.0.1", &format!("host: {host}"));
        raw::exchange(server.port(), request.as_bytes())?;
    }
    server.join()?;
    let mut models: Vec<String> = models(&agent.stop()?.clean()?)?;
    models.sort();
    let expect = if excluded { ["other.test", "wanted.test"] } else { ["a.wanted.test:8000", "b.wanted.test"] };
    // A span of each end.
    ensure!(models == expect.map(|host| [host, host]).concat(), "{models:?}");
    Ok(())
}

fn models(stopped: &Stopped) -> Result<Vec<String>> {
    let calls = stopped.calls()?;
    Ok(calls.iter().filter_map(|call| Some(call.text("gen_ai.request.model")?.to_owned())).collect())
}

/// With every HTTP exchange asked for and a collector on the same host, nothing is reported of the export itself, and
/// exporting makes no more to export.
fn own_export() -> Result<()> {
    let room = Room::new()?;
    let receiver = Receiver::start(&room)?;
    let jsonl = room.file("calls.jsonl");
    let config = receiver.config(&room, &jsonl)?;
    let text = fs::read_to_string(&config)?;
    fs::write(&config, format!("[capture]\nall_http = true\n{text}"))?;
    let agent = Agent::run(&config)?;
    let server = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    let own = agent.program().pid();
    for _ in 0..5 {
        let client = Client::new(Kind::OpenAiSync, &server.base_url(), None).stream(false).run(SOON)?;
        ensure!(client.only()?.end == "done", "the client failed: {client:?}");
    }
    let stopped = agent.stop()?.clean()?;
    let written = fs::read_to_string(&jsonl).context("no file was written")?;
    let calls = written.lines().map(Call::parse).collect::<Result<Vec<_>>>()?;
    let ours = |call: &&Call| is_of(call, own) || is_of(call, receiver.pid());
    ensure!(calls.iter().filter(ours).count() == 0, "the export was reported:\n{written}");
    ensure!(calls.iter().filter(|call| is_of(call, server.pid())).count() == 5, "not five calls:\n{written}");
    ensure!(!receiver.raw()?.is_empty(), "nothing was exported");
    let emitted = stopped.ledger().context("no ledger")?["kernel.bytes_emitted"].as_u64().unwrap_or(0);
    say(&format!("own export: {} bytes exported, {emitted} captured in all", receiver.raw()?.len()));
    Ok(())
}

/// Requests per connection, connections, and bytes per request of the traffic that is not a model's.
const POSTS: usize = 100;
const CONNECTIONS: usize = 10;
const BODY: usize = 100_000;

/// Answers every request on every connection, until the other end closes.
fn ingest(connections: usize) -> Result<(u16, thread::JoinHandle<Result<()>>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let accepting = thread::spawn(move || {
        let mut serving = Vec::new();
        for _ in 0..connections {
            let (socket, _) = listener.accept()?;
            serving.push(thread::spawn(move || serve(socket)));
        }
        for thread in serving {
            thread.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
        }
        Ok(())
    });
    Ok((port, accepting))
}

fn serve(mut socket: TcpStream) -> Result<()> {
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let head = seen.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&seen[..head]).into_owned();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            let end = head + length.parse::<usize>()?;
            if seen.len() >= end {
                seen.drain(..end);
                if text.starts_with("POST /v1/chat") {
                    socket.write_all(&raw::answer())?;
                } else {
                    socket.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 9\r\n\r\n{\"a\": 12}")?;
                }
                continue;
            }
        }
        let n = socket.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        seen.extend_from_slice(&buffer[..n]);
    }
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: inferscope-tests-of-dull-paths\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// What one path costs when it is no model's: its first requests, and no more.
fn dull_paths() -> Result<()> {
    let agent = Agent::trace(&["--pid", &std::process::id().to_string()])?;
    let (port, server) = ingest(CONNECTIONS + 1)?;
    // The connections are faster than the agent. What comes before a call that it has told is learnt.
    let mut first = raw::connect(port)?;
    first.write_all(&post("/api/ingest?tenant=7", &vec![b'x'; BODY]))?;
    raw::read_until(&mut first, "{\"a\": 12}")?;
    first.write_all(&raw::request("model"))?;
    raw::read_until(&mut first, "[DONE]\n\n\r\n0\r\n\r\n")?;
    agent.wait_for_calls(2, SOON, |_| true)?;
    drop(first);
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            thread::spawn(move || -> Result<()> {
                let mut socket = raw::connect(port)?;
                let request = post("/api/ingest?tenant=7", &vec![b'x'; BODY]);
                for _ in 0..POSTS {
                    socket.write_all(&request)?;
                    raw::read_until(&mut socket, "{\"a\": 12}")?;
                }
                Ok(())
            })
        })
        .collect();
    for client in clients {
        client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    let ledger = agent.stop()?.clean()?.ledger().context("no ledger")?;
    let get = |name: &str| ledger[name].as_u64().unwrap_or(0);
    let (emitted, dull) = (get("kernel.bytes_emitted"), get("kernel.dull_paths"));
    let sent = 2 * POSTS * CONNECTIONS * BODY;
    say(&format!("dull paths: {sent} bytes passed both ends, {emitted} were copied, {dull} requests left out"));
    ensure!(emitted < sent as u64 / 10, "{emitted} of {sent} bytes were copied");
    ensure!(dull > (POSTS * CONNECTIONS) as u64, "{dull} requests were left out by their path");
    Ok(())
}

/// On one connection, calls between requests that are left out: each call has its own answer.
fn dull_between_calls() -> Result<()> {
    let agent = Agent::trace(&["--pid", &std::process::id().to_string()])?;
    let (port, server) = ingest(1)?;
    let mut socket = raw::connect(port)?;
    let mut expect = Vec::new();
    for round in 0..20 {
        for _ in 0..3 {
            socket.write_all(&post("/api/ingest", &vec![b'x'; 20_000]))?;
            raw::read_until(&mut socket, "{\"a\": 12}")?;
        }
        let model = format!("model-{round:02}");
        socket.write_all(&raw::request(&model))?;
        raw::read_until(&mut socket, "[DONE]\n\n\r\n0\r\n\r\n")?;
        // The connection is faster than the agent: without a pause all is over before anything was learnt.
        if round < 2 {
            agent.wait_for_calls(2, SOON, |call| call.text("gen_ai.request.model") == Some(model.as_str()))?;
        }
        expect.extend([model.clone(), model]);
    }
    drop(socket);
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    let stopped = agent.stop()?.clean()?;
    let mut seen = models(&stopped)?;
    seen.sort();
    ensure!(seen == expect, "calls of {seen:?}");
    for call in stopped.calls()? {
        ensure!(call.number("gen_ai.usage.output_tokens") == Some(3), "{}", call.json());
        ensure!(call.completion() == Some("done"), "{}", call.json());
    }
    let dull = stopped.ledger().context("no ledger")?["kernel.dull_paths"].as_u64().unwrap_or(0);
    ensure!(dull > 0, "no request was left out by its path");
    Ok(())
}
