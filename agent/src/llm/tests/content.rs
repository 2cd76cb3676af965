//! Content: what is kept, how it is bounded and that credentials go.

use super::*;

#[test]
fn huge_base64_request() {
    for content in [None, Some(4_096)] {
        let mut session = Exchange { content, ..Exchange::default() }.open();
        let head = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,"#;
        session.request_body(head.as_bytes());
        let piece = [b'A'; 16 * 1024];
        let mut most = 0;
        for _ in 0..20 * 64 {
            session.request_body(&piece);
            most = most.max(session.held());
        }
        session.request_body(br#""}},{"type":"text","text":"what is it"}]}],"stream":true}"#);
        session.request_end();
        assert!(most < 16 * 1024, "{most} bytes held");
        assert!(session.proof() == Proof::Request && session.malformed().is_none());
        let facts = session.into_facts();
        assert_eq!((facts.request.stream, facts.request.message_count), (Some(true), Some(1)));
        if let Some(content) = facts.content {
            let expect = json!([{"role": "user", "parts": [
                {"type": "blob", "modality": "image", "content": "", "mime_type": "image/png"},
                {"type": "text", "content": "what is it"}]}]);
            assert_eq!(serde_json::from_str::<Value>(&content.input_messages.unwrap()).unwrap(), expect);
            assert!(content.truncated);
        }
    }
}

#[test]
fn long_conversation_stays_within_the_cap() {
    let message = json!({"role": "user", "content": "x".repeat(700)}).to_string();
    for cap in [100, 5_000] {
        let mut session = Exchange { content: Some(cap), ..Exchange::default() }.open();
        session.request_body(br#"{"model":"m","messages":["#);
        for _ in 0..5_000 {
            session.request_body(message.as_bytes());
            session.request_body(b",");
        }
        session.request_body(b"{}]}");
        session.request_end();
        assert!(session.held() < 4 * (cap + 1_024), "{} bytes held", session.held());
        let facts = session.into_facts();
        let content = facts.content.unwrap();
        assert!(content.truncated && content.input_messages.unwrap().len() <= cap);
        assert_eq!(facts.request.message_count, Some(5_001));
    }
}

#[test]
fn messages_of_a_conversation() {
    let request = json!({"model": "m", "messages": [
        {"role": "system", "content": "be brief"},
        {"content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "https://h/a.png?sig=abcdef1234"}},
            {"type": "file", "file": {"file_id": "file-1"}}, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}],
            "role": "user", "name": "ann"},
        {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [{"id": "t1", "type": "function",
            "function": {"name": "f", "arguments": "{\"k\": \"v\"}"}}]},
        {"role": "tool", "tool_call_id": "t1", "content": "42"},
    ]});
    let outcome = Exchange { request: request.to_string(), content: Some(10_000), ..Exchange::default() }.run();
    let expect = json!([
        {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
        {"role": "user", "name": "ann", "parts": [{"type": "text", "content": "look"},
            {"type": "uri", "modality": "image", "uri": "https://h/a.png"},
            {"type": "file", "modality": "document", "file_id": "file-1"}, {"type": "blob", "modality": "audio", "content": "", "size": 3}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"},
            {"type": "tool_call", "id": "t1", "name": "f", "arguments": {"k": "v"}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t1", "response": "42"}]},
    ]);
    assert_eq!(input(&outcome), expect);
}

#[test]
fn secret_across_chunk_edge() {
    let secret = format!("sk-ant-api03-{}", "aB3dE".repeat(20));
    let documents: Vec<Value> =
        secret.as_bytes().chunks(7).map(|piece| delta(json!({"content": String::from_utf8_lossy(piece)}))).collect();
    let outcome = stream(&documents);
    assert_eq!(output(&outcome)[0]["parts"][0]["content"], "[REDACTED:anthropic]");
    // As a name it goes whether content is on or not.
    let request = json!({"model": secret, "messages": []}).to_string();
    let facts = Exchange { request, response: sse(&documents), ..Exchange::default() }.run().facts;
    assert!(!format!("{facts:?}").contains("aB3dE"), "{facts:?}");
}

#[test]
fn content_is_off_by_default() {
    let outcome = Exchange { response: sse(&[delta(json!({"content": "a"}))]), ..Exchange::default() }.run();
    assert_eq!((outcome.facts.content, Options::default().content), (None, None));
}
