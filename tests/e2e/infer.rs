//! Calls whose TLS nobody reads, inferred from the sizes and times of records: right where it can be right, marked as
//! inferred, and never beside a call that was read.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    client::{Client, Kind},
    place,
    process::Program,
    server::{Pace, Stack, Uvicorn},
};
use serde_json::Value;

use crate::{
    clients::needs,
    expect::{is_of, list},
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// The name that the clients ask for; the server is on this machine all the same.
const NAME: &str = "api.openai.com";

/// A pure Python client decrypts slowly.
const SLOWLY: Duration = Duration::from_secs(100);

/// Calls on the one connection.
const CALLS: usize = 12;

/// A pace at which the client keeps up.
const PACE: Pace = Pace { chunks: 12, interval_ms: 23.0, first_token_ms: 61.0 };

/// What half of the times to the first token may be off at most. The server's own times are those of a user program on
/// a busy machine; an estimate that took another record would be off by a chunk's interval.
const TTFT_ERROR_NS: u64 = 10_000_000;

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    for tls in ["1.2", "1.3"] {
        for stream in [false, true] {
            let kind = if stream { "stream" } else { "whole" };
            all.add(format!("infer::unreadable::tls_{tls}::{kind}"), &[], move || unreadable(tls, stream));
        }
    }
    all.add("infer::off_unless_asked_for", &[], off);
    all.add("infer::any_cut_into_calls", &[], any_cut);
    for kind in Kind::ALL {
        all.add(format!("infer::never_of_what_is_read::{}", kind.name()), needs(kind), move || readable(kind));
    }
    // A Java runtime is a large download.
    all.add("capture_full::infer_java", &[Need::Java], java);
}

/// Whether a span was inferred.
fn is_inferred(call: &Call) -> bool {
    call.text("inferscope.capture.source") == Some("ciphertext")
}

/// A client whose TLS is pure Python.
fn client(server: &Uvicorn, tls: &str, stream: bool) -> Result<Program> {
    let mut command = Command::new(place::python()?);
    command.arg(place::script("client_tlslite.py")).args(["--base-url", &server.base_url(), "--server-name", NAME]);
    command.args(["--tls", tls, "--calls", &CALLS.to_string()]);
    if stream {
        command.arg("--stream");
    }
    Program::spawn("client_tlslite", &mut command)
}

/// What a client says of its calls.
fn said(program: &Program) -> Result<Vec<Value>> {
    program.wait_success(SLOWLY)?;
    let lines = program.wait_for("state", SOON, |state| Some(state.stdout.clone()))?;
    lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Sizes exactly as the client counts them, times as the client and the server took them.
fn unreadable(tls: &str, stream: bool) -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&["--infer"])?;
    let server = Uvicorn::start(Stack::Fast, room.pki(true)?.as_ref(), PACE, room.path())?;
    let program = client(&server, tls, stream)?;
    let truth = said(&program)?;
    ensure!(truth.len() == CALLS, "the client made {} calls", truth.len());
    let mut calls = agent.wait_for_calls(CALLS, SOON, |call| is_of(call, program.pid()))?;
    let stopped = agent.stop()?.clean()?;
    let all = stopped.calls()?;
    ensure!(!all.iter().any(|call| is_of(call, server.pid()) && is_inferred(call)), "the server's TLS is read");
    calls.sort_by_key(|call| call.json()["start_time_unix_nano"].as_u64());
    let log = server.log()?;
    let (mut tokens, mut gaps) = (Vec::new(), Vec::new());
    for ((call, truth), entry) in calls.iter().zip(&truth).zip(&log) {
        check_marked(call)?;
        for (name, size) in [("request", &truth["written"]), ("response", &truth["read"])] {
            let inferred = call.attr(&format!("inferscope.inferred.{name}.bytes"));
            ensure!(inferred == Some(size), "{name} of {inferred:?} bytes instead of {size}: {}", call.json());
        }
        ensure!(call.text("inferscope.inferred.sizes") == Some("plaintext"), "{}", call.json());
        let token = call.seconds("inferscope.inferred.time_to_first_token");
        ensure!(token.is_some() == stream, "taken for the other kind: {}", call.json());
        if let (Some(token), Some(own)) = (token, entry.ttft_ns) {
            tokens.push(((token * 1e9) as u64).abs_diff(own));
            let gap = call.seconds("inferscope.inferred.gap.p50").context("no gap")?;
            gaps.push(((gap * 1e9) as u64).abs_diff((PACE.interval_ms * 1e6) as u64));
        }
    }
    if stream {
        let [token, gap] = [&mut tokens, &mut gaps].map(|errors| {
            errors.sort_unstable();
            [errors[errors.len() / 2], errors[errors.len() - 1]]
        });
        let milliseconds = |ns: u64| ns as f64 / 1e6;
        say(&format!(
            "infer::unreadable::tls_{tls}: {CALLS} calls, sizes exact, |TTFT - server's own| p50 {:.2} ms, max {:.2} ms, \
             |median gap - interval| p50 {:.2} ms, max {:.2} ms",
            milliseconds(token[0]),
            milliseconds(token[1]),
            milliseconds(gap[0]),
            milliseconds(gap[1]),
        ));
        ensure!(token[0] <= TTFT_ERROR_NS, "the median error of the time to the first token is {} ns", token[0]);
    }
    Ok(())
}

