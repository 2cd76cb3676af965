mod simulation;
mod whole;

use super::*;
use crate::{
    call::{FinishedCall, Side, gaps::GapSketch},
    export::testing::chat,
    gpu::{DeviceInfo, DeviceProcess, DeviceSample},
    host::{ProcessInfo, ProcessUsage},
    record::{CudaStep, ObjectId, Origin},
};

const MS: u64 = 1_000_000;
const SERVER: u32 = 100;
const WORKER: u32 = 101;

fn key(number: u64) -> FlightKey {
    FlightKey { stream: StreamKey::Socket(ObjectId { address: number, generation: 1 }), number: 0 }
}

/// A server and its worker, which is on device 0.
fn known() -> Serving {
    let mut serving = Serving::new(Limits::default());
    let info = DeviceInfo { device: 0, uuid: "GPU-0".to_owned(), ..DeviceInfo::default() };
    serving.gpu(Mono(1), &GpuRecord::Devices(vec![info]));
    serving.gpu(Mono(2), &on_device(4 << 30));
    let process = |pid, parent| ProcessInfo {
        pid,
        parent,
        start_boottime_ns: start_of(pid),
        listens: if pid == SERVER { vec![8000] } else { Vec::new() },
        exe: Some("/usr/bin/engine".to_owned()),
        comm: Some("engine".to_owned()),
        cgroup: Some("/engine.slice".to_owned()),
        ..ProcessInfo::default()
    };
    let processes = vec![process(SERVER, 1), process(WORKER, SERVER)];
    serving.host(Mono(3), &HostRecord::Processes { processes, links: Vec::new() });
    serving
}

/// When a process began: a tick for each.
fn start_of(pid: u32) -> u64 {
    u64::from(pid) * 10_000_000
}

fn on_device(memory: u64) -> GpuRecord {
    GpuRecord::Processes { device: 0, processes: vec![DeviceProcess { pid: WORKER, memory: Some(memory) }] }
}

fn sample(energy_mj: u64) -> GpuRecord {
    let sample = DeviceSample {
        device: 0,
        energy_mj: Some(energy_mj),
        power_mw: Some(300_000),
        utilization: Some(70),
        ..DeviceSample::default()
    };
    GpuRecord::Samples(vec![sample])
}

fn usage(runqueue_ns: u64) -> HostRecord {
    let one = |pid, runqueue_ns| ProcessUsage {
        pid,
        start_boottime_ns: start_of(pid),
        threads: 1,
        runqueue_ns,
        ..ProcessUsage::default()
    };
    HostRecord::Usage { processes: vec![one(SERVER, 0), one(WORKER, runqueue_ns)], cgroups: Vec::new() }
}

/// A server's streamed call: first token and last token, a token every `pace`.
fn call(start: u64, first: u64, tokens: u64, pace: u64) -> FinishedCall {
    let mut call = chat();
    call.side = Side::Server;
    call.process.pid = SERVER;
    let last = first + (tokens - 1) * pace;
    call.timing.start = Mono(start);
    call.timing.request_end = Some(Mono(start));
    call.timing.first_event = Some(Mono(first));
    call.timing.first_chunk = Some(Mono(first));
    call.timing.last_chunk = Some(Mono(last));
    call.timing.end = Mono(last);
    call.chunk_count = tokens;
    call.gaps = GapSketch::default();
    (1..tokens).for_each(|_| call.gaps.record(Duration::from_nanos(pace)));
    if let Some(facts) = &mut call.facts {
        (facts.usage.input, facts.usage.output) = (Some(100), Some(tokens));
    }
    call
}

fn look(first: Option<u64>, seen: u64) -> Look {
    Look {
        request_end: None,
        first_chunk: first.map(Mono),
        last_seen: Mono(seen),
        request_bytes: 400,
        windows: Vec::new(),
    }
}

/// Serves one call after the other, each with an observation of what was beside it. Gives the calls as they come out.
fn serve(serving: &mut Serving, calls: &[(FinishedCall, u64)]) -> Vec<FinishedCall> {
    let mut out = Vec::new();
    let (mut waited, mut energy) = (0, 0);
    let mut observe = |serving: &mut Serving, at: u64, more: u64, out: &mut Vec<FinishedCall>| {
        waited += more;
        energy += 30_000;
        serving.host(Mono(at), &usage(waited));
        serving.gpu(Mono(at), &sample(energy));
        serving.advance(Mono(at), &mut |call| out.push(*call));
    };
    for (number, (call, waits)) in calls.iter().enumerate() {
        let (start, end) = (call.timing.start.0, call.timing.end.0);
        observe(serving, start - MS, 0, &mut out);
        serving.began(key(number as u64), SERVER, call.timing.start);
        observe(serving, end, *waits, &mut out);
        let first = call.timing.first_chunk.map(|first| first.0);
        serving.finished(Some((key(number as u64), look(first, end))), Box::new(call.clone()), &mut |call| {
            out.push(*call)
        });
        observe(serving, end + 300 * MS, 0, &mut out);
    }
    serving.finish(&mut |call| out.push(*call));
    out
}

