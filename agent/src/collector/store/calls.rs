//! The list of calls: what can be filtered by, and pages.
//!
//! Owns the query. Every value that a user gives is bound; the SQL is put together from the texts in this file alone.
//! Pages go from newer to older by (start, id): a call that comes meanwhile neither moves nor doubles another.

use rusqlite::{Row, params_from_iter, types::Value};

use super::{
    error::QueryError,
    reader::{Reader, Session},
    texts,
    views::{Kind, Status},
};
use crate::export::span::hex;

/// Most calls of a page.
pub const MAX_PAGE: usize = 1000;

const HOUR: i64 = 3_600_000_000_000;

/// Which calls. What is not given does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Calls that began at this time or later, nanoseconds since the Unix epoch.
    pub from: Option<i64>,
    /// Calls that began before this time.
    pub to: Option<i64>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// Who serves it.
    pub provider: Option<String>,
    /// The host that captured it.
    pub host: Option<String>,
    /// Base name of the executable.
    pub executable: Option<String>,
    /// Real user id.
    pub user: Option<i64>,
    /// How it ended.
    pub status: Option<Status>,
    /// Which end of the connection was captured.
    pub kind: Option<Kind>,
    /// What ended it, as `error.type` says.
    pub error_type: Option<String>,
    /// Seconds that it took at least.
    pub min_duration: Option<f64>,
    /// Seconds to its first token at least.
    pub min_ttft: Option<f64>,
    /// US dollars that it cost at least.
    pub min_cost: Option<f64>,
    /// Only calls of which something was slow.
    pub slow: bool,
    /// A cause that was found.
    pub cause: Option<String>,
    /// The trace that it is in.
    pub trace_id: Option<[u8; 16]>,
    /// The conversation that it is in.
    pub conversation: Option<String>,
}

/// A page of calls.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CallPage {
    /// Newest first.
    pub calls: Vec<CallRow>,
    /// What gives the next page; absent on the last.
    pub next: Option<String>,
}

/// A call as a row. What is not known is null.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[expect(missing_docs, reason = "each is the attribute of the same name, in its unit")]
pub struct CallRow {
    pub trace_id: String,
    pub span_id: String,
    pub parent_span_id: Option<String>,
    pub start_time_unix_nano: i64,
    pub end_time_unix_nano: i64,
    /// Seconds.
    pub duration: Option<f64>,
    pub kind: Kind,
    pub status: Status,
    pub name: Option<String>,
    pub agent_id: Option<String>,
    pub host: Option<String>,
    pub operation: Option<String>,
    pub api: Option<String>,
    pub provider: Option<String>,
    pub model: Option<String>,
    pub response_model: Option<String>,
    pub executable: Option<String>,
    pub pid: Option<i64>,
    pub user: Option<i64>,
    pub server_address: Option<String>,
    pub error_type: Option<String>,
    pub http_status: Option<i64>,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    pub cache_read_tokens: Option<i64>,
    pub cache_write_tokens: Option<i64>,
    pub reasoning_tokens: Option<i64>,
    pub cost_usd: Option<f64>,
    pub energy_joules: Option<f64>,
    /// Seconds.
    pub time_to_first_token: Option<f64>,
    /// Seconds.
    pub time_per_output_token: Option<f64>,
    pub chunks: Option<i64>,
    /// Seconds.
    pub gap_max: Option<f64>,
    pub slow: bool,
    /// The likeliest cause.
    pub cause: Option<String>,
    pub conversation: Option<String>,
    /// Whether prompts or completions are stored.
    pub has_content: bool,
}

/// What [`CallRow::read`] reads, of `calls c`.
pub(super) const COLUMNS: &str = "c.id, c.trace_id, c.span_id, c.parent_id, c.start_ns, c.end_ns, c.kind, c.status, \
     c.name, c.agent, c.host, c.operation, c.api, c.provider, c.model, c.response_model, c.executable, c.pid, c.user, \
     c.server_address, c.error_type, c.http_status, c.input_tokens, c.output_tokens, c.cache_read_tokens, \
     c.cache_write_tokens, c.reasoning_tokens, c.cost_usd, c.energy_joules, c.ttft, c.tpot, c.chunks, c.gap_max, c.slow, \
     c.cause, c.conversation, EXISTS (SELECT 1 FROM contents t WHERE t.id = c.id)";

