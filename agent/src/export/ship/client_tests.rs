use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use inferscope_proto::v1::{
    Batch, GapReason, Rejected, Welcome,
    ship_server::{Ship, ShipServer},
};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Response, codec::CompressionEncoding, transport::Server};

use super::{
    super::settings::{Identity, Tuning},
    *,
};
use crate::{
    config::ShipCompression,
    wal::{Kind, Start, Wal, WalSettings},
};

/// Nothing here takes longer unless it hangs.
const SOON: Duration = Duration::from_secs(20);

/// A collector that does what its scripts say, one for each stream, the last again and again. It stores nothing.
#[derive(Clone)]
struct Scripted {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    seen: mpsc::UnboundedSender<Seen>,
}

#[derive(Clone)]
struct Script {
    refuse: Option<Code>,
    welcome: Welcome,
    answer: Arc<dyn Fn(&Batch) -> Answer + Send + Sync>,
}

enum Answer {
    Ack(Ack),
    End(Code),
    Nothing,
}

#[derive(Debug)]
enum Seen {
    Hello(Hello, Option<String>),
    Batch(Batch),
    Closed,
}

impl Script {
    fn storing() -> Self {
        Self::answering(0, |batch| Answer::Ack(ack(batch.last_seq)))
    }

    fn answering(durable_through: u64, answer: impl Fn(&Batch) -> Answer + Send + Sync + 'static) -> Self {
        let welcome = Welcome {
            version: VERSION,
            durable_through,
            credit_bytes: 1 << 20,
            max_batch_bytes: 1 << 20,
            time_unix_nano: 0,
        };
        Self { refuse: None, welcome, answer: Arc::new(answer) }
    }

    fn refusing(code: Code) -> Self {
        Self { refuse: Some(code), ..Self::storing() }
    }
}

fn ack(durable_through: u64) -> Ack {
    Ack { durable_through, credit_bytes: 1 << 20, ..Ack::default() }
}

#[tonic::async_trait]
impl Ship for Scripted {
    type StreamStream = ReceiverStream<Result<CollectorMessage, Status>>;