fn facts(call: &FinishedCall) -> &ServingFacts {
    call.serving.as_deref().expect("facts")
}

#[test]
fn a_call_of_an_unknown_process_passes_at_once() {
    let mut serving = Serving::new(Limits::default());
    serving.began(key(1), 7, Mono(100 * MS));
    assert_eq!(serving.wish().map(|wish| (wish.servers, wish.active)), Some((vec![7], true)));
    let mut out = Vec::new();
    let finished = Some((key(1), look(None, 200 * MS)));
    serving.finished(finished, Box::new(call(100 * MS, 150 * MS, 2, 50 * MS)), &mut |call| out.push(*call));
    assert_eq!((out.len(), out[0].serving.is_none()), (1, true));
}

#[test]
fn a_call_waits_for_what_was_observed_of_its_end_and_no_longer() {
    let mut serving = known();
    serving.host(Mono(900 * MS), &usage(0));
    serving.gpu(Mono(900 * MS), &sample(0));
    serving.began(key(1), SERVER, Mono(1000 * MS));
    let mut out = Vec::new();
    let finished = Some((key(1), look(Some(1100 * MS), 1500 * MS)));
    serving.finished(finished, Box::new(call(1000 * MS, 1100 * MS, 5, 100 * MS)), &mut |call| out.push(*call));
    assert_eq!(out.len(), 0);
    serving.advance(Mono(1600 * MS), &mut |call| out.push(*call));
    assert_eq!(out.len(), 0, "nothing was observed of its end");
    serving.advance(Mono(1500 * MS + HOLD_NS), &mut |call| out.push(*call));
    assert_eq!(out.len(), 1);
    let engine = facts(&out[0]).engine.as_ref().unwrap();
    assert_eq!(engine.processes, 2);
    assert_eq!(facts(&out[0]).gpu.as_ref().unwrap().energy, None, "no energy was seen of its time");
}

#[test]
fn what_is_watched_is_the_engine_around_a_server() {
    let mut serving = known();
    serving.began(key(1), SERVER, Mono(1000 * MS));
    let wish = serving.wish().unwrap();
    assert_eq!((wish.servers, wish.processes), (vec![SERVER], vec![SERVER, WORKER]));
    assert_eq!(wish.cgroups, ["/engine.slice"]);
    assert_eq!(serving.wish(), None, "nothing has changed");
}

#[test]
fn the_gpu_beside_a_call() {
    let mut serving = known();
    let calls: Vec<_> = (1..4).map(|n| (call(n * 2000 * MS, n * 2000 * MS + 50 * MS, 11, 50 * MS), 0)).collect();
    let out = serve(&mut serving, &calls);
    let gpu = facts(&out[2]).gpu.clone().unwrap();
    assert_eq!(gpu.ids, ["GPU-0"]);
    assert_eq!((gpu.utilization_max, gpu.power_watts), (Some(70), Some(300.0)));
    assert_eq!(gpu.memory, Some((4 << 30, 4 << 30, 4 << 30)));
    assert_eq!(facts(&out[2]).in_flight_at_start, Some(0));
}

#[test]
fn a_slow_call_has_the_cause_that_something_speaks_for() {
    let mut serving = known();
    let usual = |n: u64| (call(n * 2000 * MS, n * 2000 * MS + 50 * MS, 11, 20 * MS), 0);
    let mut calls: Vec<_> = (1..25).map(usual).collect();
    // One that waited for a processor, and one of which nothing is known.
    calls.push((call(60_000 * MS, 60_600 * MS, 11, 20 * MS), 500 * MS));
    calls.push((call(64_000 * MS, 64_600 * MS, 11, 20 * MS), 0));
    let out = serve(&mut serving, &calls);
    assert!(out[..24].iter().all(|call| facts(call).causes.is_empty() && facts(call).slow.is_empty()));
    let slow = facts(&out[24]);
    assert_eq!(slow.slow[0].what, Measure::FirstToken);
    assert_eq!(slow.causes.iter().map(|cause| cause.kind).collect::<Vec<_>>(), [CauseKind::CpuRunQueue]);
    let unknown = facts(&out[25]);
    assert_eq!((unknown.slow.len(), unknown.causes.len()), (1, 0), "no evidence, no cause");
}

#[test]
fn the_end_of_a_worker_is_the_cause_of_what_it_broke() {
    let mut serving = known();
    serving.began(key(1), SERVER, Mono(1000 * MS));
    serving.oom_victim(WORKER);
    serving.exited(Mono(1200 * MS), WORKER, 9);
    let mut broken = call(1000 * MS, 1100 * MS, 2, 50 * MS);
    broken.completion = Some(Completion::ServerClosed);
    let mut out = Vec::new();
    serving.finished(Some((key(1), look(Some(1100 * MS), 1300 * MS))), Box::new(broken), &mut |call| out.push(*call));
    serving.finish(&mut |call| out.push(*call));
    let causes = &facts(&out[0]).causes;
    assert_eq!(causes[0].kind, CauseKind::OomKill);
    assert_eq!(causes[0].evidence, "engine (pid 101) ended with signal 9, killed for want of memory");
}

