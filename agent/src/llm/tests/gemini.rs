//! Gemini and Vertex.

use super::*;

const GENERATE: &str = "/v1beta/models/gemini-x:generateContent";
const STREAM: &str = "/v1beta/models/gemini-x:streamGenerateContent";

fn request() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})
}

fn run(path: &str, request: Value, response: String) -> Outcome {
    let request = request.to_string();
    checked(&Exchange { path, request, response, content: Some(10_000), ..Exchange::default() })
}

fn chunk(parts: Value, reason: Value, usage: Value) -> Value {
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": 0}], "usageMetadata": usage,
        "modelVersion": "gemini-x-1", "responseId": "r1"})
}

fn documents() -> [Value; 3] {
    [
        chunk(
            json!([{"text": "hm", "thought": true}]),
            Value::Null,
            json!({"promptTokenCount": 4, "totalTokenCount": 4}),
        ),
        chunk(
            json!([{"text": "a ü"}]),
            Value::Null,
            json!({"promptTokenCount": 4, "candidatesTokenCount": 1, "totalTokenCount": 5}),
        ),
        chunk(
            json!([{"text": "", "thoughtSignature": "AAAA"}]),
            json!("STOP"),
            json!({"promptTokenCount": 4, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 9}),
        ),
    ]
}

#[test]
fn crlf_no_done() {
    let response: String = documents().iter().map(|document| format!("data: {document}\r\n\r\n")).collect();
    let outcome = run(STREAM, request(), response);
    assert_eq!((carrying(&outcome), counted(&outcome)), (vec![true, true, false], (Some(4), Some(5))));
    assert_eq!((outcome.finished, outcome.is_stream), (true, true));
    let Facts { api, operation, request, response, .. } = &outcome.facts;
    assert_eq!((*api, *operation, request.stream), ("gemini.generate", "generate_content", Some(true)));
    assert_eq!((request.model.as_deref(), response.model.as_deref()), (Some("gemini-x"), Some("gemini-x-1")));
    let parts = json!([{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "a ü"}]);
    assert_eq!(output(&outcome), json!([{"role": "assistant", "parts": parts, "finish_reason": "stop"}]));
}

#[test]
fn array_stream_one_byte_reads() {
    let [a, b, c] = documents();
    let outcome = run(STREAM, request(), format!("[{a}\n,\r\n{b},\n{c}\n]\n"));
    assert_eq!((carrying(&outcome), counted(&outcome)), (vec![true, true, false], (Some(4), Some(5))));
    assert_eq!((outcome.finished, outcome.is_stream, outcome.malformed), (true, true, None));
    let error =
        run(STREAM, request(), r#"[{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}]"#.into());
    assert_eq!(error.facts.error.as_deref(), Some("RESOURCE_EXHAUSTED"));
}

#[test]
fn thoughts_outside_candidates() {
    let usage = json!({"promptTokenCount": 10, "candidatesTokenCount": 20, "thoughtsTokenCount": 30, "toolUsePromptTokenCount": 5,
        "cachedContentTokenCount": 8, "totalTokenCount": 65, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 6},
        {"tokenCount": 4, "modality": "IMAGE"}], "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 20}],
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 8}, {"modality": "VIDEO", "tokenCount": 1}], "serviceTier": "standard"});
    let outcome = run(GENERATE, request(), chunk(json!([{"text": "a"}]), json!("STOP"), usage).to_string());
    let expect = Usage {
        input: Some(15),
        output: Some(50),
        cache_read: Some(8),
        reasoning: Some(30),
        total: Some(65),
        text: Modality { input: Some(6), output: None, cache_read: Some(8) },
        image: Modality { input: Some(4), ..Modality::default() },
        audio: Modality { output: Some(20), ..Modality::default() },
        ..Usage::default()
    };
    assert_eq!((outcome.facts.usage, outcome.facts.usage.unattributed()), (expect, None));
    assert_eq!((outcome.finished, outcome.facts.request.stream), (true, Some(false)));
}

#[test]
fn integer_enums() {
    let of = |reason: Value| {
        run(GENERATE, request(), chunk(json!([{"text": "a"}]), reason, json!({"trafficType": 1})).to_string())
    };
    let reasons = |reason: Value| of(reason).facts.response.finish_reasons;
    assert_eq!(
        (reasons(json!(1)), reasons(json!(2)), reasons(json!(3))),
        (vec!["STOP".into()], vec!["MAX_TOKENS".into()], vec!["SAFETY".into()])
    );
    assert_eq!((reasons(json!(8)), reasons(json!(0))), (vec!["8".into()], vec![]));
}

