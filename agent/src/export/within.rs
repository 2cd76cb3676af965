//! Spans that are no call: a tool that ran between two, a model that was loaded.
//!
//! Owns their names, attributes and events. Units are bytes, bytes a second, seconds. What was not observed gives no attribute.

use super::{
    attributes::{self as names, EVENT_LOAD_PHASE},
    from_call::Attributes,
    serving,
    span::SpanEvent,
};
use crate::{
    call::{FinishedCall, ToolRun},
    serving::ModelLoad,
    time::WallAnchor,
};

/// The operation of a tool's run, as the conventions spell it.
const EXECUTE_TOOL: &str = "execute_tool";

/// Name of a load's span.
const MODEL_LOAD: &str = "model_load";

/// The span's name.
pub(super) fn name(call: &FinishedCall) -> String {
    match call.tool.as_deref() {
        Some(ToolRun { name: Some(name), .. }) => format!("{EXECUTE_TOOL} {name}"),
        Some(ToolRun { name: None, .. }) => EXECUTE_TOOL.to_owned(),
        None => MODEL_LOAD.to_owned(),
    }
}

/// Attributes of the span that no call has.
pub(super) fn attributes(out: &mut Attributes, call: &FinishedCall) {
    if let Some(ToolRun { name, call_id }) = call.tool.as_deref() {
        out.text(names::GEN_AI_OPERATION_NAME, Some(EXECUTE_TOOL));
        out.text(names::GEN_AI_TOOL_NAME, name.as_deref());
        out.text(names::GEN_AI_TOOL_CALL_ID, call_id.as_deref());
    }
    if let Some(load) = &call.load {
        loaded(out, load);
    }
}

fn loaded(out: &mut Attributes, load: &ModelLoad) {
    let ModelLoad { processes, path, files, bytes, read_bytes, engine, model, .. } = load;
    out.text(names::INFERSCOPE_LOAD_MODEL, model.as_deref());
    out.text(names::INFERSCOPE_LOAD_PATH, Some(path));
    out.int(names::INFERSCOPE_LOAD_PROCESS_COUNT, Some(*processes));
    out.int(names::INFERSCOPE_LOAD_FILE_COUNT, Some(*files));
    out.int(names::INFERSCOPE_LOAD_FILE_BYTES, Some(*bytes));
    out.int(names::INFERSCOPE_LOAD_READ_BYTES, *read_bytes);
    out.double(names::INFERSCOPE_LOAD_READ_RATE, load.rate());
    if let Some(engine) = engine {
        serving::engine(out, engine);
    }
}

/// The phases of a load, each when it began.
pub(super) fn phases(load: &ModelLoad, anchor: WallAnchor) -> impl Iterator<Item = SpanEvent> {
    load.phases.iter().map(move |(phase, from, to)| {
        let mut out = Attributes::default();
        out.text(names::INFERSCOPE_LOAD_PHASE, Some(phase.as_str()));
        out.seconds(names::INFERSCOPE_LOAD_PHASE_SECONDS, Some(to.since(*from)));
        SpanEvent { name: EVENT_LOAD_PHASE, time_unix_nano: anchor.to_unix_nanos(*from), attributes: out.0 }
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        call::{FinishedCall, Side, SpanIds, ids},
        export::{
            pretty::Pretty,
            span::{Span, SpanKind, Value},
            testing::ANCHOR,
        },
        host::ProcessIdentity,
        record::Source,
        serving::{LoadPhase, ModelLoad},
        time::Mono,
    };

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_load_is_a_span_with_its_phases_as_events() {
        let process = ProcessIdentity { pid: 9, comm: Some("worker".to_owned()), ..ProcessIdentity::default() };
        let load = ModelLoad {
            process: process.clone(),
            processes: 1,
            path: "m/a.gguf".to_owned(),
            begun: Mono(2 * SECOND),
            files: 1,
            bytes: 4000,
            read_bytes: Some(3000),
            start: Mono(SECOND),
            end: Mono(5 * SECOND),
            phases: vec![
                (LoadPhase::StartUp, Mono(SECOND), Mono(2 * SECOND)),
                (LoadPhase::Weights, Mono(2 * SECOND), Mono(4 * SECOND)),
                (LoadPhase::FirstToken, Mono(4 * SECOND), Mono(5 * SECOND)),
            ],
            call: None,
            engine: None,
            model: Some("m".to_owned()),
        };
        let parent = SpanIds { trace: [1; 16], span: [2; 8], parent: None };
        let ids = ids::within(&[7; 16], 9, load.begun, Some(parent));
        assert_eq!((ids.trace, ids.parent), (parent.trace, Some(parent.span)));
        assert_eq!(ids.span, ids::within(&[7; 16], 9, load.begun, None).span);
        let call = FinishedCall::within(ids, Side::Server, process, Source::Syscall, load.start, load.end);
        let call = FinishedCall { load: Some(Box::new(load)), ..call };
        let span = Span::from_call(&call, ANCHOR);
        assert_eq!((span.name.as_str(), span.kind), ("model_load", SpanKind::Internal));
        assert_eq!(span.get("inferscope.load.read.rate"), Some(&Value::Double(1500.0)));
        assert_eq!(span.get("inferscope.load.file.bytes"), Some(&Value::Int(4000)));
        let phases: Vec<_> = span.events.iter().map(|event| (event.name, event.attributes[0].1.clone())).collect();
        let named = |name: &str| ("inferscope.load.phase", Value::Str(name.to_owned()));
        assert_eq!(phases, [named("start_up"), named("weights"), named("first_token")]);
        let shown = Pretty::default().call(&call, &span);
        assert!(shown.contains("model_load") && shown.contains("worker[9]"), "{shown}");
    }
}
