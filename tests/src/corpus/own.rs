//! Exchanges of our own, one or two for each way of counting tokens, in the forms that the providers document.
//!
//! To add one: a line in [`rows`].

use serde_json::{Value, json};

use super::{Message, Row, Want};

/// All of them.
pub fn rows() -> Vec<Row> {
    let exchanges = [
        openai_chat(),
        openai_chat_stream(),
        openai_error(),
        responses(),
        responses_stream(),
        anthropic(),
        anthropic_stream(),
        anthropic_stream_that_fails(),
        gemini(),
        gemini_stream(),
        gemini_array(),
        converse(),
        converse_stream(),
        cohere(),
        cohere_stream(),
        ollama_stream(),
        embeddings(),
        batch_that_is_polled(),
        token(),
    ];
    exchanges.into_iter().enumerate().map(|(index, exchange)| exchange.row(index)).collect()
}

/// A chat with OpenAI under the number `index`.
pub fn chat(index: usize) -> Row {
    openai_chat().row(index)
}

struct Exchange {
    api: &'static str,
    method: &'static str,
    host: &'static str,
    target: &'static str,
    request: Vec<u8>,
    status: u16,
    kind: &'static str,
    response: Vec<u8>,
    expected: Value,
}

impl Exchange {
    fn post(api: &'static str, host: &'static str, target: &'static str, request: Value) -> Self {
        let (request, response, expected) = (request.to_string().into_bytes(), Vec::new(), Value::Null);
        Self { api, method: "POST", host, target, request, status: 200, kind: JSON, response, expected }
    }

    fn answer(self, response: &Value, expected: Value) -> Self {
        Self { response: response.to_string().into_bytes(), expected, ..self }
    }

    /// The answer in events, each with a name where the API gives it one.
    fn stream(self, events: &[(&str, Value)], end: &str, mut expected: Value) -> Self {
        let mut body = String::new();
        for (name, data) in events {
            if !name.is_empty() {
                body += &format!("event: {name}\n");
            }
            body += &format!("data: {data}\n\n");
        }
        body += end;
        expected["sse_events"] = json!(events.len());
        self.body("text/event-stream", body.into_bytes(), expected)
    }

    fn body(self, kind: &'static str, response: Vec<u8>, expected: Value) -> Self {
        Self { kind, response, expected, ..self }
    }

    fn row(self, index: usize) -> Row {
        let Self { api, method, host, target, request, status, kind, response, expected } = self;
        let model = serde_json::from_slice::<Value>(&request).unwrap_or_default()["model"].as_str().map(str::to_owned);
        let of_kind = |kind: &str, body| Message { headers: vec![("content-type".to_owned(), kind.to_owned())], body };
        let response = of_kind(kind, response);
        Row {
            index,
            name: format!("own {index}"),
            api: api.to_owned(),
            method: method.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            request: if request.is_empty() { Message::default() } else { of_kind(JSON, request) },
            status,
            want: Want::of(api, model, status, &response, &expected),
            response,
        }
    }
}

const JSON: &str = "application/json";

const DONE: &str = "data: [DONE]\n\n";

fn openai_chat() -> Exchange {
    let request = json!({"model": "gpt-x", "messages": [{"role": "user", "content": "weather in Köln?"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]});
    let call = json!({"id": "call_1", "type": "function",
        "function": {"name": "weather", "arguments": "{\"city\": \"Köln\"}"}});
    let response = json!({"id": "chatcmpl-own1", "object": "chat.completion", "created": 1, "model": "gpt-x-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": null, "tool_calls": [call]},
            "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42,
            "prompt_tokens_details": {"cached_tokens": 16}, "completion_tokens_details": {"reasoning_tokens": 0}}});
    let expected = json!({"id": "chatcmpl-own1", "response_model": "gpt-x-1", "finish_reasons": ["tool_calls"],
        "tool_calls": 1, "usage": {"input": 30, "output": 12, "cache_read": 16, "reasoning": 0}});
    Exchange::post("openai.chat", "api.openai.com", "/v1/chat/completions", request).answer(&response, expected)
}