#[test]
fn blocked_prompt() {
    let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}});
    let outcome = run(GENERATE, request(), blocked.to_string());
    assert_eq!(
        (outcome.facts.response.finish_reasons.as_slice(), counted(&outcome)),
        (&["PROHIBITED_CONTENT".to_owned()][..], (Some(3), None))
    );
    assert_eq!((outcome.finished, output(&outcome)[0]["finish_reason"].clone()), (true, json!("content_filter")));
}

#[test]
fn model_armor() {
    let outcome = run(GENERATE, request(), json!({"promptFeedback": {"blockReason": "MODEL_ARMOR"}}).to_string());
    assert_eq!(outcome.facts.response.finish_reasons, ["MODEL_ARMOR"]);
}

#[test]
fn calls_without_ids_are_each_their_own() {
    let call = |name: &str, args: Value| json!({"functionCall": {"name": name, "args": args}});
    let first = chunk(
        json!([call("f", json!({"a": {"b": {"c": [1.50, "x"]}}})), call("f", json!({}))]),
        Value::Null,
        json!({}),
    );
    let last = chunk(json!([{"functionCall": {"args": {"z": 1}, "name": "g", "id": "c3"}}]), json!("STOP"), json!({}));
    let outcome = run(STREAM, request(), format!("data: {first}\r\n\r\ndata: {last}\r\n\r\n"));
    assert_eq!(
        (outcome.facts.response.tool_calls.as_slice(), carrying(&outcome)),
        (&["f".to_owned(), "f".into(), "g".into()][..], vec![true, true])
    );
    let parts = json!([{"type": "tool_call", "name": "f", "arguments": {"a": {"b": {"c": [1.5, "x"]}}}},
        {"type": "tool_call", "name": "f", "arguments": {}}, {"type": "tool_call", "id": "c3", "name": "g", "arguments": {"z": 1}}]);
    // The reason is that of any answer: only the parts tell that it is a call.
    assert_eq!(output(&outcome), json!([{"role": "assistant", "parts": parts, "finish_reason": "tool_call"}]));
}

#[test]
fn request_in_both_spellings() {
    let request = json!({"system_instruction": {"parts": [{"text": "be brief"}]}, "generationConfig": {"temperature": 0.5, "topP": 0.9, "topK": 40,
        "maxOutputTokens": 7, "stopSequences": ["END"], "seed": 3, "candidateCount": 2, "presencePenalty": 0.1, "frequency_penalty": 0.2,
        "response_mime_type": "application/json"}, "tools": [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}, {"google_search": {}}],
        "contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}, {"text": "look"},
            {"file_data": {"mime_type": "video/mp4", "file_uri": "gs://b/a.mp4"}}], "role": "user"},
            {"role": "model", "parts": [{"thought": true, "text": "hm"}, {"functionCall": {"name": "f", "args": {"k": 1}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "id": "c1", "response": {"n": 42}}}]}]});
    let outcome = run(GENERATE, request, String::new());
    let expect = RequestFacts {
        model: Some("gemini-x".into()),
        stream: Some(false),
        max_tokens: Some(7),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40.0),
        frequency_penalty: Some(0.2),
        presence_penalty: Some(0.1),
        seed: Some(3),
        choice_count: Some(2),
        stop_sequences: vec!["END".into()],
        output_type: Some("json"),
        message_count: Some(3),
        tool_count: Some(3),
        ..RequestFacts::default()
    };
    assert_eq!((&outcome.facts.request, outcome.proof), (&expect, Proof::Request));
    let expect = json!([
        {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
        {"role": "user", "parts": [{"type": "blob", "modality": "image", "content": "", "mime_type": "image/png"},
            {"type": "text", "content": "look"}, {"type": "uri", "modality": "video", "uri": "gs://b/a.mp4"}]},
        {"role": "model", "parts": [{"type": "reasoning", "content": "hm"}, {"type": "tool_call", "name": "f", "arguments": {"k": 1}}]},
        {"role": "user", "parts": [{"type": "tool_call_response", "id": "c1", "response": {"n": 42}}]},
    ]);
    assert_eq!(ordered(&outcome), expect);
}

#[test]
fn counting_is_no_answer() {
    let request = json!({"generateContentRequest": request()});
    let outcome = run("/v1beta/models/g:countTokens", request, json!({"totalTokens": 8}).to_string());
    assert_eq!((outcome.facts.api, outcome.facts.response.counted_tokens), ("gemini.count_tokens", Some(8)));
    assert_eq!((outcome.facts.usage, outcome.proof, outcome.finished), (Usage::default(), Proof::Request, true));
}

