//! MCP servers that their clients start and speak to over standard input and output: each call once at either end, linked,
//! and as the client saw it.
//!
//! `programs` without an SDK run every time: pipes (Python and a shell) and UNIX socket pairs (Node). Those with the official
//! SDKs are in the suite `sdks`. What a client did, it says in lines of JSON.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::{Agent, Stopped},
    call::Call,
    place,
    process::{Program, Stream},
    sdks,
};
use serde::Deserialize;

use crate::{
    expect::{is_of, list},
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// What is said and must not be kept begins so, in all programs.
const CANARY: &str = "canary-of-the";

/// A server of the SDKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sdk {
    Python,
    Node,
}

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("mcp::pipes", &[], pipes);
    all.add("mcp::socket_pairs", &[Need::Node], socket_pairs);
    all.add("mcp::greeting", &[Need::Node], greeting);
    all.add("mcp::joined_late", &[], joined_late);
    all.add("mcp::switched_off", &[], switched_off);
    for scenario in ["everything", "die", "several"] {
        let name = format!("sdks::mcp::python::{scenario}");
        all.add(name.clone(), &[Need::Sdks], move || python(&name, scenario));
    }
    for server in [Sdk::Node, Sdk::Python] {
        let name = format!("sdks::mcp::node::{}", format!("{server:?}").to_lowercase());
        all.add(name.clone(), &[Need::Sdks], move || node(&name, server));
    }
}

/// What a client says of one call.
#[derive(Debug, Deserialize)]
struct Report {
    method: String,
    target: Option<String>,
    error: Option<String>,
}

fn plain() -> Result<Command> {
    let mut command = Command::new(place::python()?);
    command.arg(place::script("mcp_plain.py"));
    Ok(command)
}

/// The shell reads byte by byte, and ends without an answer to the last call.
fn pipes() -> Result<()> {
    let calls = run("mcp::pipes", &mut plain()?)?;
    let died: Vec<_> = calls.iter().filter(|call| call.text("gen_ai.tool.name") == Some("die")).collect();
    ensure!(died.len() == 2, "{} spans of the last call", died.len());
    ensure!(died.iter().all(|call| call.completion() == Some("server_closed")), "{}", list(&calls));
    Ok(())
}

fn over_socket_pairs() -> Command {
    let script = place::script("mcp_plain.mjs");
    let mut command = Command::new("node");
    command.arg(&script).args(["client", "node"]).arg(&script).arg("server");
    command
}

fn socket_pairs() -> Result<()> {
    run("mcp::socket_pairs", &mut over_socket_pairs())?;
    Ok(())
}

/// The server's greeting, which is no message, is read together with its first answer.
fn greeting() -> Result<()> {
    let room = Room::new()?;
    let fifo = room.file("written");
    ensure!(Command::new("mkfifo").arg(&fifo).status()?.success(), "no FIFO");
    run("mcp::greeting", over_socket_pairs().env("WRITTEN", fifo))?;
    Ok(())
}

/// The pipes are older than the agent, and their first messages have passed.
fn joined_late() -> Result<()> {
    let mut client = Program::spawn("client", plain()?.arg("--wait"))?;
    client.wait_for_line(Stream::Stdout, "initialize", SOON, |line| line.contains("initialize"))?;
    let agent = Agent::trace(&[])?;
    client.write_line("go on")?;
    client.wait_success(SOON)?;
    let (stopped, calls) = watched(agent, &client, 3)?;
    check("mcp::joined_late", &stopped, &calls, &client, &reports(&client)?[1..])
}

/// `[capture] mcp_stdio = false`: nothing of it.
fn switched_off() -> Result<()> {
    let room = Room::new()?;
    let (config, file) = (room.file("config.toml"), room.file("calls.jsonl"));
    let text = format!("[capture]\nmcp_stdio = false\n[export.jsonl]\npath = \"{}\"\n", file.display());
    fs::write(&config, text)?;
    let agent = Agent::run(&config)?;
    let client = Program::spawn("client", &mut plain()?)?;
    client.wait_success(SOON)?;
    agent.stop()?.clean()?;
    let seen = fs::read_to_string(&file).unwrap_or_default();
    ensure!(!seen.contains("tools/call"), "{seen}");
    Ok(())
}

fn python(name: &str, scenario: &str) -> Result<()> {
    let mut command = Command::new(sdks::python());
    command.arg(place::script("client_mcp.py")).arg(scenario).arg(sdks::python()).arg(place::script("mcp_server.py"));
    let calls = run(name, &mut command)?;
    if scenario == "everything" {
        let asked = calls.iter().filter(|call| call.text("mcp.method.name") == Some("sampling/createMessage"));
        ensure!(asked.count() == 2, "what the server asked its client:\n{}", list(&calls));
    }
    Ok(())
}

