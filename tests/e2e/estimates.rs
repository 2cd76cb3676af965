//! Token counts that nobody reports, counted with the vocabulary of the model that answers where it can be read.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{
    agent::Agent,
    call::Call,
    client::{Client, Kind},
    place,
    process::Stream,
    server::{Pace, Stack, Uvicorn},
};
use serde_json::{Map, Value, json};

use crate::{
    expect::is_of,
    scenario::{Room, SOON, Scenarios},
};

pub fn add(all: &mut Scenarios) {
    all.add("estimates::served_model", &[], served_model);
}

/// How the agent says that it has read a vocabulary.
const READ: &str = "tokenizer counts its tokens";

/// A server whose command line names a vocabulary of single letters, and a client that does not ask for the usage.
fn served_model() -> Result<()> {
    let room = Room::new()?;
    let model = room.file("model");
    fs::create_dir(&model)?;
    fs::write(model.join("tokenizer.json"), letters().to_string())?;
    let config = room.file("config.toml");
    let file = "[usage]\nestimate = true\n[privacy]\ncontent = true\n[export.jsonl]\npath = \"/dev/stdout\"\n";
    fs::write(&config, file)?;
    let mut command = Command::new(place::agent()?);
    command.args(["run", "--config"]).arg(&config).env("INFERSCOPE_LOG", "info");
    let agent = Agent::ready(&mut command)?;
    let options = ["--tokenizer".as_ref(), model.as_os_str()];
    let server = Uvicorn::start_with(Stack::Fast, None, Pace::QUICK, room.path(), &options)?;
    let call =
        || Client::new(Kind::OpenAiSync, &server.base_url(), None).stream(true).options(["--no-usage"]).run(SOON);

    // The first call is what makes the agent look.
    call()?;
    agent.program().wait_for_line(Stream::Stderr, READ, Duration::from_secs(20), |line| line.contains(READ))?;
    let client = call()?;
    agent.wait_for_calls(4, SOON, |call| call.completion() == Some("done"))?;
    let calls = agent.stop()?.clean()?.calls()?;

    let last_of = |pid| calls.iter().rfind(|call| is_of(call, pid)).with_context(|| format!("no call of {pid}"));
    let (of_server, of_client) = (last_of(server.pid())?, last_of(client.pid)?);
    let method = |call: &Call| call.text("inferscope.usage.estimated.method").map(str::to_owned);
    let (expect, found) = (said(of_server)?, of_server.number("inferscope.usage.estimated.output_tokens"));
    ensure!(method(of_server).as_deref() == Some("tokenizer"), "not by its own vocabulary: {}", of_server.json());
    ensure!(found == Some(expect), "{found:?} letters of {expect}: {}", of_server.json());
    // The client runs no model. Its words are common ones, each a token, with few marks between them.
    let found = of_client.number("inferscope.usage.estimated.output_tokens").unwrap_or_default();
    ensure!(method(of_client).as_deref() == Some("o200k_base"), "not by the reference: {}", of_client.json());
    let words = u64::from(Pace::QUICK.chunks);
    ensure!((words..2 * words).contains(&found), "{found} tokens of {words} words: {}", of_client.json());
    for call in [of_server, of_client] {
        ensure!(call.attr("gen_ai.usage.output_tokens").is_none(), "an estimate for a report: {}", call.json());
        ensure!(call.text("inferscope.usage.source") == Some("estimated"), "not marked: {}", call.json());
    }
    Ok(())
}

/// Bytes of the answer.
fn said(call: &Call) -> Result<u64> {
    let messages = call.text("gen_ai.output.messages").context("no content")?;
    let messages: Value = serde_json::from_str(messages)?;
    let text = messages[0]["parts"][0]["content"].as_str().with_context(|| format!("no text: {messages}"))?;
    Ok(text.len() as u64)
}

/// A vocabulary of the visible ASCII characters and the blank, as `transformers` saves it.
fn letters() -> Value {
    let tokens = (b'!'..=b'~').map(char::from).chain(['Ġ']);
    let vocab: Map<String, Value> = tokens.enumerate().map(|(id, token)| (token.to_string(), json!(id))).collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": null, "model": {"type": "BPE", "dropout": null,
        "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
        "byte_fallback": false, "vocab": vocab, "merges": []}})
}