#[test]
fn interactions_terminal_usage() {
    let step =
        |kind: &str, index: u32, key: &str, value: Value| json!({"event_type": kind, "index": index, key: value});
    let interaction = |status: &str, usage: Value| json!({"id": "v1_1", "status": status, "object": "interaction", "model": "gemini-x", "usage": usage});
    let usage = json!({"total_input_tokens": 10, "total_tool_use_tokens": 2, "total_output_tokens": 20, "total_thought_tokens": 30,
        "total_cached_tokens": 4, "total_tokens": 62});
    let documents = [
        json!({"event_type": "interaction.created", "interaction": interaction("in_progress", Value::Null)}),
        json!({"event_type": "interaction.status_update", "interaction_id": "v1_1", "status": "in_progress"}),
        step("step.start", 0, "step", json!({"type": "thought"})),
        step("step.delta", 0, "delta", json!({"type": "thought_summary", "content": {"type": "text", "text": "hm"}})),
        step("step.delta", 0, "delta", json!({"type": "thought_signature", "signature": "AAAA"})),
        step("step.delta", 1, "delta", json!({"type": "text", "text": "hello"})),
        step("step.start", 2, "step", json!({"type": "function_call", "id": "c1", "name": "f", "arguments": {}})),
        step("step.delta", 2, "delta", json!({"type": "arguments_delta", "arguments": "{\"a\":1}"})),
        step("step.stop", 2, "usage", Value::Null),
        json!({"event_type": "interaction.completed", "interaction": interaction("completed", usage)}),
    ];
    let request = json!({"model": "gemini-x", "input": "hi", "stream": true, "previous_interaction_id": "v1_0"});
    let outcome = run("/v1beta/interactions", request, named(&documents) + "event: done\ndata: [DONE]\n\n");
    assert_eq!(carrying(&outcome), [false, false, false, true, false, true, false, true, false, false]);
    let expect = Usage {
        input: Some(12),
        output: Some(50),
        cache_read: Some(4),
        reasoning: Some(30),
        total: Some(62),
        ..Usage::default()
    };
    assert_eq!((outcome.facts.usage, outcome.finished), (expect, true));
    let Facts { api, request, response, .. } = &outcome.facts;
    assert_eq!((*api, request.previous_response_id.as_deref()), ("gemini.interactions", Some("v1_0")));
    assert_eq!(
        (response.id.as_deref(), response.finish_reasons.as_slice()),
        (Some("v1_1"), &["completed".to_owned()][..])
    );
    assert_eq!(response.tool_calls, ["f"]);
    let parts = json!([{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "hello"},
        {"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}}]);
    assert_eq!(output(&outcome)[0]["parts"], parts);
}

#[test]
fn interactions_plain() {
    let answer = json!({"id": "v1_1", "object": "interaction", "status": "requires_action", "model": "gemini-x", "steps": [
        {"type": "thought", "signature": "AA", "summary": [{"type": "text", "text": "hm"}]},
        {"type": "model_output", "content": [{"type": "text", "text": "hello"}]},
        {"type": "function_call", "id": "c1", "name": "f", "arguments": {"a": [1]}}], "usage": {"total_input_tokens": 1, "total_output_tokens": 2}});
    let outcome = run(
        "/v1beta/interactions",
        json!({"model": "gemini-x", "input": [{"type": "text", "text": "hi"}]}),
        answer.to_string(),
    );
    assert_eq!(
        (counted(&outcome), outcome.facts.response.tool_calls.as_slice()),
        ((Some(1), Some(2)), &["f".to_owned()][..])
    );
    assert_eq!(output(&outcome)[0]["parts"][2]["arguments"], json!({"a": [1]}));
}

#[test]
fn what_vertex_predicts_proves_itself() {
    let path = "/v1/projects/p/locations/l/publishers/google/models/m:predict";
    let instances = json!({"instances": [{"content": "a"}], "parameters": {"outputDimensionality": 3}});
    let embedded = json!({"predictions": [{"embeddings": {"values": [0.1], "statistics": {"token_count": 4}}},
        {"embeddings": {"statistics": {"token_count": 5}, "values": [0.2]}}]});
    let outcome = run(path, instances.clone(), embedded.to_string());
    assert_eq!((outcome.facts.api, outcome.proof, counted(&outcome)), ("embeddings", Proof::Response, (Some(9), None)));
    assert_eq!(outcome.facts.request.dimensions, Some(3));
    assert_eq!(run(path, instances, json!({"predictions": [{"scores": [0.1]}]}).to_string()).proof, Proof::Refuted);
    let picture = run(
        path,
        json!({"instances": [{"prompt": "a cat"}]}),
        json!({"predictions": [{"bytesBase64Encoded": "AAAA"}]}).to_string(),
    );
    assert_eq!((picture.facts.api, picture.facts.operation), ("gemini.images", "image_generation"));
}
