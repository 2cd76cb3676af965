//! Recorded exchanges with real services, read through the public API.
//!
//! The recordings are test data only and no part of the repository: without them the test says so and passes.
//! They are looked for in `INFERSCOPE_CORPUS` (the file), then in `shared/corpus` beside the repository.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader},
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use inferscope::{
    llm::{Facts, Options, Proof, RequestLine, ResponseEvent, Session, Usage},
    privacy::Redactor,
    protocol::head::Headers,
};
use serde::Deserialize;
use serde_json::Value;

const FILE: &str = "ruby_llm.jsonl.xz";

/// One recorded exchange and what must be read from it.
#[derive(Deserialize)]
struct Row {
    path: String,
    i: u64,
    method: String,
    host: String,
    urlpath: String,
    api: String,
    req_model: Option<String>,
    req_stream: Option<bool>,
    status: u16,
    #[serde(default)]
    req_headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    resp_headers: BTreeMap<String, Vec<String>>,
    req_body_b64: Option<String>,
    resp_body_b64: Option<String>,
    expected: Expected,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Expected {
    usage: ExpectedUsage,
    response_model: Option<String>,
    id: Option<String>,
    finish_reasons: Vec<String>,
    tool_calls: usize,
    error: Option<Value>,
    sse_events: Option<usize>,
    /// Messages of an AWS event stream.
    frames: Option<usize>,
    done_sentinel: Option<bool>,
}

/// Counts as the recordings state them, which is not the same for every API.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ExpectedUsage {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    reasoning: Option<u64>,
    /// Gemini: what the answer holds besides thoughts.
    candidates: Option<u64>,
    /// Gemini: what the provider's tools added to the prompt.
    tool_input: Option<u64>,
    /// Cohere.
    billed_input: Option<u64>,
    billed_output: Option<u64>,
    search_units: Option<u64>,
}

/// What a session said of a row.
#[derive(Debug, PartialEq)]
struct Outcome {
    facts: Facts,
    events: Vec<ResponseEvent>,
    proof: Proof,
    finished: bool,
    malformed: Option<&'static str>,
}

fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus").join(FILE);
    env::var_os("INFERSCOPE_CORPUS").map(PathBuf::from).into_iter().chain([beside]).find(|path| path.is_file())
}

/// Calls `check` with every row; false when there are none to read, which is said.
fn for_each_row(mut check: impl FnMut(Row)) -> bool {
    let Some(path) = corpus() else {
        eprintln!("skipped: no recordings (set INFERSCOPE_CORPUS to {FILE})");
        return false;
    };
    let mut xz = match Command::new("xz").arg("-dc").arg(&path).stdout(Stdio::piped()).spawn() {
        Ok(xz) => xz,
        Err(error) => {
            eprintln!("skipped: cannot run xz to read {}: {error}", path.display());
            return false;
        }
    };
    for line in BufReader::new(xz.stdout.take().expect("stdout is piped")).lines() {
        check(serde_json::from_str(&line.expect("the recordings are text")).expect("a row"));
    }
    assert!(xz.wait().expect("xz was started").success());
    true
}

fn base64(text: Option<&str>) -> Vec<u8> {
    let (mut out, mut bits, mut n) = (Vec::new(), 0u32, 0);
    for byte in text.unwrap_or_default().bytes().filter(|&byte| byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("byte {other} is not base64"),
        };
        (bits, n) = (bits << 6 | u32::from(value), n + 6);
        if n >= 8 {
            n -= 8;
            out.push((bits >> n) as u8);
            bits &= (1 << n) - 1;
        }
    }
    out
}

/// What may be known of recorded headers.
fn headers(recorded: &BTreeMap<String, Vec<String>>) -> Headers {
    let mut headers = Headers::default();
    for (name, values) in recorded {
        values.iter().for_each(|value| headers.take(name, value.as_bytes()));
    }
    headers
}

impl Row {
    /// Reads the row with both bodies cut to pieces of `size`; absent when the path is no model API's.
    fn read(&self, size: usize, options: &Options) -> Option<Outcome> {
        let path = self.urlpath.replace("<OLLAMA_API_BASE>", "/v1").replace("<GPUSTACK_API_BASE>", "/v1-openai");
        let host = (!self.host.is_empty()).then_some(self.host.as_str());
        let sent = headers(&self.req_headers);
        let line = RequestLine { method: &self.method, path: &path, host, headers: Some(&sent) };
        let mut session = Session::open(&line, options)?;
        base64(self.req_body_b64.as_deref()).chunks(size).for_each(|piece| session.request_body(piece));
        session.request_end();
        session.response_head(self.status, &headers(&self.resp_headers));
        let mut events = Vec::new();
        for piece in base64(self.resp_body_b64.as_deref()).chunks(size) {
            session.response_body(piece, &mut |event| events.push(event));
        }
        session.response_end(&mut |event| events.push(event));
        let (proof, finished, malformed) = (session.proof(), session.finished(), session.malformed());
        Some(Outcome { facts: session.into_facts(), events, proof, finished, malformed })
    }

