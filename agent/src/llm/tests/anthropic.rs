//! Anthropic's messages, wherever they are served.

use super::*;

const MESSAGES: &str = "/v1/messages";

fn request() -> Value {
    json!({"model": "claude", "max_tokens": 64, "stream": true, "messages": [{"role": "user", "content": "hi"}]})
}

fn run(path: &str, request: Value, response: String) -> Outcome {
    let request = request.to_string();
    checked(&Exchange { path, request, response, content: Some(10_000), ..Exchange::default() })
}

fn start() -> Value {
    json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-1",
        "content": [], "stop_reason": null, "usage": {"input_tokens": 5, "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 3, "output_tokens": 1}}})
}

fn begin(index: u32, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn piece(index: u32, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn text(index: u32, text: &str) -> Value {
    piece(index, json!({"type": "text_delta", "text": text}))
}

fn end(stop_reason: &str, usage: Value) -> Value {
    json!({"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": null}, "usage": usage})
}

fn stop() -> Value {
    json!({"type": "message_stop"})
}

#[test]
fn message_delta_overrides() {
    let documents = [start(), text(0, "a"), end("end_turn", json!({"input_tokens": 6, "output_tokens": 9})), stop()];
    let outcome = run(MESSAGES, request(), named(&documents));
    let expect =
        Usage { input: Some(11), output: Some(9), cache_read: Some(3), cache_write: Some(2), ..Usage::default() };
    assert_eq!(outcome.facts.usage, expect);
    assert_eq!(
        (outcome.facts.response.id.as_deref(), outcome.facts.response.model.as_deref()),
        (Some("msg_1"), Some("claude-1"))
    );
    assert_eq!((carrying(&outcome), outcome.finished), (vec![false, true, false, false], true));
    assert_eq!((outcome.facts.api, outcome.facts.provider), ("anthropic.messages", "anthropic"));
}

#[test]
fn cut_stream_unknown_not_zero() {
    let outcome = run(MESSAGES, request(), named(&[start(), text(0, "a")]));
    // What the first event puts out is a placeholder.
    assert_eq!(counted(&outcome), (Some(10), None));
    assert!(!outcome.finished && outcome.facts.response.finish_reasons.is_empty());
}

#[test]
fn pings_thoughts_and_calls() {
    let outcome = run(
        MESSAGES,
        request(),
        named(&[
            start(),
            json!({"type": "ping"}),
            begin(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            piece(0, json!({"type": "thinking_delta", "thinking": "hm"})),
            piece(0, json!({"type": "signature_delta", "signature": "AAAA"})),
            begin(1, json!({"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}})),
            piece(1, json!({"type": "input_json_delta", "partial_json": "{\"query\":\"x\"}"})),
            begin(2, json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}})),
            piece(2, json!({"type": "input_json_delta", "partial_json": ""})),
            piece(2, json!({"type": "input_json_delta", "partial_json": "{\"a\":"})),
            piece(2, json!({"type": "input_json_delta", "partial_json": "1}"})),
            json!({"type": "content_block_stop", "index": 2}),
            end("tool_use", json!({"output_tokens": 9, "server_tool_use": {"web_search_requests": 1}})),
            stop(),
        ]),
    );
    let expect = [false, false, false, true, false, false, true, false, true, true, true, false, false, false];
    assert_eq!(carrying(&outcome), expect);
    assert_eq!(
        (outcome.facts.response.tool_calls.as_slice(), outcome.facts.usage.web_searches),
        (&["f".to_owned()][..], Some(1))
    );
    let parts = json!([{"type": "reasoning", "content": "hm"}, {"type": "tool_call", "id": "t1", "name": "f", "arguments": {"a": 1}}]);
    assert_eq!(output(&outcome), json!([{"role": "assistant", "parts": parts, "finish_reason": "tool_call"}]));
}

#[test]
fn bare_event_data() {
    let documents = [start(), text(0, "a"), end("end_turn", json!({"output_tokens": 2})), stop()];
    let response: String = documents.iter().map(|document| format!("event: data\ndata: {document}\n\n")).collect();
    let outcome = run(MESSAGES, request(), response);
    assert_eq!((counted(&outcome), outcome.finished), ((Some(10), Some(2)), true));
}

#[test]
fn pause_turn() {
    let outcome = run(
        MESSAGES,
        request(),
        named(&[start(), text(0, "a"), end("pause_turn", json!({"output_tokens": 2})), stop()]),
    );
    assert_eq!(outcome.facts.response.finish_reasons, ["pause_turn"]);
    assert!(outcome.finished);
}

#[test]
fn error_inside_200() {
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "req_1"});
    let outcome = run(MESSAGES, request(), named(&[start(), text(0, "a"), error]));
    assert_eq!((outcome.facts.error.as_deref(), outcome.finished), (Some("overloaded_error"), false));
}

#[test]
fn cache_1h_5m_split() {
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-1", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "a"}], "usage": {"input_tokens": 5, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}, "output_tokens": 2,
        "output_tokens_details": {"thinking_tokens": 1}, "service_tier": "standard"}});
    let outcome = run(MESSAGES, request(), answer.to_string());
    let expect = Usage {
        input: Some(12),
        output: Some(2),
        cache_read: Some(0),
        cache_write: Some(7),
        reasoning: Some(1),
        cache_write_5m: Some(3),
        cache_write_1h: Some(4),
        ..Usage::default()
    };
    assert_eq!((outcome.facts.usage, outcome.finished), (expect, true));
    assert_eq!(outcome.facts.response.service_tier.as_deref(), Some("standard"));
}

