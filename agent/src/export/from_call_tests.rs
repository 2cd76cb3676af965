use super::{HostPort, split_host};
use crate::{
    call::{Capture, Completion, FinishedCall, HttpFacts, Note, NoteKind, Place, Retry, Side, ToolRun},
    export::{
        attributes as names,
        span::{Span, SpanKind, SpanStatus, Value},
        testing::{ANCHOR, chat},
    },
    llm::{Content, Estimated, Method, Quality, Timings, Usage},
    record::{Address, Source},
    time::Mono,
};

fn span(change: impl FnOnce(&mut FinishedCall)) -> Span {
    let mut call = chat();
    change(&mut call);
    Span::from_call(&call, ANCHOR)
}

fn text<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    span.get(name).map(|value| value.as_str().expect("text"))
}

fn seconds(span: &Span, name: &str) -> Option<f64> {
    span.get(name).map(|value| value.as_double().expect("a double"))
}

#[test]
fn a_streamed_chat_fills_the_contract() {
    let span = span(|_| ());
    assert_eq!((span.name.as_str(), span.kind, span.status), ("chat gpt-4o", SpanKind::Client, SpanStatus::Ok));
    assert_eq!(span.start_time_unix_nano, 1_700_000_000_123_000_000);
    assert_eq!(span.end_time_unix_nano, 1_700_000_000_583_000_000);
    assert_eq!(span.get(names::GEN_AI_REQUEST_STREAM), Some(&Value::Bool(true)));
    assert_eq!(seconds(&span, names::GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK), Some(0.2));
    assert_eq!(seconds(&span, names::INFERSCOPE_TIME_TO_FIRST_TOKEN), Some(0.25));
    assert_eq!(seconds(&span, names::INFERSCOPE_TIME_PER_OUTPUT_TOKEN), Some(0.02));
    assert_eq!(seconds(&span, names::INFERSCOPE_CHUNK_GAP_MAX), Some(0.15));
    assert_eq!(span.get(names::INFERSCOPE_CHUNK_COUNT), Some(&Value::Int(3)));
    assert_eq!(text(&span, names::SERVER_ADDRESS), Some("api.openai.com"));
    assert_eq!(span.get(names::SERVER_PORT), Some(&Value::Int(443)));
    assert_eq!(text(&span, names::NETWORK_PEER_ADDRESS), Some("104.18.7.1"));
    assert_eq!(text(&span, names::INFERSCOPE_USAGE_SOURCE), Some("reported"));
    assert_eq!(text(&span, names::INFERSCOPE_CAPTURE_SOURCE), Some("openssl"));
    assert_eq!(span.get(names::GEN_AI_RESPONSE_FINISH_REASONS), Some(&Value::StrArray(vec!["stop".to_owned()])));
    for absent in [
        names::ERROR_TYPE,
        names::CONTAINER_ID,
        names::GEN_AI_REQUEST_CHOICE_COUNT,
        names::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
        names::GEN_AI_INPUT_MESSAGES,
        names::HTTP_REQUEST_METHOD,
        names::URL_PATH,
        names::INFERSCOPE_TOOL_CALLS,
    ] {
        assert_eq!(span.get(absent), None, "{absent}");
    }
    let mut seen: Vec<_> = span.attributes.iter().map(|(name, _)| *name).collect();
    assert!(seen.iter().all(|name| names::ALL.contains(name)));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), span.attributes.len(), "a name occurs twice");
}

#[test]
fn what_was_not_streamed_has_no_stream_times() {
    let span = span(|call| call.streamed = false);
    for (name, _) in &span.attributes {
        assert!(!name.starts_with("inferscope.chunk") && !name.contains("time_"), "{name}");
    }
}

#[test]
fn time_per_token_needs_two_tokens_and_two_chunks() {
    for change in [
        |call: &mut FinishedCall| call.facts.as_mut().unwrap().usage.output = Some(1),
        |call: &mut FinishedCall| call.facts.as_mut().unwrap().usage.output = Some(0),
        |call: &mut FinishedCall| call.facts.as_mut().unwrap().usage.output = None,
        |call: &mut FinishedCall| call.timing.first_chunk = None,
        |call: &mut FinishedCall| call.chunk_count = 1,
    ] {
        assert_eq!(span(change).get(names::INFERSCOPE_TIME_PER_OUTPUT_TOKEN), None);
    }
}

#[test]
fn a_call_joined_late_has_no_time_to_first_token() {
    let span = span(|call| call.capture = Capture::PartialStart);
    assert_eq!(span.get(names::INFERSCOPE_TIME_TO_FIRST_TOKEN), None);
    assert!(span.get(names::INFERSCOPE_TIME_PER_OUTPUT_TOKEN).is_some());
}

