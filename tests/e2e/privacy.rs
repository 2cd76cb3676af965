//! What was said and with which key stays where it was: searched for byte by byte in everything the agent writes.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::{Agent, Stopped},
    client::{Client, Kind},
    place,
    server::{Pace, Stack, Uvicorn},
};

use crate::{
    expect::is_of,
    otlp::Receiver,
    scenario::{Need, Room, SOON, Scenarios, transport},
};

/// Said by the user.
const PROMPT: &str = "canary-prompt-7f3a9c";
/// Said by the server: a word of its vocabulary that is nowhere else.
const ANSWER: &str = "zephyrine";
/// Secrets of every kind that a request carries.
const SECRETS: [&str; 6] = [
    "sk-canary-bearer-51d0",
    "canary-x-api-key-51d1",
    "canary-api-key-51d2",
    "canary-goog-key-51d3",
    "canary-cookie-51d4",
    "canary-query-51d5",
];

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    for tls in [false, true] {
        let at = transport(tls);
        all.add(format!("privacy::trace::{at}"), &[Need::Curl], move || trace(tls, false));
        all.add(format!("privacy::trace_content::{at}"), &[Need::Curl], move || trace(tls, true));
        all.add(format!("privacy::service::{at}"), &[Need::Curl], move || service(tls));
    }
    all.add("privacy::record", &[Need::Curl], record);
}

/// `trace` at its most talkative.
fn trace(tls: bool, content: bool) -> Result<()> {
    let room = Room::new()?;
    let mut command = Command::new(place::agent()?);
    command.args(["trace", "--output", "jsonl"]).env("INFERSCOPE_LOG", "trace");
    if content {
        command.arg("--content");
    }
    let agent = Agent::ready(&mut command)?;
    let server = talk(&room, tls)?;
    agent.wait_for_calls(3, SOON, |call| is_of(call, server.pid()))?;
    let stopped = agent.stop()?.clean()?;
    let printed = printed(&stopped);
    secret_free(&printed, "what trace printed")?;
    if content {
        let calls = stopped.stdout.join("\n");
        ensure!(calls.contains(PROMPT), "--content printed no prompt:\n{calls}");
        ensure!(calls.contains(ANSWER), "--content printed no answer:\n{calls}");
    } else {
        content_free(&printed, "what trace printed")?;
    }
    Ok(())
}

/// `run` with both exporters: its file, its logs, and the bytes that the collector received.
fn service(tls: bool) -> Result<()> {
    let room = Room::new()?;
    let receiver = Receiver::start(&room)?;
    let jsonl = room.file("calls.jsonl");
    let config = receiver.config(&room, &jsonl)?;
    let mut command = Command::new(place::agent()?);
    command.args(["run", "--config"]).arg(config).env("INFERSCOPE_LOG", "debug");
    let agent = Agent::ready(&mut command)?;
    let server = talk(&room, tls)?;
    let stopped = agent.stop()?.clean()?;
    drop(server);
    let written = fs::read(&jsonl).context("the agent wrote no file")?;
    let sent = receiver.raw()?;
    ensure!(contains(&written, "chatcmpl-"), "the file has no calls");
    ensure!(contains(&sent, "chatcmpl-"), "the collector received no calls");
    for (bytes, place) in [(printed(&stopped), "the logs"), (written, "the file"), (sent, "what was exported")] {
        secret_free(&bytes, place)?;
        content_free(&bytes, place)?;
    }
    Ok(())
}

/// `record` writes content and keys by its nature: only for its owner, and it says so before it begins.
fn record() -> Result<()> {
    let room = Room::new()?;
    let file = room.file("recording");
    let agent = Agent::start(&["record".as_ref(), file.as_os_str()])?;
    let warned = agent.program().stderr().join("\n").to_lowercase();
    ensure!(
        warned.contains("prompt") || warned.contains("content") || warned.contains("key"),
        "no warning before the recording starts:\n{warned}"
    );
    let server = talk(&room, false)?;
    let stopped = agent.stop()?.clean()?;
    drop(server);
    let mode = fs::metadata(&file).context("there is no recording")?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the recording's mode is {mode:o}");
    ensure!(contains(&fs::read(&file)?, PROMPT), "the recording lacks what was said");
    let printed = printed(&stopped);
    secret_free(&printed, "what record printed")?;
    content_free(&printed, "what record printed")
}

/// Three calls with every kind of secret: a stream and a tool call by `openai`, and one by curl, whose command line
/// carries them too.
fn talk(room: &Room, tls: bool) -> Result<Uvicorn> {
    let server = Uvicorn::start(Stack::Fast, room.pki(tls)?.as_ref(), Pace::QUICK, room.path())?;
    let client = |kind| {
        let mut client = Client::new(kind, &server.base_url(), server.ca()).stream(true);
        client.prompt = format!("Please repeat {PROMPT} to me.");
        client.key = SECRETS[0].to_owned();
        client
    };
    let mut runs = vec![client(Kind::OpenAiSync).run(SOON)?, client(Kind::OpenAiSync).options(["--tools"]).run(SOON)?];
    let [_, x_api_key, api_key, goog_key, cookie, query] = SECRETS;
    let headers = [
        format!("x-api-key: {x_api_key}"),
        format!("Api-Key: {api_key}"),
        format!("x-goog-api-key: {goog_key}"),
        format!("cookie: session={cookie}"),
    ];
    let curl = client(Kind::Curl).options(headers.iter().flat_map(|header| ["--header", header]));
    let curl = curl.options(["--request-target", &format!("/v1/chat/completions?key={query}")]);
    runs.push(curl.run(SOON)?);
    for run in runs {
        ensure!(run.only()?.end == "done", "the client failed: {run:?}");
    }
    Ok(server)
}

fn printed(stopped: &Stopped) -> Vec<u8> {
    [stopped.stdout.join("\n"), stopped.stderr.join("\n")].concat().into_bytes()
}

fn secret_free(bytes: &[u8], place: &str) -> Result<()> {
    SECRETS.iter().try_for_each(|secret| absent(bytes, secret, place))
}

fn content_free(bytes: &[u8], place: &str) -> Result<()> {
    [PROMPT, ANSWER].iter().try_for_each(|words| absent(bytes, words, place))
}

fn absent(bytes: &[u8], needle: &str, place: &str) -> Result<()> {
    let Some(at) = find(bytes, needle) else { return Ok(()) };
    let around = &bytes[at.saturating_sub(120)..(at + 120).min(bytes.len())];
    anyhow::bail!("{needle} is in {place}: ...{}...", String::from_utf8_lossy(around))
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    find(bytes, needle).is_some()
}

fn find(bytes: &[u8], needle: &str) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle.as_bytes())
}
