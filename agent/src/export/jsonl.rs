//! One JSON object a line: the data contract as text.
//!
//! Owns the encoding and the writer. The keys of a line are always the same and in the same order
//! (`parent_span_id` is null when there is none), the keys of `attributes` are those that are known. Times are
//! integers, other numbers the shortest text that reads back to the same number. Filtering and where the lines go are
//! left to others; files are `json_file`'s business.
//!
//! To change the line: raise [`SCHEMA`] when a reader of the old line would misread the new one; adding an
//! attribute does not.

use std::{
    io::{self, Write},
    ops::ControlFlow,
};

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, SerializeStruct as _, Serializer};

use super::span::{Span, SpanEvent, Value, hex};

/// Version of the line's layout.
pub const SCHEMA: u32 = 1;

/// The line of `span`, without the newline.
pub fn line(span: &Span) -> String {
    // Strings, finite numbers and maps with text keys: there is nothing here that JSON cannot hold.
    serde_json::to_string(&Line(span)).expect("a span is always valid JSON")
}

/// Writes lines, each in one `write` and flushed, so that a reader never waits for the rest of a line.
#[derive(Debug)]
pub struct JsonLines<W> {
    out: W,
    /// The last write failed and may have left a part of a line behind.
    torn: bool,
    gone: bool,
}

impl<W: Write> JsonLines<W> {
    /// A writer of lines to `out`.
    pub fn new(out: W) -> Self {
        Self::after(out, false)
    }

    /// A writer to `out`, which may end inside a line.
    pub(super) fn after(out: W, torn: bool) -> Self {
        Self { out, torn, gone: false }
    }

    /// Where the lines go.
    pub(super) fn get_ref(&self) -> &W {
        &self.out
    }

    /// Writes one span. `Break` says that the reader has gone (`inferscope trace --output jsonl | head`) and that
    /// there is no more to do; other errors are worth another try with the next span.
    pub fn write(&mut self, span: &Span) -> io::Result<ControlFlow<()>> {
        let mut text = line(span);
        text.push('\n');
        self.write_line(text)
    }

    /// Writes a line that ends in a newline.
    pub(super) fn write_line(&mut self, mut text: String) -> io::Result<ControlFlow<()>> {
        if self.gone {
            return Ok(ControlFlow::Break(()));
        }
        if self.torn {
            // What came of the last line must not swallow this one.
            text.insert(0, '\n');
        }
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Ok(()) => {
                self.torn = false;
                Ok(ControlFlow::Continue(()))
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(ControlFlow::Break(()))
            }
            Err(error) => {
                self.torn = true;
                Err(error)
            }
        }
    }
}

/// The span as its line. The domain types stay free of `Serialize`: their layout is not the line's.
struct Line<'a>(&'a Span);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Span {
            trace_id,
            span_id,
            parent_span_id,
            name,
            kind,
            start_time_unix_nano,
            end_time_unix_nano,
            status,
            attributes,
            events,
        } = self.0;
        let mut out = serializer.serialize_struct("span", 11)?;
        out.serialize_field("schema", &SCHEMA)?;
        out.serialize_field("trace_id", &hex(trace_id))?;
        out.serialize_field("span_id", &hex(span_id))?;
        out.serialize_field("parent_span_id", &parent_span_id.map(|id| hex(&id)))?;
        out.serialize_field("name", name)?;
        out.serialize_field("kind", kind.as_str())?;
        out.serialize_field("start_time_unix_nano", start_time_unix_nano)?;
        out.serialize_field("end_time_unix_nano", end_time_unix_nano)?;
        out.serialize_field("status", status.as_str())?;
        out.serialize_field("attributes", &AttributeMap(attributes))?;
        out.serialize_field("events", &EventList(events))?;
        out.end()
    }
}

struct AttributeMap<'a>(&'a [(&'static str, Value)]);

impl Serialize for AttributeMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            match value {
                Value::Str(value) => out.serialize_entry(name, value)?,
                Value::Int(value) => out.serialize_entry(name, value)?,
                Value::Double(value) => out.serialize_entry(name, value)?,
                Value::Bool(value) => out.serialize_entry(name, value)?,
                Value::StrArray(value) => out.serialize_entry(name, value)?,
            }
        }
        out.end()
    }
}

struct EventList<'a>(&'a [SpanEvent]);

impl Serialize for EventList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_seq(Some(self.0.len()))?;
        for event in self.0 {
            out.serialize_element(&EventLine(event))?;
        }
        out.end()
    }
}