#[test]
fn no_gap_and_no_usage_leave_no_zero() {
    let span = span(|call| {
        call.gaps = Default::default();
        call.chunk_count = 0;
        call.facts.as_mut().unwrap().usage = Default::default();
    });
    for (name, _) in &span.attributes {
        assert!(!name.contains("usage") && !name.starts_with("inferscope.chunk"), "{name}");
    }
}

#[test]
fn the_server_s_times_stand_beside_ours() {
    let span = span(|call| {
        if let Some(facts) = &mut call.facts {
            facts.timings = Timings { first_token: Some(0.2), queue: Some(0.0), ..Timings::default() };
        }
    });
    assert_eq!(seconds(&span, names::INFERSCOPE_SERVER_TIMING_TIME_TO_FIRST_TOKEN), Some(0.2));
    assert_eq!(seconds(&span, names::INFERSCOPE_SERVER_TIMING_QUEUE), Some(0.0), "a reported zero is a value");
    assert_eq!(seconds(&span, names::INFERSCOPE_SERVER_TIMING_TOTAL), None);
    assert_eq!(seconds(&span, names::INFERSCOPE_TIME_TO_FIRST_TOKEN), Some(0.25));
}

#[test]
fn errors_and_statuses() {
    let outcome = |error: Option<&str>, http: Option<u16>, completion: Option<Completion>| {
        let span = span(|call| {
            call.facts.as_mut().unwrap().error = error.map(str::to_owned);
            call.http.status = http;
            call.completion = completion;
        });
        (text(&span, names::ERROR_TYPE).map(str::to_owned), span.status)
    };
    let error = |kind: &str| (Some(kind.to_owned()), SpanStatus::Error);
    use Completion as C;
    assert_eq!(outcome(Some("rate_limit"), Some(429), Some(C::Error)), error("rate_limit"));
    assert_eq!(outcome(None, Some(500), Some(C::Error)), error("500"));
    assert_eq!(outcome(None, Some(200), Some(C::Error)), error("_OTHER"));
    assert_eq!(outcome(None, Some(200), Some(C::ClientClosed)), error("cancelled"));
    assert_eq!(outcome(None, Some(200), Some(C::ServerClosed)), error("connection_reset"));
    assert_eq!(outcome(None, None, Some(C::Idle)), error("timeout"));
    assert_eq!(outcome(None, Some(200), Some(C::Length)), (None, SpanStatus::Ok));
    assert_eq!(outcome(None, Some(200), None), (None, SpanStatus::Unset));
}

#[test]
fn server_of_a_client_span() {
    let of = |host: Option<&str>, tls: bool| {
        let span = span(|call| {
            call.http.host = host.map(str::to_owned);
            call.tls = tls;
        });
        (text(&span, names::SERVER_ADDRESS).map(str::to_owned), span.get(names::SERVER_PORT).and_then(Value::as_int))
    };
    assert_eq!(of(Some("localhost:8000"), false), (Some("localhost".to_owned()), Some(8000)));
    assert_eq!(of(Some("localhost"), false), (Some("localhost".to_owned()), Some(80)));
    assert_eq!(of(None, true), (Some("104.18.7.1".to_owned()), Some(443)));
    assert_eq!(of(Some("h:99999"), true), (Some("h".to_owned()), None));
}

#[test]
fn a_unix_socket_is_named_and_not_numbered() {
    let of = |side: Side, server: Option<&str>| {
        let span = span(|call| {
            let unix = |sock, name: Option<&str>| Some(Address::Unix { sock, name: name.map(Into::into) });
            call.side = side;
            call.http.host = Some("localhost".to_owned());
            (call.local, call.peer) = match side {
                Side::Client => (unix(1, None), unix(2, server)),
                Side::Server => (unix(1, server), unix(2, None)),
            };
        });
        assert_eq!(text(&span, names::NETWORK_TRANSPORT), Some("unix"));
        assert_eq!(span.get(names::SERVER_PORT).or(span.get(names::NETWORK_PEER_PORT)), None);
        let address = |name| text(&span, name).map(str::to_owned);
        (address(names::SERVER_ADDRESS), address(names::NETWORK_PEER_ADDRESS))
    };
    let name = || Some("/run/llm.sock".to_owned());
    assert_eq!(of(Side::Client, Some("/run/llm.sock")), (name(), name()));
    assert_eq!(of(Side::Server, Some("/run/llm.sock")), (name(), None));
    assert_eq!(of(Side::Client, None), (None, None));
}

