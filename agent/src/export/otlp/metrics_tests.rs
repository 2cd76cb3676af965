//! The exporter of metrics against a receiver that follows a script, over real connections.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use inferscope_proto::otlp::{
    collector_metrics::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    common::any_value::Value as Attribute,
    metrics::{AggregationTemporality, Metric, metric::Data, number_data_point::Value},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, codec::CompressionEncoding, metadata::MetadataMap, transport::Server};

use super::{MetricsCounts, MetricsExporter};
use crate::{
    config::{Compression, Headers},
    export::{
        otlp::{Envelope, MetricsSettings, OtlpSettings, Tuning, metrics_request},
        span::Span,
        testing::{ANCHOR, chat},
    },
    kernel::clock,
    metrics::{
        Machines, Metrics,
        machines::{Engine, Gpu},
    },
};

/// Longer than anything here takes: a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// No turn comes by itself.
const NEVER: Duration = Duration::from_secs(3600);

enum Answer {
    Fail(Status),
    Partial(i64),
    Hang,
}

/// A receiver that gives the scripted answers in turn, then takes everything.
struct Receiver {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<(MetadataMap, ExportMetricsServiceRequest)>,
    task: JoinHandle<()>,
}

struct Script {
    answers: Mutex<VecDeque<Answer>>,
    requests: mpsc::UnboundedSender<(MetadataMap, ExportMetricsServiceRequest)>,
}

#[tonic::async_trait]
impl MetricsService for Script {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let _ = self.requests.send((metadata, request));
        let answer = self.answers.lock().unwrap().pop_front();
        let partial_success = match answer {
            Some(Answer::Fail(status)) => return Err(status),
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Partial(rejected_data_points)) => {
                Some(ExportMetricsPartialSuccess { rejected_data_points, error_message: String::new() })
            }
            None => None,
        };
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

impl Receiver {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let script = Script { answers: Mutex::new(answers.into_iter().collect()), requests: sender };
        let service = MetricsServiceServer::new(script).accept_compressed(CompressionEncoding::Gzip);
        let task = tokio::spawn(async move {
            Server::builder().serve_with_incoming(service, TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, requests, task }
    }

    async fn request(&mut self) -> (MetadataMap, ExportMetricsServiceRequest) {
        tokio::time::timeout(PATIENCE, self.requests.recv()).await.expect("no request came").unwrap()
    }

    /// How many metrics each request had that came so far.
    fn sizes(&mut self) -> Vec<usize> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).map(|(_, request)| metrics_of(&request).len()).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn metrics_of(request: &ExportMetricsServiceRequest) -> &[Metric] {
    &request.resource_metrics[0].scope_metrics[0].metrics
}

/// The number of calls that the counter of finished ones says.
fn finished(request: &ExportMetricsServiceRequest) -> Option<i64> {
    let metric = metrics_of(request).iter().find(|metric| metric.name == "inferscope.calls.finished")?;
    match &metric.data {
        Some(Data::Sum(sum)) => match sum.data_points[0].value {
            Some(Value::AsInt(number)) => Some(number),
            _ => None,
        },
        _ => None,
    }
}

fn settings(address: SocketAddr, interval: Duration) -> MetricsSettings {
    let otlp = OtlpSettings {
        name: None,
        endpoint: format!("http://{address}"),
        tls: None,
        headers: Headers::default(),
        compression: Compression::None,
        timeout: PATIENCE,
        queue_max_bytes: 1,
        queue_max_spans: 1,
        tuning: Tuning {
            backoff_first: Duration::from_millis(1),
            backoff_longest: Duration::from_millis(4),
            ..Tuning::default()
        },
    };
    MetricsSettings { otlp, interval }
}

fn envelope() -> Envelope {
    Envelope::new(&|_| None, Some("host-1")).unwrap()
}

fn counted() -> Arc<Metrics> {
    let metrics = Metrics::new(ANCHOR);
    metrics.on_call(&Span::from_call(&chat(), ANCHOR));
    metrics
}

fn start(settings: &MetricsSettings) -> (MetricsExporter, Arc<Metrics>) {
    let metrics = counted();
    (MetricsExporter::start(settings, envelope(), Arc::clone(&metrics)).unwrap(), metrics)
}

/// The last export to a receiver with this script: the counts, and how many metrics each request had.
async fn last(answers: impl IntoIterator<Item = Answer>) -> (MetricsCounts, Vec<usize>) {
    let mut receiver = Receiver::start(answers).await;
    let (exporter, _) = start(&settings(receiver.address, NEVER));
    let counts = exporter.shutdown(PATIENCE).await;
    (counts, receiver.sizes())
}

/// What the receiver gets of one call.
const METRICS: usize = 4;

#[test]
fn a_snapshot_is_cumulative_and_typed() {
    let metrics = counted();
    let gpu = Gpu { uuid: "GPU-0".to_owned(), energy_joules: Some(1.5), xids: vec![(79, 2)], ..Gpu::default() };
    let engine = Engine { id: "e".to_owned(), in_flight: Some(3), ..Engine::default() };
    let at = clock::now();
    metrics.on_machines(Machines { at, gpus: vec![gpu], engines: vec![engine], ..Machines::default() });
    let request = metrics_request(&metrics.snapshot(at), &envelope());
    let resource = request.resource_metrics[0].resource.as_ref().unwrap();
    let keys: Vec<_> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["service.name", "host.name"]);
    let find = |name: &str| metrics_of(&request).iter().find(|metric| metric.name == name).unwrap();

