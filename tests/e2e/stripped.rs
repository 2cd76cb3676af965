//! Programs without symbols that bring their own TLS library.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    pki::Pki,
    place,
    process::{Program, Stream},
    programs::Large,
    server::{Pace, Stack, Uvicorn},
};
use serde_json::json;

use crate::{
    expect::{Differences, is_of, pair},
    scenario::{Need, Room, SOON, Scenarios},
};

/// What a program of 400 MB may take to start, to be searched and to end, on a busy machine.
const LARGE: Duration = Duration::from_secs(90);

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("stripped::static_openssl", &[Need::StaticOpenSsl], static_openssl);
    all.add("capture_full::bun_on_both_sides", &[Need::Large(Large::BUN)], bun);
    all.add("capture_full::claude_code", &[Need::Large(Large::CLAUDE), Need::Unshare], claude);
    all.add("capture_full::codex", &[Need::Large(Large::CODEX), Need::Unshare], codex);
}

/// A program with Debian's libssl inside, without a symbol: it runs when the agent starts, is searched, and each of its
/// calls is captured once, from inside TLS.
fn static_openssl() -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?;
    let server = Uvicorn::start(Stack::Fast, pki.as_ref(), Pace::QUICK, room.path())?;
    let ca = server.ca().context("no authority")?;
    let mut client =
        Program::spawn("client_openssl", Command::new(build(room.path())?).arg(server.port().to_string()).arg(ca))?;
    let agent = Agent::trace(&[])?;
    let mut ids = Vec::new();
    for line in ["stream", "whole"] {
        client.write_line(line)?;
        let printed = ids.len();
        ids.push(client.wait_for("answer", SOON, |state| state.lines(Stream::Stdout).get(printed).cloned())?);
    }
    agent.wait_for_calls(ids.len(), SOON, |call| is_of(call, client.pid()))?;
    let calls = agent.stop()?.clean()?.calls()?;
    let calls: Vec<_> = calls.iter().filter(|call| is_of(call, client.pid())).collect();
    ensure!(calls.len() == ids.len(), "{} spans of {} calls", calls.len(), ids.len());
    for (call, id) in calls.iter().zip(&ids) {
        ensure!(call.id() == Some(id), "not the call {id}: {}", call.json());
        ensure!(call.text("inferscope.capture.source") == Some("openssl"), "not from TLS: {}", call.json());
        ensure!(call.capture() == Some("complete"), "not complete: {}", call.json());
        ensure!(call.completion() == Some("done"), "not done: {}", call.json());
        ensure!(call.number("network.peer.port") == Some(server.port().into()), "not bound: {}", call.json());
    }
    Ok(())
}

/// Bun with its fetch, against its own server: both run when the agent starts, and each call has both its ends.
fn bun() -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?.context("no authority")?;
    let script = || {
        let mut command = Command::new(Large::BUN.program());
        command.arg(place::script("bun.mjs"));
        command
    };
    let server = Program::spawn("bun serve", script().arg("serve").arg(&pki.cert).arg(&pki.key))?;
    let port = server.wait_for("port", SOON, |state| state.stdout.first().cloned())?;
    let mut client = Program::spawn("bun call", script().arg("call").arg(port).arg(&pki.ca))?;
    let agent = Agent::trace(&[])?;
    let mut ids = Vec::new();
    for line in ["stream", "whole", "stream", "whole"] {
        client.write_line(line)?;
        let printed = ids.len();
        ids.push(client.wait_for("answer", SOON, |state| state.stdout.get(printed).cloned())?);
    }
    let pids = [client.pid(), server.pid()];
    let ours = |call: &Call| pids.iter().any(|pid| is_of(call, *pid));
    agent.wait_for_calls(2 * ids.len(), SOON, ours)?;
    let calls: Vec<Call> = agent.stop()?.clean()?.calls()?.into_iter().filter(ours).collect();
    ensure!(calls.len() == 2 * ids.len(), "{} spans of {} calls", calls.len(), ids.len());
    for (kind, pid) in [("client", client.pid()), ("server", server.pid())] {
        for id in &ids {
            let of_id = calls.iter().find(|call| call.kind() == kind && is_of(call, pid) && call.id() == Some(id));
            let call = of_id.with_context(|| format!("no {kind} span of {id}"))?;
            ensure!(call.text("inferscope.capture.source") == Some("boringssl"), "not from TLS: {}", call.json());
            ensure!(call.capture() == Some("complete"), "not complete: {}", call.json());
        }
    }
    Ok(())
}

/// Starts what runs a program in a network namespace where only a server of the test's is.
fn alone(name: &str, program: Large, pki: &Pki, room: &Room) -> Result<Program> {
    let mut command = Command::new("unshare");
    command.arg("--net").arg(place::python()?).arg(place::script(&format!("{name}.py"))).arg(program.program());
    let alone = Program::spawn(name, command.arg(&pki.cert).arg(&pki.key).arg(&pki.ca).arg(room.path()))?;
    alone.wait_for_line(Stream::Stdout, "ready", SOON, |line| line == "ready")?;
    Ok(alone)
}

