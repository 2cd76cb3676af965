//! Lines for a person at a terminal.
//!
//! Owns layout and colour. Takes every number from the span, so that the terminal says what the exporters say, and
//! from the call only what a span does not hold (`comm`). Whether there is a terminal and whether colour is wanted
//! is the caller's to decide. Times of day are UTC, as the header says: a local time zone would need a C library
//! that reads the environment under our feet.
//!
//! To add a column: its width and title in `COLUMNS`, its text in `columns`, in the same place of both.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::Value as Json;

use super::{
    attributes as names,
    span::{Span, SpanEvent, SpanStatus, Value},
};
use crate::{
    call::{FinishedCall, Side},
    privacy::printable,
};

/// Title and width of each column; a negative width is flush right. The last column is as wide as it needs.
const COLUMNS: [(&str, i8); 11] = [
    ("START (UTC)", 12),
    ("", 1),
    ("PROCESS", 22),
    ("CALL", 32),
    ("STATUS", 17),
    ("TTFT", -7),
    ("TPOT", -7),
    ("CHUNKS", -6),
    ("IN", -6),
    ("OUT", -6),
    ("TIME", -7),
];

/// What a value that was not seen looks like: never a zero.
const ABSENT: &str = "-";

/// Indentation of the lines below a call's own.
const INDENT: &str = "             ";

/// Writes calls as lines for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pretty {
    /// Whether to colour with ANSI sequences.
    pub colour: bool,
    /// Whether to show messages, when the call has any.
    pub content: bool,
}

impl Pretty {
    /// The line above the first call, with its newline.
    pub fn header(&self) -> String {
        let mut text = row(COLUMNS.map(|(title, _)| Cow::Borrowed(title)));
        text = text.trim_end().to_owned();
        format!("{}\n", self.paint(Style::Dim, &text))
    }

    /// The lines of one call, each with its newline. `span` is the call's own.
    pub fn call(&self, call: &FinishedCall, span: &Span) -> String {
        let mut line = row(columns(call, span));
        line.truncate(line.trim_end().len());
        let style = match span.status {
            SpanStatus::Error => Style::Bad,
            SpanStatus::Unset => Style::Doubtful,
            SpanStatus::Ok => Style::Plain,
        };
        let mut text = format!("{}\n", self.paint(style, &line));
        for (style, remark) in remarks(span) {
            let _ = writeln!(text, "{INDENT}{}", self.paint(style, &remark));
        }
        if self.content {
            self.messages(&mut text, span, names::GEN_AI_INPUT_MESSAGES, ">");
            self.messages(&mut text, span, names::GEN_AI_OUTPUT_MESSAGES, "<");
        }
        text
    }

    fn messages(&self, text: &mut String, span: &Span, name: &str, mark: &str) {
        let Some(json) = span.get(name).and_then(Value::as_str) else { return };
        let Ok(Json::Array(messages)) = serde_json::from_str(json) else {
            let _ = writeln!(text, "{INDENT}{mark} {}", printable(json));
            return;
        };
        for message in &messages {
            let role = message.get("role").and_then(Json::as_str).unwrap_or("?");
            let lead = self.paint(Style::Dim, &format!("{mark} {}:", printable(role)));
            for part in message.get("parts").and_then(Json::as_array).into_iter().flatten() {
                // A message's own line breaks are kept, each line under the first: the rest is escaped.
                for (n, line) in part_text(part).lines().enumerate() {
                    let lead = if n == 0 { Cow::Borrowed(lead.as_str()) } else { Cow::Borrowed(" ") };
                    let _ = writeln!(text, "{INDENT}{lead} {}", printable(line));
                }
            }
        }
    }

    fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            _ if !self.colour => return text.to_owned(),
            Style::Dim => "2",
            Style::Bad => "31",
            Style::Doubtful => "33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Dim,
    Bad,
    Doubtful,
}

