//! HTTP/2 between programs that know nothing of the agent: by prior knowledge, by agreement in TLS and by upgrade, with
//! many streams on one connection, with streams that are given up, and with connections that the agent joins.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    client::{Client, Finished, Kind, Report},
    go::{Build, Mode},
    pki::Pki,
    process::{Program, Stream},
    server::{Entry, Pace, Stack, Uvicorn},
};
use serde_json::json;

use crate::{
    clients::needs,
    expect::{Differences, Ends, Server, compare, is_of, list, pair},
    go::{ClientKind, GoClient, GoServer, talkative, wait_probed},
    nginx::Proxy,
    scenario::{Need, Room, SOON, Scenarios, transport},
};

/// Streams on one connection: what Python's h2 opens at once, and hypercorn allows.
const STREAMS: usize = 50;

/// Clients that speak HTTP/2 with and without TLS.
const CLIENTS: [Kind; 4] = [Kind::Curl, Kind::OpenAiSync, Kind::OpenAiAsync, Kind::NodeHttp2];

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    for tls in [false, true] {
        for kind in CLIENTS {
            let at = format!("{}::{}", transport(tls), kind.name());
            all.add(format!("http2::hypercorn::{at}"), needs(kind), move || hypercorn(tls, kind));
            all.add(format!("http2::nginx::{at}"), &[Need::Nginx, Need::Node, Need::Curl], move || nginx(tls, kind));
        }
        for kind in [Kind::OpenAiAsync, Kind::NodeHttp2] {
            let name = format!("http2::agent_last::{}::{}", transport(tls), kind.name());
            all.add(name, needs(kind), move || agent_last(tls, kind));
        }
        all.add(format!("http2::streams::{}", transport(tls)), &[], move || streams(tls));
        all.add(format!("http2::reset::{}", transport(tls)), &[Need::Node], move || reset(tls));
    }
    all.add("http2::upgrade", &[Need::Curl], upgrade);
    let build = Build::current(Mode::Stripped);
    for joined in [false, true] {
        let name = format!("http2::go::{}", if joined { "after" } else { "before" });
        all.add(name, &[Need::Go(build)], move || go(build, joined));
    }
}

/// A client that speaks nothing else.
fn client(kind: Kind, server: &dyn Server, ca: Option<&Path>) -> Client {
    let scheme = if server.tls() { "https" } else { "http" };
    let client = Client::new(kind, &format!("{scheme}://127.0.0.1:{}/v1", server.port()), ca);
    match kind {
        Kind::Curl if server.tls() => client.options(["--http2"]),
        Kind::Curl => client.options(["--http2-prior-knowledge"]),
        Kind::NodeHttp2 => client,
        _ => client.options(["--http2"]),
    }
}

fn hypercorn(tls: bool, kind: Kind) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(tls)?;
    let agent = Agent::trace(&[])?;
    let server = Uvicorn::start(Stack::Http2, pki.as_ref(), Pace::QUICK, room.path())?;
    let mut runs = Vec::new();
    for stream in [true, false] {
        runs.push((stream, client(kind, &server, server.ca()).stream(stream).run(SOON)?));
    }
    let calls = told(agent, &server, &runs)?;
    for (stream, client) in &runs {
        Ends::chat(&server, client.pid, *stream).check(&calls, &client.reports)?;
    }
    Ok(())
}

/// Waits until both ends of all calls were told, and stops the agent. Each end tells each call once.
fn told(agent: Agent, server: &dyn Server, runs: &[(bool, Finished)]) -> Result<Vec<Call>> {
    let made: usize = runs.iter().map(|(_, client)| client.reports.len()).sum();
    let is_ours = |call: &Call| is_of(call, server.pid()) || runs.iter().any(|(_, client)| is_of(call, client.pid));
    agent.wait_for_calls(2 * made, SOON, is_ours)?;
    let calls = agent.stop()?.clean()?.calls()?;
    let ours = calls.iter().filter(|call| is_ours(call)).count();
    ensure!(ours == 2 * made, "{ours} spans of {made} calls\n{}", list(&calls));
    Ok(calls)
}

/// nginx as it stands in front of model servers.
struct Nginx {
    program: Program,
    port: u16,
    tls: bool,
}

impl Nginx {
    fn start(room: &Room, pki: Option<&Pki>, upstream: u16) -> Result<Self> {
        // One process, so that it is known which one answers.
        let proxy = Proxy { processes: "master_process off;", http2: true, pki, upstream };
        let (mut command, port) = proxy.command(room)?;
        let program = Program::spawn("nginx", &mut command)?;
        program.wait_for_line(Stream::Stderr, "listening", SOON, |line| line.contains("event method"))?;
        Ok(Self { program, port, tls: pki.is_some() })
    }
}

