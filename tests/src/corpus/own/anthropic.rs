//! Anthropic: messages.

use serde_json::{Value, json};

use super::Exchange;

pub(super) fn message() -> Exchange {
    let request = json!({"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]});
    let response = json!({"id": "msg_own1", "type": "message", "role": "assistant", "model": "claude-x-1",
        "content": [{"type": "text", "text": "Hello."}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 4, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 2000,
            "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40}, "output_tokens": 3}});
    let expected = json!({"id": "msg_own1", "response_model": "claude-x-1", "finish_reasons": ["end_turn"],
        "usage": {"input_uncached": 4, "input": 2104, "output": 3, "cache_read": 2000, "cache_write": 100}});
    Exchange::post("anthropic.messages", "api.anthropic.com", "/v1/messages", request).answer(&response, expected)
}

fn stream_request() -> Value {
    json!({"model": "claude-x", "max_tokens": 100, "stream": true, "messages": [{"role": "user", "content": "weather?"}]})
}

pub(super) fn stream() -> Exchange {
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
    Exchange::post("anthropic.messages", "api.anthropic.com", "/v1/messages", stream_request())
        .stream(&events, "", expected)
}

/// An error after the status said that all is well.
pub(super) fn stream_that_fails() -> Exchange {
    let exchange = stream();
    let events = String::from_utf8_lossy(&exchange.response).replace("msg_own2", "msg_own3");
    let kept: String = events.split_inclusive("\n\n").take(4).collect();
    let error = json!({"type": "overloaded_error", "message": "Overloaded"});
    let last = json!({"type": "error", "error": error});
    let want = json!({"id": "msg_own3", "response_model": "claude-x-1", "error": error, "sse_events": 5});
    Exchange::post("anthropic.messages", "api.anthropic.com", "/v1/messages", stream_request()).body(
        "text/event-stream",
        format!("{kept}event: error\ndata: {last}\n\n").into_bytes(),
        want,
    )
}
