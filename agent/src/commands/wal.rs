//! `inferscope wal`

use std::io::{BufWriter, Write};

use anyhow::Context as _;
use inferscope_proto::{
    Message as _,
    otlp::{
        common::{AnyValue, KeyValue, any_value::Value as Any},
        trace::{Span, span::SpanKind, status::StatusCode},
    },
    v1::Ledger,
};
use serde_json::{Map, Value, json};

use crate::{
    cli::{LogArgs, ReportFormat, WalAction, WalArgs},
    export::span::hex,
    wal::{
        Epoch, Gap, Item, Kind, MasterKey,
        view::{CursorView, Depth, SegmentView, View, view},
    },
};

/// How deep values of attributes are told: what lies deeper is left out, for a payload can nest without end.
const MAX_DEPTH: u32 = 16;

/// Looks into a log.
pub fn wal(args: &WalArgs) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match &args.action {
        WalAction::Inspect { log, output } => {
            let seen = look(log, Depth::Headers, &mut |_, _| Ok(()))?;
            match output {
                ReportFormat::Pretty => pretty(&mut out, &seen),
                ReportFormat::Json => writeln!(out, "{}", to_json(&seen)),
            }
            .and_then(|()| out.flush())
            .context("standard output cannot be written")
        }
        WalAction::Verify { log } => {
            let mut items = 0u64;
            let seen = look(log, Depth::Payloads, &mut |_, _| {
                items += 1;
                Ok(())
            })?;
            let told = faults(&mut out, &seen).and_then(|()| writeln!(out, "{items} items are as they were written"));
            told.and_then(|()| out.flush()).context("standard output cannot be written")?;
            anyhow::ensure!(!seen.is_damaged(), "the log in {} is damaged", log.dir.display());
            Ok(())
        }
        WalAction::Export { log } => {
            let seen = look(log, Depth::Payloads, &mut |epoch, item| writeln!(out, "{}", line(epoch, &item)))?;
            out.flush().context("standard output cannot be written")?;
            for finding in &seen.findings {
                super::say(&format!("inferscope: {finding}"));
            }
            for gap in &seen.gaps {
                super::say(&format!("inferscope: {}", gap_text(gap)));
            }
            Ok(())
        }
    }
}

fn look(
    log: &LogArgs,
    depth: Depth,
    take: &mut dyn FnMut(&Epoch, Item) -> std::io::Result<()>,
) -> anyhow::Result<View> {
    let key = log.key_file.as_deref().map(MasterKey::read).transpose()?;
    Ok(view(&log.dir, key.as_ref(), depth, take)?)
}

fn gap_text(gap: &Gap) -> String {
    let Gap { first_seq, last_seq, reason } = gap;
    format!("seqs {first_seq} to {last_seq} are missing: {}", reason.as_str())
}

fn faults(out: &mut dyn Write, seen: &View) -> std::io::Result<()> {
    for finding in &seen.findings {
        writeln!(out, "finding  {finding}")?;
    }
    for gap in &seen.gaps {
        writeln!(out, "gap      {}", gap_text(gap))?;
    }
    Ok(())
}

fn pretty(out: &mut dyn Write, seen: &View) -> std::io::Result<()> {
    let View { epoch, segments, cursors, evicted, gaps: _, findings: _ } = seen;
    writeln!(out, "epoch    {}", epoch.as_ref().map_or("unknown".to_owned(), |epoch| hex(epoch)))?;
    if let Some(evicted) = evicted {
        writeln!(out, "evicted  up to seq {evicted}")?;
    }
    for segment in segments {
        let SegmentView { path, first_seq, last_seq, items, bytes, encrypted, readable, quarantined, .. } = segment;
        let seqs = if last_seq < first_seq { "no items".to_owned() } else { format!("seqs {first_seq} to {last_seq}") };
        let encrypted = match (encrypted, readable) {
            (false, _) => "",
            (true, true) => ", encrypted",
            (true, false) => ", encrypted with another key",
        };
        let place = if *quarantined { ", in quarantine" } else { "" };
        writeln!(out, "segment  {}: {seqs}, {items} items, {bytes} bytes{encrypted}{place}", path.display())?;
    }
    for CursorView { name, through, backlog } in cursors {
        let through = through.map_or("nothing that is known".to_owned(), |seq| format!("everything up to seq {seq}"));
        writeln!(out, "cursor   {name}: has {through}, {backlog} are to come")?;
    }
    faults(out, seen)
}

