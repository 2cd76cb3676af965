//! rustls with aws-lc below it: each direction of a connection is a stream of its own, and which two belong together has to
//! be found out.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::{Agent, Stopped},
    call::Call,
    client::{Client, Kind, Report},
    place,
    process::{Program, Stream},
    programs::Large,
    server::{Pace, Stack, Uvicorn},
};
use serde_json::{Value, json};

use crate::{
    expect::{Differences, compare, is_of, pair},
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// Connections of one process.
const CONNECTIONS: usize = 50;

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    const DENO: &[Need] = &[Need::Large(Large::DENO)];
    for stream in [false, true] {
        let kind = if stream { "streams" } else { "single_records" };
        all.add(format!("rustls::reqwest::agent_first::{kind}"), &[], move || first(Subject::Reqwest, stream));
        all.add(format!("rustls::reqwest::connection_first::{kind}"), &[], move || later(Subject::Reqwest, stream));
        all.add(format!("rustls::reqwest::{CONNECTIONS}_connections::{kind}"), &[], move || {
            many(Subject::Reqwest, stream)
        });
        let name = |what: &str| format!("capture_full::rustls::deno::{what}::{kind}");
        all.add(name("agent_first"), DENO, move || first(Subject::Deno, stream));
        all.add(name("connection_first"), DENO, move || later(Subject::Deno, stream));
        all.add(name(&format!("{CONNECTIONS}_connections")), DENO, move || many(Subject::Deno, stream));
        all.add(name("server"), DENO, move || deno_serves(stream));
    }
}

/// A client program, stripped.
#[derive(Clone, Copy)]
enum Subject {
    /// The Rust library reqwest inside Python.
    Reqwest,
    /// Deno's `fetch`.
    Deno,
}

/// What a client does.
struct Plan {
    stream: bool,
    connections: usize,
    calls: usize,
}

impl Subject {
    /// What its file's name has in it.
    fn file(self) -> &'static str {
        match self {
            Self::Reqwest => "/_pyreqwest",
            Self::Deno => "/deno",
        }
    }

    /// Starts it; it makes its calls when [`rounds`] says so.
    fn spawn(self, plan: &Plan, servers: &[&Uvicorn]) -> Result<Program> {
        let mut command = match self {
            Self::Reqwest => {
                let mut command = Command::new(place::python()?);
                command.arg(place::script("client_reqwest.py"));
                command
            }
            Self::Deno => deno("client_deno.mjs"),
        };
        for server in servers {
            command.args(["--url", &server.base_url()]);
        }
        command.arg("--ca").arg(servers[0].ca().context("no authority")?);
        command.args(["--connections", &plan.connections.to_string(), "--calls", &plan.calls.to_string()]);
        if plan.stream {
            command.arg("--stream");
        }
        command.arg("--wait").env("NO_PROXY", "*").env("no_proxy", "*");
        Program::spawn("client", &mut command)
    }
}

/// Has a client make its calls, `n` at a time up to `last`, and gives what it printed of all of them.
fn rounds(client: &mut Program, n: usize, last: usize) -> Result<Vec<Report>> {
    loop {
        client.write_line("")?;
        let done = reports(&client.stdout()).len();
        let told = client.wait_for("reports", SOON, |state| {
            Some(reports(&state.stdout)).filter(|reports| reports.len() >= done + n)
        })?;
        if told.len() >= last {
            return Ok(told);
        }
    }
}

/// An agent that says which files it has probed.
fn agent() -> Result<Agent> {
    Agent::trace(&["--verbose"])
}

/// Searching a large file without symbols takes a second, and a process may be faster.
fn wait_probed(agent: &Agent, file: &str) -> Result<()> {
    let says = |line: &str| line.contains("TLS library probed") && line.contains(file);
    agent.program().wait_for_line(Stream::Stderr, "the file's probes", SOON, says).map(drop)
}

/// Deno with a script that may do what it likes, and does not look for updates.
fn deno(script: &str) -> Command {
    let mut command = Command::new(Large::DENO.program());
    command.args(["run", "--allow-all", "--no-lock"]).arg(place::script(script));
    command.env("DENO_NO_UPDATE_CHECK", "1").env("DENO_DIR", place::target().join("programs/deno-cache"));
    command
}

