//! What the agents are and say: themselves, their GPUs, their ledgers and logs; and the store's own state.

use inferscope_proto::{Message as _, otlp::logs::LogRecord, v1};
use rusqlite::{Connection, Params, Row, params};
use serde_json::{Map, Value};

use super::{
    aggregate::AggregateRow,
    calls::{Filter, optional},
    document::attributes,
    error::QueryError,
    keep,
    reader::{Reader, Session},
    views::SessionTexts,
};
use crate::export::span::hex;

/// Rows of each answer at most: agents, gauges, points, counters, logs, gaps of an agent.
const MAX_ROWS: i64 = 10_000;

/// Gaps that are shown of an agent, the latest first.
const MAX_GAPS: i64 = 100;

/// Most bytes of the logs that are shown at once, before they are decoded.
const MAX_LOG_BYTES: usize = 16 << 20;

const DAY: i64 = 86_400_000_000_000;

/// An agent. Times are nanoseconds since the Unix epoch, by the collector's clock.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct AgentView {
    /// Its id.
    pub agent_id: String,
    /// The host that its resource names.
    pub host: Option<String>,
    /// Its program's version.
    pub version: Option<String>,
    /// When it was first heard of.
    pub first_seen: i64,
    /// When it was last heard of.
    pub last_seen: i64,
    /// How far its clock was before the collector's when it last began a stream, nanoseconds.
    pub clock_offset: Option<i64>,
    /// Nanoseconds that its host had run then.
    pub boot_time: Option<i64>,
    /// Lives of its log, the latest first.
    pub epochs: Vec<EpochView>,
    /// Items that it no longer had, the latest first.
    pub gaps: Vec<GapView>,
    /// Items that were not stored.
    pub rejections: Vec<RejectionView>,
}

/// A life of an agent's log.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct EpochView {
    /// Its name, hexadecimal.
    pub epoch: String,
    /// Everything up to here is stored.
    pub durable_through: i64,
    /// When it was first heard of.
    pub first_seen: i64,
    /// When it was last heard of.
    pub last_seen: i64,
}

/// Seqs that have no items.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct GapView {
    /// The life of the log.
    pub epoch: String,
    /// The first of them.
    pub first_seq: i64,
    /// The last.
    pub last_seq: i64,
    /// Why.
    pub reason: String,
    /// When it was told.
    pub at: i64,
}

/// Items that were not stored.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct RejectionView {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: i64,
}

/// A GPU, with the latest of what was measured.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Gpu {
    /// The host.
    pub host: Option<String>,
    /// NVML's id.
    pub gpu: String,
    /// Its gauges.
    pub gauges: Vec<GpuGauge>,
}

/// A gauge of a GPU.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct GpuGauge {
    /// Names its course, see [`Reader::gpu_history`].
    pub id: i64,
    /// The metric.
    pub metric: String,
    /// Its labels but the GPU's id.
    pub labels: Value,
    /// The latest value, in the metric's unit.
    pub value: f64,
    /// When it was measured.
    pub at: i64,
}

/// A gauge in one minute.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct GpuPoint {
    /// When the minute begins.
    pub at: i64,
    /// The mean of what was measured.
    pub mean: f64,
    /// The largest.
    pub max: f64,
}

/// What became of everything that an agent captured.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LedgerView {
    /// The agent; absent for ledgers that came without one.
    pub agent_id: Option<String>,
    /// The latest totals, added over the lives of its program.
    pub counters: Vec<CounterView>,
    /// When the latest was told, by the agent's clock.
    pub at: i64,
}

/// One total.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CounterView {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: i64,
}

/// A log record.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LogView {
    /// Whose it is.
    pub agent_id: Option<String>,
    /// When it was written.
    pub at: i64,
    /// OTLP's number: 9 and more is information, 13 a warning, 17 an error.
    pub severity: i64,
    /// What it says.
    pub body: Value,
    /// Its attributes.
    pub attributes: Map<String, Value>,
}