fn columns(call: &FinishedCall, span: &Span) -> [Cow<'static, str>; COLUMNS.len()] {
    let who = call.process.comm.as_deref().or(call.process.executable.as_deref()).unwrap_or("?");
    // The pid is what tells two of them apart: it stays whole whatever the name does.
    let pid = format!("[{}]", call.process.pid);
    let who = format!("{}{pid}", fit(&printable(who), usize::from(COLUMNS[2].1.unsigned_abs()) - pid.len()));
    let what = match &call.facts {
        Some(_) => printable(&span.name).into_owned(),
        None if call.is_within() => printable(&span.name).into_owned(),
        None => {
            let path = span.get(names::URL_PATH).and_then(Value::as_str).unwrap_or_default();
            format!("{} {}", printable(&span.name), printable(path))
        }
    };
    let seconds = |name| match span.get(name).and_then(Value::as_double) {
        Some(seconds) => duration(seconds).into(),
        None => ABSENT.into(),
    };
    let count = |name| match span.get(name).and_then(Value::as_int) {
        Some(count) => count.to_string().into(),
        None => ABSENT.into(),
    };
    let total = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) as f64 / 1e9;
    [
        time_of_day(span.start_time_unix_nano).into(),
        match call.side {
            _ if call.is_within() => "⚙".into(),
            Side::Client => "→".into(),
            Side::Server => "←".into(),
        },
        who.into(),
        what.into(),
        outcome(call).into(),
        seconds(names::INFERSCOPE_TIME_TO_FIRST_TOKEN),
        seconds(names::INFERSCOPE_TIME_PER_OUTPUT_TOKEN),
        count(names::INFERSCOPE_CHUNK_COUNT),
        count(names::GEN_AI_USAGE_INPUT_TOKENS),
        count(names::GEN_AI_USAGE_OUTPUT_TOKENS),
        duration(total).into(),
    ]
}

fn outcome(call: &FinishedCall) -> String {
    let status = call.http.status.map_or(Cow::Borrowed(ABSENT), |status| status.to_string().into());
    match call.completion {
        Some(completion) => format!("{status} {}", completion.as_str()),
        None => status.into_owned(),
    }
}

/// The lines below a call's own: its error, what it called, what of it was not seen.
fn remarks(span: &Span) -> Vec<(Style, String)> {
    let mut remarks = Vec::new();
    let text = |name| span.get(name).and_then(Value::as_str);
    if let Some(error) = text(names::ERROR_TYPE) {
        remarks.push((Style::Bad, format!("error {}", printable(error))));
    }
    if let Some(usd) = span.get(names::INFERSCOPE_COST_USD).and_then(Value::as_double) {
        remarks.push((Style::Dim, format!("cost ${usd:.6}")));
    }
    if let Some(inferred) = inferred(span) {
        remarks.push((Style::Doubtful, inferred));
    }
    if let Some(Value::StrArray(tools)) = span.get(names::INFERSCOPE_TOOL_CALLS) {
        let tools: Vec<_> = tools.iter().map(|tool| printable(tool)).collect();
        remarks.push((Style::Dim, format!("tools {}", tools.join(", "))));
    }
    if let Some(capture) = text(names::INFERSCOPE_CAPTURE).filter(|&capture| capture != "complete") {
        remarks.push((Style::Doubtful, format!("capture {capture}")));
    }
    if let Some(joules) = span.get(names::INFERSCOPE_GPU_ENERGY_JOULES).and_then(Value::as_double) {
        remarks.push((Style::Dim, format!("GPU {joules:.1} J")));
    }
    remarks.extend(span.events.iter().filter_map(why).map(|text| (Style::Doubtful, text)));
    for SpanEvent { name, time_unix_nano: _, attributes } in span.events.iter().filter(|event| why(event).is_none()) {
        let mut remark = format!("note {}", name.trim_start_matches("inferscope."));
        for (_, value) in attributes {
            let _ = match value {
                Value::Str(text) => write!(remark, " {}", printable(text)),
                Value::Int(number) => write!(remark, " {number} bytes"),
                Value::Double(_) | Value::Bool(_) | Value::StrArray(_) => Ok(()),
            };
        }
        remarks.push((Style::Doubtful, remark));
    }
    remarks
}