    fn name(&self) -> String {
        format!("{} {} ({} {})", self.path, self.i, self.host, self.urlpath)
    }
}

/// How rows of one API are read.
struct Reading {
    /// The row's name for its API.
    row: &'static str,
    api: &'static str,
    operation: &'static str,
    n: u32,
}

const READINGS: &[Reading] = &[
    Reading { row: "openai.chat", api: "openai.chat", operation: "chat", n: 359 },
    Reading { row: "openai.responses", api: "openai.responses", operation: "chat", n: 162 },
    Reading { row: "anthropic.messages", api: "anthropic.messages", operation: "chat", n: 86 },
    Reading { row: "gemini.generate", api: "gemini.generate", operation: "generate_content", n: 153 },
    Reading { row: "bedrock.converse", api: "bedrock.converse", operation: "chat", n: 62 },
    Reading { row: "bedrock.converse_stream", api: "bedrock.converse", operation: "chat", n: 13 },
    Reading { row: "cohere.chat", api: "cohere.chat", operation: "chat", n: 58 },
    Reading { row: "gemini.embed_or_predict", api: "embeddings", operation: "embeddings", n: 12 },
    Reading { row: "gemini.count", api: "gemini.count_tokens", operation: "count_tokens", n: 4 },
    Reading { row: "embeddings", api: "embeddings", operation: "embeddings", n: 22 },
    Reading { row: "cohere.v2.embed", api: "embeddings", operation: "embeddings", n: 5 },
    Reading { row: "cohere.v2.rerank", api: "rerank", operation: "rerank", n: 2 },
    Reading { row: "rerank", api: "rerank", operation: "rerank", n: 1 },
    Reading { row: "openai.moderations", api: "openai.moderations", operation: "moderation", n: 6 },
    Reading { row: "openai.images", api: "openai.images", operation: "image_generation", n: 4 },
    Reading { row: "openai.audio", api: "openai.audio", operation: "transcription", n: 14 },
    Reading { row: "cohere.v2.audio.transcriptions", api: "openai.audio", operation: "transcription", n: 2 },
    Reading { row: "bedrock.invoke", api: "bedrock.invoke", operation: "embeddings", n: 12 },
    Reading { row: "count_tokens", api: "anthropic.count_tokens", operation: "count_tokens", n: 5 },
];

/// A row whose id is not an answer's: that of the first of its segments.
const SEGMENT_ID: &str = "gpt-4o-transcribe-diarize_streams_segments_labelled_with_speakers";