    let duration = find("gen_ai.client.operation.duration");
    let Some(Data::Histogram(histogram)) = &duration.data else { panic!("{duration:?}") };
    let point = &histogram.data_points[0];
    assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
    assert_eq!((duration.unit.as_str(), point.count, point.sum), ("s", 1, Some(0.46)));
    assert_eq!((point.bucket_counts.len(), point.explicit_bounds.len()), (15, 14));
    // 0.46 s is above 0.32 and up to 0.64.
    assert_eq!((point.bucket_counts[6], point.explicit_bounds[6]), (1, 0.64));
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (ANCHOR.unix_nanos, ANCHOR.to_unix_nanos(at)));
    let port = point.attributes.iter().find(|attribute| attribute.key == "server.port").unwrap();
    assert_eq!(port.value.as_ref().unwrap().value, Some(Attribute::IntValue(443)));

    let sum = |name: &str| match &find(name).data {
        Some(Data::Sum(sum)) => {
            assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
            (sum.is_monotonic, sum.data_points[0].value.unwrap(), sum.data_points[0].start_time_unix_nano)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(sum("inferscope.calls.finished"), (true, Value::AsInt(1), ANCHOR.unix_nanos));
    assert_eq!(sum("hw.energy"), (true, Value::AsDouble(1.5), 0), "the driver counts for longer than we know");
    assert_eq!(sum("inferscope.gpu.xid.errors"), (true, Value::AsInt(2), ANCHOR.unix_nanos));
    assert!(!sum("inferscope.engine.calls.active").0);
    assert!(matches!(find("inferscope.gpu.observed").data, Some(Data::Gauge(_))));
}

#[tokio::test]
async fn every_turn_has_the_numbers_of_then() {
    let mut receiver = Receiver::start([]).await;
    let (exporter, metrics) = start(&settings(receiver.address, Duration::from_millis(20)));
    assert_eq!(finished(&receiver.request().await.1), Some(1));
    metrics.on_call(&Span::from_call(&chat(), ANCHOR));
    while finished(&receiver.request().await.1) != Some(2) {}
    let counts = exporter.shutdown(PATIENCE).await;
    assert!(counts.exported >= 1 && counts.unsent == 0, "{counts:?}");
}

#[tokio::test]
async fn the_last_export_is_at_the_end() {
    let mut receiver = Receiver::start([]).await;
    let (exporter, metrics) = start(&settings(receiver.address, NEVER));
    metrics.on_call(&Span::from_call(&chat(), ANCHOR));
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!(counts, MetricsCounts { exported: 1, ..MetricsCounts::default() });
    assert_eq!(finished(&receiver.request().await.1), Some(2));
    assert_eq!(receiver.sizes(), [0; 0]);
}

#[tokio::test]
async fn answers_are_dealt_with_as_for_spans() {
    let fail = |status: fn(String) -> Status| Answer::Fail(status("scripted".to_owned()));
    let one = MetricsCounts { exported: 1, ..MetricsCounts::default() };
    let (counts, sizes) = last([fail(Status::unavailable), fail(Status::unauthenticated)]).await;
    assert_eq!((counts, sizes), (MetricsCounts { retries: 2, ..one }, vec![METRICS; 3]));
    let (counts, sizes) = last([fail(Status::resource_exhausted)]).await;
    assert_eq!((counts, sizes), (one, vec![METRICS, METRICS / 2, METRICS / 2]));
    let (counts, sizes) = last([fail(Status::unimplemented)]).await;
    assert_eq!((counts, sizes), (MetricsCounts { exported: 0, refused: 1, ..one }, vec![METRICS]));
    let (counts, sizes) = last([Answer::Partial(3)]).await;
    assert_eq!((counts, sizes), (MetricsCounts { rejected_points: 3, ..one }, vec![METRICS]));
    let (counts, _) = last([Answer::Partial(-1)]).await;
    assert_eq!(counts, one);
}

#[tokio::test]
async fn requests_stay_below_the_limit() {
    let mut receiver = Receiver::start([]).await;
    let mut settings = settings(receiver.address, NEVER);
    settings.otlp.tuning.request_max_bytes = 2 << 10;
    let (exporter, _) = start(&settings);
    assert_eq!(exporter.shutdown(PATIENCE).await.exported, 1);
    let sizes = receiver.sizes();
    assert!(sizes.len() > 1 && sizes.iter().sum::<usize>() == METRICS, "{sizes:?}");

    settings.otlp.tuning.request_max_bytes = 10;
    let (exporter, _) = start(&settings);
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.refused, counts.exported), (METRICS as u64, 0), "none fits, and each is counted");
}

