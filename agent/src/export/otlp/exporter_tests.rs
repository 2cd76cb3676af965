//! The exporter against a receiver that follows a script, over real connections.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use inferscope_proto::otlp::collector_trace::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use super::OtlpExporter;
use crate::{
    config::{Compression, Headers},
    export::{
        otlp::{DropReason, Envelope, OtlpCounts, OtlpSettings, TlsFiles, Tuning, retry::tests::retry_info},
        span::Span,
        testing::{ANCHOR, chat, numbered_span},
    },
    llm::Content,
};

/// Longer than anything here takes: a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) enum Answer {
    Fail(Status),
    Partial(i64, &'static str),
    Hang,
}

/// A receiver that gives the scripted answers in turn, then takes everything.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    requests: mpsc::UnboundedReceiver<(MetadataMap, ExportTraceServiceRequest)>,
    task: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Clone)]
pub(crate) struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: mpsc::UnboundedSender<(MetadataMap, ExportTraceServiceRequest)>,
}

#[tonic::async_trait]
impl TraceService for Script {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let _ = self.requests.send((metadata, request));
        let answer = self.answers.lock().unwrap().pop_front();
        let partial_success = match answer {
            Some(Answer::Fail(status)) => return Err(status),
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Partial(rejected_spans, message)) => {
                Some(ExportTracePartialSuccess { rejected_spans, error_message: message.to_owned() })
            }
            None => None,
        };
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

impl Receiver {
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::listen("127.0.0.1:0".parse().unwrap(), answers).await
    }

    pub(crate) async fn listen(address: SocketAddr, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::serve(Server::builder(), address, answers).await
    }

    pub(crate) async fn serve(server: Server, address: SocketAddr, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::serve_with(server, address, answers, |service| service.accept_compressed(CompressionEncoding::Gzip)).await
    }

    /// A receiver whose service has other limits, or knows other compressions.
    pub(crate) async fn serve_with(
        server: Server,
        address: SocketAddr,
        answers: impl IntoIterator<Item = Answer>,
        configure: impl FnOnce(TraceServiceServer<Script>) -> TraceServiceServer<Script>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let script = Script { answers: Arc::new(Mutex::new(answers.into_iter().collect())), requests: sender };
        let service = configure(TraceServiceServer::new(script));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let stopped = async {
                // A receiver that is dropped is not stopped but gone.
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            server.serve_with_incoming_shutdown(service, incoming, stopped).await.unwrap();
        });
        Self { address, requests, task, stop: Some(stop) }
    }

    /// Ends its connections, and gives the address back.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        tokio::time::timeout(PATIENCE, &mut self.task).await.expect("it goes on").unwrap();
    }

    pub(crate) async fn request(&mut self) -> (MetadataMap, ExportTraceServiceRequest) {
        tokio::time::timeout(PATIENCE, self.requests.recv()).await.expect("no request came").unwrap()
    }

    /// How many spans each request had that came so far.
    pub(crate) fn sizes(&mut self) -> Vec<usize> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).map(|(_, request)| spans(&request).len()).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn spans(request: &ExportTraceServiceRequest) -> &[inferscope_proto::otlp::trace::Span] {
    &request.resource_spans[0].scope_spans[0].spans
}

pub(crate) fn settings(address: SocketAddr) -> OtlpSettings {
    OtlpSettings {
        name: None,
        endpoint: format!("http://{address}"),
        tls: None,
        headers: Headers::default(),
        compression: Compression::None,
        timeout: PATIENCE,
        queue_max_bytes: 64 << 20,
        queue_max_spans: 1000,
        tuning: Tuning {
            linger: PATIENCE * 10,
            backoff_first: Duration::from_millis(1),
            backoff_longest: Duration::from_millis(4),
            ..Tuning::default()
        },
    }
}

pub(crate) fn start(settings: &OtlpSettings) -> OtlpExporter {
    OtlpExporter::start(settings, Envelope::new(&|_| None, Some("host-1")).unwrap()).unwrap()
}

pub(crate) fn offer(exporter: &OtlpExporter, n: u64) {
    for n in 0..n {
        assert!(exporter.handle().offer(&numbered_span(n)));
    }
}

