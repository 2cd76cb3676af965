//! When a call is a model call, and when it has ended.

use super::*;

#[test]
fn finished_waits_for_every_choice() {
    let request = json!({"model": "m", "messages": [], "n": 2, "stream": true}).to_string();
    let piece = |index: u32, reason: Value| {
        format!("data: {}\n\n", chunk(json!([{"index": index, "delta": {"content": "x"}, "finish_reason": reason}])))
    };
    let mut session = Exchange::default().open();
    session.request_body(request.as_bytes());
    session.request_end();
    session.response_head(200, &typed(Some("text/event-stream; charset=utf-8")));
    let sink = &mut |_| {};
    session.response_body(piece(0, json!("stop")).as_bytes(), sink);
    assert!(!session.finished(), "the second choice has not begun");
    session.response_body(piece(1, json!("stop")).as_bytes(), sink);
    assert!(!session.finished(), "neither usage nor end of the body");
    session.response_end(sink);
    assert!(session.finished() && session.is_stream());
}

#[test]
fn path_alone_proves_nothing() {
    let of = |request: &str, status: u16, response: &str| {
        Exchange { request: request.into(), status, response: response.into(), ..Exchange::default() }.run().proof
    };
    let error = r#"{"error":{"message":"m","type":"invalid_request_error"}}"#;
    assert_eq!(of(r#"{"a":1}"#, 200, r#"{"ok":true}"#), Proof::Refuted);
    assert_eq!(of(r#"{"a":1}"#, 400, error), Proof::Refuted, "a whole request without a trace of the API");
    assert_eq!(of(r#"{"messages":[]}"#, 400, error), Proof::Response, "the model is missing, which is the error");
    assert_eq!(of("{\"model", 400, error), Proof::Response, "malformed request");
    assert_eq!(of("", 401, error), Proof::Response, "lost request");
    assert_eq!(of("", 502, "<html>bad gateway</html>"), Proof::Refuted);
    assert_eq!(of("", 404, r#"{"error":"not found"}"#), Proof::Refuted, "any program may answer that");
    assert_eq!(of("", 200, error), Proof::Refuted);
    assert_eq!(of(r#"{"model":"m","messages":[]}"#, 502, "<html>bad gateway</html>"), Proof::Request);
    assert_eq!(of("", 200, r#"{"object":"chat.completion","choices":[]}"#), Proof::Response);
}

#[test]
fn proof_is_pending_until_the_end() {
    let mut session = Exchange::default().open();
    assert_eq!(session.proof(), Proof::Pending);
    session.request_gap();
    session.request_end();
    session.response_head(200, &typed(None));
    assert_eq!(session.proof(), Proof::Pending);
    session.response_end(&mut |_| {});
    assert_eq!(session.proof(), Proof::Refuted);
}

#[test]
fn batch_poll_has_usage() {
    for (method, path) in
        [("GET", "/v1/batches/batch_1"), ("POST", "/v1/batches"), ("POST", "/v1/files"), ("GET", CHAT)]
    {
        assert!(
            Session::open(&RequestLine { method, path, host: None, headers: None }, &Options::default()).is_none(),
            "{method} {path}"
        );
    }
}

#[test]
fn an_answer_alone_tells_its_api() {
    let usage = json!({"promptTokenCount": 1});
    let cases = [
        ("openai.chat", json!({"object": "chat.completion", "choices": [{"message": {"content": "a"}}]})),
        ("openai.completions", json!({"object": "text_completion", "choices": [{"text": "a"}]})),
        (
            "openai.responses",
            json!({"object": "response", "status": "completed", "output": [{"type": "message", "role": "assistant"}]}),
        ),
        (
            "anthropic.messages",
            json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "a"}]}),
        ),
        ("gemini.generate", json!({"candidates": [{"content": {"parts": [{"text": "a"}]}}], "usageMetadata": usage})),
        ("gemini.interactions", json!({"object": "interaction", "id": "v1_1", "status": "completed", "steps": []})),
        ("bedrock.converse", json!({"output": {"message": {"content": [{"text": "a"}]}}, "stopReason": "end_turn"})),
        ("cohere.chat", json!({"id": "x", "message": {"content": [{"text": "a"}]}, "finish_reason": "COMPLETE"})),
        ("embeddings", json!({"object": "list", "data": [{"embedding": [0.5], "index": 0}]})),
        ("rerank", json!({"results": [{"index": 0, "relevance_score": 0.5}]})),
        ("openai.moderations", json!({"results": [{"flagged": true}]})),
    ];
    for (api, answer) in cases {
        let mut session = Session::join_at_head(Some("application/json"), &Options::default()).expect("JSON");
        session.response_head(200, &typed(Some("application/json")));
        session.response_body(answer.to_string().as_bytes(), &mut |_| {});
        session.response_end(&mut |_| {});
        assert_eq!((session.proof(), session.into_facts().api), (Proof::Response, api), "{answer}");
    }
    for (api, event) in [
        ("openai.responses", json!({"type": "response.output_text.delta", "delta": "a"})),
        (
            "anthropic.messages",
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}),
        ),
        ("gemini.generate", json!({"candidates": [{"content": {"parts": [{"text": "a"}]}}]})),
        ("gemini.interactions", json!({"event_type": "step.delta", "delta": {"type": "text", "text": "a"}})),
        ("cohere.chat", json!({"type": "content-delta", "delta": {"message": {"content": {"text": "a"}}}})),
        ("openai.audio", json!({"type": "transcript.text.delta", "delta": "a"})),
    ] {
        let mut session = Session::join(&Options::default());
        let mut events = Vec::new();
        session.response_body(format!("data: {event}\n\n").as_bytes(), &mut |event| events.push(event));
        assert_eq!(events, [ResponseEvent::Event { content: true }], "{event}");
        session.response_end(&mut |_| {});
        assert_eq!((session.proof(), session.into_facts().api), (Proof::Response, api), "{event}");
    }
}