/// What was slow, or why.
fn why(event: &SpanEvent) -> Option<String> {
    let get = |name| event.attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    let text = |name| get(name).and_then(Value::as_str).map(printable);
    let time = |name| get(name).and_then(Value::as_double).map(duration);
    match event.name {
        names::EVENT_SLOW => {
            let (what, took) = (text(names::INFERSCOPE_SLOW_MEASURE)?, time(names::INFERSCOPE_SLOW_SECONDS)?);
            Some(format!("slow {what} {took}, usually {}", time(names::INFERSCOPE_SLOW_USUAL)?))
        }
        names::EVENT_CAUSE => {
            let (kind, evidence) = (text(names::INFERSCOPE_CAUSE_KIND)?, text(names::INFERSCOPE_CAUSE_EVIDENCE)?);
            Some(format!("because {kind}: {evidence}"))
        }
        _ => None,
    }
}

/// What was inferred, where nothing was read.
fn inferred(span: &Span) -> Option<String> {
    let count = |name| span.get(name).and_then(Value::as_int);
    let (request, response) =
        (count(names::INFERSCOPE_INFERRED_REQUEST_BYTES)?, count(names::INFERSCOPE_INFERRED_RESPONSE_BYTES)?);
    let mut text = format!("inferred from ciphertext: {request} bytes out, {response} in");
    let (what, time) = match span.get(names::INFERSCOPE_INFERRED_FIRST_TOKEN) {
        Some(time) => ("token", Some(time)),
        None => ("record", span.get(names::INFERSCOPE_INFERRED_FIRST_RECORD)),
    };
    if let Some(seconds) = time.and_then(Value::as_double) {
        let _ = write!(text, ", first {what} after about {}", duration(seconds));
    }
    Some(text)
}

/// What a part of a message says: its text, or its kind and the rest as JSON.
fn part_text(part: &Json) -> Cow<'_, str> {
    let kind = part.get("type").and_then(Json::as_str).unwrap_or("?");
    match part.get("content").and_then(Json::as_str) {
        Some(text) if kind == "text" => text.into(),
        Some(text) => format!("({kind}) {text}").into(),
        None => format!("({kind}) {part}").into(),
    }
}

fn row(cells: [Cow<'_, str>; COLUMNS.len()]) -> String {
    let mut line = String::new();
    for (cell, (_, width)) in cells.iter().zip(COLUMNS) {
        let columns = usize::from(width.unsigned_abs());
        let cell = fit(cell, columns);
        let _ = match width {
            0.. => write!(line, "{cell:<columns$} "),
            _ => write!(line, "{cell:>columns$} "),
        };
    }
    line
}

/// At most `columns` characters, the cut marked.
fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    match text.char_indices().nth(columns) {
        None => text.into(),
        Some(_) if columns == 0 => "".into(),
        Some(_) => {
            let (end, _) = text.char_indices().nth(columns - 1).unwrap_or((text.len(), ' '));
            format!("{}…", &text[..end]).into()
        }
    }
}

fn time_of_day(unix_nanos: u64) -> String {
    let millis = unix_nanos / 1_000_000 % 86_400_000;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Three digits that matter, with the unit that fits.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.000_999_5 => format!("{:.0}us", s * 1e6),
        s if s < 0.099_95 => format!("{:.1}ms", s * 1e3),
        s if s < 0.999_5 => format!("{:.0}ms", s * 1e3),
        s if s < 99.95 => format!("{s:.2}s"),
        s => format!("{s:.0}s"),
    }
}

#[cfg(test)]
#[path = "pretty_tests.rs"]
mod tests;