/// Who did what.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct AuditView {
    /// When.
    pub at: i64,
    /// Who.
    pub who: String,
    /// What.
    pub action: String,
    /// The trace of the span that it was done with.
    pub trace_id: Option<String>,
    /// The span.
    pub span_id: Option<String>,
}

/// What retention removed.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct RemovedView {
    /// What: `spans`, `contents`, ...
    pub what: String,
    /// Why: `age` or `size`.
    pub reason: String,
    /// How many.
    pub count: i64,
}

/// The store at a glance.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Bytes of the database that hold something.
    pub database_bytes: u64,
    /// When the oldest stored call began.
    pub oldest_call: Option<i64>,
    /// When the newest did.
    pub newest_call: Option<i64>,
    /// Agents that were ever heard of.
    pub agents: i64,
    /// Calls of the last day; absent for none.
    pub last_day: Option<AggregateRow>,
    /// What retention removed, ever.
    pub removed: Vec<RemovedView>,
    /// Items that were not stored, ever, from whomever.
    pub rejections: Vec<RejectionView>,
}

fn rows<T>(
    db: &Connection,
    sql: &'static str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare_cached(sql)?.query_map(params, read)?.collect()
}

/// A reason's name, in lower case and without what all of them begin with.
fn reason(name: Option<&'static str>, prefix: &str, number: i32) -> String {
    match name {
        Some(name) => name.trim_start_matches(prefix).to_lowercase(),
        None => number.to_string(),
    }
}

fn gap_reason(number: i32) -> String {
    let known = v1::GapReason::try_from(number).ok();
    reason(known.map(|reason| reason.as_str_name()), "GAP_REASON_", number)
}

fn reject_reason(number: i32) -> String {
    let known = v1::RejectReason::try_from(number).ok();
    reason(known.map(|reason| reason.as_str_name()), "REJECT_REASON_", number)
}

impl Reader {
    /// The agents, those that were heard of last first.
    pub fn agents(&self) -> Result<Vec<AgentView>, QueryError> {
        self.ask(|session| agents(session).map_err(QueryError::Database))
    }

    /// The GPUs, by host, with the latest of each gauge.
    pub fn gpus(&self) -> Result<Vec<Gpu>, QueryError> {
        self.ask(|session| gpus(session).map_err(QueryError::Database))
    }

    /// The course of a gauge, by the minute, from a time to another.
    pub fn gpu_history(&self, gauge: i64, from: i64, to: i64) -> Result<Vec<GpuPoint>, QueryError> {
        const MINUTE: i64 = 60_000_000_000;
        let sql = "SELECT minute, sum / count, max FROM gauge_minutes WHERE minute >= ?1 AND minute < ?2 AND gauge = ?3 \
                   ORDER BY minute LIMIT ?4";
        let range = params![from.div_euclid(MINUTE), to.div_euclid(MINUTE).saturating_add(1), gauge, MAX_ROWS];
        let point = |row: &Row<'_>| {
            Ok(GpuPoint { at: row.get::<_, i64>(0)?.saturating_mul(MINUTE), mean: row.get(1)?, max: row.get(2)? })
        };
        self.ask(|session| rows(&session.db, sql, range, point).map_err(QueryError::Database))
    }

    /// The ledgers, one an agent.
    pub fn ledger(&self) -> Result<Vec<LedgerView>, QueryError> {
        self.ask(|session| ledger(session).map_err(QueryError::Database))
    }

    /// The latest logs of at least a severity, newest first: as many as were asked for, or as fit in 16 MB.
    pub fn logs(&self, min_severity: i64, limit: usize) -> Result<Vec<LogView>, QueryError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).clamp(1, MAX_ROWS);
        self.ask(|session| logs(session, min_severity, limit))
    }

    /// The latest entries of who did what, newest first.
    pub fn audit(&self, limit: usize) -> Result<Vec<AuditView>, QueryError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).clamp(1, MAX_ROWS);
        let sql = "SELECT at, who, action, trace_id, span_id FROM audit ORDER BY id DESC LIMIT ?1";
        let entry = |row: &Row<'_>| {
            Ok(AuditView {
                at: row.get(0)?,
                who: row.get(1)?,
                action: row.get(2)?,
                trace_id: row.get_ref(3)?.as_blob_or_null()?.map(hex),
                span_id: row.get_ref(4)?.as_blob_or_null()?.map(hex),
            })
        };
        self.ask(|session| rows(&session.db, sql, [limit], entry).map_err(QueryError::Database))
    }

    /// The store at a glance, with the calls of the day before `now`, nanoseconds since the Unix epoch.
    pub fn summary(&self, now: i64) -> Result<Summary, QueryError> {
        let filter = Filter { from: Some(now.saturating_sub(DAY)), to: Some(now), ..Filter::default() };
        let last_day = self.aggregate(&filter, &[], None)?.rows.pop();
        self.ask(|session| summary(&session.db, last_day).map_err(QueryError::Database))
    }
}

