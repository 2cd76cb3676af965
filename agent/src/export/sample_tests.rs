use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{Decision, Sampling};
use crate::export::{
    attributes as names,
    span::{Span, SpanEvent, SpanStatus, Value},
    testing::numbered_span,
};

/// An id as `call::ids` makes them.
fn id(n: u64) -> [u8; 16] {
    let digest = Sha256::digest(n.to_be_bytes());
    std::array::from_fn(|at| digest[at])
}

fn plain(trace_id: [u8; 16]) -> Span {
    Span { trace_id, ..numbered_span(1) }
}

proptest! {
    #[test]
    fn all_spans_of_a_trace_fall_alike(trace in any::<[u8; 16]>(), rate in 0.0..=1.0f64, spans in prop::collection::vec(any::<u64>(), 1..8)) {
        let sampling = Sampling::new(rate, None);
        let kept = sampling.keeps_trace(&trace);
        for n in spans {
            let span = Span { trace_id: trace, ..numbered_span(n) };
            prop_assert_eq!(sampling.decide(&span) == Decision::ByRate, kept);
        }
    }

    #[test]
    fn what_a_rate_keeps_every_higher_one_keeps(trace in any::<[u8; 16]>(), a in 0.0..=1.0f64, b in 0.0..=1.0f64) {
        let (low, high) = (Sampling::new(a.min(b), None), Sampling::new(a.max(b), None));
        prop_assert!(!low.keeps_trace(&trace) || high.keeps_trace(&trace));
    }

    #[test]
    fn the_first_bits_of_an_id_decide_nothing(trace in any::<[u8; 16]>(), other in any::<[u8; 9]>(), rate in 0.0..=1.0f64) {
        let mut changed = trace;
        changed[..9].copy_from_slice(&other);
        let sampling = Sampling::new(rate, None);
        prop_assert_eq!(sampling.keeps_trace(&trace), sampling.keeps_trace(&changed));
    }
}

#[test]
fn the_share_that_is_kept_is_the_rate() {
    const IDS: u64 = 20_000;
    let ids: Vec<_> = (0..IDS).map(id).collect();
    for rate in [0.01, 0.1, 0.25, 0.5, 0.9, 0.999] {
        let sampling = Sampling::new(rate, None);
        let kept = ids.iter().filter(|id| sampling.keeps_trace(id)).count() as f64;
        // Four standard deviations of so many lots.
        let expected = IDS as f64 * rate;
        let bound = 4.0 * (IDS as f64 * rate * (1.0 - rate)).sqrt();
        assert!((kept - expected).abs() <= bound, "{rate}: {kept} of {IDS}, expected {expected} within {bound}");
    }
}

#[test]
fn the_ends_of_the_range_are_all_and_nothing() {
    for trace in [[0; 16], [0xff; 16], id(1)] {
        assert!(Sampling::default().keeps_trace(&trace) && Sampling::default().keeps_all());
        assert!(!Sampling::new(0.0, None).keeps_trace(&trace));
    }
    // As the specification of thresholds has it: at one in four the first kept id begins with 0xc0.
    let quarter = Sampling::new(0.25, None);
    let trace = |random: u64| (u128::from(random)).to_be_bytes();
    assert!(quarter.keeps_trace(&trace(0xc0_0000_0000_0000)) && !quarter.keeps_trace(&trace(0xbf_ffff_ffff_ffff)));
    assert_eq!(Sampling::new(f64::NAN, None), Sampling::default());
    assert_eq!(Sampling::new(7.0, None), Sampling::default());
}

#[test]
fn what_somebody_looks_for_is_kept_at_every_rate() {
    let none = Sampling::new(0.0, Some(0.5));
    let with = |change: &dyn Fn(&mut Span)| {
        let mut span = plain([0; 16]);
        change(&mut span);
        none.decide(&span)
    };
    let attribute = |name, value: Value| with(&|span| span.attributes.push((name, value.clone())));
    let event = |name| with(&|span| span.events.push(SpanEvent { name, time_unix_nano: 1, attributes: Vec::new() }));
    assert_eq!(with(&|_| {}), Decision::Out);
    assert_eq!(with(&|span| span.status = SpanStatus::Error), Decision::Always);
    assert_eq!(with(&|span| span.status = SpanStatus::Unset), Decision::Out);
    assert_eq!(event(names::EVENT_SLOW), Decision::Always);
    assert_eq!(event(names::EVENT_CAUSE), Decision::Always);
    assert_eq!(event(names::EVENT_GAP), Decision::Out);
    assert_eq!(attribute(names::INFERSCOPE_QUALITY_LOW_CONFIDENCE, Value::Bool(true)), Decision::Always);
    assert_eq!(attribute(names::INFERSCOPE_STALL_SECONDS, Value::Double(40.0)), Decision::Always);
    assert_eq!(attribute(names::INFERSCOPE_COST_USD, Value::Double(0.5)), Decision::Always);
    assert_eq!(attribute(names::INFERSCOPE_COST_USD, Value::Double(0.49)), Decision::Out);
}

#[test]
fn only_a_span_that_chance_kept_says_at_which_rate() {
    let half = Sampling::new(0.5, None);
    let (kept, out) = (plain([0xff; 16]), plain([0; 16]));
    let rate = |span: &Span| span.get(names::INFERSCOPE_SAMPLING_RATE).and_then(Value::as_double);
    assert_eq!(half.sample(&kept).map(|span| rate(&span)), Some(Some(0.5)));
    assert_eq!(half.sample(&out), None);
    let failed = Span { status: SpanStatus::Error, ..out };
    assert_eq!(half.sample(&failed).map(|span| rate(&span)), Some(None));
    assert_eq!(Sampling::default().sample(&kept).map(|span| rate(&span)), Some(None));
    let once = half.sample(&kept).unwrap().into_owned();
    let twice = Sampling::new(0.1, None).sample(&once).unwrap().into_owned();
    let again = half.sample(&twice).unwrap().into_owned();
    assert_eq!((rate(&twice), rate(&again), again.attributes.len()), (Some(0.1), Some(0.1), once.attributes.len()));
}
