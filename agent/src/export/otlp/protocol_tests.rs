//! The exporter against every answer that the protocol has, and connections that end at bad moments.

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, server::SendResponse};
use inferscope_proto::{
    Message as _,
    otlp::collector_trace::{ExportTraceServiceRequest, trace_service_server::TraceServiceServer},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tonic::{Code, Status, codec::CompressionEncoding, transport::Server};

use super::tests::{Answer, PATIENCE, Receiver, Script, offer, run, settings, spans, start};
use crate::{
    config::Compression,
    export::{
        otlp::{DropReason, Envelope, encode, offer_to_all, retry::tests::retry_info},
        span::{Span, Value},
        testing::numbered_span,
    },
};

/// What gRPC receivers take unless they are told otherwise.
const LIMIT: usize = 4 << 20;

#[tokio::test]
async fn every_code_with_and_without_retry_info() {
    for code in (0..17).map(Code::from) {
        for delay in [None, Some(inferscope_proto::rpc::Duration { seconds: 0, nanos: 1_000_000 })] {
            let details = delay.map(|delay| retry_info(Some(delay))).unwrap_or_default();
            let status = Status::with_details(code, "scripted", details.into());
            let (counts, sizes) = run([Answer::Fail(status)], 4).await;
            let found = (counts.exported, counts.dropped(DropReason::Refused), counts.retries, sizes);
            let expect = match (code, delay) {
                (
                    Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
                    | Code::Unauthenticated
                    | Code::PermissionDenied,
                    _,
                )
                | (Code::ResourceExhausted, Some(_)) => (4, 0, 1, vec![4, 4]),
                (Code::ResourceExhausted, None) => (4, 0, 0, vec![4, 2, 2]),
                // OK without an answer too: whoever says so has had the request, and may have stored it.
                (
                    Code::Ok
                    | Code::Unknown
                    | Code::InvalidArgument
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::FailedPrecondition
                    | Code::Unimplemented
                    | Code::Internal,
                    _,
                ) => (0, 4, 0, vec![4]),
            };
            assert_eq!(found, expect, "{code:?}");
        }
    }
}

#[tokio::test]
async fn a_warning_beside_success_is_success() {
    let (counts, sizes) = run([Answer::Partial(0, "deprecated attributes")], 3).await;
    assert_eq!((counts.exported, counts.rejected, counts.retries, sizes), (3, 0, 0, vec![3]));
}

/// A span that makes a request of exactly so many bytes.
fn span_of(bytes: usize) -> Span {
    let envelope = Envelope::new(&|_| None, Some("host-1")).unwrap();
    let mut span = numbered_span(1);
    span.attributes.push(("gen_ai.input.messages", Value::Str(String::new())));
    let mut length = bytes - (64 << 10);
    loop {
        span.attributes.last_mut().unwrap().1 = Value::Str("x".repeat(length));
        match envelope.request(vec![encode(&span).encode_to_vec().into()]).encoded_len() {
            found if found == bytes => return span,
            found => length += bytes - found,
        }
    }
}

fn has_content(request: &ExportTraceServiceRequest) -> bool {
    spans(request).iter().any(|span| span.attributes.iter().any(|attribute| attribute.key == "gen_ai.input.messages"))
}

#[tokio::test]
async fn a_request_at_the_limit_is_sent_and_one_byte_more_is_not() {
    for (bytes, whole) in [(LIMIT - 1, true), (LIMIT, true), (LIMIT + 1, false)] {
        let mut receiver = Receiver::start([]).await;
        let mut settings = settings(receiver.address);
        settings.tuning.request_max_bytes = LIMIT;
        let exporter = start(&settings);
        assert!(exporter.handle().offer(&span_of(bytes)));
        let counts = exporter.shutdown(PATIENCE).await;
        assert_eq!((counts.exported, counts.retries), (1, 0), "{bytes}");
        let (_, request) = receiver.request().await;
        assert_eq!((has_content(&request), request.encoded_len() == bytes), (whole, whole), "{bytes}");
        assert_eq!(receiver.sizes(), [0; 0]);
    }
}

#[tokio::test]
async fn what_a_receiver_finds_too_long_is_sent_in_less() {
    let mut receiver = Receiver::start([]).await;
    let mut settings = settings(receiver.address);
    // A receiver with a lower limit than we think. tonic's says OUT_OF_RANGE, which else is sent again as it is.
    settings.tuning.request_max_bytes = 4 * LIMIT;
    let exporter = start(&settings);
    assert!(exporter.handle().offer(&span_of(LIMIT - 1000)));
    assert!(exporter.handle().offer(&span_of(LIMIT - 1000)));
    assert!(exporter.handle().flush(PATIENCE).await);
    assert_eq!(receiver.sizes(), [1, 1]);
    assert!(exporter.handle().offer(&span_of(LIMIT + 1)));
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.exported, counts.retries), (3, 0));
    assert!(!has_content(&receiver.request().await.1));
}

