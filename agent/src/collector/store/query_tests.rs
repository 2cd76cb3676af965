//! Lists, single calls, and what agents say.

use inferscope_proto::{
    Message as _,
    otlp::{
        common::{AnyValue, any_value::Value as Any},
        logs::LogRecord,
        metrics::{Gauge, Metric, NumberDataPoint, ScopeMetrics, metric::Data, number_data_point::Value as Number},
        trace::Span,
    },
    v1::{Counter, ItemKind, Ledger},
};
use proptest::prelude::*;
use tempfile::tempdir;

use super::{
    ingest_tests::cases,
    testing::{BEGIN, BatchOf, Direct, SECOND, attribute, beside, item, list, number, offer, open, source, span, text},
    *,
};

const EPOCH: Epoch = [3; 16];

fn stored(spans: impl IntoIterator<Item = Span>) -> Direct {
    let mut store = Direct::new(Keep::default());
    store.spans(spans);
    store
}

fn ids(page: &CallPage) -> Vec<String> {
    page.calls.iter().map(|call| call.span_id.clone()).collect()
}

/// The numbers of the spans that a filter leaves, newest first.
fn left(store: &Direct, filter: Filter) -> Vec<u64> {
    let page = store.reader.calls(&filter, MAX_PAGE, None).unwrap();
    page.calls.iter().map(|call| u64::from_str_radix(&call.span_id, 16).unwrap() - 1).collect()
}

