//! Every client against every server: each call once per side, and everything that both said of it.

use anyhow::Result;
use inferscope_tests::{
    agent::Agent,
    client::{Client, Kind},
    process::Stream,
    server::{Pace, Stack, Uvicorn},
};

use crate::{
    expect::{Ends, is_of},
    scenario::{Need, Room, SOON, Scenarios, transport},
};

/// Adds the matrix.
pub fn add(all: &mut Scenarios) {
    for stack in Stack::ALL {
        for tls in [false, true] {
            for kind in Kind::ALL {
                let name = format!("clients::{}::{}::{}", stack.name(), transport(tls), kind.name());
                all.add(name, needs(kind), move || matrix(stack, tls, kind));
            }
        }
    }
    all.add("clients::openssl_1_1", &[], openssl_1_1);
}

/// What a client needs.
pub fn needs(kind: Kind) -> &'static [Need] {
    match kind {
        Kind::Curl => &[Need::Curl],
        Kind::Wget => &[Need::Wget],
        Kind::NodeHttp | Kind::NodeFetch | Kind::NodeHttp2 => &[Need::Node],
        Kind::OpenAiSync | Kind::OpenAiAsync | Kind::OpenSsl11 => &[],
    }
}

/// The agent is there first; then a server and two short-lived clients start, one with a stream and one without.
fn matrix(stack: Stack, tls: bool, kind: Kind) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(tls)?;
    let agent = Agent::trace(&[])?;
    let server = Uvicorn::start(stack, pki.as_ref(), Pace::QUICK, room.path())?;
    let mut runs = Vec::new();
    for stream in [true, false] {
        let client = Client::new(kind, &server.base_url(), server.ca()).stream(stream);
        runs.push((stream, client.run(SOON)?));
    }
    agent.wait_for_calls(4, SOON, |call| {
        is_of(call, server.pid()) || runs.iter().any(|(_, client)| is_of(call, client.pid))
    })?;
    let calls = agent.stop()?.clean()?.calls()?;
    for (stream, client) in &runs {
        Ends::chat(&server, client.pid, *stream).check(&calls, &client.reports)?;
    }
    for (_, client) in &runs {
        let of_client = calls.iter().filter(|call| is_of(call, client.pid)).count();
        anyhow::ensure!(of_client == 1, "{of_client} spans of one call's client");
    }
    let of_server = calls.iter().filter(|call| is_of(call, server.pid())).count();
    anyhow::ensure!(of_server == 2, "{of_server} spans of a server that answered two calls");
    Ok(())
}

/// The library comes with a wheel and is loaded by path: a first client shows it to the agent, two more are captured, one by the
/// plain functions and one by the extended ones.
fn openssl_1_1() -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?;
    let agent = Agent::start(&["trace", "-v", "--output", "jsonl"])?;
    let server = Uvicorn::start(Stack::Fast, pki.as_ref(), Pace::QUICK, room.path())?;
    let client = || Client::new(Kind::OpenSsl11, &server.base_url(), server.ca());
    client().run(SOON)?;
    let probed = |line: &str| line.contains("TLS library probed") && line.contains("psycopg2_binary.libs");
    agent.program().wait_for_line(Stream::Stderr, "probes", SOON, probed)?;
    let runs = [(true, client().stream(true).run(SOON)?), (false, client().options(["--extended"]).run(SOON)?)];
    agent.wait_for_calls(2, SOON, |call| runs.iter().any(|(_, client)| is_of(call, client.pid)))?;
    agent.wait_for_calls(3, SOON, |call| is_of(call, server.pid()))?;
    let calls = agent.stop()?.clean()?.calls()?;
    runs.iter().try_for_each(|(stream, client)| Ends::chat(&server, client.pid, *stream).check(&calls, &client.reports))
}