async fn with_compressions(accepted: &[CompressionEncoding], answers: Vec<Answer>) -> Receiver {
    let configure = |service: TraceServiceServer<Script>| {
        accepted.iter().fold(service, |service, encoding| service.accept_compressed(*encoding))
    };
    Receiver::serve_with(Server::builder(), "127.0.0.1:0".parse().unwrap(), answers, configure).await
}

#[tokio::test]
async fn a_compression_that_the_receiver_does_not_know_gives_way() {
    use CompressionEncoding::{Gzip, Zstd};
    for (wanted, accepted, expect) in [
        (Compression::Zstd, &[Gzip, Zstd][..], Some("zstd")),
        (Compression::Zstd, &[Gzip], Some("gzip")),
        (Compression::Zstd, &[], None),
        (Compression::Gzip, &[Zstd], None),
    ] {
        let mut receiver = with_compressions(accepted, Vec::new()).await;
        let mut settings = settings(receiver.address);
        settings.compression = wanted;
        let exporter = start(&settings);
        for _ in 0..2 {
            offer(&exporter, 2);
            assert!(exporter.handle().flush(PATIENCE).await);
            let (metadata, request) = receiver.request().await;
            let encoding = metadata.get("grpc-encoding").map(|encoding| encoding.to_str().unwrap());
            assert_eq!((encoding, spans(&request).len()), (expect, 2));
        }
        let counts = exporter.shutdown(PATIENCE).await;
        assert_eq!((counts.exported, counts.retries), (4, 0), "{expect:?}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_does_not_switch_compression_off() {
    let missing = || Answer::Fail(Status::unimplemented("unknown service"));
    let accepted = [CompressionEncoding::Gzip, CompressionEncoding::Zstd];
    let mut receiver = with_compressions(&accepted, vec![missing(), missing(), missing()]).await;
    let mut settings = settings(receiver.address);
    settings.compression = Compression::Zstd;
    let exporter = start(&settings);
    offer(&exporter, 1);
    assert!(exporter.handle().flush(PATIENCE).await);
    assert_eq!((exporter.handle().counts().dropped(DropReason::Refused), receiver.sizes()), (1, vec![1, 1, 1]));
    offer(&exporter, 1);
    assert_eq!(exporter.shutdown(PATIENCE).await.exported, 1);
    assert_eq!(receiver.request().await.0.get("grpc-encoding").unwrap(), "zstd");
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_no_other_up() {
    let hanging = Receiver::start([Answer::Hang]).await;
    let mut other = Receiver::start([]).await;
    let exporters = [start(&settings(hanging.address)), start(&settings(other.address))];
    let handles = exporters.each_ref().map(|exporter| exporter.handle().clone());
    for n in 0..3 {
        offer_to_all(&handles, &numbered_span(n));
    }
    assert!(handles[1].flush(PATIENCE).await);
    assert_eq!((handles[0].counts().pending_spans, handles[1].counts().exported, other.sizes()), (3, 3, vec![3]));
}

/// How a connection goes on once a request has been read whole.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is answered.
    Answer,
    /// The receiver is stopping: it says GOAWAY, and answers what it has.
    AnswerAfterGoaway,
    /// GOAWAY with this reason, and no answer.
    Goaway(Reason),
    /// The receiver has the request, and dies.
    Die,
}

/// A receiver of which each connection has a fate; those after the last are answered.
async fn fated(fates: impl IntoIterator<Item = Fate>) -> (SocketAddr, mpsc::UnboundedReceiver<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, seen) = mpsc::unbounded_channel();
    let fates = Arc::new(Mutex::new(fates.into_iter().collect::<VecDeque<_>>()));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let fate = fates.lock().unwrap().pop_front().unwrap_or(Fate::Answer);
            tokio::spawn(connection(socket, fate, sender.clone()));
        }
    });
    (address, seen)
}

