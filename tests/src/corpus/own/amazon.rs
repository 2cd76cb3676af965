//! Amazon Bedrock: Converse.

use serde_json::{Value, json};

use super::{Exchange, JSON};

const HOST: &str = "bedrock-runtime.us-east-1.amazonaws.com";

fn request() -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}], "inferenceConfig": {"maxTokens": 50}})
}

pub(super) fn converse() -> Exchange {
    let response = json!({"output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
        "stopReason": "end_turn", "metrics": {"latencyMs": 120},
        "usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 29, "cacheReadInputTokens": 20,
            "cacheReadInputTokenCount": 20, "cacheWriteInputTokens": 1, "cacheWriteInputTokenCount": 1}});
    let expected = json!({"finish_reasons": ["end_turn"],
        "usage": {"input": 3, "output": 5, "cache_read": 20, "cache_write": 1}});
    Exchange::post("bedrock.converse", HOST, "/model/us.vendor.model-v1:0/converse", request())
        .answer(&response, expected)
}

pub(super) fn converse_stream() -> Exchange {
    let frames = [
        event_frame("messageStart", &json!({"role": "assistant", "p": "abc"})),
        event_frame("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "Hel"}, "p": "abcdef"})),
        event_frame("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "lo."}, "p": "a"})),
        event_frame("contentBlockStop", &json!({"contentBlockIndex": 0, "p": "ab"})),
        event_frame("messageStop", &json!({"stopReason": "max_tokens", "p": "abcd"})),
        event_frame(
            "metadata",
            &json!({"usage": {"inputTokens": 7, "outputTokens": 50, "totalTokens": 57},
            "metrics": {"latencyMs": 300}, "p": "abcde"}),
        ),
    ];
    let expected = json!({"finish_reasons": ["max_tokens"], "frames": 6, "usage": {"input": 7, "output": 50}});
    let target = "/model/us.vendor.model-v1%3A0/converse-stream";
    Exchange::post("bedrock.converse_stream", HOST, target, request()).body(
        "application/vnd.amazon.eventstream",
        frames.concat(),
        expected,
    )
}

/// A frame of Amazon's event stream: lengths, their CRC, headers, payload, the CRC of it all.
fn event_frame(event: &str, payload: &Value) -> Vec<u8> {
    const STRING: u8 = 7;
    let mut headers = Vec::new();
    for (name, value) in [(":event-type", event), (":content-type", JSON), (":message-type", "event")] {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(STRING);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    // The two lengths, and three CRCs or lengths of four bytes.
    let total = 16 + headers.len() + payload.len();
    let mut frame = [(total as u32).to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    frame.extend_from_slice(&crc32(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload.as_bytes());
    frame.extend_from_slice(&crc32(&frame).to_be_bytes());
    frame
}

/// CRC-32 as in gzip (RFC 1952 8).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_lengths_and_sums_that_it_says() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let frame = event_frame("metadata", &json!({}));
        assert_eq!(frame[..4], (frame.len() as u32).to_be_bytes());
        let (all, sum) = frame.split_at(frame.len() - 4);
        assert_eq!(sum, crc32(all).to_be_bytes());
        assert!(all.ends_with(b"\x00\x05event{}"));
    }
}
