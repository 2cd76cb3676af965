//! Faults that are injected: each has the effect that it says, and the truth tells it.

use std::{fs, time::Duration};

use inferscope_tests::engine::{
    MockEngine, Options,
    client::{Ask, Called, End},
    truth::{Finish, RequestTruth},
};
use serde_json::{Value, json};

use super::{begun, check_buried, check_energy, fast, lines, one, rest, truth_of};

const MS: u64 = 1_000_000;

/// Injects a fault into an idle engine and makes a call of a few steps. Returns what the client and the engine say of
/// the call, and the time line.
fn call_after(fault: &Value) -> (Called, RequestTruth, Vec<Value>) {
    let engine = MockEngine::start(&fast()).unwrap();
    engine.control(fault).unwrap();
    let called = one(&engine, Ask::stream(10, 5));
    let truth = engine.stop().unwrap();
    assert_eq!(called.end, End::Done);
    let lines = lines(&engine);
    check_energy(&truth, &lines);
    let request = truth_of(&truth, &called).clone();
    (called, request, lines)
}

/// Times of a request from its arrival: to its first step, and to its first token.
fn waited(request: &RequestTruth) -> (u64, u64) {
    (request.admitted_ns.unwrap() - request.arrival_ns, request.first_token_ns.unwrap() - request.arrival_ns)
}

#[test]
fn a_stalled_worker_holds_steps_up_with_an_idle_device() {
    let (_, request, lines) = call_after(&json!({"worker": "stall", "ms": 1_000}));
    let (admitted, _) = waited(&request);
    // The fault was on its way before the request.
    assert!(admitted > 200 * MS, "{request:?}");
    // Nothing was computed meanwhile.
    let busy: Vec<u64> = lines
        .iter()
        .filter(|line| line["power_w"].as_f64() > Some(120.0))
        .map(|line| line["t_ns"].as_u64().unwrap())
        .collect();
    assert!(busy[0] >= request.arrival_ns + 200 * MS);
}

#[test]
fn a_stall_in_the_middle_is_between_two_tokens() {
    let engine = MockEngine::start(&fast()).unwrap();
    let mut client = begun(&engine, Ask::stream(10, 200));
    engine.control(&json!({"worker": "stall", "ms": 400})).unwrap();
    assert!(rest_of_stream(&mut client).contains("[DONE]"));
    let truth = engine.stop().unwrap();
    let request = &truth.requests[0];
    // 199 steps of 0.65 ms each, and the stall.
    assert!(request.last_token_ns.unwrap() - request.first_token_ns.unwrap() > 400 * MS, "{request:?}");
    let lines = lines(&engine);
    check_energy(&truth, &lines);
    let states: Vec<&Value> = lines.iter().filter(|line| line["power_w"].is_number()).collect();
    let pause = states.windows(2).find(|two| {
        two[0]["power_w"] == 120.0 && two[1]["t_ns"].as_u64().unwrap() - two[0]["t_ns"].as_u64().unwrap() >= 400 * MS
    });
    assert!(pause.is_some(), "the device is idle while its worker stalls");
}