#[tokio::test]
async fn what_is_not_out_by_the_next_turn_is_superseded() {
    let mut receiver = Receiver::start([Answer::Hang]).await;
    let (exporter, metrics) = start(&settings(receiver.address, Duration::from_millis(50)));
    assert_eq!(finished(&receiver.request().await.1), Some(1));
    metrics.on_call(&Span::from_call(&chat(), ANCHOR));
    assert_eq!(finished(&receiver.request().await.1), Some(2));
    let counts = exporter.shutdown(PATIENCE).await;
    assert!(counts.superseded >= 1 && counts.exported >= 1, "{counts:?}");
}

#[tokio::test]
async fn shutdown_ends_at_its_deadline() {
    let mut receiver = Receiver::start([Answer::Hang]).await;
    let (exporter, _) = start(&settings(receiver.address, NEVER));
    let shutdown = exporter.shutdown(Duration::from_millis(200));
    let counts = tokio::time::timeout(PATIENCE, shutdown).await.expect("the deadline was ignored");
    assert_eq!(counts, MetricsCounts { unsent: 1, ..MetricsCounts::default() });
    assert!(receiver.sizes().len() <= 1);
}

#[tokio::test]
async fn headers_and_gzip_are_on_the_wire() {
    let mut receiver = Receiver::start([]).await;
    let mut settings = settings(receiver.address, NEVER);
    settings.otlp.headers.0.insert("X-Tenant".to_owned(), "a b".to_owned());
    settings.otlp.compression = Compression::Gzip;
    let (exporter, _) = start(&settings);
    exporter.shutdown(PATIENCE).await;
    let (metadata, request) = receiver.request().await;
    let header = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
    assert_eq!((header("x-tenant"), header("grpc-encoding")), (Some("a b"), Some("gzip")));
    assert_eq!(finished(&request), Some(1));
}

#[tokio::test]
async fn an_exporter_that_is_dropped_stops() {
    let mut receiver = Receiver::start([Answer::Hang]).await;
    let (exporter, metrics) = start(&settings(receiver.address, Duration::from_millis(20)));
    receiver.request().await;
    drop(exporter);
    // The task holds the metrics as long as it lives.
    let ended = async {
        while Arc::strong_count(&metrics) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the task goes on");
}