/// The hours that have calls, newest first, from ?1 to ?2: a step of the index each. A query by ids asks each of them.
pub(super) const HOURS: &str = "WITH RECURSIVE hours (hour) AS (SELECT max(hour) FROM calls WHERE hour <= ?2 UNION ALL \
     SELECT (SELECT max(c.hour) FROM calls c WHERE c.hour < hours.hour AND c.hour >= ?1) FROM hours \
     WHERE hours.hour IS NOT NULL) ";

impl CallRow {
    /// The row and its id.
    pub(super) fn read(session: &SessionTexts<'_>, row: &Row<'_>) -> rusqlite::Result<(i64, Self)> {
        let text = |at: usize| session.text(row.get(at)?);
        let (start, end): (i64, i64) = (row.get(4)?, row.get(5)?);
        let agent: Option<i64> = row.get(9)?;
        let call = Self {
            trace_id: hex(row.get_ref(1)?.as_blob()?),
            span_id: hex(row.get_ref(2)?.as_blob()?),
            parent_span_id: row.get_ref(3)?.as_blob_or_null()?.map(hex),
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            duration: end.checked_sub(start).filter(|nanos| *nanos >= 0).map(|nanos| nanos as f64 / 1e9),
            kind: Kind::from_number(row.get(6)?),
            status: Status::from_number(row.get(7)?),
            name: text(8)?,
            agent_id: agent.map(|agent| session.agent(agent)).transpose()?.flatten(),
            host: text(10)?,
            operation: text(11)?,
            api: text(12)?,
            provider: text(13)?,
            model: text(14)?,
            response_model: text(15)?,
            executable: text(16)?,
            pid: row.get(17)?,
            user: row.get(18)?,
            server_address: text(19)?,
            error_type: text(20)?,
            http_status: row.get(21)?,
            input_tokens: row.get(22)?,
            output_tokens: row.get(23)?,
            cache_read_tokens: row.get(24)?,
            cache_write_tokens: row.get(25)?,
            reasoning_tokens: row.get(26)?,
            cost_usd: row.get(27)?,
            energy_joules: row.get(28)?,
            time_to_first_token: row.get(29)?,
            time_per_output_token: row.get(30)?,
            chunks: row.get(31)?,
            gap_max: row.get(32)?,
            slow: row.get(33)?,
            cause: text(34)?,
            conversation: row.get(35)?,
            has_content: row.get(36)?,
        };
        Ok((row.get(0)?, call))
    }
}

pub(super) use super::views::SessionTexts;

/// Conditions, and what is bound to their marks.
struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    /// Adds one, with a `?` for the value.
    fn add(&mut self, condition: &'static str, value: impl Into<Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.push(value.into());
    }
}

impl Reader {
    /// A page of the calls that a filter leaves, newest first: at most `limit`, and [`MAX_PAGE`]. `cursor` is what the page
    /// before gave as [`CallPage::next`].
    pub fn calls(&self, filter: &Filter, limit: usize, cursor: Option<&str>) -> Result<CallPage, QueryError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let after = cursor.map(parse_cursor).transpose()?;
        self.ask(|session| page(session, filter, limit, after))
    }
}

fn page(
    session: &mut Session,
    filter: &Filter,
    limit: usize,
    after: Option<(i64, i64)>,
) -> Result<CallPage, QueryError> {
    let nothing = CallPage { calls: Vec::new(), next: None };
    let Some((sql, values)) = query(session, filter, limit, after).map_err(QueryError::Database)? else {
        return Ok(nothing);
    };
    let Session { db, texts, .. } = session;
    let texts = SessionTexts::new(db, texts);
    let read = || {
        let mut statement = db.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(&values), |row| CallRow::read(&texts, row))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let mut calls = read().map_err(QueryError::Database)?;
    // One more than the page was asked for: it tells whether there is a next.
    let has_more = calls.len() > limit;
    calls.truncate(limit);
    let last = calls.last().filter(|_| has_more);
    let next = last.map(|(id, call)| format!("{:x}.{id:x}", call.start_time_unix_nano));
    Ok(CallPage { calls: calls.into_iter().map(|(_, call)| call).collect(), next })
}

