//! The calls of `python/plan.py`, for programs that only carry bytes or that take a body as a file.

use inferscope_tests::client::MODEL;
use serde_json::{Value, json};

/// Bytes of the large message.
const BIG: usize = 1 << 20;

fn body(prompt: &str, stream: bool) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": stream});
    if stream {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

/// The bodies, in order.
pub fn all() -> [String; 5] {
    let big = "x".repeat(BIG);
    [("first", false), ("second", false), (big.as_str(), false), ("fourth", true), ("fifth", false)]
        .map(|(prompt, stream)| body(prompt, stream).to_string())
}

/// The requests, whole.
pub fn requests() -> [String; 5] {
    all().map(|body| {
        let length = body.len();
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    })
}
