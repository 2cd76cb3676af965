use inferscope_proto::otlp::trace::Span;

use super::*;
use crate::collector::store::testing::{BEGIN, Direct, SECOND, attribute, span, text};

const HOUR: i64 = 3_600_000_000_000;

/// One call an hour, each with content.
fn hourly(n: u64) -> Span {
    let start = BEGIN + n * 3600 * SECOND;
    let mut span = Span { start_time_unix_nano: start, end_time_unix_nano: start + SECOND, ..span(n) };
    span.attributes.push(attribute("gen_ai.input.messages", text(&format!("question {n}"))));
    span
}

fn hours(n: u64) -> Duration {
    Duration::from_hours(n)
}

#[test]
fn content_goes_before_its_span_and_totals_stay() {
    let mut store = Direct::new(Keep { contents: hours(2), spans: hours(5), ..Keep::default() });
    store.spans((0..10).map(hourly));
    store.now = BEGIN as i64 + 9 * HOUR;
    store.keep();
    assert_eq!(store.number("SELECT count(*) FROM contents"), 3);
    assert_eq!(store.number("SELECT count(*) FROM calls"), 6);
    assert_eq!(store.number("SELECT count(*) FROM spans"), 6);
    assert_eq!(store.number("SELECT min(start_ns) FROM calls"), BEGIN as i64 + 4 * HOUR);
    let totals = "SELECT (SELECT sum(calls) FROM rollup_minutes) + (SELECT sum(calls) FROM rollup_hours)";
    assert_eq!(store.number(totals), 10);
    assert_eq!(store.number("SELECT count FROM removed WHERE what = 'spans' AND reason = 'age'"), 4);
    assert_eq!(store.number("SELECT count FROM removed WHERE what = 'contents'"), 7);
    // It is looked at again when the time has come, and what comes late is old at once.
    store.spans([hourly(20), hourly(1)]);
    store.now += HOUR * 48;
    store.keep();
    assert_eq!(store.number("SELECT count(*) FROM calls"), 0);
    assert_eq!(store.number("SELECT count(*) FROM contents"), 0);
    assert_eq!(store.number("SELECT sum(count) FROM removed WHERE what = 'spans'"), 12);
}

#[test]
fn between_its_turns_nothing_is_removed_and_a_clock_that_is_set_back_does_not_stop_it() {
    let mut store = Direct::new(Keep { spans: hours(1), ..Keep::default() });
    store.now = BEGIN as i64 + 100 * HOUR;
    store.keep();
    store.spans([hourly(1)]);
    store.keep();
    assert_eq!(store.number("SELECT count(*) FROM calls"), 1);
    store.now -= 50 * HOUR;
    store.keep();
    assert_eq!(store.number("SELECT count(*) FROM calls"), 0);
}

#[test]
fn beyond_its_size_the_oldest_go_first() {
    let filled = |max_bytes| {
        let mut store = Direct::new(Keep { max_bytes, ..Keep::default() });
        store.spans((0..3000).map(|n| {
            let mut span = span(n);
            // What does not become smaller when it is compressed.
            let noise: String =
                (0..40).map(|at| format!("{:x}", (n * 977 + at * 7919).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
            span.attributes.push(attribute("noise", text(&noise)));
            span
        }));
        store
    };
    let mut store = filled(None);
    store.keep();
    assert_eq!(store.number("SELECT count(*) FROM calls"), 3000);
    let all = used_bytes(&store.db).unwrap();
    let max = all * 2 / 3;
    let mut store = filled(Some(max));
    store.keep();
    let left = store.number("SELECT count(*) FROM calls");
    assert!((1000..3000).contains(&left), "{left}");
    assert!(used_bytes(&store.db).unwrap() <= max);
    assert_eq!(store.number("SELECT min(start_ns) FROM calls"), (BEGIN + (3000 - left as u64) * SECOND) as i64);
    assert_eq!(store.number("SELECT count FROM removed WHERE what = 'spans' AND reason = 'size'"), 3000 - left);
    // A bound that nothing meets ends with an empty store.
    let mut store = filled(Some(1));
    store.keep();
    assert_eq!(store.number("SELECT count(*) FROM calls"), 0);
}

#[test]
fn totals_logs_and_the_rest_go_by_their_own_age() {
    let keep = Keep { hours: hours(30), logs: hours(3), metrics: hours(1), audit: hours(5), ..Keep::default() };
    let mut store = Direct::new(keep);
    store.spans((0..10).map(hourly));
    for (table, columns) in [
        ("logs", "(agent, at, severity, codec, body) VALUES (1, ?1, 9, 0, x'')"),
        ("metrics", "(agent, at, codec, body) VALUES (1, ?1, 0, x'')"),
        ("audit", "(at, who, action) VALUES (?1, 'a', 'b')"),
        ("gaps", "(epoch, first_seq, last_seq, reason, at) VALUES (1, 1, 1, 1, ?1)"),
        ("gauge_minutes", "(minute, gauge, count, sum, max) VALUES (?1 / 60000000000, 1, 1, 1, 1)"),
    ] {
        for hour in 0..40 {
            store.db.execute(&format!("INSERT INTO {table} {columns}"), [BEGIN as i64 + hour * HOUR]).unwrap();
        }
    }
    store.now = BEGIN as i64 + 39 * HOUR;
    store.keep();
    let left = |table: &str| store.number(&format!("SELECT count(*) FROM {table}"));
    assert_eq!((left("logs"), left("metrics"), left("audit"), left("gaps")), (4, 2, 6, 31));
    assert_eq!((left("gauge_minutes"), left("rollup_minutes")), (40, 0));
    assert_eq!(store.number("SELECT sum(calls) FROM rollup_hours"), 1);
    assert_eq!(store.number("SELECT count FROM removed WHERE what = 'audit'"), 34);
}

#[test]
fn each_step_is_small() {
    let mut store = Direct::new(Keep { spans: hours(1), ..Keep::default() });
    store.spans((0..1200).map(span));
    store.now = BEGIN as i64 + 100 * HOUR;
    let mut before = store.number("SELECT count(*) FROM calls");
    let mut steps = 0;
    loop {
        let Direct { db, state, keeper, stats, now, .. } = &mut store;
        if keeper.step(db, state, *now, stats).unwrap() == Work::Done {
            break;
        }
        let left = store.number("SELECT count(*) FROM calls");
        assert!(before - left <= CHUNK);
        before = left;
        steps += 1;
    }
    assert_eq!(before, 0);
    assert!(steps > 3);
}
