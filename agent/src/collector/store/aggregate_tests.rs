//! Totals are those of the rows, whatever was sent again, merged or removed.

use std::{collections::BTreeMap, time::Duration};

use inferscope_proto::otlp::{
    common::any_value::Value as Any,
    trace::{Span, Status as SpanStatus},
};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::collector::store::{
    Keep,
    ingest_tests::cases,
    rollup::{MAX_GROUPS, Measures, Rollups},
    testing::{BEGIN, Direct, SECOND, attribute, span, text},
};

const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;

/// What the tests know of a call.
#[derive(Clone, Debug)]
struct Made {
    model: Option<usize>,
    minute: i64,
    status: i32,
    input: Option<i64>,
    cost: Option<f64>,
    ttft: Option<f64>,
    took: u64,
}

const MODELS: [&str; 3] = ["a", "b", "c"];

fn made() -> impl Strategy<Value = Made> {
    let options = (
        proptest::option::of(0..3_usize),
        0..150_i64,
        0..3_i32,
        proptest::option::of(0..1000_i64),
        proptest::option::of(0.0..2.0_f64),
        proptest::option::of(0.001..10.0_f64),
        0..100 * SECOND,
    );
    options.prop_map(|(model, minute, status, input, cost, ttft, took)| Made {
        model,
        minute,
        status,
        input,
        cost,
        ttft,
        took,
    })
}

fn encoded(n: usize, made: &Made) -> Span {
    let Made { model, minute, status, input, cost, ttft, took } = made;
    let start = BEGIN + (*minute * MINUTE) as u64 + n as u64;
    let mut span = Span {
        start_time_unix_nano: start,
        end_time_unix_nano: start + took,
        status: Some(SpanStatus { message: String::new(), code: *status }),
        attributes: Vec::new(),
        ..span(n as u64)
    };
    let attributes = [
        model.map(|model| attribute("gen_ai.request.model", text(MODELS[model]))),
        input.map(|tokens| attribute("gen_ai.usage.input_tokens", Any::IntValue(tokens))),
        cost.map(|cost| attribute("inferscope.cost.usd", Any::DoubleValue(cost))),
        ttft.map(|ttft| attribute("inferscope.time_to_first_token", Any::DoubleValue(ttft))),
    ];
    span.attributes.extend(attributes.into_iter().flatten());
    span
}

fn whole_day() -> Filter {
    let begin = BEGIN as i64;
    Filter { from: Some(begin), to: Some(begin + 24 * HOUR), ..Filter::default() }
}

/// Compares an answer with what the calls say.
fn compare(answer: &Aggregate, calls: &[Made], key: impl Fn(&Made) -> (Option<i64>, Vec<Option<String>>)) {
    let mut expected = BTreeMap::<_, Vec<&Made>>::new();
    calls.iter().for_each(|call| expected.entry(key(call)).or_default().push(call));
    assert_eq!(answer.rows.len(), expected.len());
    for row in &answer.rows {
        let calls = &expected[&(row.at, row.labels.clone())];
        assert_eq!(row.calls, calls.len() as u64);
        assert_eq!(row.errors, calls.iter().filter(|call| call.status == 2).count() as u64);
        let tokens: Vec<i64> = calls.iter().filter_map(|call| call.input).collect();
        let sum: i64 = tokens.iter().sum();
        assert_eq!(row.input_tokens, (!tokens.is_empty()).then_some(sum));
        assert_eq!(row.input_tokens_calls, tokens.len() as u64);
        assert_eq!((row.output_tokens, row.energy_joules), (None, None));
        let costs: Vec<f64> = calls.iter().filter_map(|call| call.cost).collect();
        assert_eq!(row.cost_usd.is_some(), !costs.is_empty());
        assert!((row.cost_usd.unwrap_or(0.0) - costs.iter().sum::<f64>()).abs() < 1e-6);
        let ttfts = calls.iter().filter_map(|call| call.ttft).collect();
        quantiles(row.time_to_first_token, ttfts);
        quantiles(row.duration, calls.iter().map(|call| call.took as f64 / 1e9).collect());
    }
}