#[test]
fn each_filter_leaves_what_it_names() {
    let mut odd = span(7);
    odd.kind = 2;
    odd.status = Some(inferscope_proto::otlp::trace::Status { message: String::new(), code: 2 });
    odd.attributes.extend([
        attribute("error.type", text("timeout")),
        attribute("inferscope.slow", list(&["chunk_gap"])),
        attribute("inferscope.cause.kinds", list(&["gpu_busy", "network"])),
        attribute("gen_ai.conversation.id", text("it's \"one\"; --")),
        attribute("process.real_user.id", Any::IntValue(0)),
        attribute("inferscope.cost.usd", Any::DoubleValue(3.0)),
        attribute("process.executable.name", text("node")),
    ]);
    let mut other = span(3);
    other.attributes.push(attribute("inferscope.cause.kinds", list(&["network"])));
    let store = stored((0..10).filter(|n| ![3, 7].contains(n)).map(span).chain([odd, other]));
    let none = Filter::default();
    let name = |name: &str| Some(name.to_owned());
    let second = |n: u64| Some((BEGIN + n * SECOND) as i64);
    assert_eq!(left(&store, none.clone()), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(left(&store, Filter { from: second(3), to: second(5), ..none.clone() }), [4, 3]);
    assert_eq!(left(&store, Filter { model: name("gpt-5"), ..none.clone() }), [8, 5, 2]);
    assert_eq!(left(&store, Filter { provider: name("anthropic"), from: second(6), ..none.clone() }), [9, 7]);
    assert_eq!(left(&store, Filter { host: name("host-1"), to: second(1), ..none.clone() }), [0]);
    assert_eq!(left(&store, Filter { trace_id: Some(span(4).trace_id.try_into().unwrap()), ..none.clone() }), [5, 4]);
    assert_eq!(left(&store, Filter { min_duration: Some(6.5), ..none.clone() }), [6]);
    assert_eq!(left(&store, Filter { min_ttft: Some(0.1085), ..none.clone() }), [9]);
    assert_eq!(left(&store, Filter { cause: name("network"), ..none.clone() }), [7, 3]);
    for only in [
        Filter { executable: name("node"), ..none.clone() },
        Filter { user: Some(0), ..none.clone() },
        Filter { status: Some(Status::Error), ..none.clone() },
        Filter { kind: Some(Kind::Server), ..none.clone() },
        Filter { error_type: name("timeout"), ..none.clone() },
        Filter { min_cost: Some(2.0), ..none.clone() },
        Filter { slow: true, ..none.clone() },
        Filter { cause: name("gpu_busy"), ..none.clone() },
        Filter { conversation: name("it's \"one\"; --"), ..none.clone() },
    ] {
        assert_eq!(left(&store, only), [7]);
    }
    for nothing in [
        Filter { model: name("' OR 1 = 1 --"), ..none.clone() },
        Filter { host: name("host-2"), ..none.clone() },
        Filter { cause: name("%"), ..none.clone() },
        Filter { conversation: name("'"), ..none.clone() },
        Filter { min_cost: Some(f64::NAN), ..none.clone() },
        Filter { trace_id: Some([9; 16]), ..none.clone() },
        Filter { from: second(5), to: second(5), ..none.clone() },
    ] {
        assert_eq!(left(&store, nothing), [0_u64; 0]);
    }
}

#[test]
fn a_list_by_ids_looks_into_every_hour() {
    let far = |hours: u64, n: u64| {
        let start = BEGIN + hours * 3600 * SECOND;
        let mut far = Span { start_time_unix_nano: start, end_time_unix_nano: start, ..span(n) };
        far.trace_id = vec![5; 16];
        far.attributes.push(attribute("gen_ai.conversation.id", text("c")));
        far
    };
    let store = stored((0..4).map(|n| far(n * 50, n)));
    let trace = Filter { trace_id: Some([5; 16]), ..Filter::default() };
    let conversation = Filter { conversation: Some("c".to_owned()), ..Filter::default() };
    for filter in [trace, conversation] {
        assert_eq!(left(&store, filter.clone()), [3, 2, 1, 0]);
        let hour = |hours: u64| Some((BEGIN + hours * 3600 * SECOND) as i64);
        assert_eq!(left(&store, Filter { from: hour(50), to: hour(101), ..filter.clone() }), [2, 1]);
        let page = store.reader.calls(&filter, 3, None).unwrap();
        let rest = store.reader.calls(&filter, 3, page.next.as_deref()).unwrap();
        assert_eq!((rest.calls.len(), rest.next), (1, None));
    }
    assert_eq!(store.reader.trace([5; 16]).unwrap().spans.len(), 4);
}

#[test]
fn the_indexes_are_what_lists_use() {
    let store = stored((0..4).map(span));
    let plan = |sql: &str| {
        let mut statement = store.db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
        lines.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    };
    let list =
        plan("SELECT id FROM calls WHERE start_ns >= 1 AND start_ns < 9 ORDER BY start_ns DESC, id DESC LIMIT 5");
    assert!(list.contains("calls_by_start") && !list.contains("TEMP B-TREE"), "{list}");
    let hours = plan("SELECT max(hour) FROM calls WHERE hour < 9 AND hour >= 1");
    assert!(hours.contains("COVERING INDEX calls_by_ids"), "{hours}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn pages_hold_every_call_once_while_others_come(
        starts in proptest::collection::vec(0..20_u64, 1..60),
        late in proptest::collection::vec(0..40_u64, 0..40),
        limit in 1..9_usize,
    ) {
        // Many begin at the same time.
        let at = |n: usize, start: u64| Span { start_time_unix_nano: BEGIN + start, ..span(n as u64) };
        let mut store = stored(starts.iter().enumerate().map(|(n, start)| at(n, *start)));
        let mut late = late.into_iter().enumerate().map(|(n, start)| at(1000 + n, start));
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.reader.calls(&Filter::default(), limit, cursor.as_deref()).unwrap();
            prop_assert!(page.calls.len() <= limit);
            seen.extend(page.calls.into_iter().map(|call| (call.start_time_unix_nano, call.span_id)));
            store.spans(late.by_ref().take(3));
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        let mut sorted = seen.clone();
        sorted.sort_by_key(|call| std::cmp::Reverse(call.0));
        prop_assert!(sorted.iter().map(|call| call.0).eq(seen.iter().map(|call| call.0)));
        let mut names: Vec<_> = seen.into_iter().map(|call| call.1).collect();
        names.sort();
        let all = names.len();
        names.dedup();
        prop_assert_eq!(names.len(), all);
        for n in 0..starts.len() as u64 {
            let name = format!("{:016x}", n + 1);
            prop_assert!(names.contains(&name));
        }
    }
}

#[test]
fn a_cursor_that_no_page_gave_is_refused() {
    let store = stored([span(0)]);
    for cursor in ["", "1", "x.1", "1.1; DROP TABLE calls", "99999999999999999.1"] {
        let answer = store.reader.calls(&Filter::default(), 1, Some(cursor));
        assert!(matches!(answer, Err(QueryError::Wrong { .. })), "{cursor}");
    }
    let page = store.reader.calls(&Filter::default(), 0, None).unwrap();
    assert_eq!((ids(&page).len(), page.next), (1, None));
}

#[test]
fn a_call_is_shown_whole_and_its_content_only_when_it_is_asked_for() {
    let mut whole = span(4);
    whole.events.push(inferscope_proto::otlp::trace::span::Event {
        name: "inferscope.cause".to_owned(),
        attributes: vec![attribute("inferscope.cause.kind", text("gpu_busy"))],
        ..Default::default()
    });
    whole.attributes.push(attribute("gen_ai.input.messages", text("a secret question")));
    whole.attributes.push(attribute("inferscope.tool_calls", list(&["search", "read"])));
    let (trace, id) = (whole.trace_id.clone().try_into().unwrap(), whole.span_id.clone().try_into().unwrap());
    let store = stored([whole, span(5), span(9)]);
    let found = store.reader.call(trace, id).unwrap().unwrap();
    assert_eq!(found.attributes["inferscope.tool_calls"], serde_json::json!(["search", "read"]));
    assert_eq!(found.attributes["gen_ai.usage.input_tokens"], 104);
    assert_eq!(found.events[0].attributes["inferscope.cause.kind"], "gpu_busy");
    assert_eq!((found.resource["host.name"].as_str(), found.call.has_content), (Some("host-1"), true));
    assert_eq!(
        (found.call.model.as_deref(), found.call.energy_joules, found.call.chunks),
        (Some("claude"), None, None)
    );
    let shown = serde_json::to_string(&(&found, store.reader.trace(trace).unwrap())).unwrap();
    assert!(!shown.contains("secret"));
    assert!(serde_json::to_value(&found.call).unwrap()["energy_joules"].is_null());
    let content = store.reader.content(trace, id).unwrap().unwrap();
    assert_eq!(content.attributes["gen_ai.input.messages"], "a secret question");
    let both = store.reader.trace(trace).unwrap();
    assert_eq!((both.spans.len(), both.is_cut), (2, false));
    assert_eq!(store.reader.content(trace, span(5).span_id.try_into().unwrap()).unwrap(), None);
    assert_eq!(store.reader.call(trace, [7; 8]).unwrap(), None);
    // Metadata and content are in tables of their own.
    assert_eq!((store.number("SELECT count(*) FROM spans"), store.number("SELECT count(*) FROM contents")), (3, 1));
}

#[test]
fn a_query_that_takes_too_long_is_ended_and_the_next_is_answered() {
    let dir = tempdir().unwrap();
    let options = Options { query_limit: Duration::from_millis(30), readers: 1, ..Options::default() };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    let endless = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT count(*) FROM n";
    let reader = store.reader();
    let count = |sql: &'static str| {
        reader.ask(|session| session.db.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(QueryError::Database))
    };
    assert!(matches!(count(endless), Err(QueryError::TooSlow { .. })));
    assert!(matches!(count("SELECT 7"), Ok(7)));
    // With its only connection taken there is no answer, and none of it is lost.
    let inner = reader.ask(|_| Ok(matches!(count("SELECT 7"), Err(QueryError::Busy))));
    assert!(matches!(inner, Ok(true)));
    assert!(matches!(count("SELECT 7"), Ok(7)));
    let write =
        reader.ask(|session| session.db.execute("DELETE FROM texts", []).map(|_| ()).map_err(QueryError::Database));
    assert!(matches!(write, Err(QueryError::Database(_))));
}

