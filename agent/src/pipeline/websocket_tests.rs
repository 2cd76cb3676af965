//! Calls over a WebSocket, from records to calls.

use inferscope_common::verdict::{DROP, FOLLOW, KEEP, REJECT};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    tests::{Bench, End},
    *,
};
use crate::{
    call::{Capture, Completion, NoteKind},
    llm::{Facts, Options},
    protocol::websocket::testing::{compress, frame},
};

const REALTIME: &str = "/v1/realtime?model=gpt-realtime";

/// The pieces of a connection, in the order in which they were written.
#[derive(Clone, Default)]
struct Wire(Vec<(bool, Vec<u8>)>);

impl Wire {
    /// A handshake for `target`.
    fn open(target: &str) -> Self {
        let mut wire = Self::asking(target, "Upgrade: WebSocket\r\n");
        wire.switch("");
        wire
    }

    fn asking(target: &str, headers: &str) -> Self {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: api.openai.com\r\nAuthorization: Bearer sk-canary-key\r\n{headers}\
             Connection: Upgrade\r\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-canary-key\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        Self(vec![(true, head.into_bytes())])
    }

    fn switch(&mut self, headers: &str) {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n{headers}\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
        self.0.push((false, head.into_bytes()));
    }

    fn client(&mut self, message: Value) {
        self.0.push((true, frame(0x81, true, message.to_string().as_bytes())));
    }

    fn server(&mut self, message: Value) {
        self.0.push((false, frame(0x81, false, message.to_string().as_bytes())));
    }

    /// Gives the pieces to one end, cut into pieces of at most `size` bytes.
    fn give(&self, bench: &mut Bench, end: &mut End, side: Side, size: usize) {
        for (is_client, bytes) in &self.0 {
            bytes.chunks(size).for_each(|bytes| bench.data(end, direction(side, *is_client), bytes));
        }
    }

    /// The calls as their client sees them, with content.
    fn calls(&self, size: usize) -> Vec<FinishedCall> {
        let mut bench = with_content();
        self.give(&mut bench, &mut End::socket(0xa, 1), Side::Client, size);
        bench.balanced();
        bench.calls
    }
}

fn with_content() -> Bench {
    let session = Options { content: Some(100_000), ..Options::default() };
    Bench::with(ConnectionOptions { session, ..Default::default() })
}

fn direction(side: Side, is_client: bool) -> Direction {
    if (side == Side::Client) == is_client { Direction::Write } else { Direction::Read }
}

fn session(kind: &str) -> Value {
    json!({"type": kind, "event_id": "event_1", "session": {"id": "sess_1", "object": "realtime.session",
        "type": "realtime", "model": "gpt-realtime-2026", "instructions": "be brief", "output_modalities": ["audio"],
        "max_output_tokens": 4096, "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}}, "required": ["city"]}}], "tool_choice": "auto",
        "audio": {"input": {"transcription": {"model": "whisper-2"}, "turn_detection": {"type": "server_vad"}}}}})
}

fn item(text: &str) -> Value {
    json!({"type": "conversation.item.create", "event_id": "c1", "item": {"type": "message", "role": "user",
        "content": [{"type": "input_text", "text": text}]}})
}

fn response(id: &str, status: &str, output: Value, usage: Value) -> Value {
    json!({"object": "realtime.response", "id": id, "status": status, "status_details": null, "output": output,
        "conversation_id": "conv_1", "output_modalities": ["audio"], "max_output_tokens": 4096, "usage": usage})
}

fn created(id: &str) -> Value {
    json!({"type": "response.created", "event_id": "e", "response": response(id, "in_progress", json!([]), Value::Null)})
}

fn done(id: &str, output: Value, tokens: u64) -> Value {
    json!({"type": "response.done", "event_id": "e", "response": response(id, "completed", output, usage(tokens))})
}

fn usage(output: u64) -> Value {
    json!({"total_tokens": 100 + output, "input_tokens": 100, "output_tokens": output,
        "input_token_details": {"text_tokens": 60, "audio_tokens": 40, "image_tokens": 0, "cached_tokens": 32,
            "cached_tokens_details": {"text_tokens": 20, "audio_tokens": 12, "image_tokens": 0}},
        "output_token_details": {"text_tokens": 5, "audio_tokens": output - 5}})
}

fn spoken(text: &str) -> Value {
    json!([{"id": "item_a", "type": "message", "status": "completed", "role": "assistant",
        "content": [{"type": "output_audio", "transcript": text}]}])
}

fn piece(kind: &str, id: &str, delta: &str) -> Value {
    json!({"type": kind, "event_id": "e", "response_id": id, "item_id": "item_a", "output_index": 0, "content_index": 0,
        "delta": delta})
}

/// The messages of an answer that is spoken.
fn answer(wire: &mut Wire, id: &str, tokens: u64) {
    wire.server(created(id));
    wire.server(
        json!({"type": "response.output_item.added", "response_id": id, "output_index": 0, "item": {"id": "item_a",
        "type": "message", "role": "assistant", "content": []}}),
    );
    wire.server(piece("response.output_audio_transcript.delta", id, "hel"));
    wire.server(piece("response.output_audio.delta", id, "UklGRgAA"));
    wire.server(piece("response.output_audio_transcript.delta", id, "lo"));
    wire.server(json!({"type": "response.output_audio_transcript.done", "response_id": id, "transcript": "hello"}));
    wire.server(done(id, spoken("hello"), tokens));
    wire.server(json!({"type": "rate_limits.updated", "event_id": "e", "rate_limits": []}));
}

