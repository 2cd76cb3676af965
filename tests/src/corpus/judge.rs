//! Spans against what their exchanges state.

use std::{collections::BTreeMap, fmt};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Row, Want, want::Stated};
use crate::call::Call;

/// Rows that may differ in their usage, of a thousand: what a provider's own numbers contradict.
const USAGE_MISSES_PER_MILLE: usize = 5;

/// The two sides of a call, as spans name them.
const SIDES: [&str; 2] = ["client", "server"];

/// What a difference is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// No span, or more than one.
    Span,
    /// A span of an exchange that is no call of a model.
    Negative,
    /// Token counts.
    Usage,
    /// The response's id.
    Id,
    /// Model of the request or the response.
    Model,
    /// Finish reasons.
    Finish,
    /// How many tools were called.
    Tools,
    /// HTTP status, `error.type` and the span's status.
    Error,
    /// The call was not captured whole, or a part of it was not understood.
    Capture,
    /// The two sides do not belong together.
    Link,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Index of the row.
    pub row: usize,
    /// `client` or `server`.
    pub side: &'static str,
    /// What it is about.
    pub area: Area,
    /// What is different.
    pub field: &'static str,
    /// What was expected, and what is there.
    pub what: String,
}

/// Counts of one API's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    rows: usize,
    with_usage: usize,
    usage_exact: usize,
    exact: usize,
}

/// The outcome of a replay.
#[derive(Debug)]
pub struct Tally<'a> {
    rows: &'a [Row],
    counts: BTreeMap<&'a str, Count>,
    misses: Vec<Miss>,
}

impl<'a> Tally<'a> {
    /// Compares the spans of a replay with what its rows state. `calls` are those of the processes that replayed.
    pub fn of(rows: &'a [Row], calls: &[Call]) -> Self {
        let mut spans = BTreeMap::<(usize, &str), Vec<&Call>>::new();
        for call in calls {
            let index = call.number("server.port").and_then(Row::index_of_port);
            spans.entry((index.unwrap_or(usize::MAX), call.kind())).or_default().push(call);
        }
        let mut tally = Self { rows, counts: BTreeMap::new(), misses: Vec::new() };
        for row in rows {
            let before = tally.misses.len();
            let of_row = SIDES.map(|side| (side, spans.get(&(row.index, side)).map(Vec::as_slice).unwrap_or_default()));
            tally.judge(row, of_row);
            let own = &tally.misses[before..];
            let count = tally.counts.entry(&row.api).or_default();
            count.rows += 1;
            count.exact += usize::from(own.is_empty());
            if matches!(&row.want, Want::Call(stated) if !stated.usage.is_empty()) {
                let is_exact = !own.iter().any(|miss| matches!(miss.area, Area::Usage | Area::Span));
                count.with_usage += 1;
                count.usage_exact += usize::from(is_exact);
            }
        }
        tally
    }

    /// All differences.
    pub fn misses(&self) -> &[Miss] {
        &self.misses
    }