/// An inferred call claims nothing that nobody could know.
fn check_marked(call: &Call) -> Result<()> {
    ensure!(
        is_inferred(call) && call.json()["attributes"]["inferscope.inferred"] == true,
        "not marked: {}",
        call.json()
    );
    ensure!(call.member("name") == Some(&format!("inferred {NAME}")) && call.kind() == "client", "{}", call.json());
    ensure!(call.text("server.address") == Some(NAME), "{}", call.json());
    let attributes = call.json()["attributes"].as_object().context("no attributes")?;
    let claims = |name: &&String| {
        name.starts_with("gen_ai.") || name.starts_with("http.") || name.as_str() == "inferscope.completion"
    };
    match attributes.keys().find(claims) {
        Some(name) => anyhow::bail!("{name} cannot be known: {}", call.json()),
        None => Ok(()),
    }
}

/// Without the flag there is none.
fn off() -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&["--all-http"])?;
    let server = Uvicorn::start(Stack::Fast, room.pki(true)?.as_ref(), Pace::QUICK, room.path())?;
    let program = client(&server, "1.3", true)?;
    said(&program)?;
    agent.wait_for_calls(CALLS, SOON, |call| is_of(call, server.pid()))?;
    let calls = agent.stop()?.clean()?.calls()?;
    ensure!(!calls.iter().any(|call| is_of(call, program.pid()) || is_inferred(call)), "{}", list(&calls));
    Ok(())
}

/// A client whose TLS is read, with everything inferred that can be.
fn readable(kind: Kind) -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&["--infer", "--all-http"])?;
    let server = Uvicorn::start(Stack::Pure, room.pki(true)?.as_ref(), Pace::QUICK, room.path())?;
    for stream in [true, false] {
        let client = Client::new(kind, &server.base_url(), server.ca()).stream(stream).run(SOON)?;
        agent.wait_for_calls(1, SOON, |call| is_of(call, client.pid))?;
    }
    agent.wait_for_calls(2, SOON, |call| is_of(call, server.pid()))?;
    let stopped = agent.stop()?.clean()?;
    let calls = stopped.calls()?;
    ensure!(!calls.iter().any(is_inferred), "inferred beside what was read:\n{}", list(&calls));
    Ok(())
}

/// Four conversations that are cut into calls in four ways are the same exchange, at both of their ends.
fn any_cut() -> Result<()> {
    let agent = Agent::trace(&["--infer"])?;
    let program = Program::spawn("fake_tls", Command::new(place::python()?).arg(place::script("fake_tls.py")))?;
    program.wait_success(SOON)?;
    let ways = program.wait_for("state", SOON, |state| Some(state.stdout.clone()))?;
    let calls = agent.wait_for_calls(2 * ways.len(), SOON, |call| is_of(call, program.pid()))?;
    let ledger = agent.stop()?.clean()?.ledger().context("no ledger")?;
    ensure!(ledger["kernel.header_chains_lost"] == 0, "a chain was lost: {ledger}");
    ensure!(calls.len() == 2 * ways.len(), "{}", list(&calls));
    for call in &calls {
        for (name, expected) in
            [("request.bytes", 1_500), ("response.bytes", 18_107), ("record.count", 10), ("piece.count", 6)]
        {
            let seen = call.number(&format!("inferscope.inferred.{name}"));
            ensure!(
                seen == Some(expected),
                "{name} is {seen:?} instead of {expected}: {}\nways: {ways:?}",
                call.json()
            );
        }
    }
    let clients = calls.iter().filter(|call| call.kind() == "client").count();
    ensure!(clients == ways.len(), "{clients} ends of clients");
    Ok(())
}

/// The Java runtime's own TLS.
fn java() -> Result<()> {
    let room = Room::new()?;
    let agent = Agent::trace(&["--infer"])?;
    let server = Uvicorn::start(Stack::Fast, room.pki(true)?.as_ref(), PACE, room.path())?;
    let hosts = room.file("hosts");
    fs::write(&hosts, format!("127.0.0.1 {NAME}\n"))?;
    for (stream, kind) in [(true, "stream"), (false, "whole")] {
        let mut command = Command::new("java");
        command.arg(format!("-Djdk.net.hosts.file={}", hosts.display()));
        command.arg(place::workspace().join("tests/java/Client.java"));
        command.args([&format!("https://{NAME}:{}/v1", server.port()), kind, "3"]);
        let program = Program::spawn("java", &mut command)?;
        let truth = said(&program)?;
        let calls = agent.wait_for_calls(truth.len(), SOON, |call| is_of(call, program.pid()))?;
        ensure!(calls.len() == 3, "{}", list(&calls));
        for (call, truth) in calls.iter().zip(&truth) {
            check_marked(call)?;
            // The client counts bodies, and the records hold heads too.
            for (name, body) in [("request", &truth["sent"]), ("response", &truth["received"])] {
                let seen = call.number(&format!("inferscope.inferred.{name}.bytes"));
                let body = body.as_u64().context("no size")?;
                let fits = seen.is_some_and(|seen| (body + 80..body + 700).contains(&seen));
                ensure!(fits, "{name} of {seen:?} bytes with a body of {body}: {}", call.json());
            }
            let token = call.seconds("inferscope.inferred.time_to_first_token");
            ensure!(token.is_some() == stream, "taken for the other kind: {}", call.json());
        }
    }
    agent.stop()?.clean()?;
    Ok(())
}
