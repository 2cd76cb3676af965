//! The session's tests. The bodies have the form of recorded ones, cut to what matters.

mod anthropic;
mod bedrock;
mod cohere;
mod content;
mod engines;
mod flavours;
mod framings;
mod gemini;
mod grpc;
mod modalities;
mod privacy;
mod proof;
mod quality;
mod responses;
mod robust;
mod rpc;
mod stores;

use serde_json::{Value, json};

use super::*;
use crate::protocol::head::Headers;

const CHAT: &str = "/v1/chat/completions";

/// One exchange as it is fed to a session.
struct Exchange<'a> {
    path: &'a str,
    host: Option<&'a str>,
    headers: &'a [(&'a str, &'a str)],
    request: String,
    status: u16,
    content_type: Option<&'a str>,
    response_headers: &'a [(&'a str, &'a str)],
    response: String,
    content: Option<usize>,
}

impl Default for Exchange<'_> {
    fn default() -> Self {
        Self {
            path: CHAT,
            host: None,
            headers: &[("content-type", "application/json")],
            request: r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#.to_owned(),
            status: 200,
            content_type: None,
            response_headers: &[],
            response: String::new(),
            content: None,
        }
    }
}

/// Everything that a session says.
#[derive(Debug, PartialEq)]
struct Outcome {
    facts: Facts,
    events: Vec<ResponseEvent>,
    proof: Proof,
    finished: bool,
    malformed: Option<&'static str>,
    is_stream: bool,
}

impl Exchange<'_> {
    fn open(&self) -> Session {
        let headers = head(self.headers);
        let line = RequestLine { method: "POST", path: self.path, host: self.host, headers: Some(&headers) };
        Session::open(&line, &Options { content: self.content, ..Options::default() }).expect("a model API's path")
    }

    fn run(&self) -> Outcome {
        self.run_in(&[usize::MAX])
    }

    /// Feeds both bodies in pieces of the given sizes, which repeat.
    fn run_in(&self, sizes: &[usize]) -> Outcome {
        self.run_bytes(self.response.as_bytes(), sizes)
    }

    /// The same with a response that is no text.
    fn run_bytes(&self, response: &[u8], sizes: &[usize]) -> Outcome {
        let mut session = self.open();
        pieces(self.request.as_bytes(), sizes, |piece| session.request_body(piece));
        session.request_end();
        let mut events = Vec::new();
        session.response_head(self.status, &self.response_head());
        pieces(response, sizes, |piece| session.response_body(piece, &mut |event| events.push(event)));
        session.response_end(&mut |event| events.push(event));
        outcome(session, events)
    }

    fn response_head(&self) -> Headers {
        let mut headers = head(self.response_headers);
        self.content_type.iter().for_each(|value| headers.take("content-type", value.as_bytes()));
        headers
    }
}

/// What an exchange says; the same in any cut, and wherever it ends what was seen stays.
fn checked(exchange: &Exchange<'_>) -> Outcome {
    checked_bytes(exchange, exchange.response.as_bytes())
}

/// The same with a response that is no text.
fn checked_bytes(exchange: &Exchange<'_>, response: &[u8]) -> Outcome {
    let whole = exchange.run_bytes(response, &[usize::MAX]);
    for sizes in [&[1][..], &[7], &[3, 50, 1]] {
        assert_eq!(exchange.run_bytes(response, sizes), whole, "in pieces of {sizes:?}");
    }
    let request = exchange.request.as_bytes();
    for end in 0..request.len() {
        let mut session = exchange.open();
        session.request_body(&request[..end]);
        session.request_end();
        session.into_facts();
    }
    let mut before = exchange.run_bytes(&[], &[usize::MAX]).facts;
    for end in 1..=response.len() {
        let facts = exchange.run_bytes(&response[..end], &[usize::MAX]).facts;
        let kept = |before: bool, after: bool| assert!(!before || after, "lost when cut at {end}: {facts:?}");
        kept(before.response.id.is_some(), facts.response.id.is_some());
        kept(before.response.model.is_some(), facts.response.model.is_some());
        kept(before.usage.input.is_some(), facts.usage.input.is_some());
        kept(before.usage.output.is_some(), facts.usage.output.is_some());
        kept(before.error.is_some(), facts.error.is_some());
        assert!(before.response.finish_reasons.len() <= facts.response.finish_reasons.len(), "cut at {end}");
        assert!(before.response.tool_calls.len() <= facts.response.tool_calls.len(), "cut at {end}");
        before = facts;
    }
    whole
}