/// The rule for `error.type`, written a second time over the whole document.
fn error_type(row: &Row) -> Option<String> {
    row.expected.error.as_ref()?;
    if let Some(kind) = row.resp_headers.get("x-amzn-errortype").and_then(|kinds| kinds.first()) {
        return kind.split(':').next().map(str::to_owned);
    }
    let body: Value = serde_json::from_slice(&base64(row.resp_body_b64.as_deref())).ok()?;
    let error = body.get("error").filter(|error| error.is_object()).unwrap_or(&body);
    let is_code = |text: &&str| {
        (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).filter(is_code).map(str::to_owned);
    let number = || error.get("code")?.as_i64().map(|code| code.to_string());
    text("code").or_else(|| text("type")).or_else(|| text("status")).or_else(number)
}

/// The normalised counts, from what the row states.
fn expected_usage(row: &Row) -> Usage {
    let sum = |counts: &[Option<u64>]| counts.iter().any(Option::is_some).then(|| counts.iter().flatten().sum());
    let stated = &row.expected.usage;
    let ExpectedUsage { input, output, total, cache_read, cache_write, reasoning, .. } = *stated;
    let (input, output) = match row.api.as_str() {
        "bedrock.converse" | "bedrock.converse_stream" => (sum(&[input, cache_read, cache_write]), output),
        "gemini.generate" => (sum(&[input, stated.tool_input]), sum(&[stated.candidates, reasoning])),
        "cohere.chat" | "cohere.v2.embed" => (stated.billed_input, stated.billed_output),
        // Nothing is put out: the total is the input.
        "rerank" => (total, None),
        _ => (input, output),
    };
    let search_units = stated.search_units;
    Usage { input, output, cache_read, cache_write, reasoning, total, search_units, ..Usage::default() }
}

/// What of a call's counts the recordings state.
fn stated(row: &Row, usage: &Usage) -> Usage {
    if row.api == "gemini.embed_or_predict" {
        return Usage::default();
    }
    let Usage { input, output, cache_read, cache_write, reasoning, total, search_units, .. } = *usage;
    // The rows leave these out although the bodies have them.
    let cache_read = cache_read.filter(|_| row.api != "cohere.chat");
    let reasoning = reasoning.filter(|_| !matches!(row.api.as_str(), "anthropic.messages" | "cohere.chat"));
    let total = total.filter(|_| row.expected.usage.total.is_some());
    Usage { input, output, cache_read, cache_write, reasoning, total, search_units, ..Usage::default() }
}

fn check(row: &Row, reading: &Reading) {
    let name = row.name();
    let outcome = row.read(usize::MAX, &Options::default()).unwrap_or_else(|| panic!("{name}: no candidate"));
    let Outcome { facts, events, proof, finished, malformed } = &outcome;
    let Expected { usage: _, response_model, id, finish_reasons, tool_calls, error, sse_events, frames, done_sentinel } =
        &row.expected;
    let n_events = sse_events.or(*frames);
    let is_chat = reading.api == "openai.chat";

    let operation = if row.urlpath.ends_with("/speech") { "speech" } else { reading.operation };
    assert_eq!((facts.api, facts.operation), (reading.api, operation), "{name}");
    // What Vertex predicts may be anything: only the answer tells.
    let expect = if row.urlpath.ends_with(":predict") { Proof::Response } else { Proof::Request };
    assert_eq!((*proof, *malformed), (expect, None), "{name}");
    assert_eq!(stated(row, &facts.usage), expected_usage(row), "{name}");
    let has_model = response_model.is_some() || is_chat;
    assert_eq!(facts.response.model.as_ref().filter(|_| has_model), response_model.as_ref(), "{name}");
    let id = id.as_ref().filter(|_| !row.path.contains(SEGMENT_ID));
    // The rows leave out that of Cohere's embeddings on Bedrock.
    assert_eq!(facts.response.id.as_ref().filter(|_| row.api != "bedrock.invoke"), id, "{name}");
    // The recordings list every finish reason of a stream; OpenRouter repeats it on the usage chunk.
    let mut reasons = finish_reasons.clone();
    if sse_events.is_some() {
        reasons.dedup();
    }
    assert_eq!(facts.response.finish_reasons, reasons, "{name}");
    if counts_tools(row) {
        assert_eq!(facts.response.tool_calls.len(), *tool_calls, "{name}: {:?}", facts.response.tool_calls);
    }
    assert_eq!(facts.error, error_type(row), "{name}");
    assert_eq!(facts.error.is_some() || row.status >= 400, error.is_some(), "{name}");
    assert_eq!(*finished, error.is_none(), "{name}");
    if row.req_model.is_some() {
        assert_eq!((&facts.request.model, facts.request.stream), (&row.req_model, row.req_stream), "{name}");
    }
    assert!(facts.request.model.is_some(), "{name}");
    if matches!(facts.operation, "chat" | "generate_content") {
        assert!(facts.request.message_count.is_some_and(|n| n > 0), "{name}");
    }
    assert_eq!(events.len(), n_events.unwrap_or(0), "{name}");
    assert_eq!(events.contains(&ResponseEvent::Done), done_sentinel.unwrap_or(false), "{name}");
    if n_events.is_some() {
        assert!(events.contains(&ResponseEvent::Event { content: true }), "{name}");
    }

    let on = Options { content: Some(1 << 20), ..Options::default() };
    for size in [7, 1_460, 16 * 1024] {
        assert_eq!(row.read(size, &Options::default()).as_ref(), Some(&outcome), "{name} in pieces of {size}");
        assert_eq!(row.read(size, &on), row.read(usize::MAX, &on), "{name} with content in pieces of {size}");
    }
    // One byte at a time takes long: a sample.
    if row.i == 0 && name.len().is_multiple_of(8) {
        assert_eq!(row.read(1, &on), row.read(usize::MAX, &on), "{name} byte by byte");
    }
    check_content(row, &name);
}

/// Kept content is valid JSON, stays within its cap and holds the answer.
fn check_content(row: &Row, name: &str) {
    for cap in [200, 1 << 20] {
        let facts =
            row.read(usize::MAX, &Options { content: Some(cap), ..Options::default() }).expect("a candidate").facts;
        let content = facts.content.expect("content is on");
        for text in [&content.input_messages, &content.output_messages].into_iter().flatten() {
            let is_array = serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_array());
            assert!(text.len() <= cap && is_array, "{name}: {text}");
        }
        let messages = |text: &Option<String>| -> Vec<Value> {
            text.as_deref().map(|text| serde_json::from_str(text).expect("JSON")).unwrap_or_default()
        };
        if cap > 200
            && !content.truncated
            && let Some(count) = facts.request.message_count
        {
            // Instructions that stand outside of the messages come as one more.
            let n = messages(&content.input_messages).len() as u64;
            assert!(n == count || (n == count + 1 && row.api != "openai.chat"), "{name}: {n} of {count}");
        }
        if cap > 200 && row.expected.error.is_none() && !row.expected.finish_reasons.is_empty() {
            let output = messages(&content.output_messages);
            let parts = output[0]["parts"].as_array().expect("parts");
            let calls = parts.iter().filter(|part| part["type"] == "tool_call");
            // A stream leaves out the arguments of a tool that has none.
            let are_whole = |call: &Value| call["arguments"].is_object() || call["arguments"] == "";
            assert!(calls.clone().all(are_whole), "{name}: {parts:?}");
            if counts_tools(row) {
                assert_eq!(calls.count(), row.expected.tool_calls, "{name}");
            }
            let kept = parts.iter().find(|part| part["type"] == "text").and_then(|part| part["content"].as_str());
            if let Ok(body) = serde_json::from_slice(&base64(row.resp_body_b64.as_deref()))
                && let Some(text) = answer(&row.api, &body)
            {
                // As it is kept: without its mail addresses, for example.
                assert_eq!(kept.unwrap_or_default(), Redactor::shared().redact(&text), "{name}");
            }
        }
    }
}