pub(crate) fn balance(counts: &OtlpCounts) -> u64 {
    let lost = [DropReason::TooLarge, DropReason::Refused, DropReason::Shutdown];
    counts.exported
        + counts.rejected
        + counts.pending_spans
        + counts.returned
        + lost.map(|reason| counts.dropped(reason)).iter().sum::<u64>()
}

/// Offers `n` spans to a receiver with this script; the ledger and the sizes of the requests that it saw.
pub(crate) async fn run(answers: impl IntoIterator<Item = Answer>, n: u64) -> (OtlpCounts, Vec<usize>) {
    let mut receiver = Receiver::start(answers).await;
    let exporter = start(&settings(receiver.address));
    offer(&exporter, n);
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!(balance(&counts), counts.enqueued);
    assert_eq!((counts.enqueued, counts.pending_spans), (n, 0));
    (counts, receiver.sizes())
}

#[tokio::test]
async fn spans_arrive_with_what_they_come_from() {
    let mut receiver = Receiver::start([]).await;
    let exporter = start(&settings(receiver.address));
    offer(&exporter, 3);
    assert!(exporter.handle().flush(PATIENCE).await);
    let (_, request) = receiver.request().await;
    let [resource_spans] = request.resource_spans.as_slice() else { panic!("{request:?}") };
    let keys: Vec<_> = resource_spans.resource.iter().flat_map(|r| &r.attributes).map(|a| a.key.as_str()).collect();
    assert_eq!(keys, ["service.name", "host.name"]);
    let scope = resource_spans.scope_spans[0].scope.as_ref().unwrap();
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("inferscope", env!("CARGO_PKG_VERSION")));
    let expect: Vec<_> = (0..3).map(|n| super::super::encode(&numbered_span(n))).collect();
    assert_eq!(spans(&request), expect);
    assert_eq!(exporter.handle().counts().exported, 3);
}

#[tokio::test]
async fn unavailable_is_tried_again() {
    let unavailable = || Answer::Fail(Status::unavailable("restarting"));
    let (counts, sizes) = run([unavailable(), unavailable()], 2).await;
    assert_eq!((counts.exported, counts.retries, sizes), (2, 2, vec![2, 2, 2]));
}

#[tokio::test]
async fn exhausted_with_retry_info_is_tried_again_whole() {
    let delay = inferscope_proto::rpc::Duration { seconds: 0, nanos: 1_000_000 };
    let busy = Status::with_details(Code::ResourceExhausted, "busy", retry_info(Some(delay)).into());
    let (counts, sizes) = run([Answer::Fail(busy)], 4).await;
    assert_eq!((counts.exported, counts.retries, sizes), (4, 1, vec![4, 4]));
}

#[tokio::test]
async fn exhausted_without_retry_info_is_sent_in_halves() {
    let (counts, sizes) = run([Answer::Fail(Status::resource_exhausted("too large"))], 5).await;
    assert_eq!((counts.exported, counts.retries, sizes), (5, 0, vec![5, 2, 3]));
}

#[tokio::test]
async fn a_span_that_is_too_large_alone_loses_its_content_then_itself() {
    let refuse = || Answer::Fail(Status::resource_exhausted("too large"));
    let mut receiver = Receiver::start([refuse(), refuse()]).await;
    let mut settings = settings(receiver.address);
    settings.tuning.small_span_bytes = 0;
    let exporter = start(&settings);
    let mut call = chat();
    let content = Content { input_messages: Some("x".repeat(5 << 20)), ..Content::default() };
    call.facts.as_mut().unwrap().content = Some(content);
    // Over the limit on requests: never sent with its content.
    assert!(exporter.handle().offer(&Span::from_call(&call, ANCHOR)));
    call.facts.as_mut().unwrap().content.as_mut().unwrap().input_messages = Some("short".to_owned());
    assert!(exporter.handle().offer(&Span::from_call(&call, ANCHOR)));
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.dropped(DropReason::TooLarge), counts.exported), (1, 1));
    let has_content = |request: &ExportTraceServiceRequest| {
        spans(request)[0].attributes.iter().any(|attribute| attribute.key == "gen_ai.input.messages")
    };
    let mut sent = Vec::new();
    while let Ok((_, request)) = receiver.requests.try_recv() {
        sent.push(has_content(&request));
    }
    assert_eq!(sent, [false, true, false]);
}

