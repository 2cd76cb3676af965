//! Bedrock's Converse and Invoke, plain and in AWS event streams.

use super::*;
use crate::protocol::event_stream::testing::encode;

const CONVERSE: &str = "/model/eu.amazon.nova-lite-v1%3A0/converse";
const CONVERSE_STREAM: &str = "/model/eu.amazon.nova-lite-v1%3A0/converse-stream";
const FRAMES: Option<&str> = Some("application/vnd.amazon.eventstream");

fn request() -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]})
}

fn exchange<'a>(path: &'a str, request: &Value) -> Exchange<'a> {
    Exchange { path, request: request.to_string(), content: Some(10_000), ..Exchange::default() }
}

fn plain(path: &str, request: Value, response: Value) -> Outcome {
    checked(&Exchange { response: response.to_string(), ..exchange(path, &request) })
}

/// A stream of events, padded as Bedrock pads them.
fn frames(path: &str, request: Value, events: &[(&str, Value)]) -> Outcome {
    let frame = |(name, payload): &(&str, Value)| {
        let payload = with(payload.clone(), "p", json!("abcdefgh")).to_string();
        encode(&[(":message-type", "event"), (":event-type", name)], payload.as_bytes())
    };
    checked_bytes(
        &Exchange { content_type: FRAMES, ..exchange(path, &request) },
        &events.iter().flat_map(frame).collect::<Vec<_>>(),
    )
}

/// What `/invoke` wraps: a model's own document as base64.
fn chunk(document: &Value) -> (&'static str, Value) {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for bytes in document.to_string().as_bytes().chunks(3) {
        let bits = bytes.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - bytes.len()));
        (0..=bytes.len()).for_each(|i| text.push(char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize])));
    }
    ("chunk", json!({"bytes": text}))
}

fn end(reason: &str) -> (&'static str, Value) {
    ("messageStop", json!({"stopReason": reason}))
}

fn metadata() -> (&'static str, Value) {
    (
        "metadata",
        json!({"usage": {"inputTokens": 5, "outputTokens": 6, "totalTokens": 16, "cacheReadInputTokens": 3,
        "cacheReadInputTokenCount": 3, "cacheWriteInputTokens": 2, "cacheWriteInputTokenCount": 2,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 2}]}, "metrics": {"latencyMs": 12}}),
    )
}

fn piece(index: u32, delta: Value) -> (&'static str, Value) {
    ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}))
}

#[test]
fn converse_cache_excluded_and_padding_key() {
    let outcome = frames(
        CONVERSE_STREAM,
        request(),
        &[
            ("messageStart", json!({"role": "assistant"})),
            piece(0, json!({"reasoningContent": {"text": "hm"}})),
            piece(0, json!({"reasoningContent": {"signature": "AA"}})),
            piece(1, json!({"text": "a"})),
            (
                "contentBlockStart",
                json!({"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "f"}}}),
            ),
            piece(2, json!({"toolUse": {"input": "{\"a\":"}})),
            piece(2, json!({"toolUse": {"input": "1}"}})),
            ("contentBlockStop", json!({"contentBlockIndex": 2})),
            end("tool_use"),
            metadata(),
        ],
    );
    assert_eq!(carrying(&outcome), [false, true, false, true, false, true, true, false, false, false]);
    let expect = Usage {
        input: Some(10),
        output: Some(6),
        cache_read: Some(3),
        cache_write: Some(2),
        total: Some(16),
        cache_write_5m: Some(2),
        ..Usage::default()
    };
    assert_eq!(
        (outcome.facts.usage, outcome.finished, outcome.is_stream, outcome.malformed),
        (expect, true, true, None)
    );
    assert_eq!(
        (outcome.facts.response.finish_reasons.as_slice(), outcome.facts.response.tool_calls.as_slice()),
        (&["tool_use".to_owned()][..], &["f".to_owned()][..])
    );
    let Facts { api, provider, request, .. } = &outcome.facts;
    assert_eq!((*api, *provider, request.stream), ("bedrock.converse", "aws.bedrock", Some(true)));
    assert_eq!(request.model.as_deref(), Some("eu.amazon.nova-lite-v1:0"));
    assert_eq!(outcome.facts.timings.total, Some(0.012));
    let parts = json!([{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "a"},
        {"type": "tool_call", "id": "t1", "name": "f", "arguments": {"a": 1}}]);
    assert_eq!(output(&outcome), json!([{"role": "assistant", "parts": parts, "finish_reason": "tool_call"}]));
}

#[test]
fn duplicate_cache_fields() {
    let (_, metadata) = metadata();
    let answer = json!({"output": {"message": {"role": "assistant", "content": [{"text": "a"},
        {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"k": {"l": [1, 2]}}}}]}}, "stopReason": "tool_use", "usage": metadata["usage"]});
    let outcome = plain(CONVERSE, request(), answer);
    assert_eq!((counted(&outcome), outcome.facts.usage.unattributed()), ((Some(10), Some(6)), None));
    assert_eq!(output(&outcome)[0]["parts"][1]["arguments"], json!({"k": {"l": [1, 2]}}));
    assert!(outcome.finished);
}

