use std::{collections::BTreeMap, time::Duration};

use super::{
    Machines, Metrics, STALE, Snapshot, Value,
    calls::PLACES,
    machines::{Engine, Gpu, GpuProcess, NvmlCall, Traffic},
    names,
};
use crate::{
    call::{Capture, Completion, FinishedCall, InferredFacts, Side},
    export::{
        attributes::*,
        span::{Span, Value as Attribute},
        testing::{ANCHOR, chat},
    },
    llm::{Facts, RpcFacts},
    time::Mono,
};

const NOW: Mono = Mono(60_000_000_000);

fn server() -> FinishedCall {
    FinishedCall { side: Side::Server, ..chat() }
}

fn span(call: &FinishedCall) -> Span {
    Span::from_call(call, ANCHOR)
}

fn counted(spans: impl IntoIterator<Item = Span>) -> Snapshot {
    let metrics = Metrics::new(ANCHOR);
    for span in spans {
        metrics.on_call(&span);
    }
    metrics.snapshot(NOW)
}

fn told(machines: Machines) -> Snapshot {
    let metrics = Metrics::new(ANCHOR);
    metrics.on_machines(Machines { at: NOW, ..machines });
    metrics.snapshot(NOW)
}

/// The series of a metric, each as `label=value,…` with its number; of a histogram the count and the sum.
fn series(snapshot: &Snapshot, name: &str) -> BTreeMap<String, (u64, f64)> {
    let points = snapshot.families.iter().filter(|family| family.metric.name == name).flat_map(|family| &family.points);
    points
        .map(|point| {
            let labels: Vec<_> = point.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
            let number = match &point.value {
                Value::Int(number) => (*number, *number as f64),
                Value::Double(number) => (0, *number),
                Value::Histogram(histogram) => (histogram.count(), histogram.sum),
            };
            (labels.join(","), number)
        })
        .collect()
}

fn only(snapshot: &Snapshot, name: &str) -> (String, (u64, f64)) {
    let all = series(snapshot, name);
    assert_eq!(all.len(), 1, "{name}: {all:?}");
    all.into_iter().next().unwrap()
}

fn present(snapshot: &Snapshot) -> Vec<&'static str> {
    snapshot.families.iter().map(|family| family.metric.name).collect()
}

#[test]
fn a_client_s_call_is_in_the_conventions_metrics() {
    let snapshot = counted([span(&chat()), span(&chat())]);
    let labels = "gen_ai.operation.name=chat,gen_ai.provider.name=openai,gen_ai.request.model=gpt-4o,\
        gen_ai.response.model=gpt-4o-2024-08-06,server.address=api.openai.com,server.port=443,\
        process.executable.name=python3.12";
    assert_eq!(only(&snapshot, "gen_ai.client.operation.duration"), (labels.to_owned(), (2, 0.92)));
    assert_eq!(only(&snapshot, "gen_ai.client.operation.time_to_first_chunk"), (labels.to_owned(), (2, 0.4)));
    let tokens = series(&snapshot, "gen_ai.client.token.usage");
    assert_eq!(tokens[&format!("{labels},gen_ai.token.type=input")], (2, 240.0));
    assert_eq!(tokens[&format!("{labels},gen_ai.token.type=output")], (2, 22.0));
    let finished = "inferscope.side=client,inferscope.completion=done,inferscope.capture=complete";
    assert_eq!(only(&snapshot, "inferscope.calls.finished"), (finished.to_owned(), (2, 2.0)));
    assert!(!present(&snapshot).iter().any(|name| name.contains("server")), "a client's call is no server's");
}

#[test]
fn a_server_s_call_has_its_token_times_and_its_engine() {
    let mut span = span(&server());
    span.attributes.push((INFERSCOPE_ENGINE_ID, Attribute::Str("e1".to_owned())));
    let snapshot = counted([span]);
    for (name, expect) in [
        ("gen_ai.server.request.duration", 0.46),
        ("gen_ai.server.time_to_first_token", 0.25),
        ("gen_ai.server.time_per_output_token", 0.02),
    ] {
        let (labels, (count, sum)) = only(&snapshot, name);
        assert!(labels.contains("inferscope.engine.id=e1"), "{labels}");
        assert!(count == 1 && (sum - expect).abs() < 1e-9, "{name} {sum}");
    }
    assert_eq!(series(&snapshot, "inferscope.server.token.usage").len(), 2);
    assert!(!present(&snapshot).iter().any(|name| name.starts_with("gen_ai.client")));
}