    fn judge(&mut self, row: &Row, spans: [(&'static str, &[&Call]); 2]) {
        let mut miss =
            |side, area, field, what: String| self.misses.push(Miss { row: row.index, side, area, field, what });
        let mut ends = Vec::new();
        for (side, calls) in spans {
            match (&row.want, calls) {
                (Want::NoCall | Want::Anything, []) => {}
                (Want::NoCall, calls) => {
                    let apis: Vec<_> = calls.iter().filter_map(|call| call.text("inferscope.api")).collect();
                    miss(side, Area::Negative, "span", format!("none is expected, got {apis:?}"));
                }
                (Want::Anything, [_]) => {}
                (Want::Call(stated), [call]) => {
                    compare(stated, call, &mut |area, field, what| miss(side, area, field, what));
                    ends.push(call);
                }
                (_, calls) => miss(side, Area::Span, "span", format!("one is expected, got {}", calls.len())),
            }
        }
        if let [client, server] = ends[..]
            && (client.member("span_id") != server.member("parent_span_id")
                || client.member("trace_id") != server.member("trace_id"))
        {
            miss("server", Area::Link, "parent_span_id", "the parent is not the client's span".to_owned());
        }
    }

    /// An error unless the replay shows what it must: all that the rows state, and the usage of all but a few.
    pub fn verdict(&self) -> Result<()> {
        let with_usage: usize = self.counts.values().map(|count| count.with_usage).sum();
        let exact: usize = self.counts.values().map(|count| count.usage_exact).sum();
        let allowed = with_usage * USAGE_MISSES_PER_MILLE / 1_000;
        let others = self.misses.iter().filter(|miss| miss.area != Area::Usage).count();
        if with_usage - exact > allowed || others > 0 {
            bail!("usage of {exact} of {with_usage} rows is exact, and {others} other differences\n{self}");
        }
        Ok(())
    }
}

/// Compares one span with what is stated.
fn compare(stated: &Stated, call: &Call, miss: &mut dyn FnMut(Area, &'static str, String)) {
    let Stated { usage, request_model, response_model, id, finish_reasons, tool_calls, error, status } = stated;
    let mut attr = |area, name, want: Value| {
        let got = call.attr(name).unwrap_or(&Value::Null);
        if got != &want {
            miss(area, name, format!("{want} is expected, got {got}"));
        }
    };
    for (name, value) in usage {
        attr(Area::Usage, name, json!(value));
    }
    if !usage.is_empty() && usage.iter().any(|(_, value)| value.is_some()) {
        attr(Area::Usage, "inferscope.usage.source", json!("reported"));
    }
    for (name, value) in [("gen_ai.request.model", request_model), ("gen_ai.response.model", response_model)] {
        if value.is_some() {
            attr(Area::Model, name, json!(value));
        }
    }
    if id.is_some() {
        attr(Area::Id, "gen_ai.response.id", json!(id));
    }
    attr(Area::Error, "http.response.status_code", json!(status));
    attr(Area::Capture, "inferscope.capture", json!("complete"));
    if let Some(lists) = finish_reasons {
        let got = call.list("gen_ai.response.finish_reasons").unwrap_or_default();
        if !lists.iter().any(|list| *list == got) {
            miss(Area::Finish, "gen_ai.response.finish_reasons", format!("{:?} is expected, got {got:?}", lists[0]));
        }
    }
    if let Some(n) = tool_calls {
        let got = call.list("inferscope.tool_calls").unwrap_or_default();
        if got.len() != *n {
            miss(Area::Tools, "inferscope.tool_calls", format!("{n} are expected, got {got:?}"));
        }
    }
    let (kind, is_error) = (call.text("error.type"), call.member("status") == Some("error"));
    let right = match error {
        Some(types) => is_error && kind.is_some_and(|kind| types.iter().any(|of| of == kind)),
        None => !is_error && kind.is_none(),
    };
    if !right {
        let want = error.as_ref().map_or("no error".to_owned(), |types| format!("one of {types:?}"));
        miss(Area::Error, "error.type", format!("{want} is expected, got {kind:?}"));
    }
    for event in call.json()["events"].as_array().into_iter().flatten() {
        miss(Area::Capture, "events", format!("none is expected, got {event}"));
    }
}

impl fmt::Display for Tally<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32} {:>5} {:>6} {:>12} {:>12}", "API", "rows", "exact", "with usage", "usage exact")?;
        for (api, Count { rows, with_usage, usage_exact, exact }) in &self.counts {
            writeln!(f, "{api:<32} {rows:>5} {exact:>6} {with_usage:>12} {usage_exact:>12}")?;
        }
        // Rows that miss the same stand together: a parser that is not there would hide everything else.
        let mut alike = BTreeMap::<(Area, &str, &str), Vec<(&Row, &Miss)>>::new();
        for miss in &self.misses {
            let Some(row) = self.rows.iter().find(|row| row.index == miss.row) else { continue };
            alike.entry((miss.area, &row.api, miss.field)).or_default().push((row, miss));
        }
        for ((area, api, field), misses) in alike {
            writeln!(f, "{area:?} {api} {field}: {} differences", misses.len())?;
            for (Row { index, name, .. }, Miss { side, what, .. }) in misses.iter().take(LISTED) {
                let what: String = what.chars().take(LONGEST).collect();
                writeln!(f, "    row {index} ({name}), {side}: {what}")?;
            }
        }
        Ok(())
    }
}

/// Differences of one kind that are listed one by one.
const LISTED: usize = 20;

