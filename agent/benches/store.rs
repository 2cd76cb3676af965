//! How many calls a second the collector stores: from encoded spans to stable storage, decoding and totals included, with
//! `synchronous=FULL`. One thread writes, so this is what one core does. Target: 50,000 calls/s in batches of 512.
//!
//! Spans have some 25 attributes and 1.3 KB, ids as random as real ones, six models on four hosts, and come by the
//! minute. `STORE_DIR` says where the database is made; by default in the temporary directory.

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use inferscope::collector::store::{Batch, Item, Options, Source, Store};
use inferscope_proto::{
    Message as _,
    otlp::{
        common::{AnyValue, ArrayValue, KeyValue, any_value::Value as Any},
        resource::Resource,
        trace::{Span, Status},
    },
    v1::ItemKind,
};
use tokio::sync::oneshot;

/// Items of a batch.
const BATCH: u64 = 512;
/// Batches that are offered at once.
const BATCHES: u64 = 32;
/// Calls a second by their own times: a day of 10 million.
const SPACING: u64 = 8_640_000;
/// Where their time begins.
const BEGIN: u64 = 1_795_737_600_000_000_000;

/// A sequence that looks random (splitmix64).
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(text: impl Into<String>) -> Any {
    Any::StringValue(text.into())
}

fn span(n: u64, content: usize) -> Span {
    let random = mix(n);
    let pick = |of: u64, shift: u32| (random >> shift) % of;
    let (model, provider, api, address) = [
        ("gpt-4o", "openai", "openai.chat", "api.openai.com"),
        ("gpt-4o-mini", "openai", "openai.chat", "api.openai.com"),
        ("gpt-5", "openai", "openai.responses", "api.openai.com"),
        ("claude-sonnet-4-5", "anthropic", "anthropic.messages", "api.anthropic.com"),
        ("gemini-2.5-pro", "gcp.gemini", "gemini.generate", "generativelanguage.googleapis.com"),
        ("llama-3.3-70b", "vllm", "openai.chat", "10.1.2.3"),
    ][pick(6, 0) as usize];
    let is_error = pick(50, 8) == 0;
    let seconds = |base: f64, shift: u32| base * (1.0 + pick(4096, shift) as f64 / 512.0);
    let start = BEGIN + n * SPACING;
    let ttft = seconds(0.12, 16);
    let list = |value: &str| Any::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(text(value)) }] });
    let mut attributes = vec![
        attribute("gen_ai.operation.name", text("chat")),
        attribute("gen_ai.provider.name", text(provider)),
        attribute("gen_ai.request.model", text(model)),
        attribute("gen_ai.request.stream", Any::BoolValue(true)),
        attribute("gen_ai.request.temperature", Any::DoubleValue(0.7)),
        attribute("gen_ai.response.model", text(format!("{model}-2026-08-06"))),
        attribute("gen_ai.response.id", text(format!("chatcmpl-{:016x}{:08x}", random, n))),
        attribute("gen_ai.response.finish_reasons", list("stop")),
        attribute("gen_ai.usage.input_tokens", Any::IntValue(200 + pick(3000, 20) as i64)),
        attribute("gen_ai.usage.output_tokens", Any::IntValue(20 + pick(800, 24) as i64)),
        attribute("gen_ai.usage.cache_read.input_tokens", Any::IntValue(pick(200, 28) as i64)),
        attribute("inferscope.usage.source", text("reported")),
        attribute("inferscope.api", text(api)),
        attribute("inferscope.request.message_count", Any::IntValue(1 + pick(20, 30) as i64)),
        attribute("gen_ai.conversation.id", text(format!("{:016x}", mix(n / 8)))),
        attribute("gen_ai.response.time_to_first_chunk", Any::DoubleValue(ttft * 0.9)),
        attribute("inferscope.time_to_first_token", Any::DoubleValue(ttft)),
        attribute("inferscope.time_per_output_token", Any::DoubleValue(seconds(0.008, 32))),
        attribute("inferscope.chunk.count", Any::IntValue(20 + pick(800, 24) as i64)),
        attribute("inferscope.chunk.gap.p50", Any::DoubleValue(seconds(0.008, 36))),
        attribute("inferscope.chunk.gap.p99", Any::DoubleValue(seconds(0.03, 36))),
        attribute("inferscope.chunk.gap.max", Any::DoubleValue(seconds(0.05, 40))),
        attribute("inferscope.cost.usd", Any::DoubleValue(0.001 * seconds(1.0, 44))),
        attribute("http.response.status_code", Any::IntValue(if is_error { 429 } else { 200 })),
        attribute("server.address", text(address)),
        attribute("server.port", Any::IntValue(443)),
        attribute("process.pid", Any::IntValue(1000 + pick(64, 48) as i64)),
        attribute("process.executable.name", text(["python3.12", "node"][pick(2, 50) as usize])),
        attribute("process.real_user.id", Any::IntValue(1000)),
        attribute("inferscope.completion", text("done")),
        attribute("inferscope.capture", text("complete")),
        attribute("inferscope.capture.source", text("openssl")),
    ];
    if content > 0 {
        attributes.push(attribute("gen_ai.input.messages", text("word ".repeat(content / 5))));
    }
    let mut trace_id = mix(n ^ 1 << 40).to_be_bytes().to_vec();
    trace_id.extend(random.to_be_bytes());
    Span {
        trace_id,
        span_id: mix(n ^ 1 << 41).to_be_bytes().to_vec(),
        name: format!("chat {model}"),
        kind: 3,
        start_time_unix_nano: start,
        end_time_unix_nano: start + (seconds(1.5, 52) * 1e9) as u64,
        attributes,
        status: Some(Status { message: String::new(), code: if is_error { 2 } else { 1 } }),
        ..Span::default()
    }
}

