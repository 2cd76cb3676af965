//! What the store reads from an encoded span.
//!
//! Owns which attribute becomes which column, and which attributes are content. Reads in place: an accepted span is
//! stored as it came, only that its content is kept apart. What is not there, or is not a number that makes sense, stays
//! unknown.
//!
//! To store one more attribute as a column: a field of [`Call`], a line in [`Call::attribute`], and a migration.

use std::ops::Range;

use super::wire::{self, Fields, Malformed, Value};
use crate::export::attributes as names;

/// Causes that are read of a span. There are fewer kinds.
pub(super) const MAX_CAUSES: usize = 16;

/// Beginnings of the names under which other programs send content, beside [`names::CONTENT`]: OpenTelemetry's older
/// conventions, OpenLLMetry, OpenInference, the Vercel AI SDK. Some number their messages behind these.
const FOREIGN_CONTENT: [&str; 21] = [
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.event.content",
    "traceloop.entity.input",
    "traceloop.entity.output",
    "llm.prompt",
    "llm.completion",
    "llm.input_messages",
    "llm.output_messages",
    "llm.invocation_parameters",
    "input.value",
    "output.value",
    "ai.prompt",
    "ai.response.text",
    "ai.toolCall",
];

/// Names of events that are messages, whatever is in them.
const CONTENT_EVENTS: [&str; 7] = [
    "gen_ai.content.prompt",
    "gen_ai.content.completion",
    "gen_ai.system.message",
    "gen_ai.user.message",
    "gen_ai.assistant.message",
    "gen_ai.tool.message",
    "gen_ai.choice",
];

const SPAN_ATTRIBUTE: u32 = 9;

/// A span's columns, borrowed from its bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Call<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) parent_id: Option<[u8; 8]>,
    /// Nanoseconds since the Unix epoch.
    pub(super) start: i64,
    pub(super) end: i64,
    /// OTLP's numbers.
    pub(super) kind: i64,
    pub(super) status: i64,
    pub(super) name: Option<&'a str>,
    pub(super) operation: Option<&'a str>,
    pub(super) api: Option<&'a str>,
    pub(super) provider: Option<&'a str>,
    pub(super) model: Option<&'a str>,
    pub(super) response_model: Option<&'a str>,
    pub(super) executable: Option<&'a str>,
    pub(super) pid: Option<i64>,
    pub(super) user: Option<i64>,
    pub(super) server_address: Option<&'a str>,
    pub(super) error_type: Option<&'a str>,
    pub(super) http_status: Option<i64>,
    pub(super) input_tokens: Option<i64>,
    pub(super) output_tokens: Option<i64>,
    pub(super) cache_read: Option<i64>,
    pub(super) cache_write: Option<i64>,
    pub(super) reasoning: Option<i64>,
    pub(super) cost_usd: Option<f64>,
    pub(super) energy_joules: Option<f64>,
    pub(super) ttft: Option<f64>,
    pub(super) tpot: Option<f64>,
    pub(super) chunks: Option<i64>,
    pub(super) gap_max: Option<f64>,
    pub(super) is_slow: bool,
    /// The likeliest first.
    pub(super) causes: [Option<&'a str>; MAX_CAUSES],
    pub(super) conversation: Option<&'a str>,
}

/// An attribute's value, as far as a column may hold it.
#[derive(Clone, Copy, Debug)]
enum Scalar<'a> {
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    List(&'a [u8]),
    Other,
}

impl<'a> Scalar<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Counts and ids: none is negative.
    fn count(self) -> Option<i64> {
        match self {
            Self::Int(number) if number >= 0 => Some(number),
            _ => None,
        }
    }

    /// Times and amounts: none is negative.
    fn amount(self) -> Option<f64> {
        match self {
            Self::Double(number) if number.is_finite() && number >= 0.0 => Some(number),
            Self::Int(number) if number >= 0 => Some(number as f64),
            _ => None,
        }
    }
}