#[test]
fn standard_input_and_output_are_a_pipe_whatever_they_are_made_of() {
    let of = |source, name: Option<&str>| {
        let span = span(|call| {
            let unix = |sock, name: Option<&str>| Some(Address::Unix { sock, name: name.map(Into::into) });
            (call.source, call.http) = (source, HttpFacts::default());
            (call.local, call.peer) =
                if source == Source::Pipe { (None, None) } else { (unix(1, None), unix(2, name)) };
        });
        text(&span, names::NETWORK_TRANSPORT).map(str::to_owned)
    };
    assert_eq!(of(Source::Pipe, None).as_deref(), Some("pipe"));
    assert_eq!(of(Source::Lines, None).as_deref(), Some("pipe"), "a socket pair");
    assert_eq!(of(Source::Lines, Some("/run/mcp.sock")).as_deref(), Some("unix"));
    assert_eq!(of(Source::Syscall, None).as_deref(), Some("unix"), "HTTP");
}

#[test]
fn server_of_a_server_span() {
    let of = |host: Option<&str>| {
        let span = span(|call| {
            call.side = Side::Server;
            call.http.host = host.map(str::to_owned);
        });
        (text(&span, names::SERVER_ADDRESS).map(str::to_owned), span.get(names::SERVER_PORT).and_then(Value::as_int))
    };
    assert_eq!(of(Some("llm.example:9000")), (Some("llm.example".to_owned()), Some(9000)));
    assert_eq!(of(Some("llm.example")), (Some("llm.example".to_owned()), Some(50000)));
    assert_eq!(of(None), (Some("10.0.0.5".to_owned()), Some(50000)));
}

#[test]
fn host_values() {
    assert_eq!(split_host("[::1]:8000"), Some(("::1", HostPort::Given(8000))));
    assert_eq!(split_host("[::1]"), Some(("::1", HostPort::Default)));
    assert_eq!(split_host("user:secret@host:1"), Some(("host", HostPort::Given(1))));
    assert_eq!(split_host("host:"), Some(("host", HostPort::Default)));
    assert_eq!(split_host(":80"), None);
    assert_eq!(split_host("[::1"), None);
}

#[test]
fn plain_http_is_named_by_its_method() {
    let span = span(|call| call.facts = None);
    assert_eq!(span.name, "POST");
    assert_eq!(text(&span, names::URL_PATH), Some("/v1/chat/completions"));
    assert_eq!(text(&span, names::HTTP_REQUEST_METHOD), Some("POST"));
    assert_eq!(span.get(names::HTTP_RESPONSE_STATUS_CODE), Some(&Value::Int(200)));
    assert!(!span.attributes.iter().any(|(name, _)| name.starts_with("gen_ai.request")));
}

#[test]
fn a_key_in_a_path_goes() {
    let span = span(|call| {
        call.facts = None;
        call.http.path = Some(format!("/bot123456789:AA{}/sendMessage", "x1Y".repeat(11)));
    });
    assert_eq!(text(&span, names::URL_PATH), Some("/bot[REDACTED:telegram]/sendMessage"));
}

#[test]
fn a_call_without_a_model_is_named_by_its_operation() {
    assert_eq!(span(|call| call.facts.as_mut().unwrap().request.model = None).name, "chat");
}

#[test]
fn notes_become_events() {
    let span = span(|call| {
        call.notes = vec![
            Note { at: Mono(1), kind: NoteKind::Gap { part: "response", bytes: 17 } },
            Note { at: Mono(2), kind: NoteKind::Malformed { part: "request", reason: "chunk_size" } },
            Note { at: Mono(3), kind: NoteKind::Undecoded { part: "response" } },
        ];
    });
    let names: Vec<_> = span.events.iter().map(|event| event.name).collect();
    assert_eq!(names, ["inferscope.gap", "inferscope.malformed", "inferscope.undecoded"]);
    assert_eq!(span.events[0].attributes[1], (names::INFERSCOPE_BYTES, Value::Int(17)));
    assert_eq!(span.events[1].attributes[1], (names::INFERSCOPE_REASON, Value::Str("chunk_size".to_owned())));
    assert_eq!(span.events[2].time_unix_nano, ANCHOR.unix_nanos + 3);
}

#[test]
fn content_is_there_only_when_it_was_captured() {
    let span = span(|call| {
        call.facts.as_mut().unwrap().content =
            Some(Content { input_messages: Some("[]".to_owned()), truncated: true, ..Content::default() });
    });
    assert_eq!(text(&span, names::GEN_AI_INPUT_MESSAGES), Some("[]"));
    assert_eq!(span.get(names::GEN_AI_OUTPUT_MESSAGES), None);
    assert_eq!(span.get(names::INFERSCOPE_CONTENT_TRUNCATED), Some(&Value::Bool(true)));
}