fn shipped(agent: &str, first: u64, items: Vec<(ItemKind, Vec<u8>)>) -> BatchOf {
    let last = first + items.len() as u64 - 1;
    let items = (first..).zip(items).map(|(seq, (kind, payload))| item(seq, kind, payload)).collect();
    BatchOf { agent: agent.to_owned(), epoch: EPOCH, first, last, items, gaps: Vec::new() }
}

#[test]
fn ledgers_have_the_latest_totals_added_over_lives() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    let ledger = |started: u64, time: u64, value: u64| {
        let counter = |name: &str, value| Counter { name: name.to_owned(), value };
        let counters = vec![counter("captured", value), counter("dropped", 1)];
        let ledger = Ledger { time_unix_nano: time, started_unix_nano: started, counters };
        (ItemKind::Ledger, ledger.encode_to_vec())
    };
    // Of the first life the earlier total comes later.
    let items = vec![ledger(1, 20, 50), ledger(1, 10, 30), ledger(2, 30, 7)];
    offer(&ingest, shipped("a", 1, items)).unwrap();
    offer(&ingest, shipped("b", 1, vec![ledger(1, 5, 1)])).unwrap();
    let ledgers = store.reader().ledger().unwrap();
    let shown: Vec<_> = ledgers
        .iter()
        .map(|ledger| {
            let counters = ledger.counters.iter().map(|counter| (counter.name.as_str(), counter.value)).collect();
            (ledger.agent_id.as_deref().unwrap(), ledger.at, counters)
        })
        .collect::<Vec<(_, _, Vec<_>)>>();
    assert_eq!(
        shown,
        [("a", 30, vec![("captured", 57), ("dropped", 2)]), ("b", 5, vec![("captured", 1), ("dropped", 1)])]
    );
}

