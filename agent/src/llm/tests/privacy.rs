//! What must not come out of a call, wherever it stood and however it came.

use super::*;
use crate::privacy::{
    Operator, Policy, Redactor,
    canaries::{Canary, canaries},
};

/// A request with `secret` in every place that a request has.
fn request(secret: &str) -> Value {
    let arguments = json!({"q": secret, "nested": json!({"key": secret}).to_string()}).to_string();
    let function = json!({"name": secret, "description": secret, "parameters": {"default": secret}});
    json!({
        "model": secret, "user": secret, "safety_identifier": secret, "metadata": {"user_id": secret}, "stream": true,
        "tools": [
            {"type": "function", "function": function},
            {"type": "mcp", "server_label": secret, "authorization": secret, "headers": {"x": secret}},
        ],
        "messages": [
            {"role": "system", "name": secret, "content": format!("the key is {secret}")},
            {"role": secret, "content": [{"type": secret, "text": secret},
                {"type": "image_url", "image_url": {"url": format!("https://u:{secret}@h/p?key={secret}")}},
                {"type": "file", "file": {"file_id": secret}}]},
            {"role": "assistant", "reasoning_content": secret, "tool_calls": [
                {"id": secret, "type": "function", "function": {"name": secret, "arguments": arguments}}]},
            {"role": "tool", "tool_call_id": secret, "content": arguments},
        ],
    })
}

/// An answer with `secret` in every place, its text and arguments in pieces of seven bytes.
fn response(secret: &str) -> String {
    let arguments = json!({"q": secret}).to_string();
    let pieces = |text: &str| -> Vec<String> {
        text.as_bytes().chunks(7).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
    };
    let mut documents = vec![json!({"id": secret, "object": "chat.completion.chunk", "model": secret,
        "system_fingerprint": secret, "service_tier": secret, "choices": [{"index": 0, "delta": {"tool_calls":
        [{"index": 0, "id": secret, "function": {"name": secret, "arguments": ""}}]}}]})];
    documents.extend(pieces(secret).into_iter().map(|piece| delta(json!({"content": piece}))));
    documents.extend(pieces(secret).into_iter().map(|piece| delta(json!({"reasoning_content": piece}))));
    documents.extend(
        pieces(&arguments)
            .into_iter()
            .map(|piece| delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))),
    );
    documents.push(finish(secret));
    documents.push(json!({"error": {"code": secret, "type": secret, "message": format!("bad key {secret}")}}));
    sse(&documents)
}

fn facts(request: &str, response: &str, size: usize, options: &Options) -> Facts {
    let line = RequestLine { method: "POST", path: CHAT, host: None, headers: None };
    let mut session = Session::open(&line, options).expect("a model API's path");
    pieces(request.as_bytes(), &[size], |piece| session.request_body(piece));
    session.request_end();
    session.response_head(200, &Headers::default());
    pieces(response.as_bytes(), &[size], |piece| session.response_body(piece, &mut |_| {}));
    session.response_end(&mut |_| {});
    session.into_facts()
}

fn with_details() -> &'static Redactor {
    let policy = Policy { tool_details: true, ip: Operator::Replace, ..Policy::default() };
    Box::leak(Box::new(Redactor::new(policy).unwrap()))
}

#[test]
fn canaries_go_from_every_position_of_a_call() {
    let redactor = with_details();
    for canary in canaries() {
        let Canary { text: secret, .. } = &canary;
        let (request, response) = (request(secret).to_string(), response(secret));
        for cap in [None, Some(2), Some(300), Some(2_000), Some(100_000)] {
            let options = Options { content: cap, redactor, ..Options::default() };
            let whole = facts(&request, &response, usize::MAX, &options);
            let told = format!("{whole:?}").replace("\\\\", "\\").replace("\\\"", "\"");
            assert_eq!(canary.leak(&told), None, "{secret} with {cap:?}: {told}");
            if cap == Some(2_000) && secret.len() < 200 {
                assert_eq!(facts(&request, &response, 1, &options), whole, "{secret} byte by byte");
            }
        }
    }
}

#[test]
fn a_call_cut_at_any_byte_gives_no_part_of_a_secret() {
    let options = Options { content: Some(100_000), redactor: with_details(), ..Options::default() };
    let canary = canaries().into_iter().find(|canary| canary.kind == "anthropic").unwrap();
    let (request, response) = (request(&canary.text).to_string(), response(&canary.text));
    let cut = |text: &str, at: usize| text.get(..at).unwrap_or_default().to_owned();
    for at in 0..request.len().max(response.len()) {
        let facts = facts(&cut(&request, at), &cut(&response, at), usize::MAX, &options);
        let told = format!("{facts:?}");
        assert_eq!(canary.leak(&told), None, "cut at {at}: {told}");
    }
}