impl Server for Nginx {
    fn pid(&self) -> u32 {
        self.program.pid()
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn tls(&self) -> bool {
        self.tls
    }

    fn log(&self) -> Result<Vec<Entry>> {
        Ok(Vec::new())
    }
}

/// Each call is seen four times: from the client, from nginx, which answers it over HTTP/2 and asks for it over HTTP/1.1, and
/// from the server behind.
fn nginx(tls: bool, kind: Kind) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(tls)?;
    let agent = Agent::trace(&[])?;
    let behind = Uvicorn::start(Stack::Fast, None, Pace::QUICK, room.path())?;
    let server = Nginx::start(&room, pki.as_ref(), behind.port())?;
    let ca = pki.as_ref().map(|pki| pki.ca.as_path());
    let mut runs = Vec::new();
    for stream in [true, false] {
        runs.push((stream, client(kind, &server, ca).stream(stream).run(SOON)?));
    }
    let ends = |client: &Finished| {
        [(client.pid, "client"), (server.pid(), "server"), (server.pid(), "client"), (behind.pid(), "server")]
    };
    let pids: Vec<u32> = runs.iter().flat_map(|(_, client)| ends(client).map(|(pid, _)| pid)).collect();
    agent.wait_for_calls(8, SOON, |call| pids.iter().any(|&pid| is_of(call, pid)))?;
    let calls = agent.stop()?.clean()?.calls()?;
    for (stream, client) in &runs {
        let report = client.only()?;
        let mut parents = Vec::new();
        for (pid, side) in ends(client) {
            let of = |call: &&Call| is_of(call, pid) && call.kind() == side && call.id() == report.id.as_deref();
            let found: Vec<&Call> = calls.iter().filter(of).collect();
            let [call] = found[..] else { bail!("{} {side} spans of {pid}\n{}", found.len(), list(&calls)) };
            check(call, report, *stream, "complete")?;
            parents.push(call);
        }
        let [client, server, ..] = parents[..] else { bail!("not four spans") };
        let parent = server.member("parent_span_id");
        ensure!(tls || parent == client.member("span_id"), "not linked: {}", server.json());
    }
    Ok(())
}

fn check(call: &Call, report: &Report, stream: bool, capture: &str) -> Result<()> {
    let mut differ = Differences::default();
    if capture == "complete" {
        compare(&mut differ, call, report, "openai.chat");
    } else {
        let mut attr = |name: &str, want| differ.compare(name, call.attr(name), &want);
        attr("gen_ai.response.id", json!(report.id));
        attr("gen_ai.usage.input_tokens", json!(report.input_tokens));
        attr("gen_ai.usage.output_tokens", json!(report.output_tokens));
        attr("inferscope.completion", json!("done"));
        attr("inferscope.capture", json!(capture));
    }
    if stream {
        differ.compare("chunks", call.attr("inferscope.chunk.count"), &json!(report.chunks));
    }
    differ.into_result(call)
}

/// The agent comes when the connection is open and has carried a call. Node's nghttp2 sends each path in full; Python's hpack
/// does not, and the calls say so.
fn agent_last(tls: bool, kind: Kind) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(tls)?;
    let server = Uvicorn::start(Stack::Http2, pki.as_ref(), Pace::QUICK, room.path())?;
    let client = client(kind, &server, server.ca()).stream(true).options(["--calls", "3", "--gate"]);
    let mut client = client.spawn()?;
    client.wait_reports(1, SOON)?;
    let agent = Agent::trace(&[])?;
    client.program().write_line("go on")?;
    let mut client = client.finish(SOON)?;
    one_connection(&server)?;
    client.reports.remove(0);
    let runs = [(true, client)];
    let calls = told(agent, &server, &runs)?;
    let capture = if kind == Kind::NodeHttp2 { "complete" } else { "partial_start" };
    for report in &runs[0].1.reports {
        let (of_client, of_server) = pair(&calls, report.id()?)?;
        check(of_client, report, true, capture)?;
        check(of_server, report, true, capture)?;
    }
    Ok(())
}

fn one_connection(server: &Uvicorn) -> Result<()> {
    let ports: Vec<_> = server.log()?.iter().map(|entry| entry.peer_port).collect();
    ensure!(ports.windows(2).all(|two| two[0] == two[1]), "not one connection: {ports:?}");
    Ok(())
}

