//! One submission, applied within the writer's transaction.
//!
//! Owns what is stored of each kind of item, and what makes it stored once: an agent's high-water mark is moved in the
//! transaction that stores its items, and a span's ids are unique. What cannot be stored is rejected by item; only an
//! error of the database ends the transaction.
//!
//! To store one more kind of item: a function beside [`Applier::log`], and its line in [`Applier::item`].

use std::ops::Range;

use inferscope_proto::{
    Message as _,
    otlp::{logs::LogRecord, metrics::ScopeMetrics},
    v1::{self, ItemKind, RejectReason},
};
use rusqlite::{CachedStatement, Connection, params};

use super::{
    codec::Packer,
    error::StoreError,
    gauges,
    known::{Known, Life},
    rollup::{Group, Measures, Rollups, UNKNOWN_USER, label},
    span::{self, Call},
    submit::{AgentSeen, Audit, Batch, Committed, Gap, Item, Rejection, Spans, Submission},
    texts::Texts,
};

/// Most bytes of an item.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;

/// Largest counter of a ledger: what a number in JSON can hold exactly.
const MAX_COUNT: u64 = 1 << 53;

/// Most counters of a ledger that are kept. An agent has some hundred.
const MAX_COUNTERS: usize = 4096;

/// Longest text of an audit entry, bytes.
const MAX_AUDIT_TEXT: usize = 256;

/// Longest conversation id that is kept, bytes.
const MAX_CONVERSATION: usize = 256;

const HOUR: i64 = 3_600_000_000_000;

const INSERT_CALL: &str = "INSERT INTO calls (hour, trace_id, span_id, parent_id, start_ns, end_ns, kind, status, name, \
     agent, source, host, operation, api, provider, model, response_model, executable, pid, user, server_address, \
     error_type, http_status, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, \
     cost_usd, energy_joules, ttft, tpot, chunks, gap_max, slow, cause, causes, conversation) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, \
     ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38) \
     ON CONFLICT (hour, trace_id, span_id) DO NOTHING";

/// What stays in memory between transactions. Whatever is here is also on disk when none is open.
pub(super) struct State {
    texts: Texts,
    pub(super) rollups: Rollups,
    packer: Packer,
    known: Known,
    /// Of one span at a time.
    ranges: Vec<Range<usize>>,
    rest: Vec<u8>,
    apart: Vec<u8>,
}

impl State {
    pub(super) fn open(db: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            texts: Texts::default(),
            rollups: Rollups::open(db)?,
            packer: Packer::open(db)?,
            known: Known::default(),
            ranges: Vec::new(),
            rest: Vec::new(),
            apart: Vec::new(),
        })
    }

    /// After a transaction that was rolled back: nothing of it may stay.
    pub(super) fn forget(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let Self { texts, rollups, packer: _, known, ranges: _, rest: _, apart: _ } = self;
        texts.forget();
        known.forget();
        rollups.forget(db)
    }

    /// After a transaction: keeps memory within its bounds.
    pub(super) fn trim(&mut self) {
        let Self { texts: _, rollups, packer: _, known, ranges: _, rest: _, apart: _ } = self;
        rollups.trim();
        known.trim();
    }
}

/// Where an item comes from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    agent: Option<i64>,
    source: i64,
    host: Option<i64>,
}

/// Why an item is not stored.
type Refusal = (RejectReason, &'static str);

/// Whether a span was stored, or known.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stored {
    New,
    Known,
    /// It is no span.
    Other,
}

/// Applies submissions in one transaction.
pub(super) struct Applier<'a> {
    db: &'a Connection,
    state: &'a mut State,
    /// The collector's clock, nanoseconds since the Unix epoch.
    now: i64,
    call: CachedStatement<'a>,
    span: CachedStatement<'a>,
    content: CachedStatement<'a>,
}

