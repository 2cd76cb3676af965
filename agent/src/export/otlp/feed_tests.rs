//! Destinations that read from a real log, against a receiver that follows a script.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use inferscope_proto::Message as _;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::{net::TcpListener, time::timeout};
use tonic::Status;

use crate::{
    export::{
        otlp::{
            DropReason, Envelope, OtlpCounts, OtlpExporter, OtlpSettings, Tuning, encode,
            exporter::tests::{Answer, PATIENCE, Receiver, balance, settings, spans},
        },
        testing::numbered_span,
    },
    wal::{FullPolicy, GapReason, Kind, Start, Wal, WalSettings},
};

fn span(n: u64) -> Bytes {
    encode(&numbered_span(n)).encode_to_vec().into()
}

/// A log of small segments, in a directory that outlives it.
fn open(dir: &TempDir) -> Wal {
    open_with(dir, WalSettings::new(""))
}

fn open_with(dir: &TempDir, settings: WalSettings) -> Wal {
    let (dir, commit_delay) = (dir.path().join("wal"), Duration::from_millis(1));
    Wal::open(WalSettings { dir, segment_bytes: 4096, commit_delay, ..settings }).unwrap()
}

/// Makes items durable, a few at a time so that a small log has room for what waits.
async fn put(wal: &Wal, items: impl Iterator<Item = (Kind, Bytes)>) {
    let (handle, mut durable) = (wal.handle(), wal.durable_through());
    let mut last = *durable.borrow();
    for (kind, payload) in items {
        handle.offer(kind, payload).unwrap();
        last += 1;
        if last % 8 == 0 {
            timeout(PATIENCE, durable.wait_for(|through| *through >= last)).await.unwrap().unwrap();
        }
    }
    timeout(PATIENCE, durable.wait_for(|through| *through >= last)).await.unwrap().unwrap();
}

async fn put_spans(wal: &Wal, numbers: std::ops::Range<u64>) {
    put(wal, numbers.map(|n| (Kind::Span, span(n)))).await;
}

/// Settings that send at once, in requests of ten spans.
fn prompt(address: SocketAddr) -> OtlpSettings {
    let mut settings = settings(address);
    settings.tuning = Tuning {
        linger: Duration::from_millis(1),
        request_max_spans: 10,
        note_every: Duration::ZERO,
        ..settings.tuning
    };
    settings
}

fn start(wal: &Wal, name: &str, settings: &OtlpSettings) -> OtlpExporter {
    let envelope = Envelope::new(&|_| None, Some("host-1")).unwrap();
    OtlpExporter::start_fed(settings, envelope, wal.reader(name, Start::Now).unwrap()).unwrap()
}

/// Makes the destination known, as one that has nothing yet.
fn known(wal: &Wal, name: &str) {
    drop(wal.reader(name, Start::Now).unwrap());
}

async fn until(exporter: &OtlpExporter, wanted: impl Fn(&OtlpCounts) -> bool) -> OtlpCounts {
    let counts = exporter.handle().queue.counts_where(wanted);
    timeout(PATIENCE, counts).await.unwrap_or_else(|_| panic!("it stays at {:?}", exporter.handle().counts()))
}

fn acknowledged(wal: &Wal, name: &str) -> u64 {
    wal.cursors().iter().find(|cursor| cursor.name == name).unwrap().through
}

