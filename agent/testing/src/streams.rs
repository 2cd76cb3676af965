//! Long answers, for benches: events as large as a real service sends them.

use crate::{
    Coding,
    calls::{Transport, bodies},
    wire::{
        http1::{self, Framing},
        http2,
    },
};

/// A request and its answer as they pass on a connection.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What the client sends.
    pub request: Vec<u8>,
    /// What the server sends.
    pub response: Vec<u8>,
}

/// The events of an OpenAI chat stream with so many words, one in each, which are not the same again and again.
pub fn chat(words: usize) -> Vec<Vec<u8>> {
    chat_in_chunks(words, 1)
}

/// The same with so many words in each event.
pub fn chat_in_chunks(words: usize, chunk: usize) -> Vec<Vec<u8>> {
    let event = |delta: &str, finish: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-B1zJ5xV0oYtq2m8n4KpQwLr7sUd3f\",\"object\":\"chat.completion.chunk\",\
             \"created\":1739485612,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\
             \"system_fingerprint\":\"fp_13eed4fce1\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\
             \"finish_reason\":{finish}}}],\"usage\":{usage}}}\n\n"
        )
        .into_bytes()
    };
    let mut events = vec![event(r#"{"role":"assistant","content":"","refusal":null}"#, "null", "null")];
    let word = |n: usize| format!(" w{:x}", n.wrapping_mul(2_654_435_761) % 65_536);
    events.extend((0..words).step_by(chunk).map(|at| {
        let text: String = (at..words.min(at + chunk)).map(word).collect();
        event(&format!(r#"{{"content":"{text}"}}"#), "null", "null")
    }));
    events.push(event("{}", r#""stop""#, "null"));
    let usage = format!(
        r#"{{"prompt_tokens":9,"completion_tokens":{words},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        words + 9
    );
    events.push(event("{}", "null", &usage));
    events.push(b"data: [DONE]\n\n".to_vec());
    events
}

/// A chat stream on a connection of its own, each event flushed as a piece.
pub fn exchange(events: &[Vec<u8>], transport: Transport, coding: Coding) -> Exchange {
    let body = &bodies::all()[0];
    let (asked, json, content) = ([body.request.into()], ("content-type", "application/json"), "text/event-stream");
    let events = coding.encode(events);
    let encoding = coding.name().map(|name| ("content-encoding", name));
    match transport {
        Transport::Http1(framing) => {
            let fields: Vec<_> = [("content-type", content)].into_iter().chain(encoding).collect();
            let request = http1::message("POST /v1/chat/completions HTTP/1.1", &[json], Framing::Length, &asked);
            let response = http1::message("HTTP/1.1 200 OK", &fields, framing, &events);
            Exchange { request: request.concat(), response: response.concat() }
        }
        Transport::Http2 => {
            let asks = [(":method", "POST"), (":scheme", "https"), (":authority", "x"), (":path", body.path), json];
            let fields: Vec<_> = [(":status", "200"), ("content-type", content)].into_iter().chain(encoding).collect();
            let settings = http2::frame(http2::kind::SETTINGS, 0, 0, &[]);
            Exchange {
                request: [http2::PREFACE, &settings, &http2::message(1, &asks, &asked).concat()].concat(),
                response: [settings, http2::message(1, &fields, &events).concat()].concat(),
            }
        }
    }
}
