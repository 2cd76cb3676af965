//! WebSockets to a model between programs that know nothing of the agent: the Realtime API and the Responses API's
//! WebSocket mode, compressed and not, and a chat that is none of a model's.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    pki::Pki,
    place,
    process::{Program, Stream},
};
use serde_json::{Value, json};

use crate::{
    expect::{Differences, is_of, list, pair},
    scenario::{Room, SOON, Scenarios, transport},
};

/// Messages of the chat, each way.
const CHAT: u64 = 500;

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    for tls in [false, true] {
        for by in ["websockets", "openai"] {
            for path in ["realtime", "responses"] {
                let name = format!("websocket::{}::{by}::{path}", transport(tls));
                all.add(name, &[], move || calls(tls, by, path, false));
            }
            all.add(format!("websocket::{}::{by}::leave", transport(tls)), &[], move || {
                calls(tls, by, "realtime", true)
            });
        }
    }
    all.add("websocket::late", &[], late);
    all.add("websocket::chat", &[], chat);
}

/// A server of `model_socket.py`.
struct Server {
    program: Program,
    url: String,
}

impl Server {
    fn start(pki: Option<&Pki>) -> Result<Self> {
        let mut command = Command::new(place::python()?);
        command.arg(place::script("model_socket.py"));
        if let Some(pki) = pki {
            command.arg("--cert").arg(&pki.cert).arg("--key").arg(&pki.key);
        }
        let program = Program::spawn("model_socket", &mut command)?;
        let line = program.wait_for_line(Stream::Stdout, "its port", SOON, |line| line.starts_with("ready "))?;
        let port = line.strip_prefix("ready ").context("no port")?;
        let scheme = if pki.is_some() { "https" } else { "http" };
        Ok(Self { program, url: format!("{scheme}://127.0.0.1:{port}/v1") })
    }

    fn client(&self, pki: Option<&Pki>, options: &[&str]) -> Result<Program> {
        let mut command = Command::new(place::python()?);
        command.arg(place::script("client_socket.py")).args(["--url", &self.url]).args(options);
        if let Some(pki) = pki {
            command.arg("--ca").arg(&pki.ca);
        }
        Program::spawn("client_socket", command.env("NO_PROXY", "*").env("no_proxy", "*"))
    }
}

/// What a client printed, a line for each response.
fn reports(client: &Program) -> Result<Vec<Value>> {
    client.stdout().iter().map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
}

/// Every response is a call at both ends, and says what its client saw.
fn calls(tls: bool, by: &str, path: &str, leave: bool) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(tls)?;
    let agent = Agent::trace(&[])?;
    let server = Server::start(pki.as_ref())?;
    let mut options = vec!["--by", by, "--path", path];
    options.extend(leave.then_some("--stop"));
    let client = server.client(pki.as_ref(), &options)?;
    client.wait_success(SOON)?;
    let reports = reports(&client)?;
    let is_ours = |call: &Call| is_of(call, client.pid()) || is_of(call, server.program.pid());
    let transcripts = usize::from(path == "realtime");
    let expected = 2 * (reports.len() + transcripts);
    agent.wait_for_calls(expected, SOON, is_ours)?;
    let calls = agent.stop()?.clean()?.calls()?;
    let ours = calls.iter().filter(|call| is_ours(call)).count();
    ensure!(ours == expected, "{ours} spans of {} responses\n{}", reports.len(), list(&calls));
    for (n, report) in reports.iter().enumerate() {
        let id = report["id"].as_str().with_context(|| format!("no id: {report}"))?;
        let (of_client, of_server) = pair(&calls, id)?;
        for call in [of_client, of_server] {
            check(call, report, path, n)?;
        }
        let parent = of_server.member("parent_span_id").filter(|parent| !parent.is_empty());
        let is_linked = parent == of_client.member("span_id");
        ensure!(is_linked || (tls && parent.is_none()), "not linked: {}", of_server.json());
    }
    if path == "realtime" {
        let (of_client, of_server) = pair(&calls, "item_s")?;
        for call in [of_client, of_server] {
            let mut differ = Differences::default();
            let mut attr = |name: &str, want: Value| differ.compare(name, call.attr(name), &want);
            attr("gen_ai.operation.name", json!("transcription"));
            attr("gen_ai.request.model", json!("whisper-2"));
            attr("gen_ai.usage.output_tokens", json!(9));
            differ.into_result(call)?;
        }
    }
    Ok(())
}

/// Checks the `n`th response of a socket.
fn check(call: &Call, report: &Value, path: &str, n: usize) -> Result<()> {
    let completion = match report["end"].as_str() {
        Some("stopped") => "client_closed",
        Some("broken") => "server_closed",
        _ => "done",
    };
    let mut differ = Differences::default();
    let mut attr = |name: &str, want: Value| differ.compare(name, call.attr(name), &want);
    attr("inferscope.api", json!(format!("openai.{path}")));
    attr("gen_ai.operation.name", json!("chat"));
    attr("gen_ai.request.model", json!("gpt-realtime"));
    attr("gen_ai.response.model", json!("gpt-realtime-1"));
    attr("gen_ai.usage.input_tokens", report["input_tokens"].clone());
    attr("gen_ai.usage.output_tokens", report["output_tokens"].clone());
    attr("inferscope.completion", json!(completion));
    attr("inferscope.capture", json!("complete"));
    attr("http.response.status_code", json!(101));
    // This client reads no further than to where it leaves, and the server may have said more.
    if completion == "client_closed" {
        let chunks = call.number("inferscope.chunk.count");
        differ.check("fewer chunks than its client saw", chunks >= report["chunks"].as_u64());
    } else {
        attr("inferscope.chunk.count", report["chunks"].clone());
    }
    if path == "realtime" {
        differ.compare("turn", call.attr("inferscope.conversation.turn"), &json!(n + 1));
    }
    let first_token = call.seconds("inferscope.time_to_first_token");
    differ.check("no time to first token", first_token.is_some_and(|seconds| seconds > 0.0));
    differ.into_result(call)
}

/// A socket that is open when the agent comes is nothing that can be read, and nothing is made up.
fn late() -> Result<()> {
    let server = Server::start(None)?;
    let mut client = server.client(None, &["--gate"])?;
    client.wait_for_line(Stream::Stdout, "the first response", SOON, |line| line.contains("resp_"))?;
    let agent = Agent::trace(&[])?;
    (0..2).try_for_each(|_| client.write_line("go on"))?;
    client.wait_success(SOON)?;
    let calls = agent.stop()?.clean()?.calls()?;
    let ours = |call: &&Call| is_of(call, client.pid()) || is_of(call, server.program.pid());
    ensure!(!calls.iter().any(|call| ours(&call)), "calls out of nothing\n{}", list(&calls));
    Ok(())
}

/// A socket that is none of a model's is not copied.
fn chat() -> Result<()> {
    let server = Server::start(None)?;
    // The ledger is to tell of nobody else.
    let agent = Agent::trace(&["--pid", &server.program.pid().to_string()])?;
    server.client(None, &["--chat", &CHAT.to_string()])?.wait_success(SOON)?;
    let stopped = agent.stop()?.clean()?;
    let ledger = stopped.ledger().context("no ledger")?;
    let (offered, skipped) = (ledger["kernel.bytes_offered"].as_u64(), ledger["kernel.bytes_skipped"].as_u64());
    // Both ways, some 550 bytes a message.
    ensure!(offered == Some(0) && skipped >= Some(2 * CHAT * 500), "copied: {ledger}");
    ensure!(stopped.calls()?.is_empty(), "a chat is no call\n{}", list(&stopped.calls()?));
    Ok(())
}