#[test]
fn what_names_a_user_or_is_a_tools_own_secret_is_never_kept() {
    let request = json!({"model": "m", "user": "canary-user", "safety_identifier": "canary-id", "prompt_cache_key": "canary-key",
        "metadata": {"user_id": "canary-meta"}, "client_secret": "canary-secret",
        "tools": [{"type": "mcp", "authorization": "canary-auth", "headers": {"x": "canary-header"}, "server_url": "https://h/?k=canary-query"}],
        "messages": [{"role": "user", "content": "hi"}]});
    let options = Options { content: Some(100_000), redactor: with_details(), ..Options::default() };
    let response = json!({"error": {"message": "Incorrect API key provided: canary-half", "code": "invalid_api_key"}});
    let facts = facts(&request.to_string(), &response.to_string(), usize::MAX, &options);
    let content = facts.content.clone().unwrap();
    assert!(content.input_messages.is_some() && content.tool_definitions.is_some());
    assert!(!format!("{facts:?}").contains("canary"), "{facts:?}");
}

#[test]
fn tools_are_named_and_described_only_if_asked() {
    let request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [
        {"type": "function", "function": {"name": "f", "description": "does", "strict": true, "parameters":
            {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}}}}}},
        {"type": "custom", "custom": {"name": "g"}}]});
    let of = |redactor| {
        let options = Options { content: Some(10_000), redactor, ..Options::default() };
        let content = facts(&request.to_string(), "", 1, &options).content.unwrap();
        assert!(!content.truncated && content.system_instructions.is_none());
        serde_json::from_str::<Value>(&content.tool_definitions.unwrap()).unwrap()
    };
    assert_eq!(of(Redactor::shared()), json!([{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}]));
    let described = of(with_details());
    assert_eq!(described[0]["description"], "does");
    assert_eq!(described[0]["parameters"], request["tools"][0]["function"]["parameters"]);
    assert_eq!(described[1], json!({"type": "custom", "name": "g"}));
}

#[test]
fn instructions_and_tools_of_every_api_are_kept_apart() {
    let schema = json!({"type": "object"});
    let tool = json!({"name": "f", "description": "does", "input_schema": schema});
    let function = json!({"type": "function", "name": "f", "description": "does", "parameters": schema});
    let spec = json!({"toolSpec": {"name": "f", "description": "does", "inputSchema": {"json": schema}}});
    let declared = json!({"functionDeclarations": [{"name": "f", "description": "does", "parameters": schema}]});
    for (path, request) in [
        ("/v1/messages", json!({"model": "m", "max_tokens": 5, "system": "be brief", "tools": [tool], "messages": []})),
        (
            "/v1/messages",
            json!({"model": "m", "max_tokens": 5, "system": [{"type": "text", "text": "be brief"}], "tools": [tool], "messages": []}),
        ),
        ("/v1/responses", json!({"model": "m", "input": "hi", "instructions": "be brief", "tools": [function]})),
        (
            "/model/m/converse",
            json!({"messages": [], "system": [{"text": "be brief"}], "toolConfig": {"tools": [spec]}}),
        ),
        (
            "/v1beta/models/m:generateContent",
            json!({"contents": [], "systemInstruction": {"parts": [{"text": "be brief"}]}, "tools": [declared]}),
        ),
    ] {
        let line = RequestLine { method: "POST", path, host: None, headers: None };
        let options = Options { content: Some(10_000), redactor: with_details(), ..Options::default() };
        let mut session = Session::open(&line, &options).expect("a model API's path");
        pieces(request.to_string().as_bytes(), &[1], |piece| session.request_body(piece));
        session.request_end();
        let content = session.into_facts().content.unwrap();
        let parsed =
            |text: Option<String>| serde_json::from_str::<Value>(&text.unwrap_or_default()).unwrap_or_default();
        assert_eq!(parsed(content.system_instructions), json!([{"type": "text", "content": "be brief"}]), "{path}");
        let expect = json!([{"type": "function", "name": "f", "description": "does", "parameters": schema}]);
        assert_eq!(parsed(content.tool_definitions), expect, "{path}");
    }
}