fn agents(session: &mut Session) -> rusqlite::Result<Vec<AgentView>> {
    let Session { db, texts, .. } = session;
    let texts = SessionTexts::new(db, texts);
    let sql = "SELECT a.id, a.agent_id, s.host, a.version, a.first_seen, a.last_seen, a.clock_offset, a.boot_time \
               FROM agents a LEFT JOIN sources s ON s.id = a.source ORDER BY a.last_seen DESC, a.id LIMIT ?1";
    rows(db, sql, [MAX_ROWS], |row| {
        let id: i64 = row.get(0)?;
        let epochs = "SELECT epoch, high_water, first_seen, last_seen FROM epochs WHERE agent = ?1 \
                      ORDER BY last_seen DESC, id DESC LIMIT ?2";
        let gaps = "SELECT e.epoch, g.first_seq, g.last_seq, g.reason, g.at FROM gaps g JOIN epochs e ON e.id = g.epoch \
                    WHERE e.agent = ?1 ORDER BY g.id DESC LIMIT ?2";
        let rejections = "SELECT reason, count FROM rejections WHERE agent = ?1 ORDER BY reason";
        Ok(AgentView {
            agent_id: row.get(1)?,
            host: texts.text(row.get(2)?)?,
            version: row.get(3)?,
            first_seen: row.get(4)?,
            last_seen: row.get(5)?,
            clock_offset: row.get(6)?,
            boot_time: row.get(7)?,
            epochs: rows(db, epochs, [id, MAX_GAPS], |row| {
                Ok(EpochView {
                    epoch: hex(row.get_ref(0)?.as_blob()?),
                    durable_through: row.get(1)?,
                    first_seen: row.get(2)?,
                    last_seen: row.get(3)?,
                })
            })?,
            gaps: rows(db, gaps, [id, MAX_GAPS], |row| {
                Ok(GapView {
                    epoch: hex(row.get_ref(0)?.as_blob()?),
                    first_seq: row.get(1)?,
                    last_seq: row.get(2)?,
                    reason: gap_reason(row.get(3)?),
                    at: row.get(4)?,
                })
            })?,
            rejections: rows(db, rejections, [id], rejection)?,
        })
    })
}

fn rejection(row: &Row<'_>) -> rusqlite::Result<RejectionView> {
    Ok(RejectionView { reason: reject_reason(row.get(0)?), count: row.get(1)? })
}

fn gpus(session: &mut Session) -> rusqlite::Result<Vec<Gpu>> {
    let Session { db, texts, .. } = session;
    let texts = SessionTexts::new(db, texts);
    let sql = "SELECT id, host, gpu, metric, labels, value, at FROM gauges ORDER BY host, gpu, metric, labels LIMIT ?1";
    let gauges = rows(db, sql, [MAX_ROWS], |row| {
        let labels: String = row.get(4)?;
        let gauge = GpuGauge {
            id: row.get(0)?,
            metric: texts.text(row.get(3)?)?.unwrap_or_default(),
            labels: serde_json::from_str(&labels).unwrap_or_default(),
            value: row.get(5)?,
            at: row.get(6)?,
        };
        Ok((texts.text(row.get(1)?)?, row.get::<_, String>(2)?, gauge))
    })?;
    let mut gpus: Vec<Gpu> = Vec::new();
    for (host, gpu, gauge) in gauges {
        match gpus.last_mut().filter(|last| last.host == host && last.gpu == gpu) {
            Some(last) => last.gauges.push(gauge),
            None => gpus.push(Gpu { host, gpu, gauges: vec![gauge] }),
        }
    }
    Ok(gpus)
}