fn openai_chat_stream() -> Exchange {
    let request = json!({"model": "gpt-x", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "count to three"}]});
    let chunk = |choices: Value, usage: Value| {
        let data = json!({"id": "chatcmpl-own2", "object": "chat.completion.chunk", "model": "gpt-x-1",
            "choices": choices, "usage": usage});
        ("", data)
    };
    let delta = |text: &str| chunk(json!([{"index": 0, "delta": {"content": text}}]), Value::Null);
    let events = [
        chunk(json!([{"index": 0, "delta": {"role": "assistant", "content": ""}}]), Value::Null),
        delta("one, "),
        delta("two, "),
        delta("drei \u{2028}"),
        chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), Value::Null),
        chunk(json!([]), json!({"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16})),
    ];
    let expected = json!({"id": "chatcmpl-own2", "response_model": "gpt-x-1", "finish_reasons": ["stop"],
        "usage": {"input": 9, "output": 7}});
    Exchange::post("openai.chat", "api.openai.com", "/v1/chat/completions", request).stream(&events, DONE, expected)
}

fn openai_error() -> Exchange {
    let request = json!({"model": "gpt-x", "messages": [{"role": "user", "content": "hello"}]});
    let error = json!({"message": "too many requests", "type": "requests", "code": "rate_limit_exceeded"});
    let exchange = Exchange::post("openai.chat", "api.openai.com", "/v1/chat/completions", request);
    Exchange { status: 429, ..exchange.answer(&json!({"error": error}), json!({"error": error})) }
}

fn responses() -> Exchange {
    let request = json!({"model": "gpt-x", "input": "what is in the picture?"});
    let response = json!({"id": "resp_own1", "object": "response", "status": "incomplete", "model": "gpt-x-1",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a cat on"}]}],
        "usage": {"input_tokens": 80, "input_tokens_details": {"cached_tokens": 64}, "output_tokens": 16,
            "output_tokens_details": {"reasoning_tokens": 10}, "total_tokens": 96}});
    let expected = json!({"id": "resp_own1", "response_model": "gpt-x-1", "finish_reasons": ["incomplete"],
        "usage": {"input": 80, "output": 16, "cache_read": 64, "reasoning": 10}});
    Exchange::post("openai.responses", "api.openai.com", "/v1/responses", request).answer(&response, expected)
}

fn responses_stream() -> Exchange {
    let request = json!({"model": "gpt-x", "input": "weather?", "stream": true});
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather",
        "arguments": "{\"city\":\"Bonn\"}", "status": "completed"});
    let started = json!({"id": "resp_own2", "object": "response", "status": "in_progress", "model": "gpt-x-1",
        "output": [], "usage": null});
    let ended = json!({"id": "resp_own2", "object": "response", "status": "completed", "model": "gpt-x-1",
        "output": [call], "usage": {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 8, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 28}});
    let event = |name, mut data: Value| {
        data["type"] = json!(name);
        (name, data)
    };
    let events = [
        event("response.created", json!({"response": started})),
        event("response.in_progress", json!({"response": started})),
        event(
            "response.output_item.added",
            json!({"output_index": 0, "item": {"type": "function_call", "id": "fc_1",
            "call_id": "call_1", "name": "weather", "arguments": ""}}),
        ),
        event(
            "response.function_call_arguments.delta",
            json!({"output_index": 0, "item_id": "fc_1", "delta": "{\"city\""}),
        ),
        event(
            "response.function_call_arguments.delta",
            json!({"output_index": 0, "item_id": "fc_1", "delta": ":\"Bonn\"}"}),
        ),
        event("response.output_item.done", json!({"output_index": 0, "item": call})),
        event("response.completed", json!({"response": ended})),
    ];
    let expected = json!({"id": "resp_own2", "response_model": "gpt-x-1", "finish_reasons": ["completed"],
        "tool_calls": 1, "usage": {"input": 20, "output": 8, "cache_read": 0, "reasoning": 0}});
    Exchange::post("openai.responses", "api.openai.com", "/v1/responses", request).stream(&events, "", expected)
}