/// Serves one connection; tells the span ids of each request when it was read.
async fn connection(socket: TcpStream, fate: Fate, seen: mpsc::UnboundedSender<Vec<Vec<u8>>>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    let (sender, mut read) = mpsc::unbounded_channel();
    loop {
        let (ids, respond) = tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let sender = sender.clone();
                    // The body comes only while the connection is driven.
                    tokio::spawn(async move { sender.send((span_ids(request.into_body()).await, respond)) });
                    continue;
                }
                _ => return,
            },
            Some(read) = read.recv() => read,
        };
        let _ = seen.send(ids);
        match fate {
            Fate::Answer => answer(respond),
            Fate::AnswerAfterGoaway => {
                connection.graceful_shutdown();
                answer(respond);
            }
            Fate::Goaway(reason) => connection.abrupt_shutdown(reason),
            Fate::Die => return,
        }
    }
}

async fn span_ids(mut body: RecvStream) -> Vec<Vec<u8>> {
    let mut bytes = BytesMut::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
    }
    // After gRPC's flag and length.
    let request = ExportTraceServiceRequest::decode(&bytes[5..]).unwrap();
    spans(&request).iter().map(|span| span.span_id.clone()).collect()
}

/// The empty answer, which is success.
fn answer(mut respond: SendResponse<Bytes>) {
    let response = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    stream.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
    stream
        .send_trailers([(http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())].into_iter().collect())
        .unwrap();
}

#[tokio::test]
async fn a_connection_that_ends_within_a_call_costs_a_second_attempt_with_the_same_ids() {
    let goaway = [Reason::NO_ERROR, Reason::ENHANCE_YOUR_CALM, Reason::INTERNAL_ERROR].map(Fate::Goaway);
    for fate in goaway.into_iter().chain([Fate::Die]) {
        let (address, mut seen) = fated([fate]).await;
        let exporter = start(&settings(address));
        offer(&exporter, 3);
        let counts = exporter.shutdown(PATIENCE).await;
        assert_eq!((counts.exported, counts.retries, counts.enqueued), (3, 1, 3), "{fate:?}");
        let (first, second) = (seen.recv().await.unwrap(), seen.recv().await.unwrap());
        // Whoever had stored the first knows the second by its ids: each span once.
        assert_eq!((&first, first.iter().collect::<HashSet<_>>().len()), (&second, 3), "{fate:?}");
        assert!(seen.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_receiver_that_stops_in_an_orderly_way_costs_nothing() {
    let (address, mut seen) = fated([Fate::AnswerAfterGoaway]).await;
    let exporter = start(&settings(address));
    for _ in 0..2 {
        offer(&exporter, 2);
        assert!(exporter.handle().flush(PATIENCE).await);
        assert_eq!(seen.recv().await.unwrap().len(), 2);
    }
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.exported, counts.retries), (4, 0));
}