#[test]
fn crc_error() {
    let event = |name: &str, payload: Value| {
        encode(&[(":message-type", "event"), (":event-type", name)], payload.to_string().as_bytes())
    };
    let mut bytes = event("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": "a"}}));
    let mut bad = event("messageStop", json!({"stopReason": "end_turn"}));
    bad[40] ^= 1;
    bytes.extend(bad);
    let outcome =
        Exchange { content_type: FRAMES, ..exchange(CONVERSE_STREAM, &request()) }.run_bytes(&bytes, &[usize::MAX]);
    assert!(outcome.malformed.is_some() && !outcome.finished);
    assert_eq!(output(&outcome)[0]["parts"][0]["content"], "a");
}

#[test]
fn an_exception_is_an_error_inside_200() {
    let exception =
        encode(&[(":message-type", "exception"), (":exception-type", "throttlingException")], br#"{"message":"m"}"#);
    let outcome =
        checked_bytes(&Exchange { content_type: FRAMES, ..exchange(CONVERSE_STREAM, &request()) }, &exception);
    assert_eq!((outcome.facts.error.as_deref(), outcome.finished), (Some("throttlingException"), false));
}

#[test]
fn errors_are_named_by_a_header() {
    let headers = &[("x-amzn-errortype", "ValidationException:http://internal.amazon.com/coral/")];
    let response = r#"{"message":"m"}"#.to_owned();
    let outcome =
        checked(&Exchange { status: 400, response_headers: headers, response, ..exchange(CONVERSE, &request()) });
    assert_eq!((outcome.facts.error.as_deref(), outcome.proof), (Some("ValidationException"), Proof::Request));
}

#[test]
fn converse_parameters_and_messages() {
    let request = json!({"system": [{"text": "be brief"}], "inferenceConfig": {"maxTokens": 7, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
        "additionalModelRequestFields": {"top_k": 3}, "toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}, "serviceTier": {"type": "flex"},
        "messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": "AAAA"}}}, {"text": "look"}]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t1", "name": "f", "input": {"k": 1}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"json": {"n": 42}}]}},
                {"toolResult": {"content": [{"text": "43"}], "toolUseId": "t2"}}]}]});
    let outcome = plain(CONVERSE, request, json!({"stopReason": "end_turn"}));
    let expect = RequestFacts {
        model: Some("eu.amazon.nova-lite-v1:0".into()),
        stream: Some(false),
        max_tokens: Some(7),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(3.0),
        stop_sequences: vec!["END".into()],
        service_tier: Some("flex".into()),
        message_count: Some(3),
        tool_count: Some(1),
        ..RequestFacts::default()
    };
    assert_eq!(outcome.facts.request, expect);
    let expect = json!([
        {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
        {"role": "user", "parts": [{"type": "blob", "modality": "image", "content": ""}, {"type": "text", "content": "look"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "t1", "name": "f", "arguments": {"k": 1}}]},
        {"role": "user", "parts": [{"type": "tool_call_response", "id": "t1", "response": {"n": 42}},
            {"type": "tool_call_response", "id": "t2", "response": "43"}]},
    ]);
    assert_eq!(ordered(&outcome), expect);
}