fn quantiles(told: Option<Quantiles>, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    assert_eq!(told.map_or(0, |told| told.calls), values.len() as u64);
    let Some(told) = told else { return };
    for (q, found) in [(0.5, told.p50), (0.95, told.p95), (0.99, told.p99)] {
        let exact = values[(q * (values.len() - 1) as f64) as usize];
        assert!((found - exact).abs() <= exact * 0.01 + 2e-9, "{q}: {found} for {exact}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn totals_are_those_of_the_calls_whatever_is_sent_again_merged_or_removed(
        calls in vec(made(), 1..80),
        again in vec(any::<bool>(), 80),
        hours_later in 0..5_i64,
    ) {
        let keep = Keep { minutes: Duration::from_secs(3600), spans: Duration::from_secs(7200), ..Keep::default() };
        let mut store = Direct::new(keep);
        let spans: Vec<_> = calls.iter().enumerate().map(|(n, call)| encoded(n, call)).collect();
        let replay = || spans.iter().zip(&again).filter(|(_, again)| **again).map(|(span, _)| span.clone());
        let half = spans.len() / 2;
        store.spans(spans[..half].iter().cloned().chain(replay().take(half / 2)));
        store.now += HOUR * hours_later / 2;
        store.keep();
        // Late ones count in minutes that were merged before.
        store.spans(spans.iter().cloned().chain(replay()));
        store.now = BEGIN as i64 + HOUR * hours_later;
        let check = |store: &Direct| {
            let model = |call: &Made| vec![call.model.map(|model| MODELS[model].to_owned())];
            compare(&store.reader.aggregate(&whole_day(), &[], None).unwrap(), &calls, |_| (None, Vec::new()));
            let by_model = store.reader.aggregate(&whole_day(), &[Dimension::Model], None).unwrap();
            compare(&by_model, &calls, |call| (None, model(call)));
            let hourly = store.reader.aggregate(&whole_day(), &[Dimension::Model], Some(HOUR)).unwrap();
            let hour = |call: &Made| BEGIN as i64 + call.minute / 60 * HOUR;
            compare(&hourly, &calls, |call| (Some(hour(call)), model(call)));
            let filter = Filter { model: Some("b".to_owned()), status: Some(Status::Error), ..whole_day() };
            let some: Vec<Made> =
                calls.iter().filter(|call| call.model == Some(1) && call.status == 2).cloned().collect();
            compare(&store.reader.aggregate(&filter, &[], None).unwrap(), &some, |_| (None, Vec::new()));
        };
        check(&store);
        store.keep();
        store.now += 2 * MINUTE;
        store.keep();
        check(&store);
        // What retention leaves is what the calls' table says.
        let limit = store.now - 2 * HOUR;
        let left = calls.iter().enumerate().filter(|(n, call)| {
            BEGIN as i64 + call.minute * MINUTE + *n as i64 >= limit
        });
        prop_assert_eq!(store.number("SELECT count(*) FROM calls"), left.count() as i64);
        let fine = store.number("SELECT coalesce(min(id >> 24), 1 << 40) FROM rollup_minutes");
        prop_assert!(fine >= (store.now - HOUR) / MINUTE);
    }
}

#[test]
fn sets_of_labels_beyond_the_bound_count_as_others() {
    let mut store = Direct::new(Keep::default());
    let n = MAX_GROUPS as u64 + 50;
    store.spans((0..n).map(|n| {
        let mut span = span(0);
        span.trace_id[0] = 1;
        span.span_id = (n + 1).to_be_bytes().to_vec();
        span.attributes = vec![attribute("gen_ai.request.model", text(&format!("model-{n}")))];
        span
    }));
    let by_model = |step| store.reader.aggregate(&whole_day(), &[Dimension::Model], step).unwrap();
    let rows = by_model(None).rows;
    assert_eq!(rows.iter().map(|row| row.calls).sum::<u64>(), n);
    let other = rows.iter().find(|row| row.labels[0].as_deref() == Some("(other)")).unwrap();
    assert_eq!(other.calls, 50);
    assert_eq!(rows.len(), MAX_GROUPS + 1);
    let by_status = store.reader.aggregate(&whole_day(), &[Dimension::Status, Dimension::Kind], None).unwrap();
    assert_eq!(by_status.rows[0].labels, [Some("ok".to_owned()), Some("client".to_owned())]);
    assert_eq!(by_status.rows[0].calls, n);
}

#[test]
fn a_transaction_that_fails_leaves_totals_as_they_were() {
    let mut store = Direct::new(Keep::default());
    store.spans((0..10).map(span));
    {
        let Direct { db, state, .. } = &mut store;
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        let group = Group { model: 7, provider: 0, host: 0, executable: 0, user: -1, status: 0, kind: 0 };
        state.rollups.add(db, BEGIN as i64, group, &Measures::default()).unwrap();
        state.rollups.write(db).unwrap();
        db.execute_batch("ROLLBACK").unwrap();
        state.forget(db).unwrap();
    }
    store.spans((5..12).map(span));
    let answer = store.reader.aggregate(&whole_day(), &[], None).unwrap();
    assert_eq!(answer.rows[0].calls, 12);
    assert_eq!(store.number("SELECT count(*) FROM groups WHERE model = 7"), 0);
}

#[test]
fn a_question_that_is_none_is_refused() {
    let store = Direct::new(Keep::default());
    let wrong = |filter: Filter, by: &[Dimension], step| {
        matches!(store.reader.aggregate(&filter, by, step), Err(QueryError::Wrong { .. }))
    };
    assert!(wrong(Filter::default(), &[], None));
    assert!(wrong(whole_day(), &[Dimension::Model; 2], None));
    assert!(wrong(whole_day(), &[Dimension::Model, Dimension::Host, Dimension::Kind], None));
    assert!(wrong(whole_day(), &[], Some(0)));
    assert!(wrong(Filter { slow: true, ..whole_day() }, &[], None));
    assert!(wrong(Filter { to: whole_day().from, ..whole_day() }, &[], None));
    let nothing = store.reader.aggregate(&Filter { host: Some("?".to_owned()), ..whole_day() }, &[], None).unwrap();
    assert_eq!(nothing.rows, []);
    let far = Filter { from: Some(i64::MIN), to: Some(i64::MAX), ..Filter::default() };
    assert_eq!(store.reader.aggregate(&far, &[], Some(i64::MAX)).unwrap().rows, []);
}

/// How long the questions of a page take over a day of ten million calls: run it with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
#[expect(clippy::print_stdout, reason = "it is what it is for")]
fn a_day_of_ten_million_calls() {
    const CALLS: u64 = 10_000_000;
    let mut store = Direct::new(Keep::default());
    {
        let Direct { db, .. } = &mut store;
        for n in 0..40 {
            db.execute("INSERT INTO texts (id, text) VALUES (?1, ?2)", (n + 10, format!("text-{n}"))).unwrap();
        }
        let mut rollups = Rollups::open(db).unwrap();
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((random >> 33) % below) as i64
        };
        for minute in 0..1440 {
            db.execute_batch("BEGIN").unwrap();
            for n in 0..CALLS / 1440 {
                let model = 10 + next(6);
                let start = BEGIN as i64 + minute * MINUTE + n as i64;
                let group = Group {
                    model,
                    provider: 20 + model % 3,
                    host: 30 + next(4),
                    executable: 40 + next(2),
                    user: 1000,
                    status: if next(50) == 0 { 2 } else { 1 },
                    kind: 3,
                };
                let time = |scale: f64, a: i64| Some(scale * (1.0 + a as f64 / 500.0));
                let measures = Measures {
                    is_slow: false,
                    input: Some(next(3000)),
                    output: Some(next(800)),
                    cache: None,
                    cost: Some(0.001),
                    energy: None,
                    ttft: time(0.1, next(4096)),
                    tpot: time(0.01, next(4096)),
                    duration: time(1.0, next(4096)),
                };
                rollups.add(db, start, group, &measures).unwrap();
            }
            rollups.write(db).unwrap();
            rollups.trim();
            db.execute_batch("COMMIT").unwrap();
        }
    }
    store.state = super::super::apply::State::open(&store.db).unwrap();
    for merged in [false, true] {
        if merged {
            store.now = BEGIN as i64 + 24 * HOUR;
            let begin = std::time::Instant::now();
            store.keep();
            println!("merging took {:?} in all", begin.elapsed());
        }
        let rows = |table: &str| store.number(&format!("SELECT count(*) FROM {table}"));
        println!("{} rows by the minute, {} by the hour", rows("rollup_minutes"), rows("rollup_hours"));
        for (name, by, step) in [
            ("whole", &[][..], None),
            ("by model", &[Dimension::Model][..], None),
            ("by model and host", &[Dimension::Model, Dimension::Host], None),
            ("by model, steps of 5 minutes", &[Dimension::Model], Some(5 * MINUTE)),
            ("steps of a minute", &[], Some(MINUTE)),
        ] {
            let mut took: Vec<_> = (0..40)
                .map(|_| {
                    let begin = std::time::Instant::now();
                    let answer = store.reader.aggregate(&whole_day(), by, step).unwrap();
                    let calls: u64 = answer.rows.iter().map(|row| row.calls).sum();
                    assert_eq!(calls, CALLS / 1440 * 1440);
                    begin.elapsed()
                })
                .collect();
            took.sort();
            println!("{name}: p50 {:?}, p95 {:?}", took[20], took[38]);
        }
    }
}