#[test]
fn a_call_that_failed_has_an_error_and_no_token_times() {
    let mut call = server();
    call.completion = Some(Completion::ClientClosed);
    let snapshot = counted([span(&call)]);
    let (labels, _) = only(&snapshot, "gen_ai.server.request.duration");
    assert!(labels.ends_with("error.type=cancelled"), "{labels}");
    assert!(!present(&snapshot).iter().any(|name| name.contains("token") && name.starts_with("gen_ai")));
}

#[test]
fn what_was_not_seen_whole_has_no_duration() {
    for capture in [Capture::PartialStart, Capture::Truncated] {
        let snapshot = counted([span(&FinishedCall { capture, ..chat() })]);
        assert!(series(&snapshot, "gen_ai.client.operation.duration").is_empty(), "{capture:?}");
        assert_eq!(series(&snapshot, "gen_ai.client.token.usage").len(), 2);
    }
}

#[test]
fn what_is_inferred_is_only_counted() {
    let call = FinishedCall { facts: None, inferred: Some(Box::new(InferredFacts::default())), ..chat() };
    assert_eq!(present(&counted([span(&call)])), ["inferscope.calls.finished"]);
}

#[test]
fn requests_of_mcp_have_their_own_metrics() {
    let rpc = RpcFacts { method: "tools/call".to_owned(), ..RpcFacts::default() };
    let facts = Facts { api: "mcp", operation: "execute_tool", rpc: Some(rpc), ..Facts::default() };
    let mut call = FinishedCall { facts: Some(facts), ..server() };
    let labels = "mcp.method.name=tools/call,process.executable.name=python3.12";
    assert_eq!(only(&counted([span(&call)]), "mcp.server.operation.duration"), (labels.to_owned(), (1, 0.46)));
    call.side = Side::Client;
    assert_eq!(only(&counted([span(&call)]), "mcp.client.operation.duration").1.0, 1);
}

#[test]
fn the_likeliest_cause_alone_is_counted_and_every_slow_measure() {
    let list = |values: &[&str]| Attribute::StrArray(values.iter().map(|value| (*value).to_owned()).collect());
    let mut span = span(&server());
    span.attributes.extend([
        (INFERSCOPE_SLOW, list(&["time_to_first_token", "chunk_gap"])),
        (INFERSCOPE_CAUSE_KINDS, list(&["gpu_throttle", "queueing"])),
        (INFERSCOPE_GPU_ENERGY_JOULES, Attribute::Double(1.5)),
        (INFERSCOPE_WASTE_SECONDS, Attribute::Double(0.5)),
        (INFERSCOPE_WASTE_JOULES, Attribute::Double(0.25)),
        (INFERSCOPE_COST_USD, Attribute::Double(0.125)),
    ]);
    let snapshot = counted([span.clone(), span]);
    let causes = "inferscope.cause.kind=gpu_throttle,gen_ai.request.model=gpt-4o".to_owned();
    assert_eq!(only(&snapshot, "inferscope.calls.causes"), (causes, (2, 2.0)));
    let slow = series(&snapshot, "inferscope.calls.slow");
    assert_eq!(slow["inferscope.slow.measure=chunk_gap,gen_ai.request.model=gpt-4o"], (2, 2.0));
    assert_eq!(slow.len(), 2);
    for (name, sum) in [
        ("inferscope.calls.energy", 3.0),
        ("inferscope.waste.time", 1.0),
        ("inferscope.waste.energy", 0.5),
        ("inferscope.cost.usd", 0.25),
    ] {
        assert_eq!(only(&snapshot, name).1.1, sum, "{name}");
    }
}

