//! The records, and their way to a receiver over a real connection.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use inferscope_proto::{
    Message as _,
    otlp::{
        collector_logs::{
            ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        common::any_value::Value,
        logs::{LogRecord, SeverityNumber},
    },
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::{NoticeLog, record};
use crate::{
    export::{
        otlp::{
            Envelope, OtlpExporter,
            exporter::tests::{PATIENCE, settings},
        },
        testing::ANCHOR,
    },
    serving::Notice,
    time::Mono,
    wal::{Kind, Start, Wal, WalSettings},
};

fn stuck() -> Notice {
    Notice::Stuck {
        pid: 7,
        engine: Some("e".to_owned()),
        lasted: Duration::from_millis(30_500),
        utilization: Some(50.0),
        stepless: None,
    }
}

fn exit(status: u32, oom: bool) -> Notice {
    let (engine, comm) = ("e".to_owned(), "worker".to_owned());
    Notice::EngineExit { engine, pid: 9, comm, status, oom, in_flight: 2 }
}

fn attributes(record: &LogRecord) -> Vec<(&str, Value)> {
    let value = |value: &Option<inferscope_proto::otlp::common::AnyValue>| value.clone().unwrap().value.unwrap();
    record.attributes.iter().map(|attribute| (attribute.key.as_str(), value(&attribute.value))).collect()
}

#[test]
fn a_notice_is_an_event_with_what_is_known() {
    let found = record(&stuck(), 5);
    assert_eq!((found.event_name.as_str(), found.severity_number()), ("inferscope.call.stuck", SeverityNumber::Warn));
    assert_eq!((found.time_unix_nano, found.observed_time_unix_nano), (5, 5));
    let expect = [
        ("process.pid", Value::IntValue(7)),
        ("inferscope.engine.id", Value::StringValue("e".to_owned())),
        ("inferscope.stall.seconds", Value::DoubleValue(30.5)),
        ("inferscope.stall.gpu.utilization", Value::DoubleValue(0.5)),
    ];
    assert_eq!(attributes(&found), expect);
}

#[test]
fn the_end_of_a_process_has_a_code_or_a_signal() {
    let of = |status, oom| {
        let record = record(&exit(status, oom), 5);
        let known = ["process.exit.code", "inferscope.exit.signal", "inferscope.exit.oom"];
        attributes(&record)
            .into_iter()
            .filter(|(name, _)| known.contains(name))
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(3 << 8, false), [("process.exit.code".to_owned(), Value::IntValue(3))]);
    let killed = ("inferscope.exit.signal".to_owned(), Value::IntValue(9));
    assert_eq!(of(9, true), [killed, ("inferscope.exit.oom".to_owned(), Value::BoolValue(true))]);
}

/// Gives the scripted answers in turn, then takes everything.
struct Script {
    answers: Mutex<VecDeque<Result<i64, Status>>>,
    requests: mpsc::UnboundedSender<ExportLogsServiceRequest>,
}

#[tonic::async_trait]
impl LogsService for Script {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let _ = self.requests.send(request.into_inner());
        let rejected_log_records = self.answers.lock().unwrap().pop_front().unwrap_or(Ok(0))?;
        let partial_success = ExportLogsPartialSuccess { rejected_log_records, error_message: String::new() };
        Ok(Response::new(ExportLogsServiceResponse { partial_success: Some(partial_success) }))
    }
}

#[tokio::test]
async fn notices_arrive_as_the_published_messages_and_their_answers_count() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, mut seen) = mpsc::unbounded_channel();
    let answers = Mutex::new([Err(Status::unavailable("restarting")), Ok(1)].into());
    let service = LogsServiceServer::new(Script { answers, requests });
    let receiver = tokio::spawn(async move {
        Server::builder().serve_with_incoming(service, TcpListenerStream::new(listener)).await.unwrap();
    });
    let exporter =
        OtlpExporter::start_logs(&settings(address), Envelope::new(&|_| None, Some("host-1")).unwrap()).unwrap();
    let log = NoticeLog::new(vec![exporter.handle().clone()], None, ANCHOR).unwrap();
    log.offer(&stuck(), Mono(1_000_000));
    log.offer(&exit(9, true), Mono(2_000_000));
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.enqueued, counts.exported, counts.rejected, counts.retries), (2, 1, 1, 1));
    let first = seen.recv().await.unwrap();
    assert_eq!(seen.recv().await.unwrap(), first, "the second attempt is the first");
    let [resource_logs] = first.resource_logs.as_slice() else { panic!("{first:?}") };
    let keys: Vec<_> = resource_logs.resource.iter().flat_map(|r| &r.attributes).map(|a| a.key.as_str()).collect();
    assert_eq!(keys, ["service.name", "host.name"]);
    let scope = &resource_logs.scope_logs[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "inferscope");
    let start = ANCHOR.to_unix_nanos(Mono(0));
    let expect = [record(&stuck(), start + 1_000_000), record(&exit(9, true), start + 2_000_000)];
    assert_eq!(scope.log_records, expect);
    receiver.abort();
}

#[test]
fn without_a_receiver_there_is_no_log() {
    assert!(NoticeLog::new(Vec::new(), None, ANCHOR).is_none());
}

#[test]
fn notices_are_durable_as_log_records_where_there_is_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(WalSettings::new(dir.path().join("wal"))).unwrap();
    let mut reader = wal.reader("ship", Start::Oldest).unwrap();
    let log = NoticeLog::new(Vec::new(), Some(wal.handle()), ANCHOR).unwrap();
    log.offer(&stuck(), Mono(1_000_000));
    assert!(wal.close(PATIENCE));
    let run = reader.next(1 << 20, 10).unwrap().unwrap();
    let [item] = run.items.as_slice() else { panic!("{run:?}") };
    let expect = record(&stuck(), ANCHOR.to_unix_nanos(Mono(1_000_000)));
    assert_eq!((item.kind, LogRecord::decode(item.payload.clone()).unwrap()), (Kind::Log, expect));
}