#[test]
fn counting_is_no_answer() {
    let outcome = plain("/model/m/count-tokens", json!({"input": {"converse": request()}}), json!({"inputTokens": 9}));
    assert_eq!((outcome.facts.api, outcome.facts.response.counted_tokens), ("bedrock.count_tokens", Some(9)));
    assert_eq!((outcome.facts.usage, outcome.proof), (Usage::default(), Proof::Request));
}

#[test]
fn arn_url_encoded() {
    let path = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.anthropic.claude-x-v1%3A0/invoke";
    let request = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [{"type": "text", "text": "a"}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 6}});
    let outcome = plain(path, request, answer);
    let Facts { api, operation, provider, request, response, .. } = &outcome.facts;
    assert_eq!((*api, *operation, *provider), ("bedrock.invoke", "chat", "aws.bedrock"));
    assert_eq!(
        request.model.as_deref(),
        Some("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-x-v1:0")
    );
    assert_eq!(
        (response.model.as_deref(), counted(&outcome), outcome.finished),
        (Some("claude-x"), (Some(5), Some(6)), true)
    );
}

#[test]
fn metric_mismatch() {
    let events = [
        chunk(
            &json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "claude-x",
            "usage": {"input_tokens": 5, "output_tokens": 1}}}),
        ),
        chunk(&json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ä"}})),
        chunk(&json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 130}})),
        chunk(
            &json!({"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 5, "outputTokenCount": 98, "firstByteLatency": 250}}),
        ),
    ];
    let request = json!({"anthropic_version": "b", "max_tokens": 5, "messages": []});
    let outcome = frames("/model/anthropic.claude-x/invoke-with-response-stream", request, &events);
    assert_eq!((counted(&outcome), carrying(&outcome)), ((Some(5), Some(130)), vec![false, true, false, false]));
    assert_eq!(
        (outcome.facts.api, outcome.finished, outcome.facts.request.stream),
        ("bedrock.invoke", true, Some(true))
    );
    assert_eq!(output(&outcome)[0]["parts"], json!([{"type": "text", "content": "ä"}]));
    assert_eq!(outcome.facts.timings.first_token, Some(0.25));
}

#[test]
fn headers_count_what_the_body_does_not() {
    let headers = &[
        ("x-amzn-bedrock-input-token-count", "7"),
        ("x-amzn-bedrock-cache-read-input-token-count", "2"),
        ("x-amzn-bedrock-output-token-count", "3"),
    ];
    let request = json!({"texts": ["a"], "input_type": "search_document"});
    let response = json!({"id": "e1", "embeddings": {"float": [[0.1]]}}).to_string();
    let path = "/model/us.cohere.embed-v4%3A0/invoke";
    let outcome = checked(&Exchange { response_headers: headers, response, ..exchange(path, &request) });
    assert_eq!((outcome.facts.operation, outcome.proof), ("embeddings", Proof::Request));
    assert_eq!((counted(&outcome), outcome.facts.usage.cache_read), ((Some(9), Some(3)), Some(2)));
}