#[test]
fn what_was_not_measured_makes_no_series() {
    let snapshot = counted([span(&server())]);
    for name in
        ["calls.slow", "calls.causes", "calls.energy", "waste.time", "waste.energy", "cost.usd", "metrics.folded"]
    {
        assert!(series(&snapshot, &format!("inferscope.{name}")).is_empty(), "{name}");
    }
}

/// A call of `model` by a program of its own, to a host of its own.
fn of_model(model: &str) -> Span {
    let mut call = chat();
    let facts = call.facts.as_mut().unwrap();
    facts.request.model = Some(model.to_owned());
    facts.response.model = None;
    call.process.executable = Some(format!("{model}.py"));
    call.http.host = Some(format!("{model}.example:8000"));
    span(&call)
}

#[test]
fn too_many_models_are_one_and_no_call_is_lost() {
    let n = 3 * PLACES;
    let snapshot = counted((0..n).map(|n| of_model(&format!("model-{n}"))));
    let durations = series(&snapshot, "gen_ai.client.operation.duration");
    assert_eq!(durations.values().map(|(count, _)| count).sum::<u64>(), n as u64);
    assert_eq!(durations.len(), PLACES + 1);
    let other = "gen_ai.operation.name=chat,gen_ai.provider.name=openai,gen_ai.request.model=other,\
        server.address=other,process.executable.name=other";
    assert_eq!(durations[other].0, 2 * PLACES as u64);
    let folded = series(&snapshot, "inferscope.metrics.folded");
    for label in ["gen_ai.request.model", "server.address", "process.executable.name"] {
        assert_eq!(folded[&format!("inferscope.metrics.limit={label}")].0, 2 * PLACES as u64);
    }
}

#[test]
fn a_model_that_becomes_common_gets_its_own_series() {
    let rare = (0..PLACES).map(|n| of_model(&format!("model-{n}")));
    let common = (0..30).map(|_| of_model("late"));
    let snapshot = counted(rare.chain(common));
    let durations = series(&snapshot, "gen_ai.client.operation.duration");
    let late: u64 = durations.iter().filter(|(labels, _)| labels.contains("model=late")).map(|(_, n)| n.0).sum();
    assert!(late > 10, "{durations:?}");
    assert_eq!(durations.keys().filter(|labels| labels.contains("gen_ai.request.model=model-")).count(), PLACES - 1);
    let starts = |value: &str| -> Vec<Option<u64>> {
        let points = snapshot.families.iter().flat_map(|family| &family.points);
        let has = |point: &&super::Point| point.labels.iter().any(|(_, other)| &**other == value);
        points.filter(has).map(|point| point.start_unix_nano).collect()
    };
    assert!(starts("model-7").iter().chain(&starts("model-8")).all(|at| *at == Some(ANCHOR.unix_nanos)));
    let late = starts("late");
    assert!(!late.is_empty() && late.iter().all(|at| *at > Some(ANCHOR.unix_nanos)), "it counts from its own start");
}

fn gpu(uuid: &str) -> Gpu {
    Gpu { uuid: uuid.to_owned(), name: "H100".to_owned(), ..Gpu::default() }
}

