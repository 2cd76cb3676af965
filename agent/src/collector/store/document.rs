//! One span whole, a trace, and content.
//!
//! Owns the form that a stored span is shown in: that of the data contract, with what it comes from beside it. Content is
//! read by [`Reader::content`] alone, from a table of its own; whoever calls it tells [`super::Ingest::audit`] first.

use inferscope_proto::{
    Message as _,
    otlp::{
        common::{AnyValue, KeyValue, any_value::Value as Any},
        resource::Resource,
        trace::{Span, span::Event},
    },
};
use rusqlite::params;
use serde_json::{Map, Value};

use super::{
    calls::{COLUMNS, CallRow, HOURS, optional},
    error::QueryError,
    reader::{Reader, Session},
    views::SessionTexts,
};
use crate::export::span::hex;

/// Most spans of a trace that are shown.
pub const MAX_TRACE: usize = 1000;

/// Most bytes of a trace's spans, before they are decoded.
const MAX_TRACE_BYTES: usize = 32 << 20;

/// A span with all that is stored of it but its content.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct WholeSpan {
    /// What is in columns.
    pub call: CallRow,
    /// All attributes.
    pub attributes: Map<String, Value>,
    /// What was noteworthy inside.
    pub events: Vec<EventView>,
    /// Other spans that it names.
    pub links: Vec<LinkView>,
    /// What the status says, empty for nothing.
    pub status_message: String,
    /// Attributes of what it comes from.
    pub resource: Map<String, Value>,
}

/// An event of a span.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct EventView {
    /// Its name.
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// Its attributes.
    pub attributes: Map<String, Value>,
}

/// Another span that a span names.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LinkView {
    /// Its trace.
    pub trace_id: String,
    /// Its id.
    pub span_id: String,
    /// What is said about it.
    pub attributes: Map<String, Value>,
}

/// Spans of one trace.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Trace {
    /// The earliest first.
    pub spans: Vec<WholeSpan>,
    /// Whether there are more: than [`MAX_TRACE`], or than fit in 32 MB.
    pub is_cut: bool,
}

/// Prompts and completions of a call, by the attribute that they are.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Content {
    /// The attributes that hold content.
    pub attributes: Map<String, Value>,
    /// The events that do.
    pub events: Vec<EventView>,
}

/// Rows of `calls` by the index of ids, with the span and what it comes from.
const BY_IDS: &str = "s.codec, s.body, r.resource FROM hours CROSS JOIN calls c INDEXED BY calls_by_ids \
     LEFT JOIN spans s ON s.id = c.id LEFT JOIN sources r ON r.id = c.source \
     WHERE c.hour = hours.hour AND c.trace_id = ?3";

/// Columns before those of [`BY_IDS`].
const N_COLUMNS: usize = 37;

fn events(events: Vec<Event>) -> Vec<EventView> {
    let view = |event: Event| EventView {
        attributes: attributes(&event.attributes),
        name: event.name,
        time_unix_nano: event.time_unix_nano,
    };
    events.into_iter().map(view).collect()
}

impl Reader {
    /// A span, without its content.
    pub fn call(&self, trace_id: [u8; 16], span_id: [u8; 8]) -> Result<Option<WholeSpan>, QueryError> {
        self.ask(|session| Ok(spans(session, trace_id, Some(span_id))?.spans.pop()))
    }

    /// All spans of a trace, without their content.
    pub fn trace(&self, trace_id: [u8; 16]) -> Result<Trace, QueryError> {
        self.ask(|session| spans(session, trace_id, None))
    }

    /// The content of a call, if some is stored.
    pub fn content(&self, trace_id: [u8; 16], span_id: [u8; 8]) -> Result<Option<Content>, QueryError> {
        self.ask(|session| {
            let Session { db, unpacker, .. } = session;
            let sql = [
                HOURS,
                "SELECT t.codec, t.body FROM hours CROSS JOIN calls c INDEXED BY calls_by_ids \
                 JOIN contents t ON t.id = c.id WHERE c.hour = hours.hour AND c.trace_id = ?3 AND c.span_id = ?4",
            ]
            .concat();
            let stored: Option<(i64, Vec<u8>)> = db
                .prepare_cached(&sql)
                .and_then(|mut statement| {
                    let ids = params![i64::MIN, i64::MAX, trace_id, span_id];
                    optional(statement.query_row(ids, |row| Ok((row.get(0)?, row.get(1)?))))
                })
                .map_err(QueryError::Database)?;
            let Some((codec, body)) = stored else { return Ok(None) };
            let mut bytes = Vec::new();
            unpacker.unpack(db, codec, &body, &mut bytes)?;
            let Span { attributes: found, events: told, .. } = decode(&bytes)?;
            Ok(Some(Content { attributes: attributes(&found), events: events(told) }))
        })
    }
}