/// Reads a span. Where its content is, is added to `content`, in ascending order.
pub(super) fn read<'a>(bytes: &'a [u8], content: &mut Vec<Range<usize>>) -> Result<Call<'a>, Malformed> {
    let mut call = Call::default();
    let (mut start, mut end) = (0, 0);
    let (mut has_trace, mut has_span) = (false, false);
    for field in Fields::new(bytes) {
        let (number, value, range) = field?;
        match number {
            1 => {
                let id = value.bytes()?;
                call.trace_id = id.try_into().map_err(|_| Malformed("a trace id has 16 bytes"))?;
                has_trace = true;
            }
            2 => {
                let id = value.bytes()?;
                call.span_id = id.try_into().map_err(|_| Malformed("a span id has 8 bytes"))?;
                has_span = true;
            }
            4 => match value.bytes()? {
                [] => call.parent_id = None,
                id => call.parent_id = Some(id.try_into().map_err(|_| Malformed("a span id has 8 bytes"))?),
            },
            5 => call.name = Some(value.text()?).filter(|name| !name.is_empty()),
            6 => call.kind = number_of(value)?,
            7 => start = value.fixed64()?,
            8 => end = value.fixed64()?,
            SPAN_ATTRIBUTE => {
                let attribute = value.bytes()?;
                let (key, value) = key_value(attribute)?;
                if is_content(key) {
                    content.push(range);
                } else {
                    call.attribute(key, value)?;
                }
            }
            11 => {
                let event = value.bytes()?;
                wire::check(event, &wire::EVENT)?;
                if is_content_event(event)? {
                    content.push(range);
                }
            }
            13 => wire::check(value.bytes()?, &wire::LINK)?,
            15 => {
                let status = value.bytes()?;
                wire::check(status, &wire::STATUS)?;
                for field in Fields::new(status) {
                    if let (3, code, _) = field? {
                        call.status = number_of(code)?;
                    }
                }
            }
            3 => {
                value.text()?;
            }
            10 | 12 | 14 => {
                value.varint()?;
            }
            16 => match value {
                Value::Fixed32(_) => {}
                _ => return Err(Malformed("a field has another type")),
            },
            _ => {}
        }
    }
    if !has_trace || !has_span || call.trace_id == [0; 16] || call.span_id == [0; 8] {
        return Err(Malformed("a span has no id"));
    }
    let time = |time: u64| i64::try_from(time).map_err(|_| Malformed("a time is beyond the year 2262"));
    (call.start, call.end) = (time(start)?, time(end)?);
    Ok(call)
}

/// An enumeration's number. What is not known is kept as unspecified.
fn number_of(value: Value<'_>) -> Result<i64, Malformed> {
    Ok(i64::try_from(value.varint()?).ok().filter(|number| (0..=5).contains(number)).unwrap_or(0))
}

fn is_content(key: &str) -> bool {
    names::CONTENT.contains(&key) || FOREIGN_CONTENT.iter().any(|beginning| key.starts_with(beginning))
}