struct EventLine<'a>(&'a SpanEvent);

impl Serialize for EventLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let SpanEvent { name, time_unix_nano, attributes } = self.0;
        let mut out = serializer.serialize_struct("event", 3)?;
        out.serialize_field("name", name)?;
        out.serialize_field("time_unix_nano", time_unix_nano)?;
        out.serialize_field("attributes", &AttributeMap(attributes))?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing::{ANCHOR, chat, numbered_span};

    #[test]
    fn the_line_is_the_contract() {
        let mut call = chat();
        call.ids.parent = Some([2; 8]);
        call.facts.as_mut().unwrap().response.tool_calls = vec!["get\nweather".to_owned()];
        let expect = concat!(
            r#"{"schema":1,"trace_id":"abababababababababababababababab","span_id":"0101010101010101","#,
            r#""parent_span_id":"0202020202020202","name":"chat gpt-4o","kind":"client","#,
            r#""start_time_unix_nano":1700000000123000000,"end_time_unix_nano":1700000000583000000,"status":"ok","#,
            r#""attributes":{"gen_ai.operation.name":"chat","gen_ai.provider.name":"openai","#,
            r#""gen_ai.request.model":"gpt-4o","gen_ai.request.stream":true,"gen_ai.request.temperature":0.7,"#,
            r#""gen_ai.response.model":"gpt-4o-2024-08-06","gen_ai.response.id":"chatcmpl-1","#,
            r#""gen_ai.response.finish_reasons":["stop"],"gen_ai.usage.input_tokens":120,"#,
            r#""gen_ai.usage.output_tokens":11,"inferscope.usage.source":"reported","#,
            r#""inferscope.api":"openai.chat","inferscope.tool_calls":["get\nweather"],"#,
            r#""gen_ai.response.time_to_first_chunk":0.2,"inferscope.time_to_first_token":0.25,"#,
            r#""inferscope.time_per_output_token":0.02,"inferscope.chunk.count":3,"#,
            r#""inferscope.chunk.gap.p50":P50,"inferscope.chunk.gap.p99":P99,"#,
            r#""inferscope.chunk.gap.max":0.15,"http.response.status_code":200,"#,
            r#""server.address":"api.openai.com","server.port":443,"network.peer.address":"104.18.7.1","#,
            r#""network.peer.port":443,"process.pid":4242,"process.executable.name":"python3.12","#,
            r#""process.real_user.id":1000,"inferscope.completion":"done","inferscope.capture":"complete","#,
            r#""inferscope.capture.source":"openssl"},"events":[{"name":"inferscope.gap","#,
            r#""time_unix_nano":1700000000423000000,"attributes":{"inferscope.part":"response","#,
            r#""inferscope.bytes":17}}]}"#,
        );
        // The sketch gives quantiles to within 1.6 %: what its bucket's middle is, is not this test's business.
        let quantile = |q| call.gaps.quantile(q).unwrap().as_secs_f64().to_string();
        let expect = expect.replace("P50", &quantile(0.50)).replace("P99", &quantile(0.99));
        assert_eq!(line(&Span::from_call(&call, ANCHOR)), expect);
    }

    #[test]
    fn a_span_without_parent_says_null() {
        assert!(line(&numbered_span(1)).contains(r#""parent_span_id":null,"#));
    }

    /// Fails as told, then writes.
    struct Faulty(Vec<io::ErrorKind>, Vec<u8>);

    impl Write for Faulty {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.pop() {
                Some(kind) => {
                    self.1.push(b'{');
                    Err(kind.into())
                }
                None => self.1.write(bytes),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_broken_pipe_stops_without_an_error() {
        let mut lines = JsonLines::new(Faulty(vec![io::ErrorKind::BrokenPipe], Vec::new()));
        assert_eq!(lines.write(&numbered_span(1)).unwrap(), ControlFlow::Break(()));
        assert_eq!(lines.write(&numbered_span(2)).unwrap(), ControlFlow::Break(()));
        assert_eq!(lines.out.1, b"{");
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let mut lines = JsonLines::new(Faulty(vec![io::ErrorKind::StorageFull], Vec::new()));
        assert_eq!(lines.write(&numbered_span(1)).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(lines.write(&numbered_span(2)).unwrap(), ControlFlow::Continue(()));
        assert_eq!(lines.out.1, format!("{{\n{}\n", line(&numbered_span(2))).into_bytes());
    }
}