fn anthropic() -> Exchange {
    let request = json!({"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]});
    let response = json!({"id": "msg_own1", "type": "message", "role": "assistant", "model": "claude-x-1",
        "content": [{"type": "text", "text": "Hello."}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 4, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 2000,
            "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40}, "output_tokens": 3}});
    let expected = json!({"id": "msg_own1", "response_model": "claude-x-1", "finish_reasons": ["end_turn"],
        "usage": {"input_uncached": 4, "input": 2104, "output": 3, "cache_read": 2000, "cache_write": 100}});
    Exchange::post("anthropic.messages", "api.anthropic.com", "/v1/messages", request).answer(&response, expected)
}

fn anthropic_stream_request() -> Value {
    json!({"model": "claude-x", "max_tokens": 100, "stream": true, "messages": [{"role": "user", "content": "weather?"}]})
}

fn anthropic_stream() -> Exchange {
    let message = json!({"id": "msg_own2", "type": "message", "role": "assistant", "model": "claude-x-1",
        "content": [], "stop_reason": null, "usage": {"input_tokens": 11, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0, "output_tokens": 1}});
    let event = |name, mut data: Value| {
        data["type"] = json!(name);
        (name, data)
    };
    let arguments = |part| {
        event("content_block_delta", json!({"index": 0, "delta": {"type": "input_json_delta", "partial_json": part}}))
    };
    let events = [
        event("message_start", json!({"message": message})),
        event(
            "content_block_start",
            json!({"index": 0, "content_block": {"type": "tool_use", "id": "toolu_1",
            "name": "weather", "input": {}}}),
        ),
        event("ping", json!({})),
        arguments("{\"city\": "),
        arguments("\"Aachen\"}"),
        event("content_block_stop", json!({"index": 0})),
        event(
            "message_delta",
            json!({"delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"input_tokens": 12, "output_tokens": 25}}),
        ),
        event("message_stop", json!({})),
    ];
    let expected = json!({"id": "msg_own2", "response_model": "claude-x-1", "finish_reasons": ["tool_use"],
        "tool_calls": 1, "usage": {"input": 12, "output": 25, "cache_read": 0, "cache_write": 0}});
    Exchange::post("anthropic.messages", "api.anthropic.com", "/v1/messages", anthropic_stream_request())
        .stream(&events, "", expected)
}

/// An error after the status said that all is well.
fn anthropic_stream_that_fails() -> Exchange {
    let exchange = anthropic_stream();
    let events = String::from_utf8_lossy(&exchange.response).replace("msg_own2", "msg_own3");
    let kept: String = events.split_inclusive("\n\n").take(4).collect();
    let error = json!({"type": "overloaded_error", "message": "Overloaded"});
    let last = json!({"type": "error", "error": error});
    let want = json!({"id": "msg_own3", "response_model": "claude-x-1", "error": error, "sse_events": 5});
    Exchange::post("anthropic.messages", "api.anthropic.com", "/v1/messages", anthropic_stream_request()).body(
        "text/event-stream",
        format!("{kept}event: error\ndata: {last}\n\n").into_bytes(),
        want,
    )
}

const GEMINI: &str = "generativelanguage.googleapis.com";

fn gemini_request() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "why?"}]}], "generationConfig": {"temperature": 0.5}})
}

fn gemini_expected(id: &str) -> Value {
    json!({"id": id, "response_model": "gemini-x-001", "finish_reasons": ["STOP"], "usage": {"input": 10,
        "tool_input": 5, "candidates": 4, "reasoning": 30, "cache_read": 8}})
}

fn gemini_chunk(id: &str, text: &str, finish: Value, usage: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish, "index": 0}],
        "usageMetadata": usage, "modelVersion": "gemini-x-001", "responseId": id})
}

fn gemini_usage() -> Value {
    json!({"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "candidatesTokenCount": 4, "thoughtsTokenCount": 30,
        "cachedContentTokenCount": 8, "totalTokenCount": 49})
}

fn gemini() -> Exchange {
    let response = gemini_chunk("own-g1", "Because.", json!("STOP"), gemini_usage());
    Exchange::post("gemini.generate", GEMINI, "/v1beta/models/gemini-x:generateContent", gemini_request())
        .answer(&response, gemini_expected("own-g1"))
}

fn gemini_chunks(id: &str) -> [Value; 2] {
    let early = json!({"promptTokenCount": 10, "candidatesTokenCount": 1, "totalTokenCount": 11});
    [gemini_chunk(id, "Be", Value::Null, early), gemini_chunk(id, "cause.", json!("STOP"), gemini_usage())]
}

fn gemini_stream() -> Exchange {
    let target = "/v1beta/models/gemini-x:streamGenerateContent?alt=sse";
    let exchange = Exchange::post("gemini.generate", GEMINI, target, gemini_request());
    let events = gemini_chunks("own-g2").map(|chunk| ("", chunk));
    let exchange = exchange.stream(&events, "", gemini_expected("own-g2"));
    // This API ends its lines with CRLF.
    let response = String::from_utf8_lossy(&exchange.response).replace('\n', "\r\n").into_bytes();
    Exchange { response, ..exchange }
}

/// Without `alt=sse` a stream is one array.
fn gemini_array() -> Exchange {
    let [first, last] = gemini_chunks("own-g3");
    let array = format!("[{first:#}\n,\r\n{last:#}\n]").into_bytes();
    let mut expected = gemini_expected("own-g3");
    expected["documents"] = json!(2);
    let target = "/v1beta/models/gemini-x:streamGenerateContent";
    Exchange::post("gemini.generate", GEMINI, target, gemini_request()).body(JSON, array, expected)
}

const BEDROCK: &str = "bedrock-runtime.us-east-1.amazonaws.com";

fn converse_request() -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}], "inferenceConfig": {"maxTokens": 50}})
}

fn converse() -> Exchange {
    let response = json!({"output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
        "stopReason": "end_turn", "metrics": {"latencyMs": 120},
        "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 29, "cacheReadInputTokens": 20,
            "cacheReadInputTokenCount": 20, "cacheWriteInputTokens": 1, "cacheWriteInputTokenCount": 1}});
    let expected = json!({"finish_reasons": ["end_turn"],
        "usage": {"input": 3, "output": 5, "cache_read": 20, "cache_write": 1}});
    Exchange::post("bedrock.converse", BEDROCK, "/model/us.vendor.model-v1:0/converse", converse_request())
        .answer(&response, expected)
}