/// The events of a stream that names them after the type of their data, as several APIs do.
fn named(documents: &[Value]) -> String {
    let event = |document: &Value| {
        let name = document["type"].as_str().or(document["event_type"].as_str()).expect("a type");
        format!("event: {name}\ndata: {document}\n\n")
    };
    documents.iter().map(event).collect()
}

/// A head with these headers.
fn head(headers: &[(&str, &str)]) -> Headers {
    let mut out = Headers::default();
    headers.iter().for_each(|(name, value)| out.take(name, value.as_bytes()));
    out
}

/// A head with this content type alone.
fn typed(content_type: Option<&str>) -> Headers {
    let mut headers = Headers::default();
    content_type.iter().for_each(|value| headers.take("content-type", value.as_bytes()));
    headers
}

fn outcome(session: Session, events: Vec<ResponseEvent>) -> Outcome {
    Outcome {
        events,
        proof: session.proof(),
        finished: session.finished(),
        malformed: session.malformed(),
        is_stream: session.is_stream(),
        facts: session.into_facts(),
    }
}

fn pieces(mut bytes: &[u8], sizes: &[usize], mut take: impl FnMut(&[u8])) {
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            return;
        }
        let (piece, rest) = bytes.split_at((*size).clamp(1, bytes.len()));
        take(piece);
        bytes = rest;
    }
}

/// The same of a text: a piece ends with a character.
pub(crate) fn text_pieces(mut text: &str, sizes: &[usize], mut take: impl FnMut(&str)) {
    for size in sizes.iter().cycle() {
        if text.is_empty() {
            return;
        }
        let (piece, rest) = text.split_at(text.ceil_char_boundary(*size));
        take(piece);
        text = rest;
    }
}

/// An event stream of these documents and the sentinel.
fn sse(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("data: {document}\n\n")).collect::<String>() + "data: [DONE]\n\n"
}

fn chunk(choices: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "model": "m-1", "choices": choices})
}

fn delta(delta: Value) -> Value {
    chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]))
}

fn finish(reason: &str) -> Value {
    chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}]))
}

fn usage(input: u64, output: u64) -> Value {
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

fn with(mut document: Value, key: &str, value: Value) -> Value {
    document[key] = value;
    document
}

fn stream(documents: &[Value]) -> Outcome {
    Exchange { response: sse(documents), content: Some(10_000), ..Exchange::default() }.run()
}

fn counted(outcome: &Outcome) -> (Option<u64>, Option<u64>) {
    (outcome.facts.usage.input, outcome.facts.usage.output)
}

/// Which events carry content; the sentinel is left out.
fn carrying(outcome: &Outcome) -> Vec<bool> {
    let of = |event: &ResponseEvent| match event {
        ResponseEvent::Event { content } => Some(*content),
        ResponseEvent::Done => None,
    };
    outcome.events.iter().filter_map(of).collect()
}

fn output(outcome: &Outcome) -> Value {
    let content = outcome.facts.content.as_ref().expect("content is on");
    content.output_messages.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).expect("valid JSON"))
}

fn input(outcome: &Outcome) -> Value {
    let content = outcome.facts.content.as_ref().expect("content is on");
    content.input_messages.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).expect("valid JSON"))
}

/// A call whose answer is one document.
fn plain(path: &'static str, request: Value, response: Value) -> Outcome {
    let (request, response) = (request.to_string(), response.to_string());
    checked(&Exchange { path, request, response, content: Some(10_000), ..Exchange::default() })
}

/// A call whose answer is an event stream without sentinel.
fn events(path: &'static str, request: Value, documents: &[Value], content: Option<usize>) -> Outcome {
    let response = documents.iter().map(|document| format!("data: {document}\n\n")).collect();
    checked(&Exchange { path, request: request.to_string(), response, content, ..Exchange::default() })
}

/// The same with a message of the instructions before them, where the request has those apart.
fn ordered(outcome: &Outcome) -> Value {
    let (instructions, messages) = (instructions(outcome), input(outcome));
    let first = (!instructions.is_null()).then(|| json!({"role": "system", "parts": instructions}));
    Value::from_iter(first.into_iter().chain(messages.as_array().into_iter().flatten().cloned()))
}

fn instructions(outcome: &Outcome) -> Value {
    let content = outcome.facts.content.as_ref().expect("content is on");
    content.system_instructions.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).expect("valid JSON"))
}
