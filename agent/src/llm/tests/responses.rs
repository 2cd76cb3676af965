//! The Responses API.

use super::*;

const RESPONSES: &str = "/v1/responses";

fn request() -> String {
    json!({"model": "gpt", "input": "hi", "stream": true}).to_string()
}

fn exchange(request: Value, response: String) -> Outcome {
    let request = request.to_string();
    checked(&Exchange { path: RESPONSES, request, response, content: Some(10_000), ..Exchange::default() })
}

fn stream(documents: &[Value]) -> Outcome {
    let response = named(documents);
    checked(&Exchange { path: RESPONSES, request: request(), response, content: Some(10_000), ..Exchange::default() })
}

fn response(status: &str, output: Value, usage: Value) -> Value {
    json!({"id": "resp_1", "object": "response", "status": status, "model": "gpt-1", "error": null, "output": output,
        "incomplete_details": null, "usage": usage})
}

fn state(kind: &str, response: Value) -> Value {
    json!({"type": kind, "response": response, "sequence_number": 0})
}

fn piece(kind: &str, output_index: u32, text: &str) -> Value {
    json!({"type": kind, "item_id": "i", "output_index": output_index, "content_index": 0, "delta": text, "obfuscation": "Xq"})
}

fn message(text: &str) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "annotations": [], "text": text}]})
}