/// The stream up to its end; the connection stays open.
fn rest_of_stream(client: &mut std::net::TcpStream) -> String {
    use std::io::Read as _;
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("[DONE]") {
        let n = client.read(&mut buffer).unwrap();
        assert!(n > 0, "the stream ended without its mark: {text}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    text
}

#[test]
fn a_throttled_device_takes_twice_as_long_and_counts_it() {
    let (_, _, lines) = call_after(&json!({"gpu": "throttle", "ms": 60_000}));
    let on = lines.iter().find(|line| line["throttle_reasons"] == 64).unwrap();
    assert_eq!(on["sm_clock_mhz"], 990);
    // A step with one token takes 0.65 ms on this engine, and 1.3 ms throttled.
    let violations: Vec<u64> = lines.iter().filter_map(|line| line["violation"]["thermal_ns"].as_u64()).collect();
    assert!(violations.len() == 5 && violations.iter().all(|ns| *ns > 1_300_000), "{violations:?}");
}

#[test]
fn throttling_ends_by_itself() {
    let engine = MockEngine::start(&fast()).unwrap();
    engine.control(&json!({"gpu": "throttle", "ms": 1})).unwrap();
    // Some of its steps are throttled perhaps, the last of 200 is not.
    let first = one(&engine, Ask::stream(10, 200));
    engine.stop().unwrap();
    assert_eq!(first.end, End::Done);
    let lines = lines(&engine);
    let reasons: Vec<u64> = lines.iter().filter_map(|line| line["throttle_reasons"].as_u64()).collect();
    assert_eq!(reasons, [0, 64, 0]);
}

#[test]
fn an_xid_is_in_the_time_line() {
    let (_, _, lines) = call_after(&json!({"gpu": "xid", "code": 79}));
    assert_eq!(lines.iter().filter(|line| line["xid"] == 79).count(), 1);
}

#[test]
fn weights_are_read_before_the_engine_serves_and_again_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let weights = dir.path().join("model.safetensors");
    fs::write(&weights, vec![7; 8 << 20]).unwrap();
    let engine = MockEngine::start(&Options { weights: Some(weights.clone()), ..fast() }).unwrap();
    let worker = engine.pids().workers[0];
    // What read(2) returned, from the page cache or not.
    let read = || {
        let io = fs::read_to_string(format!("/proc/{worker}/io")).unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse::<u64>().ok()).unwrap()
    };
    let loaded = read();
    assert!(loaded >= 8 << 20, "{loaded}");
    engine.control(&json!({"worker": "read", "file": weights})).unwrap();
    assert_eq!(one(&engine, Ask::stream(10, 2)).end, End::Done);
    assert!(read() - loaded >= 8 << 20);
    engine.stop().unwrap();
}

#[test]
fn memory_that_is_allocated_is_resident() {
    let engine = MockEngine::start(&fast()).unwrap();
    let worker = engine.pids().workers[0];
    let resident = || inferscope_tests::usage::Memory::of(worker).unwrap().resident;
    let before = resident();
    engine.control(&json!({"worker": "allocate", "mib": 40})).unwrap();
    assert_eq!(one(&engine, Ask::stream(10, 2)).end, End::Done);
    assert!(resident() >= before + (40 << 20));
    engine.stop().unwrap();
}

#[test]
fn a_core_that_ends_takes_the_engine_with_it() {
    for fault in [json!({"core": "exit", "code": 3}), json!({"core": "abort"})] {
        let engine = MockEngine::start(&Options::default()).unwrap();
        let mut client = begun(&engine, Ask::stream(10, 5_000));
        engine.control(&fault).unwrap();
        let text = rest(&mut client);
        assert!(text.contains(r#""error""#) && text.contains("[DONE]"), "{text}");
        check_crash(&engine);
    }
}

#[test]
fn a_worker_that_is_killed_takes_the_engine_with_it() {
    let engine = MockEngine::start(&Options { devices: vec![0, 1], ..Options::default() }).unwrap();
    let mut client = begun(&engine, Ask::stream(10, 5_000));
    let worker = rustix::process::Pid::from_raw(engine.pids().workers[1].cast_signed()).unwrap();
    rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
    assert!(rest(&mut client).contains(r#""error""#));
    check_crash(&engine);
}

#[test]
fn a_worker_that_is_killed_while_nothing_is_computed_is_missed_too() {
    let engine = MockEngine::start(&fast()).unwrap();
    let worker = rustix::process::Pid::from_raw(engine.pids().workers[0].cast_signed()).unwrap();
    rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
    let (status, _) = engine.wait_end().unwrap();
    assert_eq!(status.code(), Some(1));
    check_buried(engine.pids(), &lines(&engine));
}

/// The engine ends in an error, its request is told so, and its devices are idle and empty.
fn check_crash(engine: &MockEngine) {
    let pids = engine.pids();
    let (status, truth) = engine.wait_end().unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(truth.requests.len(), 1);
    let request = &truth.requests[0];
    assert_eq!((request.finish, request.output_tokens, request.energy_mj), (Finish::CoreDied, None, None));
    check_buried(pids, &lines(engine));
}

#[test]
fn what_is_no_fault_is_refused() {
    let engine = MockEngine::start(&fast()).unwrap();
    let refused = engine.control(&json!({"worker": "dance"})).unwrap_err().to_string();
    assert!(refused.contains("400"), "{refused}");
    let called = one(&engine, Ask { output: 0, pause: Duration::from_millis(1), ..Ask::stream(10, 1) });
    assert!(matches!(&called.end, End::Refused(why) if why.contains("max_tokens")), "{called:?}");
    assert_eq!(called.status, Some(400));
    assert!(engine.stop().unwrap().requests.is_empty());
}
