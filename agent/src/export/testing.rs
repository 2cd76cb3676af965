//! Calls for the exporters' tests.

use std::time::Duration;

use super::span::Span;
use crate::{
    call::{Capture, Completion, FinishedCall, HttpFacts, Note, NoteKind, Side, SpanIds, Timing, gaps::GapSketch},
    host::ProcessIdentity,
    llm::{Facts, RequestFacts, ResponseFacts, Usage},
    record::{Address, Source},
    time::{Mono, WallAnchor},
};

const MS: u64 = 1_000_000;

/// Wall time of kernel time zero in these tests: 2023-11-14 22:13:20 UTC and 123 ms.
pub(crate) const ANCHOR: WallAnchor = WallAnchor { mono: Mono(0), unix_nanos: 1_700_000_000_123_000_000 };

/// A streamed chat call of a client, seen whole: started at 0, first event at 200 ms, chunks at 250, 300 and
/// 450 ms, 11 output tokens.
pub(crate) fn chat() -> FinishedCall {
    let mut gaps = GapSketch::default();
    gaps.record(Duration::from_millis(50));
    gaps.record(Duration::from_millis(150));
    FinishedCall {
        ids: SpanIds { trace: [0xab; 16], span: [0x01; 8], parent: None },
        side: Side::Client,
        process: ProcessIdentity {
            pid: 4242,
            start_boottime_ns: 7,
            uid: Some(1000),
            comm: Some("python3".to_owned()),
            executable: Some("python3.12".to_owned()),
            container_id: None,
        },
        local: Some(Address::Ip("10.0.0.5:50000".parse().unwrap())),
        peer: Some(Address::Ip("[::ffff:104.18.7.1]:443".parse().unwrap())),
        tls: true,
        source: Source::OpenSsl,
        binding: None,
        timing: Timing {
            start: Mono(0),
            request_end: Some(Mono(MS)),
            response_start: Some(Mono(190 * MS)),
            first_event: Some(Mono(200 * MS)),
            first_chunk: Some(Mono(250 * MS)),
            last_chunk: Some(Mono(450 * MS)),
            end: Mono(460 * MS),
        },
        chunk_count: 3,
        gaps,
        streamed: true,
        http: HttpFacts {
            method: Some("POST".to_owned()),
            path: Some("/v1/chat/completions".to_owned()),
            host: Some("api.openai.com".to_owned()),
            status: Some(200),
        },
        inferred: None,
        place: Default::default(),
        hop: None,
        serving: None,
        tool: None,
        load: None,
        facts: Some(Facts {
            api: "openai.chat",
            operation: "chat",
            provider: "openai",
            request: RequestFacts {
                model: Some("gpt-4o".to_owned()),
                stream: Some(true),
                temperature: Some(0.7),
                choice_count: Some(1),
                ..RequestFacts::default()
            },
            response: ResponseFacts {
                model: Some("gpt-4o-2024-08-06".to_owned()),
                id: Some("chatcmpl-1".to_owned()),
                finish_reasons: vec!["stop".to_owned()],
                ..ResponseFacts::default()
            },
            usage: Usage { input: Some(120), output: Some(11), ..Usage::default() },
            ..Facts::default()
        }),
        completion: Some(Completion::Done),
        capture: Capture::Complete,
        notes: vec![Note { at: Mono(300 * MS), kind: NoteKind::Gap { part: "response", bytes: 17 } }],
    }
}

/// The span of [`chat`] with another span id for every `n`.
pub(crate) fn numbered_span(n: u64) -> Span {
    let mut span = Span::from_call(&chat(), ANCHOR);
    span.span_id = n.to_be_bytes();
    span
}