/// The query of a filter, or `None` where it names what was never seen.
fn query(
    session: &Session,
    filter: &Filter,
    limit: usize,
    after: Option<(i64, i64)>,
) -> rusqlite::Result<Option<(String, Vec<Value>)>> {
    let Filter {
        from,
        to,
        model,
        provider,
        host,
        executable,
        user,
        status,
        kind,
        error_type,
        min_duration,
        min_ttft,
        min_cost,
        slow,
        cause,
        trace_id,
        conversation,
    } = filter;
    let (from, to) = (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX));
    let mut all = Conditions { sql: String::new(), values: Vec::new() };
    let source = match (trace_id, conversation) {
        (None, None) => {
            all.sql.push_str("SELECT ");
            all.sql.push_str(COLUMNS);
            " FROM calls c WHERE 1"
        }
        (trace, _) => {
            // A filter by ids asks the index of every hour.
            all.values.extend([from.div_euclid(HOUR).into(), to.div_euclid(HOUR).into()]);
            all.sql.push_str(HOURS);
            all.sql.push_str("SELECT ");
            all.sql.push_str(COLUMNS);
            match trace {
                Some(_) => " FROM hours CROSS JOIN calls c INDEXED BY calls_by_ids WHERE c.hour = hours.hour",
                None => " FROM hours CROSS JOIN calls c INDEXED BY calls_by_conversation WHERE c.hour = hours.hour",
            }
        }
    };
    all.sql.push_str(source);
    if let Some(trace) = trace_id {
        all.add("c.trace_id = ?", trace.to_vec());
    }
    if let Some(conversation) = conversation {
        all.add("c.conversation = ?", conversation.clone());
    }
    all.add("c.start_ns >= ?", from);
    all.add("c.start_ns < ?", to);
    if let Some((start, id)) = after {
        all.add("(c.start_ns, c.id) < (?, ", start);
        all.sql.push_str("?)");
        all.values.push(id.into());
    }
    for (condition, label) in [
        ("c.model = ?", model),
        ("c.provider = ?", provider),
        ("c.host = ?", host),
        ("c.executable = ?", executable),
        ("c.error_type = ?", error_type),
    ] {
        let Some(label) = label else { continue };
        match texts::find(&session.db, label)? {
            Some(id) => all.add(condition, id),
            None => return Ok(None),
        }
    }
    if let Some(user) = user {
        all.add("c.user = ?", *user);
    }
    if let Some(status) = status {
        all.add("c.status = ?", status.number());
    }
    if let Some(kind) = kind {
        all.add("c.kind = ?", kind.number());
    }
    if let Some(seconds) = min_duration {
        all.add("c.end_ns - c.start_ns >= ?", seconds * 1e9);
    }
    if let Some(seconds) = min_ttft {
        all.add("c.ttft >= ?", *seconds);
    }
    if let Some(cost) = min_cost {
        all.add("c.cost_usd >= ?", *cost);
    }
    if *slow {
        all.sql.push_str(" AND c.slow");
    }
    if let Some(cause) = cause {
        let sql = "SELECT bit FROM causes WHERE kind = ?1";
        let bit: Option<u32> = optional(session.db.prepare_cached(sql)?.query_row([cause], |row| row.get(0)))?;
        match bit {
            Some(bit) => all.add("c.causes & ? != 0", 1_i64 << bit.min(62)),
            None => return Ok(None),
        }
    }
    all.sql.push_str(" ORDER BY c.start_ns DESC, c.id DESC LIMIT ?");
    all.values.push(i64::try_from(limit + 1).unwrap_or(i64::MAX).into());
    Ok(Some((all.sql, all.values)))
}

/// No row is no error.
pub(super) fn optional<T>(found: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_cursor(cursor: &str) -> Result<(i64, i64), QueryError> {
    let parse = || {
        let (start, id) = cursor.split_once('.')?;
        Some((i64::from_str_radix(start, 16).ok()?, i64::from_str_radix(id, 16).ok()?))
    };
    parse().ok_or(QueryError::Wrong { reason: "the cursor is not one that a page gave" })
}