/// Records of the worker.
fn of_worker(at: u64) -> Origin {
    Origin { time: Mono(at), tgid: WORKER, tid: WORKER, start_ns: start_of(WORKER) }
}

#[test]
fn a_call_has_the_steps_of_its_engine() {
    let mut serving = known();
    for number in 1..=100 {
        let begin = Mono((number - 1) * 20 * MS + 5 * MS);
        let step = CudaStep { begin, waited_ns: 12 * MS, gap_ns: Some(5 * MS), number, launches: 2 };
        serving.stepped(&of_worker(number * 20 * MS), &step);
    }
    let out = serve(&mut serving, &[(call(1000 * MS, 1020 * MS, 11, 20 * MS), 0)]);
    let steps = facts(&out[0]).steps.unwrap();
    assert_eq!((steps.count, steps.typical), (11, Some(Duration::from_millis(15))));
    assert_eq!((steps.wait, steps.gap), (Some(0.6), Some(0.25)));
}

#[test]
fn without_a_clock_nothing_is_said_of_steps() {
    let out = serve(&mut known(), &[(call(1000 * MS, 1020 * MS, 11, 20 * MS), 0)]);
    assert_eq!(facts(&out[0]).steps, None);
}

#[test]
fn memory_that_a_gpu_has_not_is_the_cause_of_what_failed() {
    let mut serving = known();
    serving.began(key(1), SERVER, Mono(1000 * MS));
    serving.gpu_memory_refused(&of_worker(1150 * MS), 512_000_000);
    serving.exited(Mono(1200 * MS), WORKER, 1 << 8);
    // Who is left is heard of before the call is told.
    let left = ProcessInfo {
        pid: SERVER,
        start_boottime_ns: start_of(SERVER),
        listens: vec![8000],
        exe: Some("/usr/bin/engine".to_owned()),
        ..ProcessInfo::default()
    };
    serving.host(Mono(1205 * MS), &HostRecord::Processes { processes: vec![left], links: Vec::new() });
    let mut broken = call(1000 * MS, 1100 * MS, 2, 50 * MS);
    broken.completion = Some(Completion::ServerClosed);
    broken.timing.end = Mono(1210 * MS);
    let mut out = Vec::new();
    serving.finished(Some((key(1), look(Some(1100 * MS), 1210 * MS))), Box::new(broken), &mut |call| out.push(*call));
    serving.finish(&mut |call| out.push(*call));
    let causes = &facts(&out[0]).causes;
    assert_eq!(
        causes.iter().map(|cause| cause.kind).collect::<Vec<_>>(),
        [CauseKind::GpuMemory, CauseKind::EngineExit]
    );
    assert_eq!(causes[0].evidence, "GPU memory refused 1 times, 512 MB at once (pid 101)");
}

#[test]
fn a_stuck_call_says_since_when_its_engine_makes_no_step() {
    let mut serving = known();
    serving.began(key(1), SERVER, Mono(1000 * MS));
    let step = CudaStep { begin: Mono(1100 * MS), waited_ns: 1, gap_ns: None, number: 1, launches: 1 };
    serving.stepped(&of_worker(1500 * MS), &step);
    serving.advance(Mono(31_500 * MS), &mut |_| {});
    let notices = serving.notices();
    let [Notice::Stuck { stepless, lasted, .. }] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!((*stepless, *lasted), (Some(Duration::from_secs(30)), Duration::from_millis(30_500)));
}

#[test]
fn work_for_a_client_that_has_gone_is_waste() {
    let mut serving = known();
    serving.began(key(1), SERVER, Mono(1000 * MS));
    let windows = vec![(10, 1.0), (11, 5.0)];
    serving.looked(key(1), &Look { windows, ..look(Some(1050 * MS), 1190 * MS) }, Mono(1190 * MS));
    serving.client_gone(key(1).stream, Mono(1200 * MS));
    let mut gone = call(1000 * MS, 1050 * MS, 20, 50 * MS);
    gone.completion = Some(Completion::ClientClosed);
    let end = gone.timing.end;
    let windows = vec![(12, 5.0), (13, 8.0)];
    let last = Look { windows, ..look(Some(1050 * MS), end.0) };
    let mut out = Vec::new();
    serving.finished(Some((key(1), last)), Box::new(gone), &mut |call| out.push(*call));
    serving.finish(&mut |call| out.push(*call));
    let waste = facts(&out[0]).waste.unwrap();
    assert_eq!((waste.since, waste.chunks, waste.lasted), (Mono(1200 * MS), Some(13), end.since(Mono(1200 * MS))));
}

#[test]
fn what_was_no_call_leaves_nothing() {
    let mut serving = known();
    serving.began(key(1), SERVER, Mono(1000 * MS));
    serving.dropped(key(1));
    assert_eq!(serving.open(), []);
    assert_eq!(serving.flights.iter().count(), 0);
}