fn to_json(seen: &View) -> Value {
    let View { epoch, segments, cursors, evicted, gaps, findings } = seen;
    let segments: Vec<Value> = segments
        .iter()
        .map(|segment| {
            let SegmentView { path, epoch, first_seq, last_seq, items, bytes, .. } = segment;
            let SegmentView { created_unix_nano, encrypted, readable, quarantined, .. } = segment;
            json!({
                "path": path.display().to_string(), "epoch": hex(epoch), "first_seq": first_seq, "last_seq": last_seq,
                "items": items, "bytes": bytes, "created_unix_nano": created_unix_nano, "encrypted": encrypted,
                "readable": readable, "quarantined": quarantined,
            })
        })
        .collect();
    let cursors: Vec<Value> = cursors
        .iter()
        .map(|CursorView { name, through, backlog }| json!({"name": name, "through": through, "backlog": backlog}))
        .collect();
    let gaps: Vec<Value> = gaps
        .iter()
        .map(|gap| json!({"first_seq": gap.first_seq, "last_seq": gap.last_seq, "reason": gap.reason.as_str()}))
        .collect();
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| json!({"path": finding.path.display().to_string(), "fault": finding.fault.to_string()}))
        .collect();
    json!({
        "epoch": epoch.as_ref().map(|epoch| hex(epoch)), "evicted_through": evicted, "segments": segments,
        "cursors": cursors, "gaps": gaps, "findings": findings, "damaged": seen.is_damaged(),
    })
}

/// One line of an export. What cannot be decoded is told as hexadecimal bytes.
fn line(epoch: &Epoch, item: &Item) -> Value {
    let Item { seq, kind, payload, crc32c: _ } = item;
    let decoded = match kind {
        Kind::Span => Span::decode(payload.clone()).ok().map(|span| ("span", span_json(span))),
        Kind::Ledger => Ledger::decode(payload.clone()).ok().map(|ledger| ("ledger", ledger_json(ledger))),
        Kind::Metrics | Kind::Log => None,
    };
    let (key, value) = decoded.unwrap_or_else(|| ("payload", Value::from(hex(payload))));
    json!({"epoch": hex(epoch), "seq": seq, "kind": kind.as_str(), key: value})
}

/// A span in the shape of the JSON lines that `trace` and `run` write.
fn span_json(span: Span) -> Value {
    let kind = match SpanKind::try_from(span.kind) {
        Ok(SpanKind::Client) => "client",
        Ok(SpanKind::Server) => "server",
        Ok(SpanKind::Internal) => "internal",
        Ok(SpanKind::Producer) => "producer",
        Ok(SpanKind::Consumer) => "consumer",
        Ok(SpanKind::Unspecified) | Err(_) => "unspecified",
    };
    let status = match span.status.map(|status| StatusCode::try_from(status.code)) {
        Some(Ok(StatusCode::Ok)) => "ok",
        Some(Ok(StatusCode::Error)) => "error",
        Some(Ok(StatusCode::Unset) | Err(_)) | None => "unset",
    };
    let parent = (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id));
    let event = |event: inferscope_proto::otlp::trace::span::Event| json!({"name": event.name, "time_unix_nano": event.time_unix_nano, "attributes": attributes(event.attributes, 0)});
    json!({
        "trace_id": hex(&span.trace_id), "span_id": hex(&span.span_id), "parent_span_id": parent, "name": span.name,
        "kind": kind, "start_time_unix_nano": span.start_time_unix_nano, "end_time_unix_nano": span.end_time_unix_nano,
        "status": status, "attributes": attributes(span.attributes, 0),
        "events": span.events.into_iter().map(event).collect::<Vec<_>>(),
    })
}

fn ledger_json(ledger: Ledger) -> Value {
    let Ledger { time_unix_nano, counters, started_unix_nano } = ledger;
    let counters: Map<String, Value> =
        counters.into_iter().map(|counter| (counter.name, counter.value.into())).collect();
    json!({"time_unix_nano": time_unix_nano, "started_unix_nano": started_unix_nano, "counters": counters})
}

fn attributes(pairs: Vec<KeyValue>, depth: u32) -> Value {
    let pairs = pairs
        .into_iter()
        .map(|KeyValue { key, value, .. }| (key, value.map_or(Value::Null, |value| any(value, depth))));
    Value::Object(pairs.collect())
}

fn any(value: AnyValue, depth: u32) -> Value {
    match value.value {
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::BoolValue(value)) => value.into(),
        Some(Any::IntValue(value)) => value.into(),
        Some(Any::DoubleValue(value)) => value.into(),
        Some(Any::BytesValue(bytes)) => hex(&bytes).into(),
        Some(Any::ArrayValue(array)) if depth < MAX_DEPTH => {
            array.values.into_iter().map(|value| any(value, depth + 1)).collect()
        }
        Some(Any::KvlistValue(list)) if depth < MAX_DEPTH => attributes(list.values, depth + 1),
        Some(_) | None => Value::Null,
    }
}

#[cfg(test)]
#[path = "wal_tests.rs"]
mod tests;