/// What a client printed of its calls.
fn reports(lines: &[String]) -> Vec<Report> {
    let objects = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects.filter(|value| value.get("end").is_some()).map(|value| Report::from_line(&value)).collect()
}

/// The agent is there first. The first call is made on a fresh connection, the second on the same.
fn first(subject: Subject, stream: bool) -> Result<()> {
    let room = Room::new()?;
    let agent = agent()?;
    let server = Uvicorn::start(Stack::Pure, room.pki(true)?.as_ref(), Pace::QUICK, room.path())?;
    let mut client = subject.spawn(&Plan { stream, connections: 1, calls: 2 }, &[&server])?;
    wait_probed(&agent, subject.file())?;
    let reports = rounds(&mut client, 1, 2)?;
    client.wait_success(SOON)?;
    let of_client = |call: &Call| is_of(call, client.pid());
    agent.wait_for_calls(4, SOON, |call| of_client(call) || is_of(call, server.pid()))?;
    let calls = agent.stop()?.clean()?.calls()?;
    ensure!(calls.iter().filter(|call| of_client(call)).count() == 2, "more spans than calls");
    for report in &reports {
        let (client_span, server_span) = pair(&calls, report.id()?)?;
        check(client_span, report, stream)?;
        check_link(client_span, server_span, server.port())?;
    }
    Ok(())
}

/// The connection is there first, with one call made on it; the next two are seen.
fn later(subject: Subject, stream: bool) -> Result<()> {
    let room = Room::new()?;
    let server = Uvicorn::start(Stack::Pure, room.pki(true)?.as_ref(), Pace::QUICK, room.path())?;
    let mut client = subject.spawn(&Plan { stream, connections: 1, calls: 3 }, &[&server])?;
    rounds(&mut client, 1, 1)?;
    let agent = agent()?;
    wait_probed(&agent, subject.file())?;
    let reports = rounds(&mut client, 1, 3)?;
    client.wait_success(SOON)?;
    agent.wait_for_calls(2, SOON, |call| is_of(call, client.pid()))?;
    let calls = agent.stop()?.clean()?.calls()?;
    let of_client: Vec<&Call> = calls.iter().filter(|call| is_of(call, client.pid())).collect();
    ensure!(of_client.len() == 2, "{} spans of two calls", of_client.len());
    for report in &reports[1..] {
        let span = of_client.iter().find(|call| call.id() == report.id.as_deref()).context("a call is missing")?;
        check(span, report, stream)?;
    }
    Ok(())
}

/// Fifty connections of one process to two servers, all of which call at the same moment, twice. A wrong pair would have the
/// answer of another call than its other end, or another server.
fn many(subject: Subject, stream: bool) -> Result<()> {
    let (one, two) = (Room::new()?, Room::new()?);
    let pki = one.pki(true)?;
    let agent = agent()?;
    let first = Uvicorn::start(Stack::Pure, pki.as_ref(), Pace::QUICK, one.path())?;
    let second = Uvicorn::start(Stack::Pure, pki.as_ref(), Pace::QUICK, two.path())?;
    let plan = Plan { stream, connections: CONNECTIONS, calls: 2 };
    let mut client = subject.spawn(&plan, &[&first, &second])?;
    wait_probed(&agent, subject.file())?;
    let n = 2 * CONNECTIONS;
    let reports = rounds(&mut client, CONNECTIONS, n)?;
    client.wait_success(SOON)?;
    ensure!(reports.len() == n, "the client made {} calls", reports.len());
    let servers = [&first, &second];
    let ours = |call: &Call| is_of(call, client.pid()) || servers.iter().any(|server| is_of(call, server.pid()));
    agent.wait_for_calls(2 * n, SOON, ours)?;
    let stopped = agent.stop()?.clean()?;
    let calls: Vec<Call> = stopped.calls()?.into_iter().filter(ours).collect();
    let (mut complete, mut linked) = (0, 0);
    for report in &reports {
        let (client_span, server_span) = pair(&calls, report.id()?)?;
        let server = servers.iter().find(|server| is_of(server_span, server.pid())).context("whose is it")?;
        check(client_span, report, stream)?;
        complete += usize::from(client_span.capture() == Some("complete"));
        let port = client_span.number("network.peer.port").context("a pair without a socket")?;
        ensure!(port == u64::from(server.port()), "paired wrongly, {port} and not {}", server.port());
        if let Some(parent) = server_span.member("parent_span_id") {
            ensure!(Some(parent) == client_span.member("span_id"), "linked to another call: {}", server_span.json());
            linked += 1;
        }
    }
    say_figures(
        &format!("{CONNECTIONS} connections"),
        stream,
        &stopped,
        &format!("{complete} of {n} complete, {linked} linked"),
    )?;
    ensure!(calls.len() == 2 * n, "{} spans", calls.len());
    ensure!(linked * 100 >= n * 99, "only {linked} of {n} are linked");
    Ok(())
}