#[test]
fn gpus_have_the_latest_of_each_gauge_and_its_course() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    let metrics = |second: u64, value: f64| {
        let point = |gpu: &str, value: f64| NumberDataPoint {
            attributes: vec![attribute("hw.id", text(gpu)), attribute("hw.model", text("H100"))],
            time_unix_nano: BEGIN + second * SECOND,
            value: Some(Number::AsDouble(value)),
            ..NumberDataPoint::default()
        };
        let gauge = Gauge { data_points: vec![point("GPU-1", value), point("GPU-2", 1.0), point("", 9.0)] };
        let metric =
            |name: &str| Metric { name: name.to_owned(), data: Some(Data::Gauge(gauge.clone())), ..Metric::default() };
        let metrics = vec![metric("hw.gpu.utilization"), metric("gen_ai.client.operation.duration")];
        (ItemKind::Metrics, ScopeMetrics { metrics, ..ScopeMetrics::default() }.encode_to_vec())
    };
    // The second is older than the first.
    let items = [metrics(65, 0.75), metrics(61, 0.25), metrics(200, 0.5)];
    offer(&ingest, shipped("a", 1, items[..2].to_vec())).unwrap();
    let reader = store.reader();
    let gpus = reader.gpus().unwrap();
    let names: Vec<_> = gpus.iter().map(|gpu| (gpu.host.as_deref(), gpu.gpu.as_str(), gpu.gauges.len())).collect();
    assert_eq!(names, [(Some("host-1"), "GPU-1", 1), (Some("host-1"), "GPU-2", 1)]);
    let gauge = &gpus[0].gauges[0];
    assert_eq!(
        (gauge.metric.as_str(), gauge.value, gauge.labels["hw.model"].as_str()),
        ("hw.gpu.utilization", 0.75, Some("H100"))
    );
    offer(&ingest, shipped("a", 3, items[2..].to_vec())).unwrap();
    let (begin, end) = (BEGIN as i64, (BEGIN + 3600 * SECOND) as i64);
    let minute = 60 * SECOND as i64;
    assert_eq!(
        reader.gpu_history(gauge.id, begin, end).unwrap(),
        [
            GpuPoint { at: begin + minute, mean: 0.5, max: 0.75 },
            GpuPoint { at: begin + 3 * minute, mean: 0.5, max: 0.5 },
        ]
    );
    // As they came they are there as well.
    assert_eq!(number(&beside(dir.path()), "SELECT count(*) FROM metrics"), 3);
}

