//! The collector's store: one SQLite file, written by one thread, read by many.
//!
//! Owns what is stored of spans, metrics, logs, ledgers and agents, that each is stored once, how long it is kept, and the
//! questions that can be asked. Whoever receives (gRPC, HTTP) hands over a [`Submission`] by [`Ingest::offer`], which never
//! waits, and is told by its reply when it is on stable storage. Nothing here knows of a network or an async runtime.
//!
//! | part | owns |
//! |---|---|
//! | `submit`, `queue` | what is handed over, and where it waits |
//! | `writer`, `apply` | the transaction: what is stored, once |
//! | `span`, `wire` | reading an encoded span in place |
//! | `known` | ids of agents, of their logs' lives, and of sources |
//! | `texts`, `codec` | how it is stored in few bytes |
//! | `rollup`, `sketch` | totals and quantiles by minute and set of labels |
//! | `gauges` | what agents measure of GPUs |
//! | `reader` | connections that read, and what a query may cost |
//! | `calls`, `document`, `aggregate`, `fleet` | the questions |
//! | `views` | what rows become when they are shown |
//! | `keep` | retention, and the merge of minutes to hours |
//! | `schema` | the file, its version and its settings |

mod aggregate;
mod apply;
mod calls;
mod codec;
mod document;
mod error;
mod fleet;
mod gauges;
mod keep;
mod known;
mod queue;
mod reader;
mod rollup;
mod schema;
mod sketch;
mod span;
mod stats;
mod submit;
mod texts;
mod views;
mod wire;
mod writer;

use std::{
    fmt,
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::oneshot;

pub use self::{
    aggregate::{Aggregate, AggregateRow, Dimension, MAX_ROWS, Quantiles},
    calls::{CallPage, CallRow, Filter, MAX_PAGE},
    document::{Content, EventView, LinkView, MAX_TRACE, Trace, WholeSpan},
    error::{Full, OpenError, QueryError, StoreError},
    fleet::{
        AgentView, AuditView, CounterView, EpochView, GapView, Gpu, GpuGauge, GpuPoint, LedgerView, LogView,
        RejectionView, RemovedView, Summary,
    },
    keep::Keep,
    reader::Reader,
    stats::Counts,
    submit::{
        AgentSeen, Audit, Batch, Committed, Epoch, Gap, Item, MAX_AGENT_ID, Rejection, Reply, Source, Spans, Submission,
    },
    views::{Kind, Status},
};
use self::{
    apply::{State, unsigned},
    keep::Keeper,
    queue::{Limits, Queue},
    stats::Stats,
    writer::Writer,
};

/// The wall clock, nanoseconds since the Unix epoch.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// One that says what `now` says.
    pub fn new(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn now(&self) -> i64 {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        let nanos = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self::new(move || i64::try_from(nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// How a store works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of submissions that may wait for the writer.
    pub queue_bytes: usize,
    /// Items that one transaction takes at most, but for a single submission with more.
    pub commit_items: usize,
    /// Bytes that it takes at most, likewise.
    pub commit_bytes: usize,
    /// How long a transaction waits for more submissions after its first.
    pub linger: Duration,
    /// What is kept for how long.
    pub keep: Keep,
    /// Connections that read at the same time.
    pub readers: usize,
    /// How long a query may take.
    pub query_limit: Duration,
    /// The collector's clock: when something was received, and how old it is.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_bytes: 64 << 20,
            commit_items: 16 * 1024,
            commit_bytes: 16 << 20,
            linger: Duration::from_millis(2),
            keep: Keep::default(),
            readers: 4,
            query_limit: Duration::from_secs(5),
            clock: Clock::default(),
        }
    }
}

/// What opening found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// The schema that the database had, 0 for one that is new.
    pub found_schema: u32,
    /// The schema that it has now.
    pub schema: u32,
}

/// The store. While it lives its directory is its own; when it is dropped, what waits is written first.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    reader: Reader,
    writer: Option<JoinHandle<()>>,
    /// Held for its lock.
    _lock: File,
}

