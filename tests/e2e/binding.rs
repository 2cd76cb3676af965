//! TLS streams whose library never sees a socket: which connection is which.

use std::{collections::HashMap, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    place,
    process::Program,
    server::{Pace, Stack, Uvicorn},
};
use serde_json::Value;

use crate::{
    expect::is_of,
    scenario::{Room, SOON, Scenarios, say},
};

/// Fifty TLS handshakes at once in one Python process, on a busy machine.
const TOGETHER: Duration = Duration::from_secs(120);

/// Connections of the one event loop.
const CONNECTIONS: usize = 50;

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    for stack in Stack::ALL {
        for stream in [false, true] {
            let kind = if stream { "streams" } else { "single_records" };
            all.add(format!("binding::{CONNECTIONS}_connections::{}::{kind}", stack.name()), &[], move || {
                many(stack, stream)
            });
        }
    }
}

/// Fifty connections of one event loop to two servers, which send the same request at the same moment. Without streams
/// each connection has one record for the request and two or three for the answer, so a connection that is bound at all
/// is bound within them.
fn many(stack: Stack, stream: bool) -> Result<()> {
    let (one, two) = (Room::new()?, Room::new()?);
    let pki = one.pki(true)?;
    let agent = Agent::trace(&[])?;
    let servers = [one.path(), two.path()].map(|room| Uvicorn::start(stack, pki.as_ref(), Pace::QUICK, room));
    let [first, second] = servers;
    let servers = [first?, second?];
    let (client, truth) = run_client(stack, stream, &servers)?;
    ensure!(truth.len() == CONNECTIONS, "the client made {} calls", truth.len());

    let ours = |call: &Call| is_of(call, client) || servers.iter().any(|server| is_of(call, server.pid()));
    agent.wait_for_calls(2 * CONNECTIONS, SOON, ours)?;
    let stopped = agent.stop()?.clean()?;
    let calls: Vec<Call> = stopped.calls()?.into_iter().filter(ours).collect();
    let spans: HashMap<&str, &Call> = calls.iter().filter_map(|call| Some((call.member("span_id")?, call))).collect();
    let (mut bound, mut linked) = (0, 0);
    for call in &calls {
        let id = call.id().context("a call without an id")?;
        let (local, server) = truth.get(id).with_context(|| format!("a call that nobody made: {id}"))?;
        let peer = if call.kind() == "client" { server } else { local };
        if let Some(seen) = call.number("network.peer.port") {
            ensure!(seen == *peer, "bound wrongly, peer {seen} and not {peer}: {}", call.json());
            bound += 1;
        }
        if let Some(parent) = call.member("parent_span_id") {
            let parent = spans.get(parent).context("a parent that is not there")?;
            ensure!(parent.id() == Some(id), "linked to another call: {}", call.json());
            linked += 1;
        }
    }
    let ledger: Value = stopped.ledger().context("no ledger")?.clone();
    say(&format!(
        "binding::{CONNECTIONS}_connections::{}::{}: {bound} of {} ends bound, {linked} linked, by records {}, withdrawn {}",
        stack.name(),
        if stream { "streams" } else { "single_records" },
        calls.len(),
        ledger["pipeline.bound_by_records"],
        ledger["pipeline.bindings_withdrawn"],
    ));
    ensure!(calls.len() == 2 * CONNECTIONS, "{} spans", calls.len());
    ensure!(bound * 100 >= calls.len() * 99, "only {bound} of {} ends are bound", calls.len());
    ensure!(ledger["pipeline.bindings_withdrawn"] == 0, "a binding was withdrawn");
    Ok(())
}

/// Of each call its own port and the server's, by the response's id.
type Truth = HashMap<String, (u64, u64)>;

/// Runs the client: its process id, and what it did.
fn run_client(stack: Stack, stream: bool, servers: &[Uvicorn]) -> Result<(u32, Truth)> {
    let mut command = Command::new(place::python()?);
    command.arg(place::script("client_many.py")).args(["--connections", &CONNECTIONS.to_string()]);
    command.args(["--loop", if stack == Stack::Fast { "uvloop" } else { "asyncio" }]);
    for server in servers {
        command.args(["--base-url", &server.base_url()]);
        command.arg("--ca").arg(server.ca().context("no authority")?);
    }
    if stream {
        command.arg("--stream");
    }
    let program = Program::spawn("client_many", &mut command)?;
    program.wait_success(TOGETHER)?;
    let lines = program.wait_for("state", SOON, |state| Some(state.stdout.clone()))?;
    let entry = |line: &String| {
        let value: Value = serde_json::from_str(line)?;
        let (id, port, server) = (value["id"].as_str(), value["port"].as_u64(), value["server"].as_u64());
        Ok((id.context("no id")?.to_owned(), (port.context("no port")?, server.context("no server")?)))
    };
    Ok((program.pid(), lines.iter().map(entry).collect::<Result<_>>()?))
}
