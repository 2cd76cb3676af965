use proptest::prelude::*;

use super::{CONTENT, Kept, LISTS, Removed, Shed, shed};
use crate::export::{
    attributes as names,
    jsonl::line,
    sample::Always,
    span::{Span, SpanEvent, SpanStatus, Value},
    testing::numbered_span,
};

/// What no step may take from a span that is left.
const NEVER: [&str; 9] = [
    names::GEN_AI_USAGE_INPUT_TOKENS,
    names::GEN_AI_USAGE_OUTPUT_TOKENS,
    names::INFERSCOPE_USAGE_SOURCE,
    names::INFERSCOPE_COST_USD,
    names::INFERSCOPE_CHUNK_COUNT,
    names::INFERSCOPE_CHUNK_GAP_P50,
    names::INFERSCOPE_CHUNK_GAP_P99,
    names::INFERSCOPE_CHUNK_GAP_MAX,
    names::GEN_AI_RESPONSE_FINISH_REASONS,
];

/// Marks that a step leaves in the place of what it took.
const MARKS: [&str; 2] = [names::INFERSCOPE_CONTENT_TRUNCATED, names::INFERSCOPE_SAMPLING_RATE];

fn event(name: &'static str) -> SpanEvent {
    SpanEvent { name, time_unix_nano: 7, attributes: vec![(names::INFERSCOPE_REASON, Value::Str("r".repeat(40)))] }
}

/// A span with some of everything that can be shed.
fn span() -> impl Strategy<Value = Span> {
    let content = prop::sample::subsequence(CONTENT.to_vec(), 0..=CONTENT.len());
    let lists = prop::sample::subsequence(LISTS.to_vec(), 0..=LISTS.len());
    let events = prop::collection::vec(
        prop::sample::select(vec![
            names::EVENT_GAP,
            names::EVENT_MALFORMED,
            names::EVENT_UNDECODED,
            names::EVENT_SLOW,
            names::EVENT_CAUSE,
            names::EVENT_LOAD_PHASE,
        ]),
        0..6,
    );
    let status = prop::sample::select(vec![SpanStatus::Ok, SpanStatus::Error, SpanStatus::Unset]);
    (any::<[u8; 16]>(), content, lists, events, status, any::<bool>(), 0.0..2.0f64).prop_map(
        |(trace_id, content, lists, events, status, truncated, usd)| {
            let mut span = Span { trace_id, status, ..numbered_span(1) };
            let texts = |name| (name, Value::StrArray(vec!["a".to_owned(), "b".to_owned()]));
            span.attributes.push((names::INFERSCOPE_COST_USD, Value::Double(usd)));
            span.attributes.extend(content.into_iter().map(|name| (name, Value::Str("[{}]".repeat(30)))));
            span.attributes.extend(lists.into_iter().map(texts));
            span.attributes.extend(truncated.then_some((names::INFERSCOPE_CONTENT_TRUNCATED, Value::Bool(true))));
            span.events = events.into_iter().map(event).collect();
            span
        },
    )
}

fn apply(span: &Span, step: Shed) -> (Option<Span>, Kept) {
    let mut left = span.clone();
    match shed(&mut left, step, &Always { above_usd: Some(1.0) }) {
        kept @ Kept::Span(_) => (Some(left), kept),
        kept @ Kept::Nothing(_) => (None, kept),
    }
}

/// Bytes of the span's line without the marks.
fn size(span: &Option<Span>) -> usize {
    let bare = |span: &Span| {
        let attributes = span.attributes.iter().filter(|(name, _)| !MARKS.contains(name)).cloned().collect();
        line(&Span { attributes, ..span.clone() }).len()
    };
    span.as_ref().map_or(0, bare)
}

proptest! {
    #[test]
    fn each_step_leaves_no_more_than_the_one_before(span in span()) {
        let sizes: Vec<_> = Shed::ALL.iter().map(|step| size(&apply(&span, *step).0)).collect();
        prop_assert!(sizes.windows(2).all(|pair| pair[1] <= pair[0]), "{:?}", sizes);
        prop_assert_eq!((sizes[0], sizes[4]), (size(&Some(span)), 0));
    }

    #[test]
    fn a_step_taken_twice_takes_nothing_more(span in span(), step in prop::sample::select(Shed::ALL.to_vec())) {
        let (Some(once), _) = apply(&span, step) else { return Ok(()) };
        let (twice, kept) = apply(&once, step);
        prop_assert_eq!(twice.as_ref(), Some(&once));
        prop_assert_eq!(kept, Kept::Span(Removed::default()));
    }

    #[test]
    fn ids_times_status_usage_and_cost_stay(span in span(), step in prop::sample::select(Shed::ALL.to_vec())) {
        let (Some(left), _) = apply(&span, step) else { return Ok(()) };
        let bare = |span: &Span| Span { attributes: Vec::new(), events: Vec::new(), ..span.clone() };
        prop_assert_eq!(bare(&left), bare(&span));
        for name in NEVER {
            prop_assert_eq!(left.get(name), span.get(name), "{}", name);
        }
    }

    #[test]
    fn what_is_gone_is_counted(span in span(), step in prop::sample::select(Shed::ALL.to_vec())) {
        let (Some(left), Kept::Span(Removed { content, attributes, events })) = apply(&span, step) else { return Ok(()) };
        let without_marks = |span: &Span| span.attributes.iter().filter(|(name, _)| !MARKS.contains(name)).count() as u64;
        prop_assert_eq!(without_marks(&span) - without_marks(&left), content + attributes);
        prop_assert_eq!((span.events.len() - left.events.len()) as u64, events);
        prop_assert_eq!(left.get(names::INFERSCOPE_CONTENT_TRUNCATED).is_some(),
            content > 0 || span.get(names::INFERSCOPE_CONTENT_TRUNCATED).is_some());
    }
}

#[test]
fn each_step_takes_what_it_says() {
    let mut span = numbered_span(1);
    span.attributes.push((names::GEN_AI_INPUT_MESSAGES, Value::Str("[]".to_owned())));
    span.attributes.push((names::INFERSCOPE_TOOL_CALLS, Value::StrArray(vec!["f".to_owned()])));
    span.events = vec![event(names::EVENT_GAP), event(names::EVENT_LOAD_PHASE)];
    // In the tenth that is left.
    span.trace_id = [0xff; 16];
    let left = |step| apply(&span, step).0.unwrap();
    assert_eq!(left(Shed::None), span);
    let content = left(Shed::Content);
    assert_eq!((content.get(names::GEN_AI_INPUT_MESSAGES), content.events.len()), (None, 2));
    let detail = left(Shed::ChunkDetail);
    assert_eq!((detail.get(names::INFERSCOPE_TOOL_CALLS), detail.events.len()), (None, 1));
    assert_eq!(left(Shed::Sampled).get(names::INFERSCOPE_SAMPLING_RATE), Some(&Value::Double(0.1)));
    assert_eq!(apply(&span, Shed::MetricsOnly), (None, Kept::Nothing(Shed::MetricsOnly)));

    span.trace_id = [0; 16];
    assert_eq!(apply(&span, Shed::Sampled), (None, Kept::Nothing(Shed::Sampled)));
    span.status = SpanStatus::Error;
    assert!(matches!(apply(&span, Shed::Sampled), (Some(_), Kept::Span(_))));
}