impl<'a> Applier<'a> {
    pub(super) fn new(db: &'a Connection, state: &'a mut State, now: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            call: db.prepare_cached(INSERT_CALL)?,
            span: db.prepare_cached("INSERT INTO spans (id, codec, body) VALUES (?1, ?2, ?3)")?,
            content: db.prepare_cached("INSERT INTO contents (id, codec, body) VALUES (?1, ?2, ?3)")?,
            db,
            state,
            now,
        })
    }

    /// Applies one. An error of the database fails the whole transaction; what is wrong with the submission only that.
    pub(super) fn apply(&mut self, submission: &Submission) -> rusqlite::Result<Result<Committed, StoreError>> {
        match submission {
            Submission::Batch(batch) => match batch.check() {
                Ok(()) => self.batch(batch),
                Err(error) => Ok(Err(error)),
            },
            Submission::Spans(spans) => self.spans(spans).map(Ok),
            Submission::Agent(seen) => self.seen(seen),
            Submission::Audit(audit) => self.audit(audit).map(|()| Ok(Committed::default())),
        }
    }

    /// Writes what was added up. The last before the transaction is committed.
    pub(super) fn finish(self) -> rusqlite::Result<()> {
        let Self { db, state, .. } = self;
        state.rollups.write(db)
    }

    fn batch(&mut self, batch: &Batch) -> rusqlite::Result<Result<Committed, StoreError>> {
        let Batch { agent_id, epoch, first_seq, last_seq, items, gaps, source, reply: _ } = batch;
        let known = self.state.known.stored_life(self.db, agent_id, epoch)?;
        let high_water = known.map_or(0, |life| life.high_water);
        if *first_seq > high_water + 1 {
            return Ok(Err(StoreError::Hole { expected: high_water + 1, first_seq: *first_seq }));
        }
        let mut committed = Committed { durable_through: high_water.max(*last_seq), ..Committed::default() };
        let agent = self.state.known.agent(self.db, agent_id, self.now)?;
        let life = self.state.known.life(self.db, agent, epoch, self.now)?;
        let (source, host) = self.state.known.source(self.db, &mut self.state.texts, source)?;
        let origin = Origin { agent: Some(agent), source, host };
        for item in items {
            if item.seq <= high_water {
                committed.duplicates += 1;
                continue;
            }
            let done = self.item(origin, item)?;
            committed.count(item.seq, done);
        }
        for gap in gaps.iter().filter(|gap| gap.last_seq > high_water) {
            let Gap { first_seq, last_seq, reason } = *gap;
            self.db
                .prepare_cached(
                    "INSERT INTO gaps (epoch, first_seq, last_seq, reason, at) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![life.id, signed(first_seq.max(high_water + 1)), signed(last_seq), reason, self.now])?;
        }
        self.rejections(agent, &committed.rejected)?;
        self.db.prepare_cached("UPDATE epochs SET high_water = ?2, last_seen = ?3 WHERE id = ?1")?.execute(params![
            life.id,
            signed(committed.durable_through),
            self.now
        ])?;
        self.db.prepare_cached("UPDATE agents SET last_seen = ?2 WHERE id = ?1")?.execute(params![agent, self.now])?;
        let life = Life { high_water: committed.durable_through, ..life };
        self.state.known.moved(agent, epoch, life);
        Ok(Ok(committed))
    }

    fn spans(&mut self, spans: &Spans) -> rusqlite::Result<Committed> {
        let Spans { source, spans, reply: _ } = spans;
        let (source, host) = self.state.known.source(self.db, &mut self.state.texts, source)?;
        let origin = Origin { agent: None, source, host };
        let mut committed = Committed::default();
        for (place, span) in (0..).zip(spans) {
            let done = self.span(origin, span)?;
            committed.count(place, done);
        }
        self.rejections(0, &committed.rejected)?;
        Ok(committed)
    }

    fn seen(&mut self, seen: &AgentSeen) -> rusqlite::Result<Result<Committed, StoreError>> {
        let AgentSeen {
            agent_id,
            epoch,
            version,
            time_unix_nano,
            boot_time_nano,
            received_unix_nano,
            source,
            reply: _,
        } = seen;
        if agent_id.is_empty() || agent_id.len() > super::submit::MAX_AGENT_ID {
            return Ok(Err(StoreError::Malformed { reason: "an agent's id has 1 to 255 bytes" }));
        }
        let agent = self.state.known.agent(self.db, agent_id, self.now)?;
        let life = self.state.known.life(self.db, agent, epoch, self.now)?;
        let (source, _) = self.state.known.source(self.db, &mut self.state.texts, source)?;
        let told = |nanos: u64| Some(signed(nanos)).filter(|nanos| *nanos > 0);
        let offset = told(*time_unix_nano).map(|time| time.saturating_sub(signed(*received_unix_nano)));
        let version = Some(version.as_str()).filter(|version| !version.is_empty());
        let version = version.map(|version| &version[..version.floor_char_boundary(128)]);
        self.db
            .prepare_cached(
                "UPDATE agents SET version = coalesce(?2, version), last_seen = ?3, clock_offset = coalesce(?4, clock_offset), \
                 boot_time = coalesce(?5, boot_time), source = ?6 WHERE id = ?1",
            )?
            .execute(params![agent, version, self.now, offset, told(*boot_time_nano), source])?;
        Ok(Ok(Committed { durable_through: life.high_water, ..Committed::default() }))
    }

    fn audit(&self, audit: &Audit) -> rusqlite::Result<()> {
        let Audit { who, action, span, reply: _ } = audit;
        let cut = |text: &str| text[..text.floor_char_boundary(MAX_AUDIT_TEXT)].to_owned();
        let (trace_id, span_id) = span.unzip();
        self.db
            .prepare_cached("INSERT INTO audit (at, who, action, trace_id, span_id) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![self.now, cut(who), cut(action), trace_id, span_id])?;
        Ok(())
    }

    fn item(&mut self, origin: Origin, item: &Item) -> rusqlite::Result<Result<Stored, Refusal>> {
        let Item { seq: _, kind, payload, crc32c } = item;
        if crc32c::crc32c(payload) != *crc32c {
            return Ok(Err((RejectReason::Checksum, "it does not match its checksum")));
        }
        let malformed = Err((RejectReason::Malformed, "it is not what its kind says"));
        match ItemKind::try_from(*kind) {
            _ if payload.len() > MAX_PAYLOAD => Ok(Err((RejectReason::Malformed, "it is too large"))),
            Ok(ItemKind::Span) => self.span(origin, payload),
            Ok(ItemKind::Metrics) => match ScopeMetrics::decode(&payload[..]) {
                Ok(metrics) => {
                    gauges::store(self.db, &mut self.state.texts, origin.host, &metrics)?;
                    let (codec, body) = self.state.packer.pack(payload);
                    self.db
                        .prepare_cached(
                            "INSERT INTO metrics (agent, source, at, codec, body) VALUES (?1, ?2, ?3, ?4, ?5)",
                        )?
                        .execute(params![origin.agent.unwrap_or(0), origin.source, self.now, codec, body])?;
                    Ok(Ok(Stored::Other))
                }
                Err(_) => Ok(malformed),
            },
            Ok(ItemKind::Log) => match LogRecord::decode(&payload[..]) {
                Ok(log) => self.log(origin, &log, payload).map(|()| Ok(Stored::Other)),
                Err(_) => Ok(malformed),
            },
            Ok(ItemKind::Ledger) => match v1::Ledger::decode(&payload[..]) {
                Ok(ledger) => self.ledger(origin, &ledger).map(|()| Ok(Stored::Other)),
                Err(_) => Ok(malformed),
            },
            Ok(ItemKind::Unspecified) | Err(_) => {
                Ok(Err((RejectReason::UnknownKind, "this collector does not know its kind")))
            }
        }
    }

    fn span(&mut self, origin: Origin, payload: &[u8]) -> rusqlite::Result<Result<Stored, Refusal>> {
        if payload.len() > MAX_PAYLOAD {
            return Ok(Err((RejectReason::Malformed, "it is too large")));
        }
        let mut ranges = std::mem::take(&mut self.state.ranges);
        ranges.clear();
        let result = match span::read(payload, &mut ranges) {
            Ok(call) => self.insert(origin, &call, payload, &ranges).map(Ok),
            Err(error) => Ok(Err((RejectReason::Malformed, error.0))),
        };
        self.state.ranges = ranges;
        result
    }

    fn insert(
        &mut self,
        origin: Origin,
        call: &Call<'_>,
        payload: &[u8],
        ranges: &[Range<usize>],
    ) -> rusqlite::Result<Stored> {
        let (db, State { texts, rollups, packer, known, rest, apart, .. }) = (self.db, &mut *self.state);
        let Origin { agent, source, host } = origin;
        let mut bits = 0_i64;
        for kind in call.causes.iter().map_while(|kind| *kind) {
            bits |= 1 << known.cause(db, kind)?;
        }
        let (provider, model) = (texts.maybe(db, call.provider)?, texts.maybe(db, call.model)?);
        let executable = texts.maybe(db, call.executable)?;
        let conversation = call.conversation.map(|id| &id[..id.floor_char_boundary(MAX_CONVERSATION)]);
        let added = self.call.execute(params![
            call.start.div_euclid(HOUR),
            call.trace_id,
            call.span_id,
            call.parent_id,
            call.start,
            call.end,
            call.kind,
            call.status,
            texts.maybe(db, call.name)?,
            agent,
            source,
            host,
            texts.maybe(db, call.operation)?,
            texts.maybe(db, call.api)?,
            provider,
            model,
            texts.maybe(db, call.response_model)?,
            executable,
            call.pid,
            call.user,
            texts.maybe(db, call.server_address)?,
            texts.maybe(db, call.error_type)?,
            call.http_status,
            call.input_tokens,
            call.output_tokens,
            call.cache_read,
            call.cache_write,
            call.reasoning,
            call.cost_usd,
            call.energy_joules,
            call.ttft,
            call.tpot,
            call.chunks,
            call.gap_max,
            call.is_slow,
            texts.maybe(db, call.causes[0])?,
            bits,
            conversation,
        ])?;
        if added == 0 {
            return Ok(Stored::Known);
        }
        let id = db.last_insert_rowid();
        let body = match ranges {
            [] => payload,
            _ => {
                span::split(payload, ranges, rest, apart);
                let (codec, body) = packer.pack(apart);
                self.content.execute(params![id, codec, body])?;
                &rest[..]
            }
        };
        let (codec, body) = packer.pack(body);
        self.span.execute(params![id, codec, body])?;
        let group = Group {
            model: label(model),
            provider: label(provider),
            host: label(host),
            executable: label(executable),
            user: call.user.unwrap_or(UNKNOWN_USER),
            status: call.status,
            kind: call.kind,
        };
        let measures = Measures {
            is_slow: call.is_slow,
            input: call.input_tokens,
            output: call.output_tokens,
            cache: call.cache_read,
            cost: call.cost_usd,
            energy: call.energy_joules,
            ttft: call.ttft,
            tpot: call.tpot,
            duration: call.duration(),
        };
        rollups.add(db, call.start, group, &measures)?;
        Ok(Stored::New)
    }

    fn log(&mut self, origin: Origin, log: &LogRecord, payload: &[u8]) -> rusqlite::Result<()> {
        // Logs go by their age: a time in the future would keep them.
        let at = [log.time_unix_nano, log.observed_time_unix_nano].into_iter().map(signed).find(|at| *at > 0);
        let at = at.map(|at| at.min(self.now));
        let (codec, body) = self.state.packer.pack(payload);
        self.db
            .prepare_cached(
                "INSERT INTO logs (agent, source, at, severity, codec, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                origin.agent.unwrap_or(0),
                origin.source,
                at.unwrap_or(self.now),
                log.severity_number,
                codec,
                body
            ])?;
        Ok(())
    }

    /// Totals only grow within a life: of two that came in whatever order, the later counts.
    fn ledger(&mut self, origin: Origin, ledger: &v1::Ledger) -> rusqlite::Result<()> {
        let v1::Ledger { time_unix_nano, counters, started_unix_nano } = ledger;
        for v1::Counter { name, value } in counters.iter().take(MAX_COUNTERS) {
            let name = self.state.texts.id(self.db, name)?;
            self.db
                .prepare_cached(
                    "INSERT INTO ledgers (agent, started, name, value, at) VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT DO UPDATE SET value = excluded.value, at = excluded.at WHERE excluded.at >= at",
                )?
                .execute(params![
                    origin.agent.unwrap_or(0),
                    signed(*started_unix_nano),
                    name,
                    // So that the sum over lives cannot be beyond what SQLite adds up.
                    signed((*value).min(MAX_COUNT)),
                    signed(*time_unix_nano)
                ])?;
        }
        Ok(())
    }

    fn rejections(&self, agent: i64, rejected: &[Rejection]) -> rusqlite::Result<()> {
        for rejection in rejected {
            self.db
                .prepare_cached(
                    "INSERT INTO rejections (agent, reason, count) VALUES (?1, ?2, 1) \
                     ON CONFLICT DO UPDATE SET count = count + 1",
                )?
                .execute(params![agent, rejection.reason as i32])?;
        }
        Ok(())
    }
}

impl Committed {
    fn count(&mut self, seq: u64, done: Result<Stored, Refusal>) {
        match done {
            Ok(Stored::New) => self.stored += 1,
            Ok(Stored::Known) => self.duplicates += 1,
            Ok(Stored::Other) => {}
            Err((reason, message)) => self.rejected.push(Rejection { seq, reason, message }),
        }
    }
}

/// SQLite's integers have a sign. What is larger is told as the largest.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The other way. What is stored is never negative.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