/// Deno is the server, with TLS of its own; the client's is OpenSSL.
fn deno_serves(stream: bool) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?.context("no certificates")?;
    let agent = agent()?;
    let mut command = deno("server_deno.mjs");
    command.arg(&pki.cert).arg(&pki.key);
    let server = Program::spawn("deno", &mut command)?;
    let line = server.wait_for_line(Stream::Stdout, "its port", SOON, |line| line.contains("port"))?;
    let port = serde_json::from_str::<Value>(&line)?["port"].as_u64().context("no port")?;
    let url = format!("https://127.0.0.1:{port}/v1");
    wait_probed(&agent, Subject::Deno.file())?;
    let clients = [Kind::OpenAiSync, Kind::OpenAiAsync, Kind::Curl].map(|kind| {
        let client = Client::new(kind, &url, Some(pki.ca.as_path())).stream(stream);
        // Deno speaks HTTP/2 to whoever asks for it.
        let http1: &[&str] = if kind == Kind::Curl { &["--http1.1"] } else { &[] };
        client.options(http1).run(SOON)
    });
    agent
        .wait_for_calls(2 * clients.len(), SOON, |call| call.id().is_some_and(|id| id.starts_with("chatcmpl-deno-")))?;
    let calls = agent.stop()?.clean()?.calls()?;
    for client in clients {
        let client = client?;
        let report = client.only()?;
        let (client_span, server_span) = pair(&calls, report.id()?)?;
        ensure!(is_of(server_span, server.pid()) && is_of(client_span, client.pid), "of other processes");
        check(server_span, report, stream)?;
        check_link(client_span, server_span, port as u16)?;
    }
    Ok(())
}

/// A span that was read below rustls says what the client said.
fn check(span: &Call, report: &Report, stream: bool) -> Result<()> {
    let mut differ = Differences::default();
    compare(&mut differ, span, report, "openai.chat");
    let mut attr = |name: &str, want: Value| differ.compare(name, span.attr(name), &want);
    attr("inferscope.capture.source", json!("rustls"));
    if stream {
        attr("inferscope.chunk.count", json!(report.chunks));
    }
    differ.into_result(span)
}

/// The two ends know each other, and the server's port.
fn check_link(client: &Call, server: &Call, port: u16) -> Result<()> {
    let mut differ = Differences::default();
    differ.compare("network.peer.port", client.attr("network.peer.port"), &json!(port));
    let parent = server.member("parent_span_id");
    differ.check("the parent is another span", parent.is_none() || parent == client.member("span_id"));
    differ.into_result(client)
}

fn say_figures(what: &str, stream: bool, stopped: &Stopped, figures: &str) -> Result<()> {
    let ledger = stopped.ledger().context("no ledger")?;
    let counters = ["bound_by_records", "halves_unbound", "bytes_unpaired", "bindings_withdrawn"];
    let counted = counters.map(|name| format!("{name} {}", ledger[format!("pipeline.{name}").as_str()]));
    let kind = if stream { "streams" } else { "single records" };
    say(&format!("rustls, {what}, {kind}: {figures}, {}", counted.join(", ")));
    ensure!(ledger["pipeline.bindings_withdrawn"] == 0, "a binding was withdrawn");
    Ok(())
}