fn counts() -> Value {
    json!({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1}, "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14})
}

#[test]
fn plain_response_gives_everything() {
    let call = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}", "id": "fc_1"});
    let thought = json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]});
    let mut answer = response("completed", json!([thought, message("hello"), call]), counts());
    answer["service_tier"] = json!("flex");
    answer["tool_usage"] = json!({"web_search": {"num_requests": 3}});
    let request = json!({"input": [{"role": "user", "content": "hi"}], "model": "gpt", "instructions": "be brief",
        "max_output_tokens": 7, "temperature": 0.5, "top_p": 1, "service_tier": "auto", "previous_response_id": "resp_0",
        "conversation": {"id": "conv_1"}, "text": {"format": {"type": "json_schema"}}, "tools": [{"type": "function"}]});
    let outcome = exchange(request, answer.to_string());
    let Facts { api, operation, request, response, usage, error, .. } = &outcome.facts;
    assert_eq!((*api, *operation, error.as_deref()), ("openai.responses", "chat", None));
    let expect = RequestFacts {
        model: Some("gpt".into()),
        max_tokens: Some(7),
        temperature: Some(0.5),
        top_p: Some(1.0),
        output_type: Some("json"),
        service_tier: Some("auto".into()),
        previous_response_id: Some("resp_0".into()),
        conversation_id: Some("conv_1".into()),
        message_count: Some(1),
        tool_count: Some(1),
        ..RequestFacts::default()
    };
    assert_eq!(*request, expect);
    assert_eq!((response.id.as_deref(), response.model.as_deref()), (Some("resp_1"), Some("gpt-1")));
    assert_eq!(
        (response.finish_reasons.as_slice(), response.tool_calls.as_slice()),
        (&["completed".into()][..], &["f".into()][..])
    );
    assert_eq!(response.service_tier.as_deref(), Some("flex"));
    let expect = Usage {
        input: Some(9),
        output: Some(5),
        cache_read: Some(4),
        cache_write: Some(1),
        reasoning: Some(2),
        total: Some(14),
        web_searches: Some(3),
        ..Usage::default()
    };
    assert_eq!(*usage, expect);
    assert_eq!((outcome.proof, outcome.finished, outcome.is_stream), (Proof::Request, true, false));
    assert_eq!(ordered(&outcome)[0], json!({"role": "system", "parts": [{"type": "text", "content": "be brief"}]}));
    let parts = json!([{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "hello"},
        {"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}}]);
    assert_eq!(output(&outcome), json!([{"role": "assistant", "parts": parts, "finish_reason": "tool_call"}]));
}

#[test]
fn responses_created_not_token() {
    let outcome = stream(&[
        state("response.created", response("in_progress", json!([]), Value::Null)),
        state("response.in_progress", response("in_progress", json!([]), Value::Null)),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "content": []}}),
        json!({"type": "response.content_part.added", "output_index": 0, "part": {"type": "output_text", "text": ""}}),
        piece("response.output_text.delta", 0, "hel"),
        piece("response.output_text.delta", 0, "lo"),
        json!({"type": "response.output_text.done", "output_index": 0, "text": "hello"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": message("hello")}),
        state("response.completed", response("completed", json!([message("hello")]), counts())),
    ]);
    assert_eq!(carrying(&outcome), [false, false, false, false, true, true, false, false, false]);
    assert_eq!((outcome.facts.usage.input, outcome.facts.usage.output), (Some(9), Some(5)));
    assert_eq!(outcome.facts.response.finish_reasons, ["completed"]);
    assert_eq!(output(&outcome)[0]["parts"], json!([{"type": "text", "content": "hello"}]), "nothing is taken twice");
    assert!(outcome.finished && outcome.is_stream);
}

#[test]
fn reasoning_and_calls_come_in_pieces() {
    let call = |arguments: &str| json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": arguments});
    let outcome = stream(&[
        piece("response.reasoning_summary_text.delta", 0, "hm"),
        json!({"item": call(""), "type": "response.output_item.added", "output_index": 1}),
        piece("response.function_call_arguments.delta", 1, "{\"a\""),
        piece("response.function_call_arguments.delta", 1, ":1}"),
        json!({"item": call("{\"a\":1}"), "type": "response.output_item.done", "output_index": 1}),
        piece("response.some_future.delta", 2, "x"),
        state(
            "response.completed",
            response("completed", json!([{"type": "reasoning", "summary": []}, call("{\"a\":1}")]), counts()),
        ),
    ]);
    assert_eq!(carrying(&outcome), [true, false, true, true, false, true, false]);
    assert_eq!(outcome.facts.response.tool_calls, ["f"]);
    let parts = json!([{"type": "reasoning", "content": "hm"}, {"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}}]);
    assert_eq!(output(&outcome)[0]["parts"], parts);
}

#[test]
fn a_stream_of_one_event_is_content_all_the_same() {
    let outcome = stream(&[state("response.completed", response("completed", json!([message("hello")]), counts()))]);
    assert_eq!((carrying(&outcome), output(&outcome)[0]["parts"][0]["content"].clone()), (vec![true], json!("hello")));
}

#[test]
fn background_is_answered_before_it_is_done() {
    let request = json!({"model": "gpt", "input": "hi", "background": true});
    let outcome = exchange(request, response("queued", json!([]), Value::Null).to_string());
    assert_eq!((outcome.facts.usage, outcome.facts.response.finish_reasons.len()), (Usage::default(), 0));
    assert!(outcome.finished && outcome.facts.error.is_none());
}

#[test]
fn incomplete_says_why() {
    let mut end = response("incomplete", json!([message("a")]), counts());
    end["incomplete_details"] = json!({"reason": "max_output_tokens"});
    let outcome = stream(&[piece("response.output_text.delta", 0, "a"), state("response.incomplete", end)]);
    assert_eq!(outcome.facts.response.finish_reasons, ["max_output_tokens"]);
    assert_eq!(output(&outcome)[0]["finish_reason"], "length");
    assert!(outcome.finished);
}

#[test]
fn error_inside_200() {
    let mut end = response("failed", json!([]), Value::Null);
    end["error"] = json!({"code": "rate_limit_exceeded", "message": "m"});
    let failed = stream(&[state("response.failed", end)]);
    assert_eq!(failed.facts.error.as_deref(), Some("rate_limit_exceeded"));
    assert!(!failed.finished);
    let event = stream(&[json!({"type": "error", "code": "server_error", "message": "m", "param": null})]);
    assert_eq!(event.facts.error.as_deref(), Some("server_error"));
    let nested =
        stream(&[json!({"type": "error", "error": {"type": "invalid_request_error", "code": null, "message": "m"}})]);
    assert_eq!(nested.facts.error.as_deref(), Some("invalid_request_error"));
}

#[test]
fn codex_backend_path() {
    let path = "/backend-api/codex/responses";
    let request = json!({"model": "gpt", "instructions": "i", "input": [{"type": "message", "role": "user", "content": [
        {"type": "input_text", "text": "hi"}]}], "stream": true, "store": false});
    let response = named(&[state("response.completed", response("completed", json!([message("a")]), counts()))]);
    let outcome = checked(&Exchange {
        path,
        host: Some("chatgpt.com"),
        request: request.to_string(),
        response,
        ..Exchange::default()
    });
    assert_eq!(
        (outcome.facts.api, outcome.facts.provider, outcome.proof),
        ("openai.responses", "openai", Proof::Request)
    );
}

#[test]
fn input_items_of_every_kind() {
    let request = json!({"model": "gpt", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "https://h/a.png"},
            {"type": "input_file", "file_id": "file-1"}, {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "AAAA"},
        {"arguments": "{\"k\":1}", "name": "f", "type": "function_call", "call_id": "c1"},
        {"output": "42", "call_id": "c1", "type": "function_call_output"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "43"}]},
    ]});
    let outcome = exchange(request, String::new());
    let expect = json!([
        {"role": "user", "parts": [{"type": "text", "content": "look"}, {"type": "uri", "modality": "image", "uri": "https://h/a.png"},
            {"type": "file", "modality": "document", "file_id": "file-1"},
            {"type": "blob", "modality": "document", "content": "", "mime_type": "application/pdf", "size": 3}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {"k": 1}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c2", "response": "43"}]},
    ]);
    assert_eq!(ordered(&outcome), expect);
}

#[test]
fn counting_and_compacting_are_no_answers() {
    let of = |path, response: Value| {
        let request = json!({"model": "gpt", "input": "hi"}).to_string();
        checked(&Exchange { path, request, response: response.to_string(), ..Exchange::default() })
    };
    let counted = of("/v1/responses/input_tokens", json!({"object": "response.input_tokens", "input_tokens": 11}));
    assert_eq!((counted.facts.operation, counted.facts.response.counted_tokens), ("count_tokens", Some(11)));
    assert_eq!((counted.facts.usage, counted.finished), (Usage::default(), true));
    let compacted = of(
        "/v1/responses/compact",
        json!({"id": "resp_2", "object": "response.compaction", "output": [], "usage": counts()}),
    );
    assert_eq!(
        (compacted.facts.operation, compacted.facts.usage.output, compacted.finished),
        ("compact", Some(5), true)
    );
}

#[test]
fn xai_says_what_it_cost() {
    let usage = json!({"input_tokens": 2, "output_tokens": 3, "cost_in_usd_ticks": 6306000});
    let outcome =
        exchange(json!({"model": "grok", "input": "hi"}), response("completed", json!([]), usage).to_string());
    assert_eq!(outcome.facts.response.reported_cost, Some(0.0006306));
}

#[test]
fn a_form_with_responses_is_no_model_call() {
    let of = |request: Value, response: Value| exchange(request, response.to_string()).proof;
    assert_eq!(of(json!({"input": [1, 2]}), json!({"ok": true})), Proof::Refuted);
    assert_eq!(of(json!({"model": "x"}), json!({"object": "answer"})), Proof::Refuted);
    assert_eq!(of(json!({"input": "hi", "prompt": {"id": "pmpt_1"}}), json!({})), Proof::Request);
}
