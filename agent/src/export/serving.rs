//! The machinery behind a call, as attributes and events of its span.
//!
//! Owns units: shares and utilisation are 0 to 1, energy is joules, power watts, memory bytes, times seconds. What was
//! not observed gives no attribute.

use super::{
    attributes::{self as names, EVENT_CAUSE, EVENT_SLOW},
    from_call::Attributes,
    span::SpanEvent,
};
use crate::{
    call::progress::WINDOW_NS,
    serving::{Cause, EnergyShare, EngineFacts, GpuFacts, ServingFacts, Slow, Stall, StepFacts, Waste},
    time::{Mono, WallAnchor},
};

/// Attributes of a call's span.
pub(super) fn attributes(out: &mut Attributes, facts: &ServingFacts) {
    let ServingFacts { engine, in_flight_at_start, gpu, steps, slow, causes, waste, stall } = facts;
    if let Some(facts) = engine {
        self::engine(out, facts);
    }
    out.int(names::INFERSCOPE_IN_FLIGHT_AT_START, *in_flight_at_start);
    if let Some(gpu) = gpu {
        device(out, gpu);
    }
    if let Some(StepFacts { count, typical, longest, wait, gap }) = steps {
        out.int(names::INFERSCOPE_GPU_STEP_COUNT, Some(*count));
        out.seconds(names::INFERSCOPE_GPU_STEP_DURATION_P50, *typical);
        out.seconds(names::INFERSCOPE_GPU_STEP_DURATION_MAX, *longest);
        out.double(names::INFERSCOPE_GPU_STEP_WAIT_RATIO, *wait);
        out.double(names::INFERSCOPE_GPU_STEP_HOST_GAP_RATIO, *gap);
    }
    out.list(names::INFERSCOPE_SLOW, &slow.iter().map(|slow| slow.what.as_str().to_owned()).collect::<Vec<_>>());
    let kinds: Vec<String> = causes.iter().map(|cause| cause.kind.as_str().to_owned()).collect();
    out.list(names::INFERSCOPE_CAUSE_KINDS, &kinds);
    if let Some(Waste { since: _, lasted, chunks, millijoules }) = waste {
        out.seconds(names::INFERSCOPE_WASTE_SECONDS, Some(*lasted));
        out.int(names::INFERSCOPE_WASTE_CHUNKS, *chunks);
        out.double(names::INFERSCOPE_WASTE_JOULES, millijoules.map(|energy| energy as f64 / 1e3));
    }
    if let Some(Stall { since: _, lasted, utilization }) = stall {
        out.seconds(names::INFERSCOPE_STALL_SECONDS, Some(*lasted));
        out.double(names::INFERSCOPE_STALL_GPU_UTILIZATION, utilization.map(|percent| percent / 100.0));
    }
}

/// Attributes of an engine.
pub(super) fn engine(out: &mut Attributes, facts: &EngineFacts) {
    let EngineFacts { id, kind, version, processes, confidence } = facts;
    out.text(names::INFERSCOPE_ENGINE_ID, Some(id));
    out.text(names::INFERSCOPE_ENGINE_NAME, *kind);
    out.text(names::INFERSCOPE_ENGINE_VERSION, version.as_deref());
    out.int(names::INFERSCOPE_ENGINE_PROCESS_COUNT, Some(*processes));
    out.double(names::INFERSCOPE_ENGINE_CONFIDENCE, Some(*confidence));
}

fn device(out: &mut Attributes, gpu: &GpuFacts) {
    let GpuFacts { ids, utilization_mean, utilization_max, memory, power_watts, energy } = gpu;
    out.list(names::INFERSCOPE_GPU_IDS, ids);
    out.double(names::INFERSCOPE_GPU_UTILIZATION_MEAN, utilization_mean.map(|percent| percent / 100.0));
    out.double(names::INFERSCOPE_GPU_UTILIZATION_MAX, utilization_max.map(|percent| percent as f64 / 100.0));
    out.int(names::INFERSCOPE_GPU_MEMORY_START, memory.map(|(start, ..)| start));
    out.int(names::INFERSCOPE_GPU_MEMORY_PEAK, memory.map(|(_, peak, _)| peak));
    out.int(names::INFERSCOPE_GPU_MEMORY_END, memory.map(|(.., end)| end));
    out.double(names::INFERSCOPE_GPU_POWER_WATTS, *power_watts);
    if let Some(EnergyShare { millijoules, coverage, concurrency, uncertainty, method }) = energy {
        out.double(names::INFERSCOPE_GPU_ENERGY_JOULES, Some(*millijoules as f64 / 1e3));
        out.text(names::INFERSCOPE_GPU_ENERGY_METHOD, Some(method));
        out.int(names::INFERSCOPE_GPU_ENERGY_WINDOW_MS, Some(WINDOW_NS / 1_000_000));
        out.double(names::INFERSCOPE_GPU_ENERGY_CONCURRENCY, Some(*concurrency));
        out.double(names::INFERSCOPE_GPU_ENERGY_COVERAGE, Some(*coverage));
        out.double(names::INFERSCOPE_GPU_ENERGY_UNCERTAINTY, Some(*uncertainty));
    }
}