/// A session in which a text is answered.
fn typed() -> Wire {
    let mut wire = Wire::open(REALTIME);
    wire.server(session("session.created"));
    wire.client(json!({"type": "session.update", "session": {"instructions": "be brief"}}));
    wire.server(session("session.updated"));
    wire.client(item("hi"));
    wire.server(json!({"type": "conversation.item.added", "item": {"id": "item_u", "type": "message", "role": "user",
        "content": [{"type": "input_text", "text": "hi"}]}}));
    wire.client(json!({"type": "response.create", "event_id": "c2"}));
    answer(&mut wire, "resp_1", 25);
    wire
}

/// Checks an answer of [`answer`].
fn whole<'c>(call: &'c FinishedCall, id: &str, tokens: u64) -> &'c Facts {
    assert_eq!((call.completion, call.capture), (Some(Completion::Done), Capture::Complete), "{call:?}");
    assert_eq!((call.http.path.as_deref(), call.http.status), (Some("/v1/realtime"), Some(101)));
    let facts = call.facts.as_ref().unwrap();
    assert_eq!((facts.api, facts.operation, facts.provider), ("openai.realtime", "chat", "openai"));
    assert_eq!((facts.request.model.as_deref(), facts.response.id.as_deref()), (Some("gpt-realtime"), Some(id)));
    assert_eq!(facts.response.model.as_deref(), Some("gpt-realtime-2026"));
    assert_eq!(facts.response.finish_reasons, ["completed"]);
    let usage = &facts.usage;
    assert_eq!((usage.input, usage.output, usage.total), (Some(100), Some(tokens), Some(100 + tokens)));
    assert_eq!((usage.cache_read, usage.text.input, usage.audio.input), (Some(32), Some(60), Some(40)));
    assert_eq!((usage.text.cache_read, usage.audio.cache_read), (Some(20), Some(12)));
    assert_eq!((usage.text.output, usage.audio.output), (Some(5), Some(tokens - 5)));
    assert!(call.streamed);
    assert_eq!((call.chunk_count, call.gaps.count()), (3, 2));
    facts
}