fn decode(bytes: &[u8]) -> Result<Span, QueryError> {
    Span::decode(bytes).map_err(|_| QueryError::Damaged { what: "a span", reason: "it does not decode" })
}

fn spans(session: &mut Session, trace_id: [u8; 16], span_id: Option<[u8; 8]>) -> Result<Trace, QueryError> {
    let Session { db, texts, unpacker } = session;
    let texts = SessionTexts::new(db, texts);
    let which = match span_id {
        Some(_) => " AND c.span_id = ?4",
        // Bound in either case.
        None => " AND ?4 IS NULL",
    };
    let sql = [HOURS, "SELECT ", COLUMNS, ", ", BY_IDS, which, " ORDER BY c.start_ns, c.id LIMIT 1001"].concat();
    let mut statement = db.prepare_cached(&sql).map_err(QueryError::Database)?;
    let ids = params![i64::MIN, i64::MAX, trace_id, span_id];
    let mut rows = statement.query(ids).map_err(QueryError::Database)?;
    let (mut found, mut size) = (Vec::new(), 0);
    while let Some(row) = rows.next().map_err(QueryError::Database)? {
        let read = || {
            let codec: Option<i64> = row.get(N_COLUMNS)?;
            let body: Option<Vec<u8>> = row.get(N_COLUMNS + 1)?;
            let resource: Option<Vec<u8>> = row.get(N_COLUMNS + 2)?;
            Ok((CallRow::read(&texts, row)?.1, codec.zip(body), resource.unwrap_or_default()))
        };
        if found.len() >= MAX_TRACE || size > MAX_TRACE_BYTES {
            return Ok(Trace { spans: found, is_cut: true });
        }
        let (call, stored, resource) = read().map_err(QueryError::Database)?;
        let (codec, body) = stored.ok_or(QueryError::Damaged { what: "a span", reason: "its body is not there" })?;
        let mut bytes = Vec::new();
        unpacker.unpack(db, codec, &body, &mut bytes)?;
        size += bytes.len();
        let Span { attributes: pairs, events, links, status, .. } = decode(&bytes)?;
        found.push(WholeSpan {
            call,
            attributes: attributes(&pairs),
            events: self::events(events),
            links: links
                .into_iter()
                .map(|link| LinkView {
                    trace_id: hex(&link.trace_id),
                    span_id: hex(&link.span_id),
                    attributes: attributes(&link.attributes),
                })
                .collect(),
            status_message: status.unwrap_or_default().message,
            resource: attributes(&Resource::decode(&resource[..]).unwrap_or_default().attributes),
        });
    }
    Ok(Trace { spans: found, is_cut: false })
}

/// Attributes as an object. Of a name that occurs twice the last counts.
pub(super) fn attributes(pairs: &[KeyValue]) -> Map<String, Value> {
    pairs.iter().map(|pair| (pair.key.clone(), value(pair.value.as_ref()))).collect()
}

/// Bytes are shown in hexadecimal; numbers that JSON does not have, as texts.
pub(super) fn value(any: Option<&AnyValue>) -> Value {
    match any.and_then(|any| any.value.as_ref()) {
        None | Some(Any::StringValueStrindex(_)) => Value::Null,
        Some(Any::StringValue(text)) => Value::from(text.as_str()),
        Some(Any::BoolValue(is)) => Value::from(*is),
        Some(Any::IntValue(number)) => Value::from(*number),
        Some(Any::DoubleValue(number)) if number.is_finite() => Value::from(*number),
        Some(Any::DoubleValue(number)) => Value::from(number.to_string()),
        Some(Any::ArrayValue(array)) => array.values.iter().map(|any| value(Some(any))).collect(),
        Some(Any::KvlistValue(list)) => Value::Object(attributes(&list.values)),
        Some(Any::BytesValue(bytes)) => Value::from(hex(bytes)),
    }
}