/// Waits until the destination's cursor is there. Nothing tells of it.
async fn cursor_at(wal: &Wal, name: &str, seq: u64) {
    let moved = async {
        while acknowledged(wal, name) != seq {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let moved = timeout(PATIENCE, moved).await;
    moved.unwrap_or_else(|_| panic!("the cursor stays at {}", acknowledged(wal, name)));
}

/// The numbers of the next spans that come, so many.
async fn numbers(receiver: &mut Receiver, spans_wanted: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < spans_wanted {
        let (_, request) = receiver.request().await;
        let number = |id: &Vec<u8>| u64::from_be_bytes(id.as_slice().try_into().unwrap());
        numbers.extend(spans(&request).iter().map(|span| number(&span.span_id)));
    }
    numbers
}

/// An address at which nobody listens.
async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_the_log_arrives_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start([]).await;
    let mut settings = prompt(receiver.address);
    settings.queue_max_spans = 7;
    let wal = open(&dir);
    known(&wal, "otlp");
    put_spans(&wal, 0..300).await;
    let exporter = start(&wal, "otlp", &settings);
    assert_eq!(numbers(&mut receiver, 300).await, (0..300).collect::<Vec<_>>());
    put_spans(&wal, 300..320).await;
    assert_eq!(numbers(&mut receiver, 20).await, (300..320).collect::<Vec<_>>());
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.enqueued, counts.exported, counts.returned), (320, 320, 0));
    assert_eq!(acknowledged(&wal, "otlp"), 320);
    assert!(wal.counts().disk_bytes < 3 * 4096, "what is delivered is let go");
    // What was acknowledged is not sent after a restart.
    assert!(wal.close(PATIENCE));
    drop(wal);
    let wal = open(&dir);
    put_spans(&wal, 320..330).await;
    let exporter = start(&wal, "otlp", &settings);
    assert_eq!(numbers(&mut receiver, 10).await, (320..330).collect::<Vec<_>>());
    assert_eq!(exporter.shutdown(PATIENCE).await.exported, 10);
    assert!(receiver.sizes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_missed_while_it_was_away_comes_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let address = nowhere().await;
    let mut settings = prompt(address);
    settings.queue_max_spans = 20;
    {
        let wal = open(&dir);
        known(&wal, "otlp");
        put_spans(&wal, 0..50).await;
        let exporter = start(&wal, "otlp", &settings);
        until(&exporter, |counts| counts.retries >= 3).await;
        put_spans(&wal, 50..100).await;
        let counts = exporter.shutdown(Duration::ZERO).await;
        assert_eq!((counts.exported, counts.dropped(DropReason::QueueFull)), (0, 0));
        assert_eq!((counts.returned, balance(&counts)), (counts.enqueued, counts.enqueued));
        assert!(counts.returned > 0 && acknowledged(&wal, "otlp") == 0);
    }
    let wal = open(&dir);
    let exporter = start(&wal, "otlp", &settings);
    until(&exporter, |counts| counts.retries >= 3).await;
    let mut receiver = Receiver::listen(address, []).await;
    assert_eq!(numbers(&mut receiver, 100).await, (0..100).collect::<Vec<_>>());
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.exported, counts.returned, acknowledged(&wal, "otlp")), (100, 0, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_busy_for_long_costs_neither_spans_nor_memory() {
    let dir = tempfile::tempdir().unwrap();
    let busy = (0..60).map(|n| match n % 3 {
        0 => Answer::Fail(Status::unavailable("restarting")),
        1 => Answer::Fail(Status::deadline_exceeded("slow")),
        _ => Answer::Fail(Status::unauthenticated("the token is being renewed")),
    });
    let receiver = Receiver::start(busy).await;
    let mut settings = prompt(receiver.address);
    settings.queue_max_bytes = span(0).len() * 20;
    let most = settings.queue_max_bytes as u64;
    let wal = open(&dir);
    let exporter = start(&wal, "otlp", &settings);
    put_spans(&wal, 0..400).await;
    let counts = until(&exporter, |counts| {
        assert!(counts.pending_bytes <= most, "{counts:?}");
        counts.exported == 400
    });
    let counts = counts.await;
    assert_eq!((counts.retries, counts.pending_spans, counts.enqueued), (60, 0, 400));
    cursor_at(&wal, "otlp", 400).await;
    // Spans that are larger than the bound go one by one.
    settings.queue_max_bytes = 1;
    exporter.shutdown(PATIENCE).await;
    put_spans(&wal, 0..5).await;
    let exporter = start(&wal, "otlp", &settings);
    until(&exporter, |counts| {
        assert!(counts.pending_spans <= 1, "{counts:?}");
        counts.exported == 5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_are_refused_are_counted_and_move_the_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let answers = [Answer::Fail(Status::invalid_argument("bad")), Answer::Partial(1, "one is bad")];
    let receiver = Receiver::start(answers).await;
    let wal = open(&dir);
    known(&wal, "otlp");
    put_spans(&wal, 0..30).await;
    let exporter = start(&wal, "otlp", &prompt(receiver.address));
    let counts = until(&exporter, |counts| counts.enqueued == 30 && counts.pending_spans == 0).await;
    assert_eq!((counts.dropped(DropReason::Refused), counts.rejected, counts.exported), (10, 1, 19));
    cursor_at(&wal, "otlp", 30).await;
    assert_eq!(balance(&exporter.shutdown(PATIENCE).await), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_never_answers_holds_no_other_up_and_ends_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let (mut good, mut stuck) = (Receiver::start([]).await, Receiver::start([Answer::Hang]).await);
    let limited = |address| OtlpSettings { queue_max_spans: 20, ..prompt(address) };
    {
        let wal = open(&dir);
        let (fast, slow) =
            (start(&wal, "otlp-fast", &limited(good.address)), start(&wal, "otlp-slow", &limited(stuck.address)));
        put_spans(&wal, 0..200).await;
        assert_eq!(numbers(&mut good, 200).await, (0..200).collect::<Vec<_>>());
        cursor_at(&wal, "otlp-fast", 200).await;
        let counts = until(&slow, |counts| counts.pending_spans >= 10).await;
        assert!(counts.pending_spans <= 20 && counts.exported == 0, "{counts:?}");
        stuck.request().await;
        let ended =
            timeout(PATIENCE, slow.shutdown(Duration::from_millis(10))).await.expect("the deadline was ignored");
        assert!(ended.returned >= 10 && ended.returned == ended.enqueued, "{ended:?}");
        assert_eq!(acknowledged(&wal, "otlp-slow"), 0);
        fast.shutdown(PATIENCE).await;
    }
    let wal = open(&dir);
    let slow = start(&wal, "otlp-slow", &limited(stuck.address));
    assert_eq!(numbers(&mut stuck, 200).await, (0..200).collect::<Vec<_>>());
    assert_eq!(slow.shutdown(PATIENCE).await.exported, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_are_no_spans_do_not_hold_the_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start([]).await;
    let wal = open(&dir);
    let exporter = start(&wal, "otlp", &prompt(receiver.address));
    let others = [Kind::Ledger, Kind::Metrics, Kind::Log];
    put(&wal, (0..300).map(|n| (others[n % 3], Bytes::from(vec![7; 100])))).await;
    cursor_at(&wal, "otlp", 300).await;
    assert!(wal.counts().disk_bytes < 3 * 4096);
    put(&wal, (0..40).map(|n| if n % 4 == 0 { (Kind::Span, span(n)) } else { (Kind::Ledger, Bytes::new()) })).await;
    assert_eq!(numbers(&mut receiver, 10).await, (0..40).step_by(4).collect::<Vec<_>>());
    cursor_at(&wal, "otlp", 340).await;
    assert_eq!(exporter.shutdown(PATIENCE).await.enqueued, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_lost_is_counted_by_reason_and_the_rest_arrives() {
    let dir = tempfile::tempdir().unwrap();
    {
        let wal = open(&dir);
        known(&wal, "otlp");
        put_spans(&wal, 0..30).await;
    }
    let damaged = span(7);
    for entry in fs::read_dir(dir.path().join("wal/segments")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(damaged.len()).position(|window| window == damaged) {
            bytes[at + 20] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let mut receiver = Receiver::start([]).await;
    let wal = open(&dir);
    let exporter = start(&wal, "otlp", &prompt(receiver.address));
    assert_eq!(numbers(&mut receiver, 29).await, (0..30).filter(|n| *n != 7).collect::<Vec<_>>());
    let counts = exporter.shutdown(PATIENCE).await;
    assert_eq!((counts.lost(GapReason::Corrupt), counts.exported), (1, 29));

    let dir = tempfile::tempdir().unwrap();
    let small = WalSettings { max_bytes: 16 << 10, policy: FullPolicy::DropOldest, ..WalSettings::new("") };
    let wal = open_with(&dir, small);
    known(&wal, "otlp");
    put_spans(&wal, 0..200).await;
    let exporter = start(&wal, "otlp", &prompt(receiver.address));
    let counts = exporter.shutdown(PATIENCE).await;
    assert!(counts.lost(GapReason::Evicted) > 0 && counts.exported > 0, "{counts:?}");
    assert_eq!(counts.lost(GapReason::Evicted) + counts.exported, 200);
    assert_eq!(acknowledged(&wal, "otlp"), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_sends_what_is_durable_and_dropping_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([]).await;
    let wal = open(&dir);
    let mut settings = prompt(receiver.address);
    // Only the end of the log makes them go.
    settings.tuning.linger = PATIENCE * 10;
    settings.tuning.note_every = PATIENCE * 10;
    settings.tuning.request_max_spans = 1000;
    let exporter = start(&wal, "otlp", &settings);
    put_spans(&wal, 0..50).await;
    assert!(wal.close(PATIENCE));
    assert_eq!(exporter.shutdown(PATIENCE).await.exported, 50);
    assert_eq!(acknowledged(&wal, "otlp"), 50);
    drop(start(&wal, "otlp", &settings));
    let free = async {
        while wal.reader("otlp", Start::Now).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, free).await.expect("its reader is still there");
}

/// The segment that has the oldest items.
fn oldest_segment(dir: &TempDir) -> PathBuf {
    let segments = fs::read_dir(dir.path().join("wal/segments")).unwrap();
    segments.map(|entry| entry.unwrap().path()).min().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_cannot_be_written_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([]).await;
    let mut settings = prompt(receiver.address);
    settings.tuning.note_every = Duration::from_millis(2);
    let wal = open(&dir);
    known(&wal, "otlp");
    put_spans(&wal, 0..5).await;
    let (cursors, aside) = (dir.path().join("wal/cursors"), dir.path().join("aside"));
    fs::rename(&cursors, &aside).unwrap();
    let exporter = start(&wal, "otlp", &settings);
    let failed = async {
        while wal.counts().cursor_failures < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, failed).await.expect("the cursor is not tried again");
    assert_eq!((exporter.handle().counts().exported, acknowledged(&wal, "otlp")), (5, 0));
    fs::rename(&aside, &cursors).unwrap();
    cursor_at(&wal, "otlp", 5).await;
    assert_eq!(exporter.shutdown(PATIENCE).await.exported, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_ends_the_exporter_in_time_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start([]).await;
    let settings = prompt(receiver.address);
    let wal = open(&dir);
    known(&wal, "otlp");
    put_spans(&wal, 0..5).await;
    let (segment, aside) = (oldest_segment(&dir), dir.path().join("aside"));
    fs::rename(&segment, &aside).unwrap();
    // No file, and not missing either.
    fs::create_dir(&segment).unwrap();
    let exporter = start(&wal, "otlp", &settings);
    let ended =
        timeout(PATIENCE, exporter.shutdown(PATIENCE * 10)).await.expect("it waits for a log that is unreadable");
    assert_eq!((ended.enqueued, ended.lost(GapReason::Corrupt), acknowledged(&wal, "otlp")), (0, 0, 0));
    fs::remove_dir(&segment).unwrap();
    fs::rename(&aside, &segment).unwrap();
    let exporter = start(&wal, "otlp", &settings);
    until(&exporter, |counts| counts.exported == 5).await;
}

/// An answer by a number; beyond those that are known, the receiver takes everything.
fn answer(number: u8) -> Option<Answer> {
    match number {
        0 => Some(Answer::Fail(Status::unavailable("away"))),
        1 => Some(Answer::Fail(Status::invalid_argument("bad"))),
        2 => Some(Answer::Partial(1, "one is bad")),
        3 => Some(Answer::Fail(Status::resource_exhausted("too large"))),
        4 => Some(Answer::Fail(Status::permission_denied("no"))),
        _ => None,
    }
}

fn cases() -> u32 {
    std::env::var("INFERSCOPE_FEED_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a receiver answers and whenever the exporter is stopped, the fate of each span is counted once.
    #[test]
    fn every_span_has_one_fate(
        answers in prop::collection::vec(0_u8..6, 0..30),
        kinds in prop::collection::vec(any::<bool>(), 1..80),
        stops in prop::collection::vec(0_u64..30, 0..4),
        (queue_spans, request_spans, queue_bytes) in (1_usize..30, 1_usize..12, 1_usize..20_000),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let receiver = Receiver::start(answers.into_iter().filter_map(answer)).await;
            let mut settings = prompt(receiver.address);
            (settings.queue_max_spans, settings.queue_max_bytes) = (queue_spans, queue_bytes);
            settings.tuning.request_max_spans = request_spans;
            let wal = open(&dir);
            known(&wal, "otlp");
            let item = |(n, is_span): (usize, &bool)| match is_span {
                true => (Kind::Span, span(n as u64)),
                false => (Kind::Ledger, Bytes::from_static(b"none")),
            };
            put(&wal, kinds.iter().enumerate().map(item)).await;
            let (mut settled, mut before) = (0, 0);
            for stop in stops.into_iter().map(Some).chain([None]) {
                let exporter = start(&wal, "otlp", &settings);
                let all = kinds.iter().filter(|is_span| **is_span).count() as u64 - settled;
                let within = match stop {
                    Some(stop) => {
                        let wanted = stop.min(all);
                        until(&exporter, |counts| counts.enqueued - counts.pending_spans >= wanted).await;
                        Duration::ZERO
                    }
                    None => PATIENCE,
                };
                let counts = exporter.shutdown(within).await;
                assert_eq!(balance(&counts), counts.enqueued);
                assert_eq!(counts.dropped(DropReason::Shutdown) + counts.dropped(DropReason::QueueFull), 0);
                settled += counts.enqueued - counts.returned;
                let cursor = acknowledged(&wal, "otlp");
                assert!(cursor >= before, "a cursor never goes back");
                before = cursor;
                // The cursor says how many spans have had their fate, neither more nor less.
                let passed = kinds.iter().take(cursor as usize).filter(|is_span| **is_span).count() as u64;
                assert_eq!(passed, settled);
            }
            assert_eq!(before, kinds.len() as u64);
        });
    }
}