fn ledger(session: &mut Session) -> rusqlite::Result<Vec<LedgerView>> {
    let Session { db, texts, .. } = session;
    let texts = SessionTexts::new(db, texts);
    let sql = "SELECT agent, name, sum(value), max(at) FROM ledgers GROUP BY agent, name ORDER BY agent, name LIMIT ?1";
    let totals = rows(db, sql, [MAX_ROWS], |row| {
        let counter = CounterView { name: texts.text(row.get(1)?)?.unwrap_or_default(), value: row.get(2)? };
        Ok((texts.agent(row.get(0)?)?, counter, row.get::<_, i64>(3)?))
    })?;
    let mut ledgers: Vec<LedgerView> = Vec::new();
    for (agent_id, counter, at) in totals {
        match ledgers.last_mut().filter(|last| last.agent_id == agent_id) {
            Some(last) => {
                last.counters.push(counter);
                last.at = last.at.max(at);
            }
            None => ledgers.push(LedgerView { agent_id, counters: vec![counter], at }),
        }
    }
    Ok(ledgers)
}

fn logs(session: &mut Session, min_severity: i64, limit: i64) -> Result<Vec<LogView>, QueryError> {
    let Session { db, texts, unpacker } = session;
    let texts = SessionTexts::new(db, texts);
    let sql = "SELECT agent, at, severity, codec, body FROM logs WHERE severity >= ?1 ORDER BY id DESC LIMIT ?2";
    let mut statement = db.prepare_cached(sql).map_err(QueryError::Database)?;
    let mut rows = statement.query([min_severity, limit]).map_err(QueryError::Database)?;
    let (mut logs, mut size) = (Vec::new(), 0);
    while let Some(row) = rows.next().map_err(QueryError::Database)? {
        let read = || Ok((texts.agent(row.get(0)?)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get::<_, Vec<u8>>(4)?));
        let (agent_id, at, severity, codec, body) = read().map_err(QueryError::Database)?;
        let mut bytes = Vec::new();
        unpacker.unpack(db, codec, &body, &mut bytes)?;
        size += bytes.len();
        if size > MAX_LOG_BYTES {
            break;
        }
        let log = LogRecord::decode(&bytes[..])
            .map_err(|_| QueryError::Damaged { what: "a log", reason: "it does not decode" })?;
        let body = super::document::value(log.body.as_ref());
        logs.push(LogView { agent_id, at, severity, body, attributes: attributes(&log.attributes) });
    }
    Ok(logs)
}

fn summary(db: &Connection, last_day: Option<AggregateRow>) -> rusqlite::Result<Summary> {
    let end = |sql| optional(db.prepare_cached(sql)?.query_row([], |row| row.get(0)));
    let removed = "SELECT what, reason, count FROM removed ORDER BY what, reason";
    let rejections = "SELECT reason, sum(count) FROM rejections GROUP BY reason ORDER BY reason";
    Ok(Summary {
        database_bytes: keep::used_bytes(db)?,
        oldest_call: end("SELECT start_ns FROM calls ORDER BY start_ns LIMIT 1")?,
        newest_call: end("SELECT start_ns FROM calls ORDER BY start_ns DESC LIMIT 1")?,
        agents: db.query_row("SELECT count(*) FROM agents", [], |row| row.get(0))?,
        last_day,
        removed: rows(db, removed, [], |row| {
            Ok(RemovedView { what: row.get(0)?, reason: row.get(1)?, count: row.get(2)? })
        })?,
        rejections: rows(db, rejections, [], rejection)?,
    })
}