#[derive(Debug)]
struct Shared {
    queue: Arc<Queue>,
    stats: Arc<Stats>,
    /// Reads high-water marks.
    marks: Mutex<Connection>,
}

impl Store {
    /// Opens the store in `dir`, which is made (mode 0700) when it is not there, and its file (mode 0600) with it. A
    /// database that is not a collector's, that a later program wrote or that is damaged is left as it is.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, OpenReport), OpenError> {
        schema::make_dir(dir)?;
        let lock = schema::lock(dir)?;
        let path = dir.join(schema::FILE);
        let (db, found_schema) = schema::open(&path, &schema::MIGRATIONS)?;
        let database = |source| OpenError::Database { path: path.clone(), source };
        let Options { queue_bytes, commit_items, commit_bytes, linger, keep, readers, query_limit, clock } = options;
        let queue = Arc::new(Queue::new(queue_bytes));
        let stats = Arc::<Stats>::default();
        let marks = Mutex::new(schema::open_reader(&path).map_err(database)?);
        let writer = Writer {
            state: State::open(&db).map_err(database)?,
            db,
            queue: queue.clone(),
            limits: Limits { items: commit_items, bytes: commit_bytes, linger },
            keeper: Keeper::new(keep),
            clock,
            stats: stats.clone(),
        };
        let spawned = thread::Builder::new().name("store-writer".to_owned()).spawn(|| writer.run());
        let writer = spawned.map_err(|source: io::Error| OpenError::Io { path: path.clone(), source })?;
        let schema = u32::try_from(schema::MIGRATIONS.len()).unwrap_or(u32::MAX);
        let shared = Arc::new(Shared { queue, stats, marks });
        let reader = Reader::new(path, readers, query_limit);
        Ok((Self { shared, reader, writer: Some(writer), _lock: lock }, OpenReport { found_schema, schema }))
    }

    /// What hands submissions over.
    pub fn handle(&self) -> Ingest {
        Ingest { shared: self.shared.clone() }
    }

    /// What asks questions.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Writes what waits, and closes the file. What is offered later is answered with [`StoreError::Closed`].
    pub fn close(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the collector's writer ended early: what was not acknowledged is sent again");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Hands submissions to the writer.
#[derive(Clone, Debug)]
pub struct Ingest {
    shared: Arc<Shared>,
}

impl Ingest {
    /// Everything of an agent's epoch up to here is on stable storage; 0 when nothing is.
    pub fn high_water(&self, agent_id: &str, epoch: &Epoch) -> Result<u64, StoreError> {
        let marks = self.shared.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let sql =
            "SELECT e.high_water FROM epochs e JOIN agents a ON a.id = e.agent WHERE a.agent_id = ?1 AND e.epoch = ?2";
        let found = marks.prepare_cached(sql)?.query_row(params![agent_id, epoch], |row| row.get(0)).optional()?;
        Ok(found.map_or(0, unsigned))
    }

    /// Hands a submission over, without waiting. When there is no room it is dropped, and its reply with it.
    pub fn offer(&self, submission: impl Into<Submission>) -> Result<(), Full> {
        self.shared.queue.offer(submission.into())
    }

    /// Writes down who does what, with which span. Wait for the answer before anything is shown.
    pub fn audit(
        &self,
        who: &str,
        action: &str,
        span: Option<([u8; 16], [u8; 8])>,
    ) -> Result<oneshot::Receiver<Result<Committed, StoreError>>, Full> {
        let (reply, answer) = oneshot::channel();
        self.offer(Audit { who: who.to_owned(), action: action.to_owned(), span, reply })?;
        Ok(answer)
    }

    /// Bytes that wait for the writer.
    pub fn waiting_bytes(&self) -> usize {
        self.shared.queue.bytes()
    }

    /// What the store did since it was opened.
    pub fn counts(&self) -> Counts {
        self.shared.stats.counts()
    }
}

#[cfg(test)]
mod testing;

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod ingest_tests;

#[cfg(test)]
#[path = "query_tests.rs"]
mod query_tests;