fn node(name: &str, server: Sdk) -> Result<()> {
    let script = place::script("mcp_sdk.mjs");
    let mut command = Command::new("node");
    command.arg(&script).arg(sdks::modules()).arg("client");
    match server {
        Sdk::Node => command.arg("node").arg(&script).arg(sdks::modules()).arg("server"),
        Sdk::Python => command.arg(sdks::python()).arg(place::script("mcp_server.py")),
    };
    run(name, &mut command)?;
    Ok(())
}

/// Runs a client from beginning to end, and gives the spans of it and of its servers.
fn run(name: &str, command: &mut Command) -> Result<Vec<Call>> {
    let agent = Agent::trace(&[])?;
    let client = Program::spawn(name, command)?;
    client.wait_success(SOON)?;
    let reports = reports(&client)?;
    ensure!(!reports.is_empty(), "the client made no call");
    let (stopped, calls) = watched(agent, &client, reports.len())?;
    check(name, &stopped, &calls, &client, &reports)?;
    Ok(calls)
}

fn reports(client: &Program) -> Result<Vec<Report>> {
    client.stdout().iter().map(|line| serde_json::from_str(line).with_context(|| line.clone())).collect()
}

/// Waits for the client's calls and stops the agent; gives the spans of the client and of whatever it is linked to.
fn watched(agent: Agent, client: &Program, n: usize) -> Result<(Stopped, Vec<Call>)> {
    agent.wait_for_calls(n, SOON, |call| is_of(call, client.pid()) && call.attr("jsonrpc.request.id").is_some())?;
    let stopped = agent.stop()?.clean()?;
    let all = stopped.calls()?;
    let own: Vec<_> = all.iter().filter(|call| is_of(call, client.pid())).cloned().collect();
    let is_linked = |call: &Call| {
        let parent = call.member("parent_span_id");
        parent.is_some() && own.iter().any(|own| own.member("span_id") == parent)
    };
    // What a server asked its client is a span of its own, whose child is the client's.
    let is_asking = |call: &Call| {
        own.iter().any(|own| own.member("parent_span_id").is_some_and(|p| call.member("span_id") == Some(p)))
    };
    let calls = all.iter().filter(|call| is_of(call, client.pid()) || is_linked(call) || is_asking(call)).cloned();
    Ok((stopped.clone(), calls.collect()))
}

fn check(name: &str, stopped: &Stopped, calls: &[Call], client: &Program, reports: &[Report]) -> Result<()> {
    let is_request = |call: &&Call| call.attr("jsonrpc.request.id").is_some();
    let mut spans: Vec<&Call> =
        calls.iter().filter(is_request).filter(|call| is_of(call, client.pid()) && call.kind() == "client").collect();
    for span in &spans {
        ensure!(span.capture() == Some("complete"), "not whole: {}", list(calls));
        ensure!(span.text("network.transport") == Some("pipe"), "{:?}", span.text("network.transport"));
        let children: Vec<_> = calls
            .iter()
            .filter(|call| call.kind() == "server" && call.member("parent_span_id") == span.member("span_id"))
            .collect();
        let [server] = children[..] else { anyhow::bail!("{} server spans of {}", children.len(), list(calls)) };
        ensure!(!is_of(server, client.pid()) && server.member("name") == span.member("name"), "{}", list(calls));
        ensure!(server.completion() == span.completion(), "the ends differ: {}", list(calls));
    }
    for report in reports {
        let fits = |call: &&Call| {
            let target = call.text("gen_ai.tool.name").or(call.text("gen_ai.prompt.name"));
            call.text("mcp.method.name") == Some(&*report.method)
                && target == report.target.as_deref()
                // An SDK has its own words for an end without an answer.
                && (call.text("error.type") == report.error.as_deref()
                    || (report.error.is_some() && call.completion() == Some("server_closed")))
        };
        let at = spans.iter().position(fits);
        spans.remove(at.with_context(|| format!("no span of {report:?}:\n{}", list(calls)))?);
    }
    // What an SDK asks by itself.
    let more: Vec<_> = spans.iter().filter(|call| call.text("mcp.method.name") != Some("tools/list")).collect();
    ensure!(more.is_empty(), "{} calls that nobody made:\n{}", more.len(), list(calls));
    ensure!(!stopped.stdout.iter().any(|line| line.contains(CANARY)), "content was kept");
    let ledger = stopped.ledger().context("no ledger")?;
    ensure!(ledger["lost_bytes"] == 0, "lost: {ledger}");
    say(&format!("{name}: {} calls, each once at either end and as the client saw it", reports.len()));
    Ok(())
}