fn messages(text: &Option<String>) -> Value {
    text.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

#[test]
fn a_response_is_a_call_with_what_the_socket_said_before() {
    let calls = typed().calls(usize::MAX);
    let [call] = &calls[..] else { panic!("{calls:?}") };
    let facts = whole(call, "resp_1", 25);
    let request = &facts.request;
    assert_eq!((request.max_tokens, request.output_type), (Some(4096), Some("speech")));
    assert_eq!((request.message_count, request.tool_count), (Some(1), Some(1)));
    assert_eq!(request.conversation_id.as_deref(), Some("conv_1"));
    assert_eq!((call.place.conversation.as_deref(), call.place.turn), (Some("conv_1"), Some(1)));
    let content = facts.content.as_ref().unwrap();
    assert_eq!(messages(&content.system_instructions), json!([{"type": "text", "content": "be brief"}]), "once");
    assert_eq!(
        messages(&content.input_messages),
        json!([{"role": "user", "parts": [{"type": "text", "content": "hi"}]}])
    );
    let output =
        json!([{"role": "assistant", "parts": [{"type": "text", "content": "hello"}], "finish_reason": "stop"}]);
    assert_eq!(messages(&content.output_messages), output);
    // A millisecond between records: asked, created, item, then content.
    let since = |at: Option<Mono>| at.map(|at| at.since(call.timing.start).as_millis());
    assert_eq!((since(call.timing.request_end), since(call.timing.response_start)), (Some(0), Some(1)));
    assert_eq!((since(call.timing.first_event), since(call.timing.first_chunk)), (Some(1), Some(3)));
}

#[test]
fn the_kernel_side_is_asked_to_keep_the_tunnel() {
    let mut bench = Bench::new(false);
    typed().give(&mut bench, &mut End::socket(0xa, 1), Side::Client, usize::MAX);
    let verdicts: Vec<u32> = bench.answers.iter().map(|answer| answer.verdict).collect();
    assert_eq!(verdicts, [FOLLOW, KEEP]);
}

#[test]
fn both_ends_of_a_response_share_a_trace() {
    let mut wire = typed();
    wire.client(json!({"type": "response.create"}));
    answer(&mut wire, "resp_2", 30);
    let mut bench = Bench::new(false);
    let (mut client, mut server) = (End::socket(0xa, 1), End::socket(0xb, 2));
    bench.addresses(client.stream, "127.0.0.1:40000", "127.0.0.1:8000");
    bench.addresses(server.stream, "127.0.0.1:8000", "127.0.0.1:40000");
    for (is_client, bytes) in &wire.0 {
        bench.data(&mut client, direction(Side::Client, *is_client), bytes);
        bench.data(&mut server, direction(Side::Server, *is_client), bytes);
    }
    let [client1, server1, client2, server2] = &bench.calls[..] else { panic!("{:?}", bench.calls) };
    for (client, server, id, tokens) in [(client1, server1, "resp_1", 25), (client2, server2, "resp_2", 30)] {
        whole(client, id, tokens);
        whole(server, id, tokens);
        assert_eq!((client.side, server.side), (Side::Client, Side::Server));
        assert_eq!((client.ids.parent, server.ids.parent), (None, Some(client.ids.span)));
    }
    assert_ne!(client1.ids.span, client2.ids.span);
    assert_eq!((client2.place.conversation.as_deref(), client2.place.turn), (Some("conv_1"), Some(2)));
    assert!(!client2.place.regeneration);
    bench.balanced();
}

/// What a call says apart from when.
fn said(call: &FinishedCall) -> String {
    let FinishedCall { facts, completion, capture, chunk_count, notes, http, .. } = call;
    format!("{facts:?} {completion:?} {capture:?} {chunk_count} {notes:?} {http:?}")
}

#[test]
fn any_chunking_of_a_socket_gives_the_same_calls() {
    let wire = typed();
    let expect: Vec<String> = wire.calls(usize::MAX).iter().map(said).collect();
    for size in [1, 2, 7, 1_460] {
        assert_eq!(wire.calls(size).iter().map(said).collect::<Vec<_>>(), expect, "pieces of {size}");
    }
    // All that one side says before the other does, at once: the first message with the end of the handshake.
    let mut joined = Wire::default();
    for (is_client, bytes) in wire.0 {
        match joined.0.last_mut() {
            Some((same, before)) if *same == is_client => before.extend(bytes),
            _ => joined.0.push((is_client, bytes)),
        }
    }
    let together: Vec<String> = joined.calls(usize::MAX).iter().map(said).collect();
    assert_eq!(together, expect);
}

#[test]
fn speech_that_is_handed_over_is_answered_without_being_asked() {
    let mut wire = Wire::open(REALTIME);
    wire.server(session("session.created"));
    for n in 0..3 {
        wire.client(json!({"type": "input_audio_buffer.append", "audio": "UklGRgAA"}));
        wire.server(
            json!({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 900, "item_id": format!("item_{n}")}),
        );
        wire.server(
            json!({"type": "input_audio_buffer.committed", "previous_item_id": null, "item_id": format!("item_{n}")}),
        );
        answer(&mut wire, &format!("resp_{n}"), 25);
    }
    let calls = wire.calls(usize::MAX);
    assert_eq!(calls.len(), 3);
    for (n, call) in calls.iter().enumerate() {
        let facts = whole(call, &format!("resp_{n}"), 25);
        // What was spoken, and the answers before.
        assert_eq!(facts.request.message_count, Some(2 * n as u64 + 1));
        assert_eq!((call.place.turn, call.place.regeneration), (Some(n as u32 + 1), false));
        // From when the speech was handed over.
        assert_eq!(call.timing.first_chunk.unwrap().since(call.timing.start).as_millis(), 3);
    }
}

#[test]
fn a_client_need_not_wait_for_the_sessions_settings() {
    let mut wire = Wire::open(REALTIME);
    wire.client(json!({"type": "session.update", "session": {"instructions": "be brief"}}));
    wire.client(item("hi"));
    wire.client(json!({"type": "response.create"}));
    wire.client(item("for the next"));
    wire.server(session("session.created"));
    wire.server(session("session.updated"));
    answer(&mut wire, "resp_1", 25);
    let calls = wire.calls(usize::MAX);
    let facts = whole(&calls[0], "resp_1", 25);
    assert_eq!((facts.request.output_type, facts.request.message_count), (Some("speech"), Some(1)));
    let content = facts.content.as_ref().unwrap();
    assert_eq!(messages(&content.system_instructions), json!([{"type": "text", "content": "be brief"}]));
    assert_eq!(messages(&content.input_messages).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_transcript_is_a_call_of_the_model_that_writes_it() {
    let mut wire = Wire::open(REALTIME);
    wire.server(session("session.created"));
    wire.server(json!({"type": "input_audio_buffer.committed", "item_id": "item_1"}));
    wire.server(created("resp_1"));
    let transcript = |kind: &str, more: Value| {
        let mut event = json!({"type": format!("conversation.item.input_audio_transcription.{kind}"), "item_id": "item_1",
            "content_index": 0});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    wire.server(transcript("delta", json!({"delta": "good "})));
    wire.server(transcript("delta", json!({"delta": "day"})));
    let usage_of_it = json!({"type": "tokens", "total_tokens": 22, "input_tokens": 13, "output_tokens": 9,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 13}});
    wire.server(transcript("completed", json!({"transcript": "good day", "usage": usage_of_it})));
    wire.server(done("resp_1", spoken("hello"), 25));
    wire.client(json!({"type": "response.create"}));
    wire.server(created("resp_2"));
    wire.server(done("resp_2", spoken("again"), 25));
    let calls = wire.calls(usize::MAX);
    let [transcript, first, second] = &calls[..] else { panic!("{calls:?}") };
    let facts = transcript.facts.as_ref().unwrap();
    assert_eq!((facts.api, facts.operation), ("openai.realtime", "transcription"));
    assert_eq!((facts.request.model.as_deref(), facts.response.id.as_deref()), (Some("whisper-2"), Some("item_1")));
    assert_eq!((facts.usage.input, facts.usage.output, facts.usage.audio.input), (Some(13), Some(9), Some(13)));
    assert_eq!((transcript.completion, transcript.chunk_count), (Some(Completion::Done), 2));
    let output = messages(&facts.content.as_ref().unwrap().output_messages);
    assert_eq!(output[0]["parts"], json!([{"type": "text", "content": "good day"}]));
    assert_eq!(first.facts.as_ref().unwrap().response.id.as_deref(), Some("resp_1"));
    let input = messages(&second.facts.as_ref().unwrap().content.as_ref().unwrap().input_messages);
    let text = |role: &str, text: &str| json!({"role": role, "parts": [{"type": "text", "content": text}]});
    assert_eq!(input, json!([text("user", "good day"), text("assistant", "hello")]));
}

/// vLLM's transcripts name no item, and Mistral's have the piece where OpenAI has the whole.
#[test]
fn transcripts_without_items() {
    let commit = json!({"type": "input_audio_buffer.commit", "final": true});
    let mut vllm = Wire::open("/v1/realtime");
    vllm.server(json!({"type": "session.created", "id": "sess-1", "created": 1}));
    vllm.client(json!({"type": "session.update", "model": "voxtral"}));
    vllm.client(commit.clone());
    vllm.server(json!({"type": "transcription.delta", "delta": "good "}));
    vllm.server(json!({"type": "transcription.delta", "delta": "day"}));
    vllm.server(
        json!({"type": "transcription.done", "text": "good day", "usage": {"prompt_tokens": 13, "completion_tokens": 9,
        "total_tokens": 22}}),
    );
    let mut mistral = Wire::open("/v1/audio/transcriptions/realtime?model=voxtral");
    mistral.server(json!({"type": "session.created", "session": {"request_id": "r", "model": "voxtral-1"}}));
    mistral.client(commit);
    mistral.server(json!({"type": "transcription.text.delta", "text": "good "}));
    mistral.server(json!({"type": "transcription.text.delta", "text": "day"}));
    mistral.server(
        json!({"type": "transcription.done", "model": "voxtral-1", "text": "good day", "usage": {"prompt_tokens": 13,
        "completion_tokens": 9, "total_tokens": 22, "prompt_audio_seconds": 12}}),
    );
    for (wire, served, seconds) in [(vllm, None, None), (mistral, Some("voxtral-1"), Some(12.0))] {
        let calls = wire.calls(usize::MAX);
        let [call] = &calls[..] else { panic!("{calls:?}") };
        let facts = call.facts.as_ref().unwrap();
        assert_eq!((facts.operation, facts.request.model.as_deref()), ("transcription", Some("voxtral")));
        assert_eq!((facts.response.model.as_deref(), facts.response.audio_seconds), (served, seconds));
        assert_eq!((facts.usage.input, facts.usage.output), (Some(13), Some(9)));
        assert_eq!((call.completion, call.chunk_count), (Some(Completion::Done), 2));
        assert_eq!(call.timing.first_chunk.unwrap().since(call.timing.start).as_millis(), 1);
        let output = messages(&facts.content.as_ref().unwrap().output_messages);
        assert_eq!(output[0]["parts"], json!([{"type": "text", "content": "good day"}]));
    }
}

#[test]
fn a_tool_runs_between_two_responses() {
    let mut wire = Wire::open(REALTIME);
    wire.server(session("session.created"));
    wire.client(item("weather?"));
    wire.client(json!({"type": "response.create"}));
    let call = |arguments: &str| {
        json!({"id": "item_f", "type": "function_call", "name": "weather", "call_id": "call_1",
        "arguments": arguments})
    };
    wire.server(created("resp_1"));
    wire.server(
        json!({"type": "response.output_item.added", "response_id": "resp_1", "output_index": 0, "item": call("")}),
    );
    wire.server(piece("response.function_call_arguments.delta", "resp_1", "{\"city\":"));
    wire.server(piece("response.function_call_arguments.delta", "resp_1", "\"Ulm\"}"));
    wire.server(done("resp_1", json!([call("{\"city\":\"Ulm\"}")]), 25));
    wire.client(
        json!({"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "call_1",
        "output": "rain"}}),
    );
    wire.client(json!({"type": "response.create"}));
    answer(&mut wire, "resp_2", 30);
    let calls = wire.calls(usize::MAX);
    let [asked, tool, answered] = &calls[..] else { panic!("{calls:?}") };
    let facts = asked.facts.as_ref().unwrap();
    assert_eq!((facts.response.tool_calls.as_slice(), asked.chunk_count), (&["weather".to_owned()][..], 2));
    assert_eq!((facts.quality.malformed_arguments, facts.quality.mismatched_arguments), (0, 0));
    assert!(tool.tool.is_some());
    let input = messages(&whole(answered, "resp_2", 30).content.as_ref().unwrap().input_messages);
    assert_eq!(input[1]["parts"][0]["arguments"], json!({"city": "Ulm"}));
    assert_eq!(
        input[2],
        json!({"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "rain"}]})
    );
}

#[test]
fn responses_apart_from_the_conversation_run_side_by_side() {
    let mut wire = typed();
    wire.client(json!({"type": "response.create", "response": {"conversation": "none", "instructions": "sum up",
        "output_modalities": ["text"], "input": [{"type": "message", "role": "user", "content": [
        {"type": "input_text", "text": "apart"}]}]}}));
    wire.client(json!({"type": "response.create"}));
    let apart = |mut event: Value| {
        event["response"]["conversation_id"] = Value::Null;
        event
    };
    wire.server(apart(created("resp_x")));
    wire.server(created("resp_2"));
    wire.server(piece("response.output_text.delta", "resp_x", "sum"));
    wire.server(piece("response.output_text.delta", "resp_2", "two"));
    wire.server(apart(done("resp_x", spoken("sum"), 10)));
    wire.server(done("resp_2", spoken("two"), 11));
    let calls = wire.calls(usize::MAX);
    let [_, apart, second] = &calls[..] else { panic!("{calls:?}") };
    let content = |call: &FinishedCall| call.facts.as_ref().unwrap().content.clone().unwrap();
    let facts = apart.facts.as_ref().unwrap();
    assert_eq!((facts.usage.output, facts.request.message_count), (Some(10), Some(1)));
    assert_eq!(facts.request.conversation_id, None);
    assert_eq!(messages(&content(apart).system_instructions)[0]["content"], "sum up");
    assert_eq!(messages(&content(apart).input_messages)[0]["parts"][0]["content"], "apart");
    assert_eq!(messages(&content(second).output_messages)[0]["parts"][0]["content"], "two");
    assert_eq!(messages(&content(second).system_instructions)[0]["content"], "be brief");
    assert_eq!(second.facts.as_ref().unwrap().request.message_count, Some(2), "the question and the first answer");
}

/// One response that ends in this way.
fn ending(status: &str, details: Value) -> FinishedCall {
    let mut wire = Wire::open(REALTIME);
    wire.client(json!({"type": "response.create"}));
    wire.server(created("resp_1"));
    wire.server(piece("response.output_text.delta", "resp_1", "a"));
    let mut end = done("resp_1", json!([]), 9);
    end["response"]["status"] = status.into();
    end["response"]["status_details"] = details;
    wire.server(end);
    wire.calls(usize::MAX).remove(0)
}

#[test]
fn a_response_says_how_it_ended() {
    let reason = |call: &FinishedCall| call.facts.as_ref().unwrap().response.finish_reasons.clone();
    let cut = ending("incomplete", json!({"type": "incomplete", "reason": "max_output_tokens"}));
    assert_eq!((reason(&cut), cut.completion), (vec!["max_output_tokens".to_owned()], Some(Completion::Length)));
    let filtered = ending("incomplete", json!({"type": "incomplete", "reason": "content_filter"}));
    assert!(reason(&filtered) == ["content_filter"] && filtered.facts.unwrap().quality.content_filter);
    let interrupted = ending("cancelled", json!({"type": "cancelled", "reason": "turn_detected"}));
    assert_eq!((reason(&interrupted), interrupted.completion), (vec!["cancelled".to_owned()], Some(Completion::Done)));
    let error = json!({"type": "failed", "error": {"type": "server_error", "code": "rate_limit_exceeded"}});
    let failed = ending("failed", error);
    assert_eq!(
        (failed.completion, failed.facts.unwrap().error.as_deref()),
        (Some(Completion::Error), Some("rate_limit_exceeded"))
    );
}

#[test]
fn a_request_that_is_refused_is_a_failed_call() {
    let refusal = |event: Value| {
        json!({"type": "error", "event_id": "e", "error": {"type": "invalid_request_error",
        "code": "conversation_already_has_active_response", "message": "m", "param": null, "event_id": event}})
    };
    for event in [json!("c9"), Value::Null] {
        let mut wire = Wire::open(REALTIME);
        wire.client(json!({"type": "response.create", "event_id": "c1"}));
        wire.server(created("resp_1"));
        wire.client(json!({"type": "response.create", "event_id": "c9"}));
        wire.server(refusal(event));
        wire.server(done("resp_1", json!([]), 9));
        let calls = wire.calls(usize::MAX);
        let [refused, answered] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!(refused.completion, Some(Completion::Error));
        assert_eq!(refused.facts.as_ref().unwrap().error.as_deref(), Some("conversation_already_has_active_response"));
        assert_eq!(answered.completion, Some(Completion::Done));
    }
    // One of another event says nothing of a response.
    let mut wire = Wire::open(REALTIME);
    wire.client(json!({"type": "response.create", "event_id": "c1"}));
    wire.server(refusal(json!("c0")));
    wire.server(created("resp_1"));
    wire.server(refusal(Value::Null));
    wire.server(done("resp_1", json!([]), 9));
    let calls = wire.calls(usize::MAX);
    assert_eq!((calls.len(), calls[0].completion), (1, Some(Completion::Done)));
}

#[test]
fn a_socket_that_is_refused_is_a_failed_call_of_who_named_a_model() {
    let body =
        json!({"error": {"message": "m", "type": "invalid_request_error", "code": "invalid_api_key"}}).to_string();
    let answer = format!(
        "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let of = |path: &str, host: &str, answer: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        Wire(vec![(true, request.into_bytes()), (false, answer.as_bytes().to_vec())]).calls(usize::MAX)
    };
    for (path, host) in [("/v1/realtime?model=gpt-realtime", "gateway"), ("/v1/responses", "api.openai.com")] {
        let calls = of(path, host, &answer);
        let [call] = &calls[..] else { panic!("{path}: {calls:?}") };
        let facts = call.facts.as_ref().unwrap();
        assert_eq!((call.completion, facts.error.as_deref()), (Some(Completion::Error), Some("invalid_api_key")));
        assert_eq!(call.http.status, Some(401));
    }
    assert_eq!(of("/realtime", "chat.example", &answer).len(), 0, "anybody's");
    let moved = answer.replace("401 Unauthorized", "307 Temporary Redirect");
    assert_eq!(of("/v1/realtime?model=gpt-realtime", "gateway", &moved).len(), 0, "it is asked for again elsewhere");
}

#[test]
fn a_socket_that_closes_ends_the_response_under_way() {
    let open = || {
        let mut wire = Wire::open(REALTIME);
        wire.client(json!({"type": "response.create"}));
        wire.server(created("resp_1"));
        wire.server(piece("response.output_text.delta", "resp_1", "a"));
        wire
    };
    for (is_client, expect) in [(true, Completion::ClientClosed), (false, Completion::ServerClosed)] {
        let mut wire = open();
        wire.0.push((is_client, frame(0x88, is_client, b"\x03\xe8")));
        wire.0.push((!is_client, frame(0x88, !is_client, b"\x03\xe8")));
        let calls = wire.calls(usize::MAX);
        assert_eq!((calls.len(), calls[0].completion), (1, Some(expect)));
        assert_eq!(calls[0].facts.as_ref().unwrap().usage.output, None);
    }
    // Without a word.
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 1);
    open().give(&mut bench, &mut end, Side::Server, usize::MAX);
    bench.state(end.stream, tcp::ESTABLISHED, tcp::CLOSE, 104);
    assert_eq!(bench.one_call().completion, Some(Completion::ClientClosed));
}

#[test]
fn a_response_that_falls_silent_is_given_up_and_the_socket_goes_on() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 1);
    let mut wire = Wire::open(REALTIME);
    wire.client(json!({"type": "response.create"}));
    wire.server(created("resp_1"));
    wire.give(&mut bench, &mut end, Side::Client, usize::MAX);
    for _ in 0..2_000 {
        bench.origin(0);
    }
    bench.tick();
    assert_eq!(bench.one_call().completion, Some(Completion::Idle));
    let mut wire = Wire::default();
    wire.client(json!({"type": "response.create"}));
    answer(&mut wire, "resp_2", 25);
    wire.give(&mut bench, &mut end, Side::Client, usize::MAX);
    assert_eq!(bench.one_call().completion, Some(Completion::Done));
}

#[test]
fn messages_are_read_compressed_and_in_fragments() {
    for (header, takeover) in [
        ("permessage-deflate", true),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", false),
    ] {
        let plain = typed();
        let mut wire = Wire::asking(REALTIME, "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n");
        wire.switch(&format!("sec-websocket-extensions: {header}\r\n"));
        let payload = |bytes: &[u8], is_client: bool| -> Vec<u8> {
            let lens = match bytes[1] & 0x7f {
                126 => 4,
                _ => 2,
            };
            let (header, payload) = bytes.split_at(lens + if is_client { 4 } else { 0 });
            let mask = if is_client { &header[lens..] } else { &[0; 4][..] };
            payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
        };
        let all: Vec<(bool, Vec<u8>)> =
            plain.0[2..].iter().map(|(side, bytes)| (*side, payload(bytes, *side))).collect();
        let [mut of_server, mut of_client] = [false, true].map(|side| {
            let messages: Vec<&[u8]> = all.iter().filter(|(of, _)| *of == side).map(|(_, bytes)| &bytes[..]).collect();
            compress(&messages, takeover).into_iter()
        });
        for (is_client, _) in &all {
            let bytes = if *is_client { of_client.next() } else { of_server.next() }.unwrap();
            let (first, second) = bytes.split_at(bytes.len() / 2);
            wire.0.push((*is_client, frame(0x41, *is_client, first)));
            wire.0.push((*is_client, frame(0x89, *is_client, b"ping")));
            wire.0.push((*is_client, frame(0x80, *is_client, second)));
        }
        for size in [1, 7, usize::MAX] {
            let calls = wire.calls(size);
            assert_eq!(calls.len(), 1, "{header}");
            whole(&calls[0], "resp_1", 25);
        }
    }
}

#[test]
fn an_extension_that_is_not_known_is_not_guessed_at() {
    let mut wire = Wire::asking(REALTIME, "Upgrade: websocket\r\n");
    wire.switch("sec-websocket-extensions: x-future\r\n");
    wire.0.extend(typed().0.split_off(2));
    let mut bench = Bench::new(false);
    wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Client, usize::MAX);
    assert_eq!((bench.calls.len(), bench.pipeline.stats().malformed), (0, 1));
    assert!(bench.answers.iter().any(|answer| answer.verdict == REJECT));
}