/// Many calls at once on one connection.
fn streams(tls: bool) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(tls)?;
    let agent = Agent::trace(&[])?;
    let server = Uvicorn::start(Stack::Http2, pki.as_ref(), Pace::QUICK, room.path())?;
    let n = STREAMS.to_string();
    let client = client(Kind::OpenAiAsync, &server, server.ca()).stream(true);
    let client = client.options(["--calls", &n, "--concurrency", &n]).run(SOON)?;
    ensure!(client.reports.len() == STREAMS, "{} calls were made", client.reports.len());
    one_connection(&server)?;
    let runs = [(true, client)];
    let calls = told(agent, &server, &runs)?;
    let (_, client) = &runs[0];
    Ends::chat(&server, client.pid, true).check(&calls, &client.reports)
}

/// A client gives up a stream in its middle, and goes on with the connection.
fn reset(tls: bool) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(tls)?;
    let agent = Agent::trace(&[])?;
    let pace = Pace { interval_ms: 50.0, ..Pace::QUICK };
    let server = Uvicorn::start(Stack::Http2, pki.as_ref(), pace, room.path())?;
    let client = client(Kind::NodeHttp2, &server, server.ca()).stream(true);
    let client = client.options(["--calls", "2", "--stop-first-after", "3"]).run(SOON)?;
    one_connection(&server)?;
    let runs = [(true, client)];
    let calls = told(agent, &server, &runs)?;
    let (_, client) = &runs[0];
    let [stopped, whole] = &client.reports[..] else { bail!("not two calls: {client:?}") };
    ensure!(stopped.end == "stopped", "the client did not leave: {stopped:?}");
    let (of_client, of_server) = pair(&calls, stopped.id()?)?;
    for call in [of_client, of_server] {
        let right = call.completion() == Some("client_closed")
            && call.number("inferscope.chunk.count").is_some_and(|chunks| (3..12).contains(&chunks))
            && call.attr("gen_ai.usage.output_tokens").is_none();
        ensure!(right, "not what a call without its client should be: {}", call.json());
    }
    Ends::chat(&server, client.pid, true).check(&calls, std::slice::from_ref(whole))
}

/// `Upgrade: h2c`: the request comes over HTTP/1.1, its answer over HTTP/2.
fn upgrade() -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&[])?;
    let server = Uvicorn::start(Stack::Http2, None, Pace::QUICK, room.path())?;
    let mut runs = Vec::new();
    for stream in [true, false] {
        let client = Client::new(Kind::Curl, &server.base_url(), None).stream(stream);
        runs.push((stream, client.options(["--http2"]).run(SOON)?));
    }
    let calls = told(agent, &server, &runs)?;
    for (stream, client) in &runs {
        Ends::chat(&server, client.pid, *stream).check(&calls, &client.reports)?;
    }
    Ok(())
}

/// A client and a server in Go. Its encoder names a path that it has sent by its place in a table, so that calls on a connection
/// that was joined do not show it.
fn go(build: Build, joined: bool) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?.context("no authority")?;
    let trace = || Agent::ready(talkative()?.args(["trace", "--output", "jsonl"]));
    let start = || GoServer::start(build, &pki, Pace::QUICK, &["-http2"]);
    let past = usize::from(joined);
    let options = ["-http2", "-calls", &(2 + past).to_string(), "-gate", &past.to_string()];
    let kinds = [ClientKind::Stream, ClientKind::Large];
    let clients = |server: &GoServer| -> Result<Vec<GoClient>> {
        kinds.into_iter().map(|kind| GoClient::start(build, &server.base_url(), &pki.ca, kind, &options)).collect()
    };
    let (agent, server, mut clients) = if joined {
        let server = start()?;
        let clients = clients(&server)?;
        clients.iter().try_for_each(|client| client.wait_reports(1).map(drop))?;
        (trace()?, server, clients)
    } else {
        let agent = trace()?;
        let server = start()?;
        let clients = clients(&server)?;
        (agent, server, clients)
    };
    ["client", "server"].iter().try_for_each(|name| wait_probed(&agent, build, name))?;
    let mut runs = Vec::new();
    for (client, kind) in clients.iter_mut().zip(kinds) {
        client.program.write_line("")?;
        let reports = client.wait_reports(2 + past)?.split_off(past);
        client.program.write_line("")?;
        client.program.wait_success(SOON)?;
        runs.push((kind == ClientKind::Stream, Finished { pid: client.program.pid(), reports }));
    }
    let calls = told(agent, &server, &runs)?;
    for (stream, client) in &runs {
        for report in &client.reports {
            let (of_client, of_server) = pair(&calls, report.id()?)?;
            let capture = if joined { "partial_start" } else { "complete" };
            check(of_client, report, *stream, capture)?;
            check(of_server, report, *stream, capture)?;
        }
    }
    Ok(())
}