#[tokio::test]
async fn a_receiver_without_room_gets_a_small_span_again() {
    let (counts, sizes) = run([Answer::Fail(Status::resource_exhausted("quota"))], 1).await;
    assert_eq!((counts.exported, counts.retries, sizes), (1, 1, vec![1, 1]));
}

#[tokio::test]
async fn what_is_refused_for_good_is_dropped_and_the_rest_goes_on() {
    let mut receiver = Receiver::start([Answer::Fail(Status::invalid_argument("bad"))]).await;
    let exporter = start(&settings(receiver.address));
    offer(&exporter, 2);
    assert!(exporter.handle().flush(PATIENCE).await);
    offer(&exporter, 3);
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.dropped(DropReason::Refused), counts.exported, counts.retries), (2, 3, 0));
    assert_eq!(receiver.sizes(), [2, 3]);
}

#[tokio::test]
async fn partial_success_is_counted_and_never_sent_again() {
    let (counts, sizes) = run([Answer::Partial(2, "two were bad")], 5).await;
    assert_eq!((counts.exported, counts.rejected, sizes), (3, 2, vec![5]));
    // A receiver that counts wrong does not unbalance the ledger.
    let (counts, _) = run([Answer::Partial(99, "")], 5).await;
    assert_eq!((counts.exported, counts.rejected), (0, 5));
    let (counts, _) = run([Answer::Partial(-1, "a warning")], 5).await;
    assert_eq!((counts.exported, counts.rejected), (5, 0));
}

#[tokio::test]
async fn a_refused_credential_pauses_and_loses_nothing() {
    let (counts, sizes) = run([Answer::Fail(Status::unauthenticated("who?"))], 2).await;
    assert_eq!((counts.exported, counts.retries, sizes), (2, 1, vec![2, 2]));
}

#[tokio::test]
async fn headers_and_gzip_are_on_the_wire() {
    let mut receiver = Receiver::start([]).await;
    let mut settings = settings(receiver.address);
    settings.headers.0.insert("X-Tenant".to_owned(), "a b".to_owned());
    settings.compression = Compression::Gzip;
    let exporter = start(&settings);
    offer(&exporter, 2);
    exporter.shutdown(PATIENCE).await;
    let (metadata, request) = receiver.request().await;
    let header = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
    assert_eq!((header("x-tenant"), header("grpc-encoding")), (Some("a b"), Some("gzip")));
    assert!(header("user-agent").unwrap().starts_with("inferscope/") && header("grpc-timeout").is_some());
    assert_eq!(spans(&request).len(), 2);
}

#[tokio::test]
async fn requests_stay_below_the_limit() {
    let mut receiver = Receiver::start([]).await;
    let mut settings = settings(receiver.address);
    let per_span = {
        use inferscope_proto::Message as _;
        super::super::encode(&numbered_span(0)).encoded_len()
    };
    settings.tuning.request_max_bytes = per_span * 4;
    let exporter = start(&settings);
    offer(&exporter, 10);
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!(counts.exported, 10);
    let sizes = receiver.sizes();
    assert_eq!(sizes.iter().sum::<usize>(), 10);
    assert!(sizes.iter().all(|&size| size <= 3), "{sizes:?}");
}

#[tokio::test]
async fn a_receiver_that_comes_late_gets_everything() {
    // A port on which nobody listens: found by listening on it.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut settings = settings(address);
    settings.queue_max_spans = 3;
    let exporter = start(&settings);
    offer(&exporter, 3);
    assert!(!exporter.handle().flush(Duration::ZERO).await);
    let retried = exporter.handle().queue.counts_where(|counts| counts.retries >= 3);
    tokio::time::timeout(PATIENCE, retried).await.expect("no attempt was made");
    assert!(!exporter.handle().offer(&numbered_span(9)), "the queue has a bound");
    let mut receiver = Receiver::listen(address, []).await;
    assert!(exporter.handle().flush(PATIENCE).await);
    assert_eq!(spans(&receiver.request().await.1).len(), 3);
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.exported, counts.dropped(DropReason::QueueFull)), (3, 1));
}