#[test]
fn other_sockets_and_other_gets_are_let_go() {
    let verdicts = |wire: &Wire| {
        let mut bench = Bench::new(false);
        wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Client, usize::MAX);
        assert!(bench.calls.is_empty());
        bench.answers.iter().map(|answer| answer.verdict).collect::<Vec<_>>()
    };
    let mut chat = Wire::open("/socket/chat");
    chat.0.extend(typed().0.split_off(2));
    assert_eq!(verdicts(&chat), [DROP, REJECT]);
    let mut listing = Wire::asking("/v1/responses", "");
    listing.0.push((false, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()));
    assert_eq!(verdicts(&listing), [DROP]);
}

#[test]
fn a_tunnel_that_is_joined_in_its_middle_is_dropped_and_counted() {
    let wire = Wire(typed().0.split_off(4));
    let mut bench = Bench::new(false);
    wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Client, usize::MAX);
    let bytes: usize = wire.0.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!((bench.calls.len(), bench.pipeline.stats().unparsed), (0, bytes as u64));
    assert!(bench.answers.iter().all(|answer| answer.verdict == DROP));
    bench.balanced();
}

#[test]
fn missing_bytes_mark_the_response_or_lose_the_socket() {
    let wire = typed();
    let lost = |from: usize, to: usize| {
        let mut bench = Bench::new(false);
        let mut end = End::socket(0xa, 1);
        for (at, (is_client, bytes)) in wire.0.iter().enumerate() {
            let direction = direction(Side::Client, *is_client);
            if at == 11 {
                bench.data(&mut end, direction, &bytes[..from]);
                bench.passed(&mut end, direction, (to - from) as u64);
                bench.data(&mut end, direction, &bytes[to..]);
            } else {
                bench.data(&mut end, direction, bytes);
            }
        }
        bench
    };
    let inside = lost(10, 20).one_call();
    assert_eq!((inside.completion, inside.capture), (Some(Completion::Done), Capture::Gap));
    assert_eq!(inside.facts.unwrap().usage.output, Some(25));
    assert!(inside.notes.iter().any(|note| note.kind == NoteKind::Gap { part: "response", bytes: 10 }));
    let mut bench = lost(1, 3);
    let across = bench.one_call();
    assert_eq!((across.completion, across.capture), (None, Capture::Gap));
    assert_eq!(across.facts.unwrap().usage.output, None);
    // All behind the hole, which ends the parsing of this direction.
    let behind: usize = wire.0[11..].iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(bench.pipeline.stats().unparsed, behind as u64 - 3);
    assert_eq!(bench.answers.last().unwrap().verdict, REJECT);
}