/// Codex in such a namespace: every call after the first, during which it is searched, once from each end, and linked.
fn codex() -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?.context("no authority")?;
    const CALLS: usize = 4;
    let mut alone = alone("codex_alone", Large::CODEX, &pki, &room)?;
    let agent = Agent::trace(&["-v"])?;
    for n in 1..=CALLS {
        alone.write_line("Say hello")?;
        let line = alone.wait_for("what it said", LARGE, |state| state.stdout.get(n).cloned())?;
        ensure!(line.contains("Hello from next door."), "it said {line}");
        let probed = |line: &str| line.contains("TLS library probed") && line.contains("/codex");
        agent.program().wait_for_line(Stream::Stderr, "probed", LARGE, probed)?;
    }
    let ours = |call: &Call| call.text("gen_ai.request.model") == Some("gpt-alone");
    agent.wait_for_calls(2 * CALLS - 1, SOON, ours)?;
    let calls = agent.stop()?.clean()?.calls()?;
    for n in 2..=CALLS {
        let (client, server) = pair(&calls, &format!("resp_{n}"))?;
        for call in [client, server] {
            let mut differ = Differences::default();
            let mut attr = |name: &str, want| differ.compare(name, call.attr(name), &want);
            attr("inferscope.api", json!("openai.responses"));
            attr("gen_ai.usage.input_tokens", json!(100 + n));
            attr("gen_ai.usage.cache_read.input_tokens", json!(7));
            attr("gen_ai.usage.output_tokens", json!(4));
            attr("inferscope.completion", json!("done"));
            attr("inferscope.capture", json!("complete"));
            differ.into_result(call)?;
        }
        ensure!(client.attr("inferscope.capture.source") == Some(&json!("rustls")), "{}", client.json());
    }
    Ok(())
}

/// Claude Code in a network namespace where only a server of the test's is: what the agent records is, byte for byte, what
/// that server has read and written.
fn claude() -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(true)?.context("no authority")?;
    let mut alone = alone("claude_alone", Large::CLAUDE, &pki, &room)?;
    let file = room.file("claude.raw");
    let path = file.to_str().context("a path that is no text")?;
    let agent = Agent::start(&["record", "-v", path, "--all-http", "--comm", "claude"])?;
    // Once so that it is found, and once to see that all of it is captured.
    for (n, prompt) in ["Say hello", "Say hello again"].into_iter().enumerate() {
        alone.write_line(prompt)?;
        let line = alone.wait_for("what it said", LARGE, |state| state.stdout.get(n + 1).cloned())?;
        ensure!(line.contains("Hello from next door."), "it said {line}");
        let probed = |line: &str| line.contains("TLS library probed") && line.contains("/claude");
        agent.program().wait_for_line(Stream::Stderr, "probed", LARGE, probed)?;
    }
    agent.stop()?;
    let streams = boringssl_streams(&fs::read(&file)?).context("not a recording")?;
    for (name, first_line) in [("request.bin", "POST /v1/messages"), ("reply.bin", "HTTP/1.1 200 ")] {
        let sent = fs::read(room.file(name))?;
        let mut same = 0;
        for stream in streams.iter().filter(|stream| stream.starts_with(first_line.as_bytes())) {
            let text = String::from_utf8_lossy(stream);
            let (_, body) = text.split_once("\r\n\r\n").context("no end of the headers")?;
            same += usize::from(body.as_bytes() == sent);
        }
        // Every reply is the same; of the requests it is the last.
        ensure!(same > 0, "{name}: {} bytes that none of {} streams has", sent.len(), streams.len());
    }
    Ok(())
}

/// What was recorded of each direction of each stream of BoringSSL's; `None` if there is no such file.
fn boringssl_streams(recording: &[u8]) -> Option<Vec<Vec<u8>>> {
    // inferscope_common::record: length; kind; ..; stream, generation, position, ..; captured; direction, library.
    const DATA: usize = 80;
    const BORINGSSL: u8 = 2;
    let mut streams: HashMap<(&[u8], u8), Vec<u8>> = HashMap::new();
    let mut order = Vec::new();
    let mut rest = &recording[recording.iter().position(|byte| *byte == b'\n')? + 1..];
    while !rest.is_empty() {
        let len = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        let record = rest.get(..len).filter(|record| record.len() >= 32)?;
        rest = &rest[len..];
        let captured = record.get(68..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes));
        if record.get(77) == Some(&BORINGSSL) && captured.is_some_and(|captured| DATA + captured as usize == len) {
            let key = (&record[32..48], record[76]);
            if !streams.contains_key(&key) {
                order.push(key);
            }
            streams.entry(key).or_default().extend(&record[DATA..]);
        }
    }
    order.iter().map(|key| streams.remove(key)).collect()
}

/// Builds the client.
fn build(dir: &Path) -> Result<PathBuf> {
    let client = dir.join("client_openssl");
    let source = place::workspace().join("tests/c/client_openssl.c");
    let mut compile = Command::new("cc");
    // Only the TLS library is static: the C library's resolver would want its own version at run time.
    compile.args(["-O2", "-s", "-o"]).arg(&client).arg(source);
    compile.args(["-l:libssl.a", "-l:libcrypto.a", "-ldl", "-lpthread"]);
    let output = compile.output().context("cc does not run")?;
    ensure!(output.status.success(), "the client does not build: {}", String::from_utf8_lossy(&output.stderr));
    Ok(client)
}