fn sources() -> Vec<Arc<Source>> {
    let source = |host: u64| {
        let attributes = vec![attribute("host.name", text(format!("host-{host}")))];
        let resource = Resource { attributes, ..Resource::default() };
        Arc::new(Source::new(resource.encode_to_vec().into(), Vec::new().into()))
    };
    (0..4).map(source).collect()
}

/// Batches of four agents, in turn. `first` is the number of the first call ever.
fn offered(first: u64, sources: &[Arc<Source>], content: usize) -> Vec<Batch> {
    let batch = |n: u64| {
        let begin = first + n * BATCH;
        let agent = begin / BATCH % 4;
        let first_seq = begin / BATCH / 4 * BATCH + 1;
        let item = |at: u64| {
            let payload = span(begin + at, content).encode_to_vec();
            let crc32c = crc32c::crc32c(&payload);
            Item { seq: first_seq + at, kind: ItemKind::Span as i32, payload: payload.into(), crc32c }
        };
        Batch {
            agent_id: format!("agent-{agent}").into(),
            epoch: [7; 16],
            first_seq,
            last_seq: first_seq + BATCH - 1,
            items: (0..BATCH).map(item).collect(),
            gaps: Vec::new(),
            source: sources[agent as usize].clone(),
            reply: oneshot::channel().0,
        }
    };
    (0..BATCHES).map(batch).collect()
}

/// Processor time of the thread that writes, its system calls included.
fn writer_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("our threads");
    let writer = tasks
        .flatten()
        .map(|task| task.path())
        .find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "store-writer"));
    let times = std::fs::read_to_string(writer.expect("the writer").join("schedstat")).expect("its times");
    Duration::from_nanos(times.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number"))
}

fn ingest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(BATCH * BATCHES)).sample_size(10);
    for content in [0, 2000] {
        let folder = env::var_os("STORE_DIR").map_or_else(env::temp_dir, Into::into);
        let dir = tempfile::tempdir_in(folder).expect("a directory for the database");
        let (store, _) = Store::open(dir.path(), Options::default()).expect("a store");
        let (ingest, sources) = (store.handle(), sources());
        let mut first = 0;
        group.bench_function(BenchmarkId::new("content", content), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let batches = offered(first, &sources, content);
                    first += BATCH * BATCHES;
                    let begin = Instant::now();
                    let mut answers = Vec::new();
                    for batch in batches {
                        let (reply, answer) = oneshot::channel();
                        ingest.offer(Batch { reply, ..batch }).expect("room in the queue");
                        answers.push(answer);
                    }
                    for answer in answers {
                        let stored = answer.blocking_recv().expect("an answer").expect("it is stored");
                        assert_eq!(stored.stored, BATCH);
                    }
                    spent += begin.elapsed();
                }
                spent
            });
        });
        let busy = writer_time();
        store.close();
        eprintln!(
            "{first} calls took the writer {busy:?} of processor: {:.0} calls/s",
            first as f64 / busy.as_secs_f64()
        );
        let bytes = std::fs::metadata(dir.path().join("collector.db")).map_or(0, |file| file.len());
        eprintln!("{first} calls with {content} bytes of content: {} bytes a call", bytes / first.max(1));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(8));
    targets = ingest
}
criterion_main!(benches);
