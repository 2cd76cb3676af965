//! The providers' own SDKs against a server that answers as the providers do: each span says what the SDK saw.
//!
//! The server is `python/providers.py`, the clients are `python/client_sdks.py` and `python/client_sdks_node.mjs`; what a
//! client saw, it says in the terms of a span.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    place,
    process::{Program, Stream},
    sdks,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    expect::{Differences, is_of, list},
    scenario::{Need, Room, SOON, Scenarios, say, transport},
};

/// How long the agent may be behind the last call on a slow, busy machine.
const CATCH_UP: Duration = Duration::from_secs(20);

/// A client.
#[derive(Clone, Copy, Debug)]
enum Client {
    Python(&'static str),
    Node(&'static str),
}

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    let clients = sdks::PYTHON.map(Client::Python).into_iter().chain(sdks::NODE.map(Client::Node));
    for client in clients {
        for tls in [false, true] {
            let (language, sdk) = match client {
                Client::Python(sdk) => ("python", sdk),
                Client::Node(sdk) => ("node", sdk),
            };
            let name = format!("sdks::{language}::{sdk}::{}", transport(tls));
            all.add(name.clone(), &[Need::Sdks], move || calls(&name, client, tls));
        }
    }
}

/// What a client says of one call.
#[derive(Debug, Deserialize)]
struct Report {
    call: String,
    attributes: Map<String, Value>,
}

fn calls(name: &str, client: Client, tls: bool) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(tls)?;
    let agent = Agent::trace(&[])?;
    let mut command = Command::new(sdks::python());
    command.arg(place::script("providers.py"));
    if let Some(pki) = &pki {
        command.arg("--cert").arg(&pki.cert).arg("--key").arg(&pki.key);
    }
    let server = Program::spawn("providers", &mut command)?;
    let ready = server.wait_for_line(Stream::Stdout, "ready", SOON, |line| line.starts_with("ready "))?;
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://127.0.0.1:{}", ready.trim_start_matches("ready "));

    let ca = pki.as_ref().map(|pki| &pki.ca);
    let mut command = match client {
        Client::Python(sdk) => {
            let mut command = Command::new(sdks::python());
            command.arg(place::script("client_sdks.py")).args([sdk, &url]).args(ca);
            command
        }
        Client::Node(sdk) => {
            let mut command = Command::new("node");
            command.arg(place::script("client_sdks_node.mjs")).args([sdk, &url]).arg(sdks::modules());
            command.envs(ca.map(|ca| ("NODE_EXTRA_CA_CERTS", ca)));
            command
        }
    };
    let client = Program::spawn(name, &mut command)?;
    judge(name, agent, &server, &client, tls)
}

/// Waits until a client is done, and compares what it says of its calls with their spans, of both sides.
pub fn judge(name: &str, agent: Agent, server: &Program, client: &Program, tls: bool) -> Result<()> {
    client.wait_success(SOON).with_context(|| format!("the server says {:?}", server.stderr()))?;
    let reports =
        client.stdout().iter().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<Vec<Report>>>()?;
    ensure!(!reports.is_empty(), "the client made no call");

    let both = |call: &Call| is_of(call, client.pid()) || is_of(call, server.pid());
    // Where calls are missing it is shown which, not only how many.
    let waited = agent.wait_for_calls(2 * reports.len(), CATCH_UP, both);
    let calls = agent.stop()?.clean()?.calls()?;
    let of = |pid: u32, kind: &str| in_order(&calls, pid, kind);
    let (clients, servers) = (of(client.pid(), "client"), of(server.pid(), "server"));
    for (side, spans) in [("client", &clients), ("server", &servers)] {
        let seen: Vec<_> = spans.iter().map(|call| (*call).clone()).collect();
        let asked: Vec<_> = reports.iter().map(|report| &report.call).collect();
        ensure!(spans.len() == reports.len(), "{side} spans of calls {asked:?}:\n{}", list(&seen));
    }
    waited?;
    let mut wrong = Vec::new();
    for ((report, client), server) in reports.iter().zip(clients).zip(servers) {
        let linked = linked(client, server, tls);
        for result in [same(report, client), same(report, server), linked] {
            wrong.extend(result.err().map(|error| format!("{}: {error:#}", report.call)));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    say(&format!("{name}: {} calls, each once per side and as the client saw it", reports.len()));
    Ok(())
}

/// The spans of one side of a process in the order of their beginning: the clients call one after the other.
fn in_order<'a>(calls: &'a [Call], pid: u32, kind: &str) -> Vec<&'a Call> {
    let mut of: Vec<_> = calls.iter().filter(|call| is_of(call, pid) && call.kind() == kind).collect();
    of.sort_by_key(|call| call.json()["start_time_unix_nano"].as_u64());
    of
}

/// Whether a span says what the SDK saw, and that nothing of the call is missing.
fn same(report: &Report, call: &Call) -> Result<()> {
    let mut differ = Differences::default();
    for (name, want) in &report.attributes {
        let got = call.attr(name);
        match want["any"].as_array() {
            Some(any) => {
                let problem = format!("{name} is {} instead of one of {any:?}", got.unwrap_or(&Value::Null));
                differ.check(&problem, got.is_some_and(|got| any.contains(got)));
            }
            None => differ.compare(name, got, want),
        }
    }
    let is_error = report.attributes.get("error.type").is_some_and(|kind| !kind.is_null());
    differ.check("the status is not that of its error", (call.member("status") == Some("error")) == is_error);
    differ.check("it did not end well", matches!(call.completion(), Some("done" | "length")) || is_error);
    differ.compare("inferscope.capture", call.attr("inferscope.capture"), &json!("complete"));
    differ.compare("events", call.json().get("events"), &json!([]));
    differ.into_result(call)
}

/// Whether the two spans are the two ends of one call.
fn linked(client: &Call, server: &Call, tls: bool) -> Result<()> {
    let parent = server.member("parent_span_id");
    // Inside TLS the socket, and with it the other end, is known only where it could be found out.
    ensure!(parent == client.member("span_id") || (tls && parent.is_none()), "the parent is not the client's span");
    Ok(())
}