#[test]
fn native_bodies() {
    let llama = plain(
        "/model/meta.llama3-8b/invoke",
        json!({"prompt": "hi", "max_gen_len": 5, "top_p": 0.9}),
        json!({"generation": "a", "prompt_token_count": 3, "generation_token_count": 4, "stop_reason": "stop"}),
    );
    assert_eq!((counted(&llama), llama.facts.operation), ((Some(3), Some(4)), "text_completion"));
    assert_eq!(
        (llama.facts.request.max_tokens, llama.facts.response.finish_reasons.as_slice()),
        (Some(5), &["stop".to_owned()][..])
    );

    let titan = plain(
        "/model/amazon.titan-text-lite-v1/invoke",
        json!({"inputText": "hi", "textGenerationConfig": {"maxTokenCount": 5, "stopSequences": ["END"]}}),
        json!({"inputTextTokenCount": 3, "results": [{"tokenCount": 4, "outputText": "a", "completionReason": "LENGTH"}]}),
    );
    assert_eq!((counted(&titan), titan.finished), ((Some(3), Some(4)), true));
    assert_eq!(titan.facts.request.stop_sequences, ["END"]);

    let nova = plain(
        "/model/us.amazon.nova-pro-v1%3A0/invoke",
        request(),
        json!({"output": {"message": {"content": [{"text": "a"}]}}, "stopReason": "end_turn", "usage": {"inputTokens": 3, "outputTokens": 4}}),
    );
    assert_eq!((counted(&nova), nova.facts.api, nova.facts.operation), ((Some(3), Some(4)), "bedrock.invoke", "chat"));

    let old = plain(
        "/model/mistral.mistral-7b/invoke",
        json!({"prompt": "hi"}),
        json!({"outputs": [{"text": "a", "stop_reason": "stop"}]}),
    );
    assert_eq!((old.facts.operation, output(&old)[0]["parts"][0]["content"].clone()), ("text_completion", json!("a")));

    let chat = plain(
        "/model/mistral.mistral-large/invoke",
        json!({"messages": [{"role": "user", "content": "hi"}]}),
        json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}], "usage": usage(3, 4)}),
    );
    assert_eq!((counted(&chat), chat.facts.operation, chat.finished), ((Some(3), Some(4)), "chat", true));

    let command = plain(
        "/model/cohere.command-r-v1%3A0/invoke",
        json!({"message": "hi"}),
        json!({"text": "a", "generation_id": "g1", "finish_reason": "COMPLETE"}),
    );
    assert_eq!((command.facts.response.id.as_deref(), command.proof), (Some("g1"), Proof::Request));

    let titan = plain(
        "/model/amazon.titan-embed-text-v2%3A0/invoke",
        json!({"inputText": "hi", "dimensions": 256}),
        json!({"embedding": [0.1], "inputTextTokenCount": 2}),
    );
    assert_eq!((counted(&titan), titan.facts.request.dimensions), ((Some(2), None), Some(256)));
}

#[test]
fn nova_streams_its_own_wrapping() {
    let events = [
        chunk(&json!({"messageStart": {"role": "assistant"}})),
        chunk(&json!({"contentBlockDelta": {"delta": {"text": "a"}, "contentBlockIndex": 0}})),
        chunk(&json!({"messageStop": {"stopReason": "end_turn"}})),
        chunk(
            &json!({"metadata": {"usage": {"inputTokens": 3, "outputTokens": 4}}, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3}}),
        ),
    ];
    let outcome = frames("/model/amazon.nova-lite-v1%3A0/invoke-with-response-stream", request(), &events);
    assert_eq!(
        (counted(&outcome), carrying(&outcome), outcome.finished),
        ((Some(3), Some(4)), vec![false, true, false, false], true)
    );
}

#[test]
fn a_profile_leaves_the_maker_to_the_bodies() {
    let path = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fabc/invoke";
    let request = json!({"anthropic_version": "b", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let answer = json!({"id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 6}});
    let outcome = plain(path, request, answer);
    assert_eq!((counted(&outcome), outcome.facts.operation, outcome.finished), ((Some(5), Some(6)), "chat", true));
    let llama = plain(
        path,
        json!({"prompt": "hi"}),
        json!({"generation": "a", "prompt_token_count": 3, "generation_token_count": 4}),
    );
    assert_eq!((counted(&llama), llama.facts.operation), ((Some(3), Some(4)), "text_completion"));
}