#[tokio::test]
async fn shutdown_ends_at_its_deadline_and_counts_what_is_left() {
    let mut receiver = Receiver::start([Answer::Hang]).await;
    let exporter = start(&settings(receiver.address));
    offer(&exporter, 2);
    assert!(!exporter.handle().flush(Duration::ZERO).await);
    receiver.request().await;
    offer(&exporter, 2);
    let handle = exporter.handle().clone();
    let shutdown = exporter.shutdown(Duration::from_millis(10));
    let counts = tokio::time::timeout(PATIENCE, shutdown).await.expect("the deadline was ignored");
    assert_eq!((counts.dropped(DropReason::Shutdown), counts.exported, counts.pending_spans), (4, 0, 0));
    assert!(!handle.offer(&numbered_span(9)));
    assert_eq!(handle.counts().dropped(DropReason::Closed), 1);
}

#[tokio::test]
async fn shutdown_does_not_sit_out_a_long_wait() {
    let mut receiver = Receiver::start([Answer::Fail(Status::unavailable("busy"))]).await;
    let mut settings = settings(receiver.address);
    settings.tuning.backoff_first = PATIENCE * 100;
    settings.tuning.backoff_longest = PATIENCE * 100;
    let exporter = start(&settings);
    offer(&exporter, 2);
    assert!(!exporter.handle().flush(Duration::ZERO).await);
    receiver.request().await;
    let shutdown = exporter.shutdown(PATIENCE * 50);
    let counts = tokio::time::timeout(PATIENCE, shutdown).await.expect("the wait was not cut short");
    assert_eq!((counts.exported, counts.retries), (2, 1));
}

#[tokio::test]
async fn an_exporter_that_is_dropped_stops() {
    let receiver = Receiver::start([Answer::Hang]).await;
    let exporter = start(&settings(receiver.address));
    offer(&exporter, 2);
    let handle = exporter.handle().clone();
    drop(exporter);
    let stopped = handle.queue.counts_where(|counts| counts.pending_spans == 0);
    let counts = tokio::time::timeout(PATIENCE, stopped).await.expect("the task goes on");
    assert_eq!(counts.dropped(DropReason::Shutdown), 2);
}

/// A certificate authority with a server's and a client's certificate in `folder`, or `None` without `openssl`.
fn certificates(folder: &Path) -> Option<()> {
    let openssl = |arguments: &str| {
        let run = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().ok()?;
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        Some(())
    };
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("{new} -x509 -days 2 -subj /CN=ca -keyout ca.key -out ca.pem"))?;
    for (name, extension) in [("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")] {
        std::fs::write(folder.join(format!("{name}.ext")), extension).unwrap();
        openssl(&format!("{new} -subj /CN={name} -keyout {name}.key -out {name}.csr"))?;
        let sign = "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial";
        openssl(&format!("{sign} -in {name}.csr -extfile {name}.ext -out {name}.pem"))?;
    }
    Some(())
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let folder = tempfile::tempdir().unwrap();
    if certificates(folder.path()).is_none() {
        eprintln!("skipped: no openssl to make certificates with");
        return;
    }
    let path = |name: &str| folder.path().join(name);
    let read = |name: &str| std::fs::read(path(name)).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read("server.pem"), read("server.key")))
        .client_ca_root(Certificate::from_pem(read("ca.pem")));
    let server = Server::builder().tls_config(tls).unwrap();
    let receiver = Receiver::serve(server, "127.0.0.1:0".parse().unwrap(), []).await;
    let mut settings = settings(receiver.address);
    settings.endpoint = format!("https://{}", receiver.address);

    let mut files = TlsFiles { ca: Some(path("ca.pem")), client: None };
    settings.tls = Some(files.clone());
    let stranger = start(&settings);
    offer(&stranger, 1);
    assert!(!stranger.handle().flush(Duration::ZERO).await);
    let turned_away = stranger.handle().queue.counts_where(|counts| counts.retries >= 2);
    let counts = tokio::time::timeout(PATIENCE, turned_away).await.expect("no attempt was made");
    assert_eq!((counts.exported, counts.pending_spans), (0, 1));

    files.client = Some((path("client.pem"), path("client.key")));
    settings.tls = Some(files);
    let exporter = start(&settings);
    offer(&exporter, 2);
    assert_eq!(exporter.shutdown(PATIENCE).await.exported, 2);

    settings.tls = Some(TlsFiles { ca: Some(path("missing.pem")), client: None });
    let error = OtlpExporter::start(&settings, Envelope::new(&|_| None, None).unwrap()).unwrap_err();
    assert!(error.to_string().ends_with("missing.pem"), "{error}");
}