/// Whether an event is a message, or has a part of one.
fn is_content_event(event: &[u8]) -> Result<bool, Malformed> {
    for field in Fields::new(event) {
        match field? {
            (2, name, _) if CONTENT_EVENTS.contains(&name.text()?) => return Ok(true),
            (3, attribute, _) if is_content(key_value(attribute.bytes()?)?.0) => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

fn key_value(bytes: &[u8]) -> Result<(&str, Scalar<'_>), Malformed> {
    let (mut key, mut found) = ("", Scalar::Other);
    for field in Fields::new(bytes) {
        match field? {
            (1, value, _) => key = value.text()?,
            (2, value, _) => found = scalar(value.bytes()?)?,
            (3, value, _) => {
                value.varint()?;
            }
            _ => {}
        }
    }
    Ok((key, found))
}

fn scalar(bytes: &[u8]) -> Result<Scalar<'_>, Malformed> {
    let mut found = Scalar::Other;
    for field in Fields::new(bytes) {
        found = match field? {
            (1, value, _) => Scalar::Text(value.text()?),
            (2, value, _) => Scalar::Bool(value.varint()? != 0),
            (3, value, _) => Scalar::Int(value.varint()?.cast_signed()),
            (4, value, _) => Scalar::Double(f64::from_bits(value.fixed64()?)),
            (5, value, _) => {
                let list = value.bytes()?;
                wire::check(list, &wire::ARRAY_VALUE)?;
                Scalar::List(list)
            }
            // Others are looked at for their form alone.
            (6..=8, ..) => {
                wire::check(bytes, &wire::ANY_VALUE)?;
                return Ok(Scalar::Other);
            }
            _ => found,
        };
    }
    Ok(found)
}

impl<'a> Call<'a> {
    fn attribute(&mut self, key: &str, value: Scalar<'a>) -> Result<(), Malformed> {
        if !(key.starts_with("gen_ai.") || key.starts_with("inferscope.")) {
            match key {
                names::PROCESS_PID => self.pid = value.count(),
                names::PROCESS_EXECUTABLE_NAME => self.executable = value.text(),
                names::PROCESS_REAL_USER_ID => self.user = value.count(),
                names::SERVER_ADDRESS => self.server_address = value.text(),
                names::ERROR_TYPE => self.error_type = value.text(),
                names::HTTP_RESPONSE_STATUS_CODE => self.http_status = value.count(),
                _ => {}
            }
            return Ok(());
        }
        match key {
            names::GEN_AI_OPERATION_NAME => self.operation = value.text(),
            names::GEN_AI_PROVIDER_NAME => self.provider = value.text(),
            names::GEN_AI_REQUEST_MODEL => self.model = value.text(),
            names::GEN_AI_RESPONSE_MODEL => self.response_model = value.text(),
            names::GEN_AI_CONVERSATION_ID => self.conversation = value.text(),
            names::GEN_AI_USAGE_INPUT_TOKENS => self.input_tokens = value.count(),
            names::GEN_AI_USAGE_OUTPUT_TOKENS => self.output_tokens = value.count(),
            names::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS => self.cache_read = value.count(),
            names::GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS => self.cache_write = value.count(),
            names::GEN_AI_USAGE_REASONING_OUTPUT_TOKENS => self.reasoning = value.count(),
            names::INFERSCOPE_API => self.api = value.text(),
            names::INFERSCOPE_COST_USD => self.cost_usd = value.amount(),
            names::INFERSCOPE_GPU_ENERGY_JOULES => self.energy_joules = value.amount(),
            names::INFERSCOPE_TIME_TO_FIRST_TOKEN => self.ttft = value.amount(),
            names::INFERSCOPE_TIME_PER_OUTPUT_TOKEN => self.tpot = value.amount(),
            names::INFERSCOPE_CHUNK_COUNT => self.chunks = value.count(),
            names::INFERSCOPE_CHUNK_GAP_MAX => self.gap_max = value.amount(),
            names::INFERSCOPE_SLOW => self.is_slow = is_something(value),
            names::INFERSCOPE_CAUSE_KINDS => self.causes = causes(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Seconds that it took; absent where its end is before its start.
    pub(super) fn duration(&self) -> Option<f64> {
        self.end.checked_sub(self.start).filter(|nanos| *nanos >= 0).map(|nanos| nanos as f64 / 1e9)
    }
}

fn is_something(value: Scalar<'_>) -> bool {
    match value {
        Scalar::List(list) => !list.is_empty(),
        Scalar::Bool(is) => is,
        Scalar::Text(text) => !text.is_empty(),
        _ => false,
    }
}

fn causes(value: Scalar<'_>) -> Result<[Option<&str>; MAX_CAUSES], Malformed> {
    let mut found = [None; MAX_CAUSES];
    match value {
        Scalar::List(list) => {
            let mut free = found.iter_mut();
            for element in Fields::new(list) {
                if let (1, value, _) = element?
                    && let Scalar::Text(text) = scalar(value.bytes()?)?
                    && let Some(free) = free.next()
                {
                    *free = Some(text);
                }
            }
        }
        value => found[0] = value.text(),
    }
    Ok(found)
}

/// Splits a span in what is not content and what is. Each alone is an encoded span, and one after the other they are the
/// whole one: fields of a message may come in any order.
pub(super) fn split(bytes: &[u8], content: &[Range<usize>], rest: &mut Vec<u8>, apart: &mut Vec<u8>) {
    rest.clear();
    apart.clear();
    let mut at = 0;
    for range in content {
        rest.extend_from_slice(&bytes[at..range.start]);
        apart.extend_from_slice(&bytes[range.clone()]);
        at = range.end;
    }
    rest.extend_from_slice(&bytes[at..]);
}

#[cfg(test)]
#[path = "span_tests.rs"]
mod tests;
