//! What a sender can do on purpose.

use inferscope::collector::CollectorSettings;
use inferscope_proto::otlp::{
    collector_trace::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::{AnyValue, KeyValue, any_value::Value},
    trace::{ResourceSpans, ScopeSpans, Span, span::Event},
};
use tonic::{Code, transport::Endpoint};

use super::{
    SOON,
    agent::{Stream, hello},
    now, settings, start, stored,
};

fn text(key: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

fn span(number: u8) -> Span {
    Span {
        trace_id: vec![number; 16],
        span_id: vec![number; 8],
        start_time_unix_nano: now(),
        end_time_unix_nano: now() + 1,
        ..Span::default()
    }
}

async fn client(collector: &inferscope::collector::Collector) -> TraceServiceClient<tonic::transport::Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", collector.listen())).unwrap();
    TraceServiceClient::new(endpoint.connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_is_stored_once_and_what_others_call_a_prompt_is_content() {
    const CANARY: &str = "canary-of-a-prompt";
    let dir = tempfile::tempdir().unwrap();
    let collector = start(&settings(dir.path())).await;
    let event = |name: &str, key: &str| Event {
        name: name.to_owned(),
        attributes: vec![text(key, CANARY)],
        ..Event::default()
    };
    let names = [
        "gen_ai.prompt.0.content",
        "traceloop.entity.input",
        "llm.input_messages.0.message.content",
        "input.value",
        "ai.prompt",
    ];
    let span = Span {
        attributes: names.iter().map(|name| text(name, CANARY)).chain([text("gen_ai.request.model", "m")]).collect(),
        events: vec![
            event("gen_ai.user.message", "content"),
            event("gen_ai.client.inference.operation.details", "gen_ai.input.messages"),
            event("exception", "exception.type"),
        ],
        ..span(1)
    };
    let mut client = client(&collector).await;
    for _ in 0..2 {
        let answer = client.export(request(vec![span.clone()])).await.unwrap().into_inner();
        assert!(answer.partial_success.is_none());
    }
    assert_eq!(stored(&collector), 1);
    let reader = collector.store().reader();
    let shown = reader.call([1; 16], [1; 8]).unwrap().unwrap();
    // The exception's event has no message, and stays: what is in it is not known to be one.
    let without: Vec<_> = shown.events.iter().filter(|event| event.name != "exception").collect();
    assert!(without.is_empty(), "{without:?}");
    assert!(!serde_json::to_string(&shown.attributes).unwrap().contains(CANARY), "{:?}", shown.attributes);
    let content = reader.content([1; 16], [1; 8]).unwrap().unwrap();
    assert_eq!((content.attributes.len(), content.events.len()), (names.len(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_before_anything_of_a_message_is_read() {
    let dir = tempfile::tempdir().unwrap();
    // Behind a proxy on this host nobody is taken for somebody on it.
    let collector = start(&CollectorSettings { plaintext: true, ..settings(dir.path()) }).await;
    let refused = client(&collector).await.export(request(vec![span(1)])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // Too large for any message: it is who sends it that is asked about first.
    let bomb = request(vec![Span::default(); 4_000_000]);
    let refused = client(&collector).await.export(bomb).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    let refused = Stream::open(collector.listen(), hello("a", 1, 9)).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(&settings(dir.path())).await;
    for address in [collector.listen(), collector.ui()] {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut answer);
        let _ = tokio::time::timeout(SOON, read).await.expect("it was left open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_of_any_size_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let collector = start(&settings(dir.path())).await;
    let mut hello = hello("a", 1, 9);
    hello.resource = vec![0; (64 << 10) + 1].into();
    let refused = Stream::open(collector.listen(), hello).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