#[test]
fn messages_that_are_no_events_are_counted_and_passed_over() {
    let mut wire = typed();
    let late = wire.0.split_off(9);
    wire.0.push((false, frame(0x81, false, b"{\"type\":\"response.done\"")));
    wire.0.push((false, frame(0x82, false, b"\0\x01\x02")));
    wire.0.push((true, frame(0x82, true, &vec![0; 3 << 20])));
    let sound = format!(r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#, "A".repeat(2 << 20));
    wire.0.push((true, frame(0x81, true, sound.as_bytes())));
    wire.0.extend(late);
    let mut bench = Bench::new(false);
    wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Client, usize::MAX);
    assert_eq!(bench.pipeline.stats().malformed, 3, "sound that is not read is nothing odd");
    whole(&bench.one_call(), "resp_1", 25);
}

#[test]
fn requests_without_answers_are_bounded() {
    let mut bench = Bench::new(false);
    let mut wire = Wire::open(REALTIME);
    (0..1_000).for_each(|_| wire.client(json!({"type": "response.create"})));
    wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Client, usize::MAX);
    let stats = bench.pipeline.stats();
    assert_eq!((bench.calls.len() as u64, stats.overflowed), (stats.overflowed, 1_000 - 32));
}

/// The Responses API's WebSocket mode: the request is whole, and its events are those of the stream.
fn lanes() -> Wire {
    let mut wire = Wire::open("/v1/responses");
    let event = |kind: &str, lane: &str, more: Value| {
        let mut event = json!({"type": kind, "stream_id": lane});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let whole = |id: &str, status: &str, usage: Value| {
        json!({"response": {"id": id, "object": "response", "status": status,
        "model": "gpt-1", "output": [], "usage": usage}})
    };
    for lane in ["a", "b"] {
        wire.client(event(
            "response.create",
            lane,
            json!({"model": "gpt", "store": false, "instructions": "be brief",
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": lane}]}]}),
        ));
    }
    for lane in ["b", "a"] {
        wire.server(event("response.created", lane, whole(&format!("resp_{lane}"), "in_progress", Value::Null)));
    }
    for lane in ["a", "b", "a"] {
        wire.server(event(
            "response.output_text.delta",
            lane,
            json!({"item_id": "i", "output_index": 0, "delta": lane}),
        ));
    }
    for (lane, n) in [("a", 7), ("b", 8)] {
        let usage = json!({"input_tokens": 3, "output_tokens": n, "output_tokens_details": {"reasoning_tokens": 1}});
        wire.server(event("response.completed", lane, whole(&format!("resp_{lane}"), "completed", usage)));
    }
    wire
}

#[test]
fn websocket_lanes() {
    for size in [1, usize::MAX] {
        let calls = lanes().calls(size);
        let [a, b] = &calls[..] else { panic!("{calls:?}") };
        for (call, lane, chunks, tokens) in [(a, "a", 2, 7), (b, "b", 1, 8)] {
            let facts = call.facts.as_ref().unwrap();
            assert_eq!((facts.api, facts.request.model.as_deref()), ("openai.responses", Some("gpt")));
            assert_eq!(facts.response.id, Some(format!("resp_{lane}")));
            assert_eq!((call.chunk_count, call.completion), (chunks, Some(Completion::Done)));
            assert_eq!((facts.usage.output, facts.usage.reasoning), (Some(tokens), Some(1)));
            let content = facts.content.as_ref().unwrap();
            assert_eq!(messages(&content.input_messages)[0]["parts"][0]["content"], lane);
            assert_eq!(messages(&content.output_messages)[0]["parts"][0]["content"], lane.repeat(chunks as usize));
        }
    }
}

#[test]
fn an_error_ends_a_response_of_the_responses_api() {
    let mut wire = Wire::open("/v1/responses");
    wire.client(json!({"type": "response.create", "model": "gpt", "previous_response_id": "resp_0", "input": []}));
    wire.server(
        json!({"type": "error", "status": 400, "error": {"code": "previous_response_not_found", "message": "m"}}),
    );
    wire.client(json!({"type": "response.create", "model": "gpt", "input": "hi"}));
    wire.server(json!({"type": "response.created", "response": {"id": "resp_1", "object": "response", "status": "in_progress"}}));
    wire.server(json!({"type": "error", "code": "server_error", "message": "m", "param": null}));
    let calls = wire.calls(usize::MAX);
    let errors: Vec<_> = calls.iter().map(|call| call.facts.as_ref().unwrap().error.as_deref().unwrap()).collect();
    assert_eq!(errors, ["previous_response_not_found", "server_error"]);
    assert!(calls.iter().all(|call| call.completion == Some(Completion::Error)));
}

#[test]
fn credentials_are_in_nothing_that_comes_out_of_a_socket() {
    let mut wire = typed();
    wire.client(json!({"type": "response.create", "response": {"instructions": "use sk-proj-canary0123456789abcdefABCDEF0123456789abcdefghij"}}));
    answer(&mut wire, "resp_2", 25);
    let calls = wire.calls(usize::MAX);
    assert_eq!(calls.len(), 2);
    assert!(!format!("{calls:?}").contains("canary"));
}

#[test]
fn a_socket_may_be_cut_at_every_byte() {
    let wire = typed();
    let all: usize = wire.0.iter().map(|(_, bytes)| bytes.len()).sum();
    for cut in 0..all {
        let (mut bench, mut end, mut left) = (Bench::new(false), End::socket(0xa, 1), cut);
        for (is_client, bytes) in &wire.0 {
            let n = left.min(bytes.len());
            left -= n;
            if n > 0 {
                bench.data(&mut end, direction(Side::Client, *is_client), &bytes[..n]);
            }
        }
        bench.state(end.stream, tcp::ESTABLISHED, tcp::CLOSE_WAIT, 0);
        bench.state(end.stream, 9, tcp::CLOSE, 0);
        bench.balanced();
        match &bench.calls[..] {
            [] => {}
            [call] if call.facts.as_ref().unwrap().usage.output.is_some() => {
                whole(call, "resp_1", 25);
            }
            [call] => assert_eq!(call.completion, Some(Completion::ServerClosed), "cut at {cut}"),
            more => panic!("{more:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn noise_on_a_socket_neither_panics_nor_unbalances(
        noise in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        framed: bool,
    ) {
        let mut wire = Wire::open(REALTIME);
        for (is_client, bytes) in noise {
            wire.0.push((is_client, if framed { frame(0x81, is_client, &bytes) } else { bytes }));
        }
        let mut bench = Bench::new(false);
        wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Client, usize::MAX);
        bench.balanced();
    }

    #[test]
    fn events_in_any_order_give_the_same_calls_in_any_chunking(
        events in prop::collection::vec((0usize..EVENTS.len(), 0u8..3, 0u8..3), 0..30),
        size in 1usize..200,
        responses: bool,
    ) {
        let mut wire = Wire::open(if responses { "/v1/responses" } else { REALTIME });
        for (kind, id, lane) in events {
            let (is_client, kind) = EVENTS[kind];
            let event = json!({"type": kind, "response_id": format!("r{id}"), "item_id": format!("i{id}"), "event_id": "e",
                "stream_id": (lane > 0).then_some(lane.to_string()), "delta": "a", "transcript": "t", "input": "x",
                "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
                "session": {"id": "s", "instructions": "y"}, "error": {"code": "c", "event_id": Value::Null}});
            if is_client { wire.client(event) } else { wire.server(event) }
        }
        wire.0.push((false, frame(0x88, false, b"")));
        let calls: Vec<String> = wire.calls(usize::MAX).iter().map(said).collect();
        prop_assert_eq!(wire.calls(size).iter().map(said).collect::<Vec<_>>(), calls);
    }
}

/// Events, and whether they are the client's.
const EVENTS: [(bool, &str); 15] = [
    (true, "response.create"),
    (true, "conversation.item.create"),
    (true, "session.update"),
    (true, "input_audio_buffer.commit"),
    (false, "session.created"),
    (false, "input_audio_buffer.committed"),
    (false, "response.created"),
    (false, "response.output_text.delta"),
    (false, "response.output_item.added"),
    (false, "response.done"),
    (false, "response.completed"),
    (false, "conversation.item.input_audio_transcription.delta"),
    (false, "conversation.item.input_audio_transcription.completed"),
    (false, "transcription.done"),
    (false, "error"),
];
