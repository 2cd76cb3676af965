//! Cohere's chat in both versions.

use super::*;

const V2: &str = "/v2/chat";

fn run(path: &str, request: Value, response: String) -> Outcome {
    let request = request.to_string();
    checked(&Exchange { path, request, response, content: Some(10_000), ..Exchange::default() })
}

fn request() -> Value {
    json!({"model": "command", "messages": [{"role": "user", "content": "hi"}], "stream": true})
}

fn event(kind: &str, index: u32, message: Value) -> Value {
    json!({"type": kind, "index": index, "delta": {"message": message}})
}

fn end() -> Value {
    let usage = json!({"billed_units": {"input_tokens": 10, "output_tokens": 4}, "tokens": {"input_tokens": 505, "output_tokens": 7,
        "reasoning_tokens": 2}, "cached_tokens": 448});
    json!({"type": "message-end", "id": "m1", "delta": {"finish_reason": "TOOL_CALL", "usage": usage}})
}

#[test]
fn done_sentinel_and_cached_above_billed() {
    let call = |arguments: &str| json!({"tool_calls": {"function": {"arguments": arguments}}});
    let documents = [
        json!({"id": "m1", "type": "message-start", "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}}}),
        event("content-start", 0, json!({"content": {"type": "thinking", "thinking": ""}})),
        event("content-delta", 0, json!({"content": {"thinking": "hm"}})),
        event("content-end", 0, json!({})),
        event("content-delta", 1, json!({"content": {"text": "a"}})),
        event("citation-start", 0, json!({"citations": {"text": "not the answer", "start": 0}})),
        event("tool-plan-delta", 0, json!({"tool_plan": "look it up"})),
        event(
            "tool-call-start",
            0,
            json!({"tool_calls": {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}}),
        ),
        event("tool-call-delta", 0, call("{\"a\":")),
        event("tool-call-delta", 0, call("1}")),
        event("tool-call-end", 0, json!({})),
        end(),
    ];
    let outcome = run(V2, request(), named(&documents) + "data: [DONE]\n\n");
    assert_eq!(carrying(&outcome), [false, false, true, false, true, false, true, true, true, true, false, false]);
    let expect = Usage {
        input: Some(10),
        output: Some(4),
        cache_read: Some(448),
        reasoning: Some(2),
        processed_input: Some(505),
        processed_output: Some(7),
        ..Usage::default()
    };
    assert_eq!((outcome.facts.usage, outcome.finished), (expect, true));
    assert_eq!(
        (outcome.facts.response.id.as_deref(), outcome.facts.response.tool_calls.as_slice()),
        (Some("m1"), &["f".to_owned()][..])
    );
    let parts = json!([{"type": "reasoning", "content": "hmlook it up"}, {"type": "text", "content": "a"},
        {"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}}]);
    assert_eq!(output(&outcome), json!([{"role": "assistant", "parts": parts, "finish_reason": "tool_call"}]));
    assert_eq!((outcome.facts.api, outcome.facts.provider), ("cohere.chat", "cohere"));
}

#[test]
fn plain_answer() {
    let answer = json!({"id": "m1", "message": {"role": "assistant", "content": [{"type": "text", "text": "a"}], "tool_plan": "p",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}, {"id": "c2", "function": {"name": "g", "arguments": "{}"}}]},
        "finish_reason": "COMPLETE", "usage": {"billed_units": {"input_tokens": 1, "output_tokens": 2}}});
    let request = json!({"model": "command", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "tool_plan": "hm", "tool_calls": [{"id": "c0", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c0", "content": "42"}], "p": 0.9, "k": 3, "stop_sequences": ["END"], "response_format": {"type": "json_object"}});
    let outcome = run(V2, request, answer.to_string());
    assert_eq!(
        (counted(&outcome), outcome.facts.response.tool_calls.as_slice()),
        ((Some(1), Some(2)), &["f".to_owned(), "g".into()][..])
    );
    let RequestFacts { top_p, top_k, stop_sequences, output_type, message_count, .. } = &outcome.facts.request;
    assert_eq!((*top_p, *top_k, *output_type, *message_count), (Some(0.9), Some(3.0), Some("json"), Some(3)));
    assert_eq!((stop_sequences.as_slice(), outcome.finished), (&["END".to_owned()][..], true));
    assert_eq!(ordered(&outcome)[2]["parts"], json!([{"type": "tool_call_response", "id": "c0", "response": "42"}]));
}

#[test]
fn errors_are_a_message() {
    let error = json!({"id": "e1", "message": "invalid request"}).to_string();
    let refused = checked(&Exchange {
        path: V2,
        request: request().to_string(),
        status: 401,
        response: error,
        ..Exchange::default()
    });
    assert_eq!(
        (refused.facts.error, refused.facts.response.id, refused.finished),
        (None, None, false),
        "the status says more"
    );
    let failed = json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "m"}});
    let failed = run(V2, request(), named(&[failed]));
    assert_eq!((failed.facts.error.as_deref(), failed.finished), (Some("_OTHER"), false));
}

#[test]
fn v1_chat_in_lines() {
    let request = json!({"message": "hi", "model": "command-r", "chat_history": [{"role": "USER", "message": "a"}, {"role": "CHATBOT", "message": "b"}],
        "preamble": "be brief", "stream": true});
    let call = json!([{"name": "f", "parameters": {"a": [1]}}]);
    let answer = json!({"response_id": "r1", "generation_id": "g1", "text": "ab", "tool_calls": call, "finish_reason": "COMPLETE",
        "meta": {"billed_units": {"input_tokens": 3, "output_tokens": 4}, "tokens": {"input_tokens": 70, "output_tokens": 4}}});
    let lines = [
        json!({"is_finished": false, "event_type": "stream-start", "generation_id": "g1"}),
        json!({"is_finished": false, "event_type": "text-generation", "text": "a"}),
        json!({"is_finished": false, "event_type": "text-generation", "text": "b"}),
        json!({"is_finished": false, "event_type": "tool-calls-generation", "tool_calls": call}),
        json!({"is_finished": true, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": answer}),
    ];
    let response: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let exchange = Exchange {
        path: "/v1/chat",
        request: request.to_string(),
        content_type: Some("application/stream+json"),
        response,
        content: Some(10_000),
        ..Exchange::default()
    };
    let outcome = checked(&exchange);
    assert_eq!(
        (carrying(&outcome), outcome.is_stream, outcome.finished),
        (vec![false, true, true, true, false], true, true)
    );
    assert_eq!((counted(&outcome), outcome.facts.usage.processed_input), ((Some(3), Some(4)), Some(70)));
    assert_eq!(
        (outcome.facts.response.id.as_deref(), outcome.facts.response.tool_calls.as_slice()),
        (Some("g1"), &["f".to_owned()][..])
    );
    assert_eq!(outcome.facts.request.message_count, Some(3));
    let parts = json!([{"type": "text", "content": "ab"}, {"type": "tool_call", "name": "f", "arguments": {"a": [1]}}]);
    assert_eq!(output(&outcome)[0]["parts"], parts);
    assert_eq!(ordered(&outcome)[1]["role"], "user", "after the preamble");
}

#[test]
fn v1_generate() {
    let answer = json!({"id": "x1", "prompt": "hi", "generations": [{"id": "g1", "text": "a", "finish_reason": "MAX_TOKENS"}],
        "meta": {"billed_units": {"input_tokens": 1, "output_tokens": 2}}});
    let outcome = run("/v1/generate", json!({"model": "command", "prompt": "hi", "max_tokens": 2}), answer.to_string());
    assert_eq!(
        (outcome.facts.api, outcome.facts.operation, counted(&outcome)),
        ("cohere.generate", "text_completion", (Some(1), Some(2)))
    );
    assert_eq!(
        (outcome.facts.response.finish_reasons.as_slice(), outcome.finished),
        (&["MAX_TOKENS".to_owned()][..], true)
    );
}
