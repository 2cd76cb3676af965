//! Stores, spans and batches for the store's tests.

use std::{path::Path, sync::Arc, time::Duration};

use inferscope_proto::{
    Message as _,
    otlp::{
        common::{AnyValue, ArrayValue, KeyValue, any_value::Value as Any},
        resource::Resource,
        trace::{Span, Status},
    },
    v1::ItemKind,
};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tonic::codegen::Bytes;

use super::{
    Batch, Committed, Epoch, Gap, Ingest, Item, Keep, Options, Reader, Source, Spans, Store, StoreError,
    apply::{Applier, State},
    keep::{Keeper, Work},
    schema,
    stats::Stats,
    submit::Submission,
};

pub(super) const SECOND: u64 = 1_000_000_000;
/// 2026-11-27, a whole hour.
pub(super) const BEGIN: u64 = 1_795_737_600 * SECOND;

pub(super) fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(super) fn text(text: &str) -> Any {
    Any::StringValue(text.to_owned())
}

pub(super) fn list(texts: &[&str]) -> Any {
    Any::ArrayValue(ArrayValue { values: texts.iter().map(|t| AnyValue { value: Some(text(t)) }).collect() })
}

/// The `n`th span: ids, start and measures follow from `n`.
pub(super) fn span(n: u64) -> Span {
    let mut trace_id = vec![0xaa; 8];
    trace_id.extend((n / 2 + 1).to_be_bytes());
    let start = BEGIN + n * SECOND;
    Span {
        trace_id,
        span_id: (n + 1).to_be_bytes().to_vec(),
        name: "chat gpt-4o".to_owned(),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start + (n % 7 + 1) * SECOND,
        attributes: vec![
            attribute("gen_ai.operation.name", text("chat")),
            attribute("gen_ai.provider.name", text(["openai", "anthropic"][n as usize % 2])),
            attribute("gen_ai.request.model", text(["gpt-4o", "claude", "gpt-5"][n as usize % 3])),
            attribute("gen_ai.usage.input_tokens", Any::IntValue(100 + n as i64)),
            attribute("gen_ai.usage.output_tokens", Any::IntValue(10)),
            attribute("inferscope.time_to_first_token", Any::DoubleValue(0.1 + n as f64 / 1000.0)),
            attribute("inferscope.cost.usd", Any::DoubleValue(0.25)),
            attribute("process.executable.name", text("python3")),
            attribute("process.real_user.id", Any::IntValue(1000)),
        ],
        status: Some(Status { message: String::new(), code: 1 }),
        ..Span::default()
    }
}

pub(super) fn source(host: &str) -> Arc<Source> {
    let resource = Resource { attributes: vec![attribute("host.name", text(host))], ..Resource::default() };
    Arc::new(Source::new(resource.encode_to_vec().into(), Bytes::new()))
}

pub(super) fn item(seq: u64, kind: ItemKind, payload: Vec<u8>) -> Item {
    Item { seq, kind: kind as i32, crc32c: crc32c::crc32c(&payload), payload: payload.into() }
}

/// A batch of the spans whose numbers are the seqs.
pub(super) fn batch(agent: &str, epoch: Epoch, seqs: std::ops::RangeInclusive<u64>) -> BatchOf {
    let items = seqs.clone().map(|seq| item(seq, ItemKind::Span, span(seq).encode_to_vec())).collect();
    BatchOf { agent: agent.to_owned(), epoch, first: *seqs.start(), last: *seqs.end(), items, gaps: Vec::new() }
}

/// A batch without its reply.
#[derive(Clone)]
pub(super) struct BatchOf {
    pub(super) agent: String,
    pub(super) epoch: Epoch,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) items: Vec<Item>,
    pub(super) gaps: Vec<Gap>,
}

pub(super) type Answer = oneshot::Receiver<Result<Committed, StoreError>>;

impl BatchOf {
    pub(super) fn submission(self) -> (Submission, Answer) {
        let (reply, answer) = oneshot::channel();
        let Self { agent, epoch, first, last, items, gaps } = self;
        let batch = Batch {
            agent_id: agent.into(),
            epoch,
            first_seq: first,
            last_seq: last,
            items,
            gaps,
            source: source("host-1"),
            reply,
        };
        (batch.into(), answer)
    }
}

pub(super) fn offer(ingest: &Ingest, batch: BatchOf) -> Result<Committed, StoreError> {
    let (submission, answer) = batch.submission();
    ingest.offer(submission).unwrap();
    answer.blocking_recv().unwrap()
}

pub(super) fn offer_spans(ingest: &Ingest, spans: Vec<Bytes>) -> Committed {
    let (reply, answer) = oneshot::channel();
    ingest.offer(Spans { source: source("host-1"), spans, reply }).unwrap();
    answer.blocking_recv().unwrap().unwrap()
}

pub(super) fn open(dir: &Path) -> Store {
    Store::open(dir, Options::default()).unwrap().0
}

/// A connection beside the store's own.
pub(super) fn beside(dir: &Path) -> Connection {
    schema::open_reader(&dir.join(schema::FILE)).unwrap()
}

pub(super) fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A store without threads: what is applied and kept, when it is told to.
pub(super) struct Direct {
    pub(super) db: Connection,
    pub(super) state: State,
    pub(super) keeper: Keeper,
    pub(super) stats: Stats,
    pub(super) now: i64,
    pub(super) reader: Reader,
    /// Removed when it is dropped.
    _dir: TempDir,
}

impl Direct {
    pub(super) fn new(keep: Keep) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(schema::FILE);
        let (db, _) = schema::open(&path, &schema::MIGRATIONS).unwrap();
        // Nothing here is to survive a loss of power.
        db.execute_batch("PRAGMA synchronous = OFF").unwrap();
        Self {
            state: State::open(&db).unwrap(),
            db,
            keeper: Keeper::new(keep),
            stats: Stats::default(),
            now: BEGIN as i64,
            reader: Reader::new(path, 2, Duration::from_secs(60)),
            _dir: dir,
        }
    }

    pub(super) fn apply(&mut self, submission: &Submission) -> Result<Committed, StoreError> {
        let Self { db, state, now, .. } = self;
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut applier = Applier::new(db, state, *now).unwrap();
        let result = applier.apply(submission).unwrap();
        applier.finish().unwrap();
        db.execute_batch("COMMIT").unwrap();
        state.trim();
        result
    }

    pub(super) fn spans(&mut self, spans: impl IntoIterator<Item = Span>) -> Committed {
        let spans = spans.into_iter().map(|span| span.encode_to_vec().into()).collect();
        self.apply(&Spans { source: source("host-1"), spans, reply: oneshot::channel().0 }.into()).unwrap()
    }

    /// Keeps house until there is nothing to do.
    pub(super) fn keep(&mut self) {
        let Self { db, state, keeper, stats, now, .. } = self;
        while keeper.step(db, state, *now, stats).unwrap() == Work::More {}
    }

    pub(super) fn number(&self, sql: &str) -> i64 {
        number(&self.db, sql)
    }
}