/// Whether the recordings count this API's tool calls.
fn counts_tools(row: &Row) -> bool {
    !row.api.starts_with("bedrock.") && row.api != "cohere.chat"
}

/// The text of an answer that is not streamed, taken from the whole document.
fn answer(api: &str, body: &Value) -> Option<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let blocks: Vec<Value> = match api {
        "openai.chat" => return body["choices"][0]["message"]["content"].as_str().map(str::to_owned),
        "openai.responses" => {
            let output = list(&body["output"]);
            let messages = output.iter().filter(|item| item["type"] == "message");
            messages.flat_map(|item| list(&item["content"])).collect()
        }
        "anthropic.messages" => list(&body["content"]),
        "gemini.generate" => list(&body["candidates"][0]["content"]["parts"]),
        "bedrock.converse" => list(&body["output"]["message"]["content"]),
        "cohere.chat" => list(&body["message"]["content"]),
        _ => return None,
    };
    let texts = blocks.iter().filter(|block| block["thought"] != true).filter_map(|block| block["text"].as_str());
    Some(texts.collect())
}

#[test]
fn recorded_exchanges_give_what_they_must() {
    let mut counts = BTreeMap::<String, (u32, u32)>::new();
    let mut missed = Vec::new();
    let read = for_each_row(|row| {
        let count = counts.entry(row.api.clone()).or_default();
        count.0 += 1;
        let reading = READINGS.iter().find(|reading| reading.row == row.api);
        match (row.api.as_str(), reading) {
            (_, Some(reading)) => {
                // What is wrong is on stderr; all rows that are wrong are worth seeing.
                match catch_unwind(|| check(&row, reading)) {
                    Ok(()) => count.1 += 1,
                    Err(_) => missed.push(row.name()),
                }
            }
            ("other" | "mgmt", _) => {
                let proof = row.read(usize::MAX, &Options::default()).map(|outcome| outcome.proof);
                assert!(matches!(proof, None | Some(Proof::Refuted)), "{}: {proof:?}", row.name());
                count.1 += 1;
            }
            _ => {}
        }
    });
    assert!(missed.is_empty(), "{} rows: {missed:#?}", missed.len());
    if read {
        eprintln!("rows and those checked in full, by API: {counts:?}");
        for Reading { row, n, .. } in READINGS {
            assert_eq!(counts.get(*row), Some(&(*n, *n)), "{row}");
        }
        assert_eq!((counts["other"], counts["mgmt"]), ((147, 147), (104, 104)));
    }
}