#[test]
fn numbers_that_lie_are_left_out() {
    let span = span(|call| {
        let facts = call.facts.as_mut().unwrap();
        facts.usage.input = Some(u64::MAX);
        facts.request.temperature = Some(f64::INFINITY);
    });
    assert_eq!(span.get(names::GEN_AI_USAGE_INPUT_TOKENS), None);
    assert_eq!(span.get(names::GEN_AI_REQUEST_TEMPERATURE), None);
}

#[test]
fn a_tool_s_run_is_an_internal_span_without_a_call_s_attributes() {
    let span = span(|call| {
        (call.facts, call.completion, call.streamed) = (None, None, false);
        (call.local, call.peer, call.http) = (None, None, Default::default());
        call.place.conversation = Some("c".to_owned());
        call.tool = Some(Box::new(ToolRun { name: Some("weather".to_owned()), call_id: Some("t1".to_owned()) }));
    });
    assert_eq!(
        (span.name.as_str(), span.kind, span.status),
        ("execute_tool weather", SpanKind::Internal, SpanStatus::Unset)
    );
    assert_eq!(text(&span, names::GEN_AI_OPERATION_NAME), Some("execute_tool"));
    assert_eq!(text(&span, names::GEN_AI_TOOL_NAME), Some("weather"));
    assert_eq!(text(&span, names::GEN_AI_TOOL_CALL_ID), Some("t1"));
    assert_eq!(text(&span, names::GEN_AI_CONVERSATION_ID), Some("c"));
    for absent in [names::SERVER_PORT, names::ERROR_TYPE, names::INFERSCOPE_COMPLETION, names::HTTP_REQUEST_METHOD] {
        assert_eq!(span.get(absent), None, "{absent}");
    }
}

#[test]
fn a_call_s_place_among_others() {
    let retry = Some(Retry { count: 2, first: Some([0xab; 8]) });
    let place = Place { conversation: Some("c".to_owned()), turn: Some(3), retry, regeneration: true };
    let span = span(|call| call.place = place);
    assert_eq!(text(&span, names::GEN_AI_CONVERSATION_ID), Some("c"));
    assert_eq!(span.get(names::INFERSCOPE_CONVERSATION_TURN), Some(&Value::Int(3)));
    assert_eq!(span.get(names::INFERSCOPE_RETRY_COUNT), Some(&Value::Int(2)));
    assert_eq!(text(&span, names::INFERSCOPE_RETRY_OF), Some("abababababababab"));
    assert_eq!(span.get(names::INFERSCOPE_REGENERATION), Some(&Value::Bool(true)));
}

#[test]
fn only_bad_signs_are_told() {
    let told = |quality: Quality| {
        let span = span(|call| call.facts.as_mut().unwrap().quality = quality);
        let of_quality = span.attributes.into_iter().filter(|(name, _)| name.starts_with("inferscope.quality"));
        of_quality.collect::<Vec<_>>()
    };
    assert_eq!(told(Quality::default()), []);
    let quality = Quality { empty: true, malformed_arguments: 2, logprob_mean: Some(-2.5), ..Quality::default() };
    let expect = [
        (names::INFERSCOPE_QUALITY_EMPTY, Value::Bool(true)),
        (names::INFERSCOPE_QUALITY_MALFORMED_TOOL_ARGUMENTS, Value::Int(2)),
        (names::INFERSCOPE_QUALITY_LOGPROB_MEAN, Value::Double(-2.5)),
    ];
    assert_eq!(told(quality), expect);
}

#[test]
fn what_is_estimated_stands_beside_what_is_reported_and_never_in_its_place() {
    let span = |usage: Usage| {
        span(|call| {
            let facts = call.facts.as_mut().unwrap();
            facts.usage = usage;
            facts.estimated = Some(Estimated { input: None, output: Some(7), method: Some(Method::Tokenizer) });
        })
    };
    let estimated = span(Usage::default());
    assert_eq!(estimated.get(names::INFERSCOPE_USAGE_ESTIMATED_OUTPUT_TOKENS), Some(&Value::Int(7)));
    assert_eq!(text(&estimated, names::INFERSCOPE_USAGE_SOURCE), Some("estimated"));
    assert_eq!(text(&estimated, names::INFERSCOPE_USAGE_ESTIMATED_METHOD), Some("tokenizer"));
    assert!(estimated.attributes.iter().all(|(name, _)| !name.starts_with("gen_ai.usage")));
    let half = span(Usage { input: Some(1), ..Usage::default() });
    assert_eq!(text(&half, names::INFERSCOPE_USAGE_SOURCE), Some("reported"));
    assert_eq!(half.get(names::INFERSCOPE_USAGE_ESTIMATED_OUTPUT_TOKENS), Some(&Value::Int(7)));
}
