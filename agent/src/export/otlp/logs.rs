//! What is noticed beside calls, as OTLP's log records.
//!
//! Owns the mapping from a notice to a record and the offering of records to exporters and to the log, from which the collector
//! gets them. The record is an event: its name says
//! what happened, its attributes the rest; the text is for people. Sending is `exporter`'s business.
//!
//! To tell one more kind of notice: its branch in `record`, an event's name and attributes in `export::attributes`.

use inferscope_proto::{
    Message as _,
    otlp::{
        common::{AnyValue, any_value::Value},
        logs::{LogRecord, SeverityNumber},
    },
};
use tonic::codegen::Bytes;

use super::{encode::key_value, queue::OtlpHandle};
use crate::{
    export::attributes as names,
    serving::Notice,
    time::{Mono, WallAnchor},
    wal::{Kind, WalHandle},
};

/// Offers notices to exporters of logs, and to the log that is shipped.
#[derive(Clone, Debug)]
pub struct NoticeLog {
    handles: Vec<OtlpHandle>,
    wal: Option<WalHandle>,
    anchor: WallAnchor,
}

impl NoticeLog {
    /// To `handles`, which are those of exporters of logs, and to `wal`, with kernel times converted by `anchor`; nothing if
    /// there are none.
    pub fn new(handles: Vec<OtlpHandle>, wal: Option<WalHandle>, anchor: WallAnchor) -> Option<Self> {
        (!handles.is_empty() || wal.is_some()).then_some(Self { handles, wal, anchor })
    }

    /// Queues `notice`, which was noticed at `at`, everywhere. Never waits; what a queue or the log does not take it counts.
    pub fn offer(&self, notice: &Notice, at: Mono) {
        let record = Bytes::from(record(notice, self.anchor.to_unix_nanos(at)).encode_to_vec());
        for handle in &self.handles {
            handle.offer_encoded(record.clone());
        }
        if let Some(wal) = &self.wal {
            // It counts what it refuses.
            let _ = wal.offer(Kind::Log, record);
        }
    }
}

/// The record of `notice`.
fn record(notice: &Notice, time_unix_nano: u64) -> LogRecord {
    let mut out = Attributes::default();
    let (event, text) = match notice {
        Notice::Stuck { pid, engine, lasted, utilization, stepless } => {
            out.int(names::PROCESS_PID, Some(u64::from(*pid)));
            out.text(names::INFERSCOPE_ENGINE_ID, engine.as_deref());
            out.double(names::INFERSCOPE_STALL_SECONDS, Some(lasted.as_secs_f64()));
            out.double(names::INFERSCOPE_STALL_GPU_UTILIZATION, utilization.map(|percent| percent / 100.0));
            let stepless = stepless.map(|stepless| stepless.as_secs_f64());
            out.double(names::INFERSCOPE_STALL_STEPLESS_SECONDS, stepless);
            (names::EVENT_CALL_STUCK, "a call does not move")
        }
        Notice::EngineExit { engine, pid, comm, status, oom, in_flight } => {
            // As `wait(2)` packs them.
            let (signal, code) = (u64::from(status & 0x7f), u64::from(status >> 8 & 0xff));
            out.int(names::PROCESS_PID, Some(u64::from(*pid)));
            out.text(names::PROCESS_EXECUTABLE_NAME, Some(comm));
            out.text(names::INFERSCOPE_ENGINE_ID, Some(engine));
            out.int(names::PROCESS_EXIT_CODE, (signal == 0).then_some(code));
            out.int(names::INFERSCOPE_EXIT_SIGNAL, (signal != 0).then_some(signal));
            out.if_true(names::INFERSCOPE_EXIT_OOM, *oom);
            out.int(names::INFERSCOPE_IN_FLIGHT, Some(*in_flight));
            (names::EVENT_ENGINE_EXIT, "a process of an engine has ended")
        }
    };
    LogRecord {
        time_unix_nano,
        observed_time_unix_nano: time_unix_nano,
        severity_number: SeverityNumber::Warn.into(),
        severity_text: "WARN".to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) }),
        attributes: out.0.iter().map(|(name, value)| key_value(name, value.clone())).collect(),
        event_name: event.to_owned(),
        ..LogRecord::default()
    }
}

/// Attributes under construction: a value that is absent adds nothing.
#[derive(Default)]
struct Attributes(Vec<(&'static str, Value)>);

impl Attributes {
    fn text(&mut self, name: &'static str, value: Option<&str>) {
        self.0.extend(value.map(|value| (name, Value::StringValue(value.to_owned()))));
    }

    fn int(&mut self, name: &'static str, value: Option<u64>) {
        let value = value.and_then(|value| i64::try_from(value).ok());
        self.0.extend(value.map(|value| (name, Value::IntValue(value))));
    }

    fn double(&mut self, name: &'static str, value: Option<f64>) {
        self.0.extend(value.map(|value| (name, Value::DoubleValue(value))));
    }

    fn if_true(&mut self, name: &'static str, value: bool) {
        self.0.extend(value.then_some((name, Value::BoolValue(true))));
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