/// Longest text of a difference, in characters.
const LONGEST: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Message, want::usage};

    fn row(index: usize, want: Want) -> Row {
        Row {
            index,
            name: format!("row {index}"),
            api: "openai.chat".to_owned(),
            method: "POST".to_owned(),
            host: "localhost".to_owned(),
            target: "/v1/chat/completions".to_owned(),
            request: Message::default(),
            status: 200,
            response: Message::default(),
            want,
        }
    }

    fn chat(index: usize) -> Row {
        let stated = Stated {
            usage: vec![(usage::INPUT, Some(4)), (usage::REASONING, None)],
            request_model: Some("m".to_owned()),
            response_model: Some("m-1".to_owned()),
            id: Some("c1".to_owned()),
            finish_reasons: Some(vec![vec!["stop".to_owned()]]),
            tool_calls: Some(1),
            error: None,
            status: 200,
        };
        row(index, Want::Call(Box::new(stated)))
    }

    /// The spans of a row's two sides, after `change` of the client's.
    fn spans(index: usize, change: impl Fn(&mut Value)) -> Vec<Call> {
        let span = |kind: &str| {
            json!({"schema": 1, "trace_id": "t", "span_id": kind, "parent_span_id": "client", "kind": kind,
                "status": "ok", "events": [], "attributes": {
                "server.port": 10_000 + index, "gen_ai.usage.input_tokens": 4, "inferscope.usage.source": "reported",
                "gen_ai.request.model": "m", "gen_ai.response.model": "m-1", "gen_ai.response.id": "c1",
                "gen_ai.response.finish_reasons": ["stop"], "inferscope.tool_calls": ["f"],
                "http.response.status_code": 200, "inferscope.capture": "complete"}})
        };
        let mut client = span("client");
        change(&mut client);
        [client, span("server")].iter().map(|span| Call::parse(&span.to_string()).unwrap()).collect()
    }

    fn areas(rows: &[Row], calls: &[Call]) -> Vec<Area> {
        Tally::of(rows, calls).misses().iter().map(|miss| miss.area).collect()
    }

    #[test]
    fn spans_that_say_everything_are_exact() {
        let rows = [chat(0), row(1, Want::NoCall), row(2, Want::Anything)];
        let calls = spans(0, |_| {});
        let tally = Tally::of(&rows, &calls);
        tally.verdict().unwrap();
        assert_eq!(tally.counts["openai.chat"], Count { rows: 3, with_usage: 1, usage_exact: 1, exact: 3 });
    }

    #[test]
    fn each_field_that_differs_is_a_difference_of_its_area() {
        let attribute = |name: &'static str, value: Value| {
            areas(&[chat(0)], &spans(0, |span| span["attributes"][name] = value.clone()))
        };
        assert_eq!(attribute("gen_ai.usage.input_tokens", json!(5)), [Area::Usage]);
        assert_eq!(attribute("gen_ai.usage.reasoning.output_tokens", json!(0)), [Area::Usage]);
        assert_eq!(attribute("gen_ai.request.model", json!("n")), [Area::Model]);
        assert_eq!(attribute("gen_ai.response.model", Value::Null), [Area::Model]);
        assert_eq!(attribute("gen_ai.response.id", json!("c2")), [Area::Id]);
        assert_eq!(attribute("gen_ai.response.finish_reasons", json!(["stop", "stop"])), [Area::Finish]);
        assert_eq!(attribute("inferscope.tool_calls", json!([])), [Area::Tools]);
        assert_eq!(attribute("http.response.status_code", json!(500)), [Area::Error]);
        assert_eq!(attribute("error.type", json!("overloaded")), [Area::Error]);
        assert_eq!(attribute("inferscope.capture", json!("gap")), [Area::Capture]);
        let member = |name: &'static str, value: Value| areas(&[chat(0)], &spans(0, |span| span[name] = value.clone()));
        assert_eq!(member("status", json!("error")), [Area::Error]);
        assert_eq!(member("events", json!([{"name": "inferscope.gap"}])), [Area::Capture]);
        assert_eq!(member("trace_id", json!("other")), [Area::Link]);
    }

    #[test]
    fn a_missing_a_second_and_an_unwanted_span_are_differences() {
        let calls = spans(0, |_| {});
        assert_eq!(areas(&[chat(0)], &calls[..1]), [Area::Span]);
        let twice = [&calls[..], &calls[..]].concat();
        assert_eq!(areas(&[chat(0)], &twice), [Area::Span, Area::Span]);
        assert_eq!(areas(&[row(0, Want::NoCall)], &calls), [Area::Negative, Area::Negative]);
        assert_eq!(areas(&[row(0, Want::Anything)], &twice), [Area::Span, Area::Span]);
    }

    #[test]
    fn an_error_must_be_named_by_one_of_its_words() {
        let Want::Call(mut stated) = chat(0).want else { panic!("a call") };
        stated.error = Some(vec!["400".to_owned(), "bad_request".to_owned()]);
        let rows = [row(0, Want::Call(stated))];
        let named = |kind: &'static str| {
            let calls = spans(0, |span| {
                span["status"] = json!("error");
                span["attributes"]["error.type"] = json!(kind);
            });
            areas(&rows, &calls[..1])
        };
        // The other side's span is not there.
        assert_eq!(named("bad_request"), [Area::Span]);
        assert_eq!(named("the key sk-1 is bad"), [Area::Error, Area::Span]);
    }

    #[test]
    fn few_wrong_usages_in_a_thousand_pass_and_one_wrong_id_does_not() {
        let rows: Vec<_> = (0..400).map(chat).collect();
        let replay = |wrong: usize, name: &'static str| {
            let calls: Vec<_> = rows
                .iter()
                .flat_map(|row| {
                    spans(row.index, |span| {
                        if row.index < wrong {
                            span["attributes"][name] = json!(9);
                        }
                    })
                })
                .collect();
            Tally::of(&rows, &calls).verdict()
        };
        replay(2, "gen_ai.usage.input_tokens").unwrap();
        replay(3, "gen_ai.usage.input_tokens").unwrap_err();
        let error = replay(1, "gen_ai.response.id").unwrap_err().to_string();
        assert!(
            error.contains("Id openai.chat gen_ai.response.id: 1 differences\n    row 0 (row 0), client: "),
            "{error}"
        );
    }
}
