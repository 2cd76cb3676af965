//! OpenAI: chat, responses, embeddings.

use serde_json::{Value, json};

use super::{DONE, Exchange};

pub(super) fn chat() -> Exchange {
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

pub(super) fn chat_stream() -> Exchange {
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

pub(super) fn error() -> Exchange {
    let request = json!({"model": "gpt-x", "messages": [{"role": "user", "content": "hello"}]});
    let error = json!({"message": "too many requests", "type": "requests", "code": "rate_limit_exceeded"});
    let exchange = Exchange::post("openai.chat", "api.openai.com", "/v1/chat/completions", request);
    Exchange { status: 429, ..exchange.answer(&json!({"error": error}), json!({"error": error})) }
}

pub(super) fn responses() -> Exchange {
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

pub(super) fn responses_stream() -> Exchange {
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

pub(super) fn embeddings() -> Exchange {
    let request = json!({"model": "embed-x", "input": ["one", "two"]});
    let vector = |index| json!({"object": "embedding", "index": index, "embedding": [0.25, -0.5, 1e-3]});
    let response = json!({"object": "list", "model": "embed-x-1", "data": [vector(0), vector(1)],
        "usage": {"prompt_tokens": 4, "total_tokens": 4}});
    let expected = json!({"response_model": "embed-x-1", "usage": {"input": 4, "total": 4}});
    Exchange::post("embeddings", "api.openai.com", "/v1/embeddings", request).answer(&response, expected)
}