#[test]
fn a_gpu_of_which_everything_is_known() {
    let snapshot = told(Machines {
        gpus: vec![Gpu {
            index: 3,
            utilization: Some(0.0),
            memory_activity: Some(0.25),
            memory_used: Some(1 << 30),
            memory_total: Some(4 << 30),
            power_watts: Some(345.5),
            energy_joules: Some(1234.5),
            temperature: Some(65.0),
            sm_clock_hz: Some(1_980_000_000),
            memory_clock_hz: Some(2_600_000_000),
            throttle_seconds: vec![("power", 1.5), ("thermal", 0.0)],
            pcie_bytes: Some(Traffic { received: 1, sent: 2 }),
            nvlink_bytes: Some(Traffic { received: 3, sent: 4 }),
            ecc_uncorrected: Some(0),
            xids: vec![(79, 1)],
            ..gpu("GPU-0")
        }],
        ..Machines::default()
    });
    let labels = "hw.id=GPU-0,hw.type=gpu,hw.name=GPU 3,hw.model=H100";
    for (name, more, expect) in [
        ("inferscope.gpu.observed", "", 1.0),
        ("hw.gpu.utilization", ",hw.gpu.task=general", 0.0),
        ("inferscope.gpu.memory.activity", "", 0.25),
        ("hw.gpu.memory.usage", "", (1 << 30) as f64),
        ("hw.gpu.memory.limit", "", (4u64 << 30) as f64),
        ("hw.gpu.memory.utilization", "", 0.25),
        ("hw.power", "", 345.5),
        ("hw.energy", "", 1234.5),
        ("hw.temperature", "", 65.0),
        ("inferscope.gpu.frequency", ",inferscope.gpu.clock=sm", 1.98e9),
        ("inferscope.gpu.frequency", ",inferscope.gpu.clock=memory", 2.6e9),
        ("inferscope.gpu.throttle.time", ",inferscope.gpu.throttle.reason=power", 1.5),
        ("inferscope.gpu.throttle.time", ",inferscope.gpu.throttle.reason=thermal", 0.0),
        ("hw.gpu.io", ",network.io.direction=receive", 1.0),
        ("hw.gpu.io", ",network.io.direction=transmit", 2.0),
        ("inferscope.gpu.nvlink.io", ",network.io.direction=receive", 3.0),
        ("inferscope.gpu.nvlink.io", ",network.io.direction=transmit", 4.0),
        ("hw.errors", ",error.type=uncorrected", 0.0),
        ("inferscope.gpu.xid.errors", ",inferscope.gpu.xid=79", 1.0),
    ] {
        let all = series(&snapshot, name);
        assert_eq!(all.get(&format!("{labels}{more}")).map(|value| value.1), Some(expect), "{name} {all:?}");
    }
}

#[test]
fn a_gpu_that_is_not_observed_says_so_and_nothing_else() {
    let lost = Gpu { unobserved: Some("fell off the bus".to_owned()), utilization: Some(0.0), ..gpu("GPU-1") };
    let snapshot = told(Machines { gpus: vec![gpu("GPU-0"), lost], ..Machines::default() });
    assert_eq!(present(&snapshot), ["inferscope.gpu.observed"]);
    let observed = series(&snapshot, "inferscope.gpu.observed");
    let labels = "hw.id=GPU-1,hw.type=gpu,hw.name=GPU 0,hw.model=H100,inferscope.reason=fell off the bus";
    assert_eq!((observed[labels].1, observed.len()), (0.0, 2));

    let snapshot = told(Machines { unobserved: Some("no driver".to_owned()), ..Machines::default() });
    assert_eq!(only(&snapshot, "inferscope.gpu.observed"), ("inferscope.reason=no driver".to_owned(), (0, 0.0)));
}

#[test]
fn engines_processes_and_what_nvml_cost() {
    let snapshot = told(Machines {
        processes: vec![GpuProcess {
            gpu: "GPU-0".to_owned(),
            pid: 42,
            executable: Some("python3".to_owned()),
            engine: Some("e1".to_owned()),
            memory: Some(7),
            utilization: None,
        }],
        engines: vec![Engine {
            id: "e1".to_owned(),
            kind: Some("vllm".to_owned()),
            in_flight: Some(3),
            queued: Some(0),
            tokens_per_second: Some(99.5),
            shared_joules: Some(10.0),
            idle_joules: Some(4.0),
            unattributed_joules: None,
            processes: Some(2),
        }],
        nvml: vec![NvmlCall { name: "nvmlDeviceGetPowerUsage".to_owned(), count: 9, seconds: 0.5, longest: 0.25 }],
        samples_lost: Some(0),
        ..Machines::default()
    });
    let process = "hw.id=GPU-0,process.pid=42,process.executable.name=python3,inferscope.engine.id=e1".to_owned();
    assert_eq!(only(&snapshot, "inferscope.gpu.process.memory"), (process, (7, 7.0)));
    assert!(series(&snapshot, "inferscope.gpu.process.utilization").is_empty());
    let engine = "inferscope.engine.id=e1,inferscope.engine.name=vllm";
    for (name, expect) in [("calls.active", 3.0), ("calls.queued", 0.0), ("token.rate", 99.5), ("processes", 2.0)] {
        assert_eq!(series(&snapshot, &format!("inferscope.engine.{name}"))[engine].1, expect, "{name}");
    }
    let energy = series(&snapshot, "inferscope.engine.energy");
    assert_eq!((energy.len(), energy[&format!("{engine},inferscope.energy.state=shared")].1), (2, 10.0));
    let call = "inferscope.nvml.call=nvmlDeviceGetPowerUsage";
    for (name, expect) in [("nvml.calls", 9.0), ("nvml.time", 0.5), ("nvml.duration.max", 0.25)] {
        assert_eq!(series(&snapshot, &format!("inferscope.{name}"))[call].1, expect, "{name}");
    }
    assert_eq!(only(&snapshot, "inferscope.gpu.samples.lost").1.1, 0.0);
}

