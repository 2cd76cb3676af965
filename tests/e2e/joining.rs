//! The agent comes in the middle of a stream: the rest of that call, and the whole of the next one on its connection.

use std::{fs, process::Command};

use anyhow::{Result, bail, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    client::{Client, Kind, Report},
    pki::Pki,
    place,
    process::{Program, Stream},
    server::Stack,
};
use serde_json::{Value, json};

use crate::{
    clients::needs,
    expect::{Differences, is_of, list},
    scenario::{Need, Room, SOON, Scenarios, transport},
};

/// Content chunks of an answer.
const CHUNKS: u64 = 12;

/// Content chunks that had passed when the agent came.
const PASSED: u64 = 5;

/// The servers.
#[derive(Clone, Copy, Debug)]
enum Server {
    Uvicorn(Stack),
    Node,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Uvicorn(stack) => stack.name(),
            Self::Node => "node",
        }
    }

    /// The clients' ports of the requests that it answered.
    fn peers(self, room: &Room, program: &Program) -> Result<Vec<String>> {
        match self {
            Self::Uvicorn(_) => {
                let log = fs::read_to_string(room.file("server.log"))?;
                log.lines().map(|line| Ok(serde_json::from_str::<Value>(line)?["peer_port"].to_string())).collect()
            }
            Self::Node => {
                Ok(program.stdout().iter().filter_map(|line| Some(line.strip_prefix("peer ")?.to_owned())).collect())
            }
        }
    }

    /// Starts one that stops its first stream in the middle.
    fn start(self, room: &Room, pki: Option<&Pki>) -> Result<(Program, u16)> {
        let mut command = match self {
            Self::Uvicorn(stack) => {
                let mut command = Command::new(place::python()?);
                command.arg(place::script("model_server.py")).args(stack.options()).args(["--interval-ms", "2"]);
                command.arg("--log").arg(room.file("server.log"));
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(place::script("server_node.mjs"));
                command
            }
        };
        command.args(["--chunks", &CHUNKS.to_string(), "--hold-at", &PASSED.to_string()]);
        if let Some(pki) = pki {
            command.arg("--cert").arg(&pki.cert).arg("--key").arg(&pki.key);
        }
        let program = Program::spawn(self.name(), &mut command)?;
        let line = program.wait_for_line(Stream::Stdout, "ready", SOON, |line| line.starts_with("ready "))?;
        Ok((program, line.trim_start_matches("ready ").parse()?))
    }
}

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    let pairs = [
        (Server::Uvicorn(Stack::Fast), Kind::OpenAiAsync),
        (Server::Uvicorn(Stack::Pure), Kind::OpenAiAsync),
        (Server::Uvicorn(Stack::Fast), Kind::NodeHttp),
        (Server::Node, Kind::NodeHttp),
    ];
    for (server, client) in pairs {
        for tls in [false, true] {
            let name = format!("joining::{}::{}::{}", server.name(), transport(tls), client.name());
            let needs = if matches!(server, Server::Node) { &[Need::Node] } else { needs(client) };
            all.add(name, needs, move || join(server, client, tls));
        }
    }
}

fn join(server: Server, client: Kind, tls: bool) -> Result<()> {
    let room = Room::new()?;
    let pki = room.pki(tls)?;
    let kind = server;
    let (mut server, port) = kind.start(&room, pki.as_ref())?;
    let scheme = if tls { "https" } else { "http" };
    let ca = pki.as_ref().map(|pki| pki.ca.as_path());
    let client = Client::new(client, &format!("{scheme}://127.0.0.1:{port}/v1"), ca).stream(true);
    let client = client.options(["--calls", "2"]).spawn()?;
    server.wait_for_line(Stream::Stdout, "held", SOON, |line| line == "held")?;
    let agent = Agent::trace(&[])?;
    server.write_line("go on")?;
    let client = client.finish(SOON)?;
    let peers = kind.peers(&room, &server)?;
    ensure!(peers.len() == 2 && peers[0] == peers[1], "not two calls on one connection: {peers:?}");
    let (client_pid, server_pid) = (client.pid, server.pid());
    agent.wait_for_calls(4, SOON, |call| is_of(call, server_pid) || is_of(call, client_pid))?;
    let calls = agent.stop()?.clean()?.calls()?;
    let [first, second] = &client.reports[..] else { bail!("not two calls: {client:?}") };
    let sides = [("client", client_pid), ("server", server_pid)];
    for (report, capture, chunks) in [(first, "partial_start", CHUNKS - PASSED), (second, "complete", CHUNKS)] {
        for (kind, pid) in sides {
            let of_side = |call: &&Call| is_of(call, pid) && call.kind() == kind && call.id() == report.id.as_deref();
            let found: Vec<_> = calls.iter().filter(of_side).collect();
            match found[..] {
                [call] => check(call, report, capture, chunks, tls)?,
                _ => bail!("{} {kind} spans of the {capture} call\n{}", found.len(), list(&calls)),
            }
        }
    }
    let ours = calls.iter().filter(|call| is_of(call, server_pid) || is_of(call, client_pid)).count();
    ensure!(ours == 4, "{ours} spans instead of 4\n{}", list(&calls));
    Ok(())
}

fn check(call: &Call, report: &Report, capture: &str, chunks: u64, tls: bool) -> Result<()> {
    let mut differ = Differences::default();
    let mut attr = |name: &str, want: Value| differ.compare(name, call.attr(name), &want);
    attr("inferscope.capture", json!(capture));
    attr("inferscope.chunk.count", json!(chunks));
    attr("inferscope.completion", json!("done"));
    attr("inferscope.api", json!("openai.chat"));
    attr("inferscope.capture.source", json!(if tls { "openssl" } else { "syscall" }));
    attr("gen_ai.response.model", json!(report.model));
    attr("gen_ai.response.finish_reasons", json!(["stop"]));
    attr("gen_ai.usage.input_tokens", json!(report.input_tokens));
    attr("gen_ai.usage.output_tokens", json!(CHUNKS));
    if capture == "partial_start" {
        // When it began, and what was asked, had passed.
        attr("inferscope.time_to_first_token", json!(null));
        attr("gen_ai.request.model", json!(null));
    }
    differ.into_result(call)
}