/// Events: what was slow, with what is usual, and the causes with their evidence, the likeliest first.
pub(super) fn events(facts: &ServingFacts, end: Mono, anchor: WallAnchor) -> impl Iterator<Item = SpanEvent> {
    let slow = facts.slow.iter().map(move |Slow { what, took, usual }| {
        let mut out = Attributes::default();
        out.text(names::INFERSCOPE_SLOW_MEASURE, Some(what.as_str()));
        out.seconds(names::INFERSCOPE_SLOW_SECONDS, Some(*took));
        out.seconds(names::INFERSCOPE_SLOW_USUAL, Some(*usual));
        SpanEvent { name: EVENT_SLOW, time_unix_nano: anchor.to_unix_nanos(end), attributes: out.0 }
    });
    let causes = facts.causes.iter().map(move |Cause { kind, share, lasted, at, evidence }| {
        let mut out = Attributes::default();
        out.text(names::INFERSCOPE_CAUSE_KIND, Some(kind.as_str()));
        out.double(names::INFERSCOPE_CAUSE_SHARE, Some(*share));
        out.seconds(names::INFERSCOPE_CAUSE_SECONDS, Some(*lasted));
        out.text(names::INFERSCOPE_CAUSE_EVIDENCE, Some(evidence));
        SpanEvent { name: EVENT_CAUSE, time_unix_nano: anchor.to_unix_nanos(*at), attributes: out.0 }
    });
    slow.chain(causes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        export::{
            pretty::Pretty,
            span::{Span, Value},
            testing::{ANCHOR, chat},
        },
        serving::{CauseKind, Measure},
    };

    #[test]
    fn what_was_observed_is_told_with_its_units() {
        let mut call = chat();
        call.serving = Some(Box::new(ServingFacts {
            engine: Some(EngineFacts { id: "e".to_owned(), processes: 3, confidence: 0.9, ..Default::default() }),
            in_flight_at_start: Some(0),
            gpu: Some(GpuFacts {
                ids: vec!["GPU-0".to_owned()],
                utilization_mean: Some(50.0),
                energy: Some(EnergyShare {
                    millijoules: 1500,
                    coverage: 1.0,
                    concurrency: 2.5,
                    uncertainty: 0.15,
                    method: "m",
                }),
                ..Default::default()
            }),
            steps: Some(StepFacts {
                count: 40,
                typical: Some(Duration::from_millis(20)),
                longest: None,
                wait: Some(0.75),
                gap: Some(0.125),
            }),
            slow: vec![Slow {
                what: Measure::FirstToken,
                took: Duration::from_millis(600),
                usual: Duration::from_millis(50),
            }],
            causes: vec![Cause {
                kind: CauseKind::CpuRunQueue,
                share: 0.8,
                lasted: Duration::from_millis(440),
                at: Mono(0),
                evidence: "440 ms ready to run and without a processor".to_owned(),
            }],
            waste: None,
            stall: None,
        }));
        let span = Span::from_call(&call, ANCHOR);
        assert_eq!(span.get("inferscope.gpu.energy.joules"), Some(&Value::Double(1.5)));
        assert_eq!(span.get("inferscope.gpu.utilization.mean"), Some(&Value::Double(0.5)));
        assert_eq!(span.get("inferscope.gpu.utilization.max"), None);
        assert_eq!(span.get("inferscope.gpu.step.count"), Some(&Value::Int(40)));
        assert_eq!(span.get("inferscope.gpu.step.duration.p50"), Some(&Value::Double(0.02)));
        assert_eq!(span.get("inferscope.gpu.step.duration.max"), None);
        assert_eq!(span.get("inferscope.gpu.step.wait_ratio"), Some(&Value::Double(0.75)));
        assert_eq!(span.get("inferscope.gpu.step.host_gap_ratio"), Some(&Value::Double(0.125)));
        assert_eq!(span.get("inferscope.in_flight_at_start"), Some(&Value::Int(0)));
        assert_eq!(span.get("inferscope.cause.kinds"), Some(&Value::StrArray(vec!["cpu_run_queue".to_owned()])));
        assert_eq!(span.events.iter().filter(|event| event.name.starts_with("inferscope.cause")).count(), 1);
        let text = Pretty::default().call(&call, &span);
        assert!(text.contains("slow time_to_first_token 600ms, usually 50.0ms"), "{text}");
        assert!(text.contains("because cpu_run_queue: 440 ms ready to run"), "{text}");
        assert!(text.contains("GPU 1.5 J"), "{text}");
    }

    #[test]
    fn a_call_of_which_nothing_was_observed_has_none_of_it() {
        let span = Span::from_call(&chat(), ANCHOR);
        for part in ["gpu", "engine", "cause", "waste", "slow", "in_flight"] {
            let prefix = format!("inferscope.{part}");
            assert!(span.attributes.iter().all(|(name, _)| !name.starts_with(&prefix)), "{part}");
        }
    }
}