#[test]
fn agents_say_who_they_are_and_what_they_no_longer_have() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    let (reply, answer) = tokio::sync::oneshot::channel();
    let seen = AgentSeen {
        agent_id: "a".into(),
        epoch: EPOCH,
        version: "1.2.3".to_owned(),
        time_unix_nano: BEGIN + 5 * SECOND,
        boot_time_nano: 77,
        received_unix_nano: BEGIN + 2 * SECOND,
        source: source("host-9"),
        reply,
    };
    ingest.offer(seen).unwrap();
    assert_eq!(answer.blocking_recv().unwrap().unwrap().durable_through, 0);
    let mut some = shipped("a", 1, vec![(ItemKind::Span, span(1).encode_to_vec()), (ItemKind::Span, vec![1])]);
    some.last = 5;
    some.gaps.push(Gap { first_seq: 3, last_seq: 5, reason: 2 });
    offer(&ingest, some).unwrap();
    let agents = store.reader().agents().unwrap();
    let [agent] = &agents[..] else { panic!("{agents:?}") };
    assert_eq!(
        (agent.agent_id.as_str(), agent.host.as_deref(), agent.version.as_deref()),
        ("a", Some("host-9"), Some("1.2.3"))
    );
    assert_eq!((agent.clock_offset, agent.boot_time), (Some(3 * SECOND as i64), Some(77)));
    assert_eq!((agent.epochs[0].durable_through, agent.epochs[0].epoch.as_str()), (5, "03".repeat(16).as_str()));
    assert_eq!((agent.gaps[0].first_seq, agent.gaps[0].last_seq, agent.gaps[0].reason.as_str()), (3, 5, "evicted"));
    assert_eq!(agent.rejections, [RejectionView { reason: "malformed".to_owned(), count: 1 }]);
    let page = store.reader().calls(&Filter::default(), 5, None).unwrap();
    assert_eq!((page.calls[0].agent_id.as_deref(), page.calls[0].host.as_deref()), (Some("a"), Some("host-1")));
}

#[test]
fn logs_and_who_read_content_are_told_newest_first() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    let log = |severity, body: &str| {
        let log = LogRecord {
            time_unix_nano: BEGIN,
            severity_number: severity,
            body: Some(AnyValue { value: Some(text(body)) }),
            attributes: vec![attribute("n", Any::IntValue(1))],
            ..LogRecord::default()
        };
        (ItemKind::Log, log.encode_to_vec())
    };
    offer(&ingest, shipped("a", 1, vec![log(9, "fine"), log(17, "bad"), log(13, "odd")])).unwrap();
    let logs = store.reader().logs(13, 10).unwrap();
    let bodies: Vec<_> = logs.iter().map(|log| log.body.as_str().unwrap()).collect();
    assert_eq!(bodies, ["odd", "bad"]);
    assert_eq!((logs[0].attributes["n"].as_i64(), logs[0].agent_id.as_deref()), (Some(1), Some("a")));
    for (who, what) in [("ana", Some(([1; 16], [2; 8]))), (&"b".repeat(999)[..], None)] {
        ingest.audit(who, "content", what).unwrap().blocking_recv().unwrap().unwrap();
    }
    let audit = store.reader().audit(10).unwrap();
    assert_eq!((audit[0].who.len(), audit[0].span_id.as_deref()), (256, None));
    assert_eq!((audit[1].who.as_str(), audit[1].span_id.as_deref()), ("ana", Some("0202020202020202")));
}

#[test]
fn the_summary_tells_what_is_there_and_what_is_gone() {
    let mut store = stored((0..10).map(span));
    let now = (BEGIN + 60 * SECOND) as i64;
    let summary = store.reader.summary(now).unwrap();
    assert_eq!(summary.last_day.map(|day| day.calls), Some(10));
    assert_eq!((summary.oldest_call, summary.newest_call), (Some(BEGIN as i64), Some((BEGIN + 9 * SECOND) as i64)));
    assert!(summary.database_bytes > 0 && summary.removed.is_empty());
    store.now = (BEGIN + 86_400 * SECOND * 60) as i64;
    store.keep();
    let summary = store.reader.summary(store.now).unwrap();
    assert_eq!((summary.last_day, summary.oldest_call), (None, None));
    let gone = RemovedView { what: "spans".to_owned(), reason: "age".to_owned(), count: 10 };
    assert_eq!(summary.removed, [gone]);
}
