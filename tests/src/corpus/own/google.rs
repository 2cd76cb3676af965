//! Google: Gemini.

use serde_json::{Value, json};

use super::{Exchange, JSON};

const HOST: &str = "generativelanguage.googleapis.com";

fn request() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "why?"}]}], "generationConfig": {"temperature": 0.5}})
}

fn expected(id: &str) -> Value {
    json!({"id": id, "response_model": "gemini-x-001", "finish_reasons": ["STOP"], "usage": {"input": 10,
        "tool_input": 5, "candidates": 4, "reasoning": 30, "cache_read": 8}})
}

fn chunk(id: &str, text: &str, finish: Value, usage: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish, "index": 0}],
        "usageMetadata": usage, "modelVersion": "gemini-x-001", "responseId": id})
}

fn usage() -> Value {
    json!({"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "candidatesTokenCount": 4, "thoughtsTokenCount": 30,
        "cachedContentTokenCount": 8, "totalTokenCount": 49})
}

pub(super) fn whole() -> Exchange {
    let response = chunk("own-g1", "Because.", json!("STOP"), usage());
    Exchange::post("gemini.generate", HOST, "/v1beta/models/gemini-x:generateContent", request())
        .answer(&response, expected("own-g1"))
}

fn chunks(id: &str) -> [Value; 2] {
    let early = json!({"promptTokenCount": 10, "candidatesTokenCount": 1, "totalTokenCount": 11});
    [chunk(id, "Be", Value::Null, early), chunk(id, "cause.", json!("STOP"), usage())]
}

pub(super) fn stream() -> Exchange {
    let target = "/v1beta/models/gemini-x:streamGenerateContent?alt=sse";
    let exchange = Exchange::post("gemini.generate", HOST, target, request());
    let events = chunks("own-g2").map(|chunk| ("", chunk));
    let exchange = exchange.stream(&events, "", expected("own-g2"));
    // This API ends its lines with CRLF.
    let response = String::from_utf8_lossy(&exchange.response).replace('\n', "\r\n").into_bytes();
    Exchange { response, ..exchange }
}

/// Without `alt=sse` a stream is one array.
pub(super) fn array() -> Exchange {
    let [first, last] = chunks("own-g3");
    let array = format!("[{first:#}\n,\r\n{last:#}\n]").into_bytes();
    let mut expected = expected("own-g3");
    expected["documents"] = json!(2);
    let target = "/v1beta/models/gemini-x:streamGenerateContent";
    Exchange::post("gemini.generate", HOST, target, request()).body(JSON, array, expected)
}