#[test]
fn processes_beyond_the_cap_are_one_of_their_device_and_their_memory_is_kept() {
    let process =
        |n: u32| GpuProcess { gpu: "GPU-0".to_owned(), pid: n, memory: Some(u64::from(n)), ..GpuProcess::default() };
    let metrics = Metrics::new(ANCHOR);
    for _ in 0..2 {
        let processes = (1..=300).map(process).collect();
        metrics.on_machines(Machines { at: NOW, processes, ..Machines::default() });
    }
    let snapshot = metrics.snapshot(NOW);
    let memory = series(&snapshot, "inferscope.gpu.process.memory");
    assert_eq!(memory.values().map(|(bytes, _)| bytes).sum::<u64>(), 300 * 301 / 2);
    assert_eq!((memory.len(), memory["hw.id=GPU-0,process.executable.name=other"].0), (257, 44 * 45 / 2));
    assert_eq!(
        only(&snapshot, "inferscope.metrics.folded"),
        ("inferscope.metrics.limit=process.pid".to_owned(), (88, 88.0))
    );
}

#[test]
fn what_nobody_renews_is_not_shown() {
    let metrics = Metrics::new(ANCHOR);
    metrics.on_machines(Machines { at: NOW, gpus: vec![gpu("GPU-0")], ..Machines::default() });
    let after = |more: Duration| Mono(NOW.0 + STALE.as_nanos() as u64 + more.as_nanos() as u64);
    assert_eq!(present(&metrics.snapshot(after(Duration::ZERO))), ["inferscope.gpu.observed"]);
    assert!(present(&metrics.snapshot(after(Duration::from_nanos(1)))).is_empty());
}

#[test]
fn two_devices_of_one_name_are_one_series() {
    let snapshot = told(Machines { gpus: vec![gpu("GPU-0"), gpu("GPU-0")], ..Machines::default() });
    assert_eq!(snapshot.families[0].points.len(), 1);
}

#[test]
fn losses_are_told_by_reason() {
    let metrics = Metrics::new(ANCHOR);
    metrics.on_lost_bytes(vec![("ring_full", 5)]);
    metrics.on_lost_bytes(vec![("ring_full", 9), ("scratch", 0)]);
    for _ in 0..2 {
        metrics.watch_lost_calls(Box::new(|| vec![("queue_full", 2)]));
    }
    let snapshot = metrics.snapshot(NOW);
    let bytes = series(&snapshot, "inferscope.capture.lost");
    assert_eq!((bytes["inferscope.reason=ring_full"].0, bytes["inferscope.reason=scratch"].0), (9, 0));
    assert_eq!(only(&snapshot, "inferscope.export.lost"), ("inferscope.reason=queue_full".to_owned(), (4, 4.0)));
}

#[test]
fn families_come_in_the_order_of_the_table() {
    let metrics = Metrics::new(ANCHOR);
    metrics.on_machines(Machines { at: NOW, gpus: vec![gpu("GPU-0")], samples_lost: Some(1), ..Machines::default() });
    metrics.on_call(&span(&server()));
    metrics.on_call(&span(&chat()));
    let snapshot = metrics.snapshot(NOW);
    let place = |name: &&str| names::ALL.iter().position(|metric| metric.name == *name).unwrap();
    assert!(present(&snapshot).is_sorted_by_key(place));
    assert_eq!(snapshot.time_unix_nano, ANCHOR.to_unix_nanos(NOW));
}