fn converse_stream() -> Exchange {
    let frames = [
        event_frame("messageStart", &json!({"role": "assistant", "p": "abc"})),
        event_frame("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "Hel"}, "p": "abcdef"})),
        event_frame("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "lo."}, "p": "a"})),
        event_frame("contentBlockStop", &json!({"contentBlockIndex": 0, "p": "ab"})),
        event_frame("messageStop", &json!({"stopReason": "max_tokens", "p": "abcd"})),
        event_frame(
            "metadata",
            &json!({"usage": {"inputTokens": 7, "outputTokens": 50, "totalTokens": 57},
            "metrics": {"latencyMs": 300}, "p": "abcde"}),
        ),
    ];
    let expected = json!({"finish_reasons": ["max_tokens"], "frames": 6, "usage": {"input": 7, "output": 50}});
    let target = "/model/us.vendor.model-v1%3A0/converse-stream";
    Exchange::post("bedrock.converse_stream", BEDROCK, target, converse_request()).body(
        "application/vnd.amazon.eventstream",
        frames.concat(),
        expected,
    )
}

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

fn cohere() -> Exchange {
    let response = json!({"id": "own-co1", "finish_reason": "COMPLETE", "usage": cohere_usage(),
        "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]}});
    Exchange::post("cohere.chat", "api.cohere.com", "/v2/chat", cohere_request(false))
        .answer(&response, cohere_expected("own-co1"))
}

fn cohere_stream() -> Exchange {
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
fn ollama_stream() -> Exchange {
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

fn embeddings() -> Exchange {
    let request = json!({"model": "embed-x", "input": ["one", "two"]});
    let vector = |index| json!({"object": "embedding", "index": index, "embedding": [0.25, -0.5, 1e-3]});
    let response = json!({"object": "list", "model": "embed-x-1", "data": [vector(0), vector(1)],
        "usage": {"prompt_tokens": 4, "total_tokens": 4}});
    let expected = json!({"response_model": "embed-x-1", "usage": {"input": 4, "total": 4}});
    Exchange::post("embeddings", "api.openai.com", "/v1/embeddings", request).answer(&response, expected)
}

/// Holds a usage object and is no call.
fn batch_that_is_polled() -> Exchange {
    let response = json!({"id": "batch_own1", "object": "batch", "status": "completed", "model": "gpt-x-1",
        "usage": {"input_tokens": 1000, "output_tokens": 2000, "total_tokens": 3000}});
    let exchange = Exchange::post("mgmt", "api.openai.com", "/v1/batches/batch_own1", Value::Null);
    Exchange { method: "GET", request: Vec::new(), ..exchange.answer(&response, json!({"n_objs": 1})) }
}

fn token() -> Exchange {
    let request = json!({"grant_type": "client_credentials"});
    let response = json!({"access_token": "not-a-token", "expires_in": 3599, "token_type": "Bearer"});
    Exchange::post("other", "oauth2.googleapis.com", "/token", request).answer(&response, json!({"n_objs": 1}))
}

/// A frame of Amazon's event stream: lengths, their CRC, headers, payload, the CRC of it all.
fn event_frame(event: &str, payload: &Value) -> Vec<u8> {
    const STRING: u8 = 7;
    let mut headers = Vec::new();
    for (name, value) in [(":event-type", event), (":content-type", JSON), (":message-type", "event")] {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(STRING);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    // The two lengths, and three CRCs or lengths of four bytes.
    let total = 16 + headers.len() + payload.len();
    let mut frame = [(total as u32).to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    frame.extend_from_slice(&crc32(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload.as_bytes());
    frame.extend_from_slice(&crc32(&frame).to_be_bytes());
    frame
}

/// CRC-32 as in gzip (RFC 1952 8).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_and_hold_calls_and_negatives() {
        let rows = rows();
        assert!(rows.iter().enumerate().all(|(at, row)| row.index == at));
        let negatives = rows.iter().filter(|row| row.want == Want::NoCall).count();
        let calls = rows.iter().filter(|row| matches!(row.want, Want::Call(_))).count();
        assert_eq!((negatives, negatives + calls), (2, rows.len()));
    }

    #[test]
    fn a_frame_has_the_lengths_and_sums_that_it_says() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let frame = event_frame("metadata", &json!({}));
        assert_eq!(frame[..4], (frame.len() as u32).to_be_bytes());
        let (all, sum) = frame.split_at(frame.len() - 4);
        assert_eq!(sum, crc32(all).to_be_bytes());
        assert!(all.ends_with(b"\x00\x05event{}"));
    }
}