#[test]
fn plain_answer_with_a_call() {
    let answer = json!({"id": "m", "type": "message", "role": "assistant", "model": "claude-1", "stop_reason": "tool_use", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "AA"}, {"type": "text", "text": "so"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"at": "Bonn", "deep": {"list": [1, {"x": null}]}}},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"q": "x"}}], "usage": {"input_tokens": 1, "output_tokens": 2}});
    let outcome = run(MESSAGES, request(), answer.to_string());
    assert_eq!(outcome.facts.response.tool_calls, ["f"]);
    let call = json!({"type": "tool_call", "id": "t1", "name": "f", "arguments": {"at": "Bonn", "deep": {"list": [1, {"x": null}]}}});
    assert_eq!(
        output(&outcome)[0]["parts"],
        json!([{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "so"}, call])
    );
}

#[test]
fn messages_of_a_conversation() {
    let request = json!({"system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}], "model": "claude",
        "max_tokens": 5, "top_k": 3, "stop_sequences": ["\n", "END"], "metadata": {"user_id": "canary"}, "messages": [
        {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "document", "source": {"type": "url", "url": "https://h/a.pdf"}}, {"type": "text", "text": "look"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"k": [true]}}]},
        {"role": "user", "content": [{"content": "42", "type": "tool_result", "tool_use_id": "t1"},
            {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "43"}]}]}]});
    let outcome = run(MESSAGES, request, String::new());
    let RequestFacts { top_k, stop_sequences, max_tokens, message_count, .. } = &outcome.facts.request;
    assert_eq!((*top_k, *max_tokens, *message_count), (Some(3.0), Some(5), Some(3)));
    assert_eq!(stop_sequences, &["\n", "END"]);
    let expect = json!([
        {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
        {"role": "user", "parts": [{"type": "blob", "modality": "image", "content": "", "mime_type": "image/png"},
            {"type": "uri", "modality": "document", "uri": "https://h/a.pdf"}, {"type": "text", "content": "look"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "t1", "name": "f", "arguments": {"k": [true]}}]},
        {"role": "user", "parts": [{"type": "tool_call_response", "id": "t1", "response": "42"},
            {"type": "tool_call_response", "id": "t2", "response": "43"}]},
    ]);
    assert_eq!(ordered(&outcome), expect);
}

#[test]
fn counting_is_no_answer() {
    let request = json!({"model": "claude", "messages": []});
    let outcome = run("/v1/messages/count_tokens", request, json!({"input_tokens": 14}).to_string());
    assert_eq!((outcome.facts.api, outcome.facts.operation), ("anthropic.count_tokens", "count_tokens"));
    assert_eq!((outcome.facts.response.counted_tokens, outcome.facts.usage), (Some(14), Usage::default()));
}

#[test]
fn vertex_names_the_model_in_the_path() {
    let path = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-1@2025:streamRawPredict";
    let request = json!({"anthropic_version": "vertex-2023-10-16", "max_tokens": 5, "messages": []}).to_string();
    let response = named(&[start(), text(0, "a"), end("end_turn", json!({"output_tokens": 2})), stop()]);
    let host = Some("us-east5-aiplatform.googleapis.com");
    let outcome = checked(&Exchange { path, host, request, response, ..Exchange::default() });
    let Facts { api, provider, request, .. } = &outcome.facts;
    assert_eq!((*api, *provider), ("anthropic.messages", "gcp.vertex_ai"));
    assert_eq!((request.model.as_deref(), outcome.proof), (Some("claude-1@2025"), Proof::Request));
}

#[test]
fn proof_needs_more_than_messages() {
    let of = |headers, request: Value, response: &str| {
        let (request, response) = (request.to_string(), response.to_owned());
        Exchange { path: MESSAGES, headers, request, response, ..Exchange::default() }.run().proof
    };
    let chat = json!({"model": "m", "messages": [{"text": "hi"}]});
    assert_eq!(of(&[], chat.clone(), r#"{"type":"message","text":"hi"}"#), Proof::Refuted, "a chat program's own");
    assert_eq!(of(&[("anthropic-version", "2023-06-01")], chat.clone(), ""), Proof::Request);
    assert_eq!(of(&[], chat, r#"{"type":"message","role":"assistant","content":[]}"#), Proof::Response);
}

#[test]
fn legacy_complete() {
    let request = json!({"model": "claude-2", "prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 9, "stream": true});
    let event = |text: &str, reason: Value| json!({"type": "completion", "id": "compl_1", "completion": text, "stop_reason": reason, "model": "claude-2.1"});
    let outcome = run(
        "/v1/complete",
        request,
        named(&[event("a", Value::Null), event("b", Value::Null), event("", json!("stop_sequence"))]),
    );
    assert_eq!((outcome.facts.api, outcome.facts.operation), ("anthropic.complete", "text_completion"));
    assert_eq!((carrying(&outcome), outcome.finished), (vec![true, true, false], true));
    assert_eq!(output(&outcome)[0]["parts"], json!([{"type": "text", "content": "ab"}]));
}
