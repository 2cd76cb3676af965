//! Cohere and Ollama, and exchanges that are no calls.

use serde_json::{Value, json};

use super::{DONE, Exchange};

fn cohere_request(stream: bool) -> Value {
    json!({"model": "command-x", "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
}

fn cohere_expected(id: &str) -> Value {
    json!({"id": id, "finish_reasons": ["COMPLETE"],
        "usage": {"input": 505, "output": 12, "billed_input": 10, "billed_output": 9}})
}

fn cohere_usage() -> Value {
    json!({"billed_units": {"input_tokens": 10, "output_tokens": 9}, "tokens": {"input_tokens": 505, "output_tokens": 12},
        "cached_tokens": 448})
}

pub(super) fn cohere() -> Exchange {
    let response = json!({"id": "own-co1", "finish_reason": "COMPLETE", "usage": cohere_usage(),
        "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]}});
    Exchange::post("cohere.chat", "api.cohere.com", "/v2/chat", cohere_request(false))
        .answer(&response, cohere_expected("own-co1"))
}

pub(super) fn cohere_stream() -> Exchange {
    let event = |name, mut data: Value| {
        data["type"] = json!(name);
        (name, data)
    };
    let text = |text| json!({"index": 0, "delta": {"message": {"content": {"text": text}}}});
    let events = [
        event("message-start", json!({"id": "own-co2", "delta": {"message": {"role": "assistant", "content": []}}})),
        event("content-start", json!({"index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}})),
        event("content-delta", text("Hel")),
        event("content-delta", text("lo.")),
        event("content-end", json!({"index": 0})),
        event("message-end", json!({"delta": {"finish_reason": "COMPLETE", "usage": cohere_usage()}})),
    ];
    Exchange::post("cohere.chat", "api.cohere.com", "/v2/chat", cohere_request(true)).stream(
        &events,
        DONE,
        cohere_expected("own-co2"),
    )
}

/// This API streams where nothing is said about it.
pub(super) fn ollama_stream() -> Exchange {
    let request = json!({"model": "llama-x:1b", "messages": [{"role": "user", "content": "hello"}]});
    let line = |text: &str, end: Value| {
        let mut line = json!({"model": "llama-x:1b", "created_at": "2026-01-02T03:04:05.6Z", "done": false,
            "message": {"role": "assistant", "content": text}});
        if let (Value::Object(line), Value::Object(end)) = (&mut line, end) {
            line.extend(end);
        }
        format!("{line}\n")
    };
    let end =
        json!({"done": true, "done_reason": "stop", "total_duration": 900, "prompt_eval_count": 26, "eval_count": 3});
    let lines = [line("Hel", Value::Null), line("lo.", Value::Null), line("", end)].concat();
    let expected = json!({"response_model": "llama-x:1b", "finish_reasons": ["stop"], "documents": 3,
        "usage": {"input": 26, "output": 3}});
    Exchange::post("ollama.chat", "localhost", "/api/chat", request).body(
        "application/x-ndjson",
        lines.into_bytes(),
        expected,
    )
}

/// Holds a usage object and is no call.
pub(super) fn batch_that_is_polled() -> Exchange {
    let response = json!({"id": "batch_own1", "object": "batch", "status": "completed", "model": "gpt-x-1",
        "usage": {"input_tokens": 1000, "output_tokens": 2000, "total_tokens": 3000}});
    let exchange = Exchange::post("mgmt", "api.openai.com", "/v1/batches/batch_own1", Value::Null);
    Exchange { method: "GET", request: Vec::new(), ..exchange.answer(&response, json!({"n_objs": 1})) }
}

pub(super) fn token() -> Exchange {
    let request = json!({"grant_type": "client_credentials"});
    let response = json!({"access_token": "not-a-token", "expires_in": 3599, "token_type": "Bearer"});
    Exchange::post("other", "oauth2.googleapis.com", "/token", request).answer(&response, json!({"n_objs": 1}))
}