    async fn stream(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::StreamStream>, Status> {
        let token = request.metadata().get("authorization").map(|token| token.to_str().unwrap().to_owned());
        let script = {
            let mut scripts = self.scripts.lock().unwrap();
            if scripts.len() > 1 { scripts.pop_front().unwrap() } else { scripts[0].clone() }
        };
        let mut inbound = request.into_inner();
        let Some(AgentMessage { message: Some(ToCollector::Hello(hello)) }) = inbound.message().await? else {
            panic!("no Hello")
        };
        let _ = self.seen.send(Seen::Hello(hello, token));
        if let Some(code) = script.refuse {
            return Err(Status::new(code, "refused"));
        }
        let (out, answers) = mpsc::channel(1024);
        let send = |message| CollectorMessage { message: Some(message) };
        out.send(Ok(send(FromCollector::Welcome(script.welcome)))).await.unwrap();
        let seen = self.seen.clone();
        tokio::spawn(async move {
            while let Ok(Some(AgentMessage { message: Some(ToCollector::Batch(batch)) })) = inbound.message().await {
                let answer = (script.answer)(&batch);
                let _ = seen.send(Seen::Batch(batch));
                match answer {
                    Answer::Nothing => {}
                    Answer::Ack(ack) => drop(out.send(Ok(send(FromCollector::Ack(ack)))).await),
                    Answer::End(code) => {
                        let _ = out.send(Err(Status::new(code, "cut"))).await;
                        return;
                    }
                }
            }
            let _ = seen.send(Seen::Closed);
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// A log, and a scripted collector for it.
struct Stage {
    _dir: TempDir,
    wal: Wal,
    address: SocketAddr,
    seen: UnboundedReceiver<Seen>,
}

impl Stage {
    async fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = WalSettings::new(dir.path().join("wal"));
        settings.segment_bytes = 4096;
        settings.commit_delay = Duration::from_millis(1);
        let wal = Wal::open(settings).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, seen) = mpsc::unbounded_channel();
        let scripted = Scripted { scripts: Arc::new(Mutex::new(scripts.into_iter().collect())), seen: sender };
        tokio::spawn(
            Server::builder()
                .add_service(ShipServer::new(scripted).accept_compressed(CompressionEncoding::Zstd))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { _dir: dir, wal, address, seen }
    }

    /// Makes so many items durable. Each is its number, with some weight.
    async fn fill(&self, n: u64) {
        let (handle, mut durable) = (self.wal.handle(), self.wal.durable_through());
        let before = *durable.borrow();
        for number in before + 1..=before + n {
            handle.offer(Kind::Log, payload(number)).unwrap();
        }
        timeout(SOON, durable.wait_for(|through| *through >= before + n)).await.unwrap().unwrap();
    }

    fn start(&self) -> ShipExporter {
        self.start_with(Tuning::default())
    }

    fn start_with(&self, tuning: Tuning) -> ShipExporter {
        ShipExporter::start(self.settings(tuning), self.wal.reader("ship", Start::Oldest).unwrap()).unwrap()
    }

    fn settings(&self, tuning: Tuning) -> ShipSettings {
        ShipSettings {
            endpoint: format!("http://{}", self.address),
            tls: None,
            token: None,
            compression: ShipCompression::Zstd,
            identity: Identity {
                agent_id: "agent".to_owned(),
                epoch: self.wal.epoch(),
                resource: Bytes::new(),
                scope: Bytes::new(),
            },
            tuning: Tuning {
                backoff_first: Duration::from_millis(1),
                backoff_longest: Duration::from_millis(5),
                note: Duration::ZERO,
                ..tuning
            },
        }
    }

    async fn next(&mut self) -> Seen {
        timeout(SOON, self.seen.recv()).await.expect("nothing came").unwrap()
    }

    async fn hello(&mut self) -> (Hello, Option<String>) {
        loop {
            if let Seen::Hello(hello, token) = self.next().await {
                return (hello, token);
            }
        }
    }

    async fn batch(&mut self) -> Batch {
        loop {
            if let Seen::Batch(batch) = self.next().await {
                return batch;
            }
        }
    }

    /// The items that come from here on, until one has this seq.
    async fn items_through(&mut self, seq: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.last() != Some(&seq) {
            for item in self.batch().await.items {
                assert_eq!(item.payload, payload(item.seq));
                assert_eq!(item.crc32c, crc32c::crc32c(&item.payload));
                seqs.push(item.seq);
            }
        }
        seqs
    }

    fn acknowledged(&self) -> u64 {
        self.wal.cursors().iter().find(|cursor| cursor.name == "ship").unwrap().through
    }
}

fn payload(number: u64) -> Bytes {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(100, b'.');
    payload.into()
}

async fn until(exporter: &ShipExporter, wanted: impl Fn(&ShipCounts) -> bool) -> ShipCounts {
    let mut counts = exporter.watch();
    let counts =
        timeout(SOON, counts.wait_for(|counts| wanted(counts))).await.expect("it did not come to that").unwrap();
    *counts
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_the_log_is_sent_once_and_in_order() {
    let again = Script::answering(301, |batch| Answer::Ack(ack(batch.last_seq)));
    let mut stage = Stage::new([Script::storing(), again]).await;
    stage.fill(300).await;
    let exporter = stage.start();
    assert_eq!(stage.items_through(300).await, (1..=300).collect::<Vec<_>>());
    stage.fill(1).await;
    assert_eq!(stage.items_through(301).await, [301]);
    let counts = exporter.shutdown(SOON).await;
    assert_eq!((counts.shipped, counts.durable_through, counts.failures), (301, 301, 0));
    assert_eq!(stage.acknowledged(), 301);
    // What was acknowledged is not sent after a restart, and its segments are gone.
    assert!(stage.wal.counts().disk_bytes < 8192);
    stage.fill(1).await;
    let exporter = stage.start();
    assert_eq!(stage.hello().await.0.next_seq, 303);
    assert_eq!(stage.items_through(302).await, [302]);
    assert_eq!(exporter.shutdown(SOON).await.shipped, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_is_sent_again_from_where_the_collector_is() {
    let cut = Script::answering(
        0,
        |batch| if batch.last_seq < 60 { Answer::Nothing } else { Answer::End(Code::Unavailable) },
    );
    let mut stage = Stage::new([cut, Script::answering(40, |batch| Answer::Ack(ack(batch.last_seq)))]).await;
    stage.fill(100).await;
    let exporter = stage.start();
    stage.hello().await;
    stage.hello().await;
    assert_eq!(stage.items_through(100).await, (41..=100).collect::<Vec<_>>());
    let counts = until(&exporter, |counts| counts.durable_through == 100).await;
    assert_eq!((counts.streams, counts.failures, counts.shipped), (2, 1, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_has_what_was_never_sent_is_not_believed() {
    let lying = Script::answering(0, |batch| Answer::Ack(ack(batch.last_seq + 1)));
    let boasting = Script::answering(100, |_| Answer::Nothing);
    let mut stage = Stage::new([lying, boasting, Script::storing()]).await;
    stage.fill(10).await;
    let exporter = stage.start();
    for _ in 0..3 {
        stage.hello().await;
    }
    assert_eq!(stage.items_through(10).await, (1..=10).collect::<Vec<_>>());
    let counts = until(&exporter, |counts| counts.durable_through == 10).await;
    assert_eq!(counts.failures, 2);
}

/// The log was set back to an older copy, and has reached the numbers of what was sent from the newer one.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_under_a_name_that_is_stored_already_is_never_taken_for_stored() {
    let stage = Stage::new([Script::answering(15, |batch| Answer::Ack(ack(batch.last_seq)))]).await;
    stage.fill(10).await;
    let exporter = stage.start();
    until(&exporter, |counts| counts.failures > 0).await;
    stage.fill(10).await;
    let counts = until(&exporter, |counts| counts.failures > 5).await;
    assert_eq!((counts.streams, counts.shipped, stage.acknowledged()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_keeps_everything_and_the_token_is_read_anew() {
    let refusals =
        [Code::Unauthenticated, Code::PermissionDenied, Code::Internal, Code::InvalidArgument, Code::Unimplemented];
    let scripts = refusals.map(Script::refusing).into_iter().chain([Script::storing()]);
    let mut stage = Stage::new(scripts).await;
    stage.fill(5).await;
    let token = stage._dir.path().join("token");
    std::fs::write(&token, "first-token\n").unwrap();
    let settings = ShipSettings { token: Some(token.clone()), ..stage.settings(Tuning::default()) };
    let exporter = ShipExporter::start(settings, stage.wal.reader("ship", Start::Oldest).unwrap()).unwrap();
    assert_eq!(stage.hello().await.1.as_deref(), Some("Bearer first-token"));
    std::fs::write(&token, "second-token").unwrap();
    let mut last = None;
    for _ in 0..refusals.len() {
        last = stage.hello().await.1;
    }
    assert_eq!(last.as_deref(), Some("Bearer second-token"));
    assert_eq!(stage.items_through(5).await, [1, 2, 3, 4, 5]);
    let counts = until(&exporter, |counts| counts.durable_through == 5).await;
    assert_eq!((counts.failures, counts.streams, counts.rejected), (refusals.len() as u64, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credit_nothing_is_sent_and_nothing_is_lost() {
    let mut script = Script::answering(0, |batch| {
        Answer::Ack(Ack { durable_through: batch.last_seq, credit_bytes: batch::size(batch), ..Ack::default() })
    });
    script.welcome.credit_bytes = 700;
    let mut stage = Stage::new([script]).await;
    stage.fill(50).await;
    let exporter = stage.start();
    let mut seqs = Vec::new();
    while seqs.last() != Some(&50) {
        let batch = stage.batch().await;
        assert!(batch::size(&batch) <= 700, "{} items are beyond the credit", batch.items.len());
        seqs.extend(batch.items.iter().map(|item| item.seq));
    }
    assert_eq!(seqs, (1..=50).collect::<Vec<_>>());
    until(&exporter, |counts| counts.durable_through == 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stalls_is_opened_anew() {
    let mut stage = Stage::new([Script::answering(0, |_| Answer::Nothing), Script::storing()]).await;
    stage.fill(3).await;
    let exporter = stage.start_with(Tuning { stall: Duration::from_millis(50), ..Tuning::default() });
    stage.hello().await;
    stage.hello().await;
    assert_eq!(stage.items_through(3).await, [1, 2, 3]);
    until(&exporter, |counts| counts.durable_through == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_recycled_without_sending_anything_twice() {
    let mut stage =
        Stage::new([Script::storing(), Script::answering(20, |batch| Answer::Ack(ack(batch.last_seq)))]).await;
    stage.fill(20).await;
    let exporter = stage.start_with(Tuning { recycle: Duration::from_millis(100), ..Tuning::default() });
    stage.hello().await;
    assert_eq!(stage.items_through(20).await, (1..=20).collect::<Vec<_>>());
    let counts = until(&exporter, |counts| counts.streams >= 2).await;
    assert_eq!((counts.failures, counts.shipped), (0, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_was_set_back_is_told_what_is_gone() {
    let mut stage = Stage::new([Script::storing()]).await;
    stage.fill(200).await;
    assert_eq!(stage.start().shutdown(SOON).await.shipped, 200);
    while stage.seen.try_recv().is_ok() {}
    stage.fill(1).await;
    let exporter = stage.start();
    let batch = stage.batch().await;
    let gap = batch.gaps[0];
    assert_eq!((batch.first_seq, gap.first_seq, gap.reason()), (1, 1, GapReason::Acknowledged));
    let counts = until(&exporter, |counts| counts.forgotten > 0).await;
    assert_eq!(counts.forgotten, gap.last_seq);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_collector_rejects_is_counted_and_done_with() {
    let script = Script::answering(0, |batch| {
        let rejected = vec![Rejected { seq: batch.first_seq, reason: 2, message: "\u{1b}[2Jno".to_owned() }];
        Answer::Ack(Ack { rejected, ..ack(batch.last_seq) })
    });
    let stage = Stage::new([script]).await;
    stage.fill(3).await;
    let counts = stage.start().shutdown(SOON).await;
    assert!(counts.rejected >= 1 && counts.durable_through == 3, "{counts:?}");
    assert_eq!(stage.acknowledged(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_bounded_when_nobody_answers_and_loses_nothing() {
    let stage = Stage::new([Script::answering(0, |_| Answer::Nothing)]).await;
    stage.fill(3).await;
    let exporter = stage.start();
    until(&exporter, |counts| counts.connected).await;
    let counts = exporter.shutdown(Duration::from_millis(50)).await;
    assert_eq!((counts.shipped, stage.acknowledged()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_said_at_the_start() {
    let stage = Stage::new([Script::storing()]).await;
    let settings = ShipSettings { token: Some("/no/such/token".into()), ..stage.settings(Tuning::default()) };
    let refused = ShipExporter::start(settings, stage.wal.reader("ship", Start::Oldest).unwrap());
    assert!(matches!(refused, Err(ShipError::Token { .. })));
}
