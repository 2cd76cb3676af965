//! The mock engine by itself, without an agent: what it says of its requests is true, and its processes end together.
//!
//! `faults.rs` is about what is injected.

mod faults;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use inferscope_tests::engine::{
    MockEngine, Options,
    client::{Ask, Called, End, Usage},
    load::{Length, Load, Planned, drive},
    truth::{Finish, Pids, RequestTruth, Truth},
};
use serde_json::Value;

/// Requests of about a second on an engine that is ten times as fast.
fn fast() -> Options {
    Options { rate_scale: 10.0, ..Options::default() }
}

/// Calls that are all due at once.
fn at_once(asks: impl IntoIterator<Item = Ask>) -> Vec<Planned> {
    asks.into_iter().map(|ask| Planned { due: Duration::ZERO, ask }).collect()
}

/// One call.
fn one(engine: &MockEngine, ask: Ask) -> Called {
    drive(engine.address(), &at_once([ask]), false).unwrap().remove(0)
}

/// The truth of a call.
fn truth_of<'a>(truth: &'a Truth, called: &Called) -> &'a RequestTruth {
    truth.request(called.id.as_deref().expect("the call has an id")).expect("the call is logged")
}

/// A connection with a call whose first token has come.
fn begun(engine: &MockEngine, ask: Ask) -> TcpStream {
    let mut client = TcpStream::connect(engine.address()).unwrap();
    client.write_all(ask.request().as_bytes()).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    // The role comes first, with empty content.
    while text.matches(r#""content":"#).count() < 2 {
        let n = client.read(&mut buffer).unwrap();
        assert!(n > 0, "the stream ended before the first token: {text}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    client
}

/// What else comes before the connection ends.
fn rest(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A server that is killed resets the connection; what came before is there.
    let _reset = client.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The lines of an engine's time line behind its header.
fn lines(engine: &MockEngine) -> Vec<Value> {
    let text = fs::read_to_string(engine.timeline()).unwrap();
    text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The integral of a device's power over a time line, in picojoules, from its first line to its last.
fn energy_pj(lines: &[Value], device: u32) -> u128 {
    let states = lines.iter().filter(|line| line["device"] == device && line["power_w"].is_number());
    let points: Vec<(u64, u64)> = states
        .map(|line| (line["t_ns"].as_u64().unwrap(), (line["power_w"].as_f64().unwrap() * 1000.0).round() as u64))
        .collect();
    assert!(points.is_sorted_by_key(|(at, _)| at));
    points.windows(2).map(|two| u128::from(two[1].0 - two[0].0) * u128::from(two[0].1)).sum()
}

/// What was divided among requests is what the devices used for steps, and with the idle time it is the integral of the
/// time line.
fn check_energy(truth: &Truth, lines: &[Value]) {
    let shares: u64 = truth.requests.iter().map(|request| request.energy_uj().unwrap()).sum();
    assert_eq!(shares, truth.devices.iter().map(|device| device.steps_uj).sum::<u64>());
    for device in &truth.devices {
        assert_eq!(device.total_uj, device.steps_uj + device.idle_uj);
        assert_eq!(u128::from(device.total_uj), energy_pj(lines, device.device) / 1_000_000);
        let idle = lines.iter().rfind(|line| line["device"] == device.device && line["power_w"].is_number()).unwrap();
        assert_eq!((&idle["power_w"], idle["t_ns"].as_u64()), (&Value::from(120.0), Some(device.until_ns)));
    }
}

#[test]
fn fifty_requests_are_answered_counted_and_paid_for() {
    let engine = MockEngine::start(&fast()).unwrap();
    let load = Load {
        rate: 40.0,
        duration: Duration::from_secs(2),
        output: Length { mu: 3.0, sigma: 0.7, least: 1, most: 100 },
        ..Load::default()
    };
    let plan: Vec<Planned> = load.plan().into_iter().take(50).collect();
    let called = drive(engine.address(), &plan, true).unwrap();
    let pids = engine.pids();
    assert!(pids.all().into_iter().all(exists));
    let truth = engine.stop().unwrap();

    assert_eq!((called.len(), truth.requests.len()), (50, 50));
    assert_eq!(called.iter().map(|called| &called.id).collect::<BTreeSet<_>>().len(), 50);
    for called in &called {
        let Ask { prompt, cached, output, .. } = called.ask;
        let usage = Usage { prompt: prompt.into(), completion: output.into(), cached: cached.into() };
        assert_eq!((&called.end, called.tokens, called.usage), (&End::Done, output, Some(usage)));
        let truth = truth_of(&truth, called);
        assert_eq!((truth.prompt_tokens, truth.cached_tokens), (prompt, cached));
        assert_eq!((truth.output_tokens, truth.finish), (Some(output), Finish::Length));
        assert_eq!((&truth.worker_pids, &truth.devices, truth.stream), (&pids.workers, &vec![0], true));
        let times = [
            Some(called.due_ns),
            Some(called.sent_ns),
            Some(truth.arrival_ns),
            truth.admitted_ns,
            truth.first_token_ns,
            truth.first_write_ns,
        ];
        assert!(times.is_sorted() && times.iter().all(Option::is_some), "{called:?} {truth:?}");
        assert!(truth.first_token_ns <= called.first_token_ns && called.last_token_ns <= Some(called.end_ns));
        assert!(truth.first_token_ns <= truth.last_token_ns && truth.last_token_ns <= Some(truth.end_ns));
    }
    assert!(truth.requests.iter().any(|request| request.in_flight > 0));
    check_energy(&truth, &lines(&engine));
    assert!(pids.all().into_iter().all(|pid| !exists(pid)));
}

#[test]
fn two_devices_compute_every_step_and_a_third_worker_shares_one() {
    let engine = MockEngine::start(&Options { devices: vec![0, 1], workers: Some(3), ..fast() }).unwrap();
    assert_eq!(engine.pids().devices, [0, 1, 0]);
    let called = drive(engine.address(), &at_once((1..=8).map(|n| Ask::stream(100 * n, 20))), false).unwrap();
    let pids = engine.pids();
    let truth = engine.stop().unwrap();
    assert!(called.iter().all(|called| called.end == End::Done));
    assert_eq!(truth.devices.iter().map(|device| device.device).collect::<Vec<_>>(), [0, 1]);
    assert!(truth.devices[0].n_steps >= 20 && truth.devices[0].n_steps == truth.devices[1].n_steps);
    let lines = lines(&engine);
    check_energy(&truth, &lines);
    for (device, pid) in pids.on_devices() {
        let memory = lines.iter().filter(|line| line["device"] == device && line["process"]["pid"] == pid);
        let memory: Vec<&Value> = memory.map(|line| &line["process"]["memory_mib"]).collect();
        assert!(memory[0].as_u64() < memory[1].as_u64(), "the pool comes after the weights");
        assert_eq!(memory.last(), Some(&&Value::from(0)));
    }
    assert_eq!(truth_of(&truth, &called[3]).devices, [0, 1]);
}

#[test]
fn an_answer_at_once_has_the_same_truth() {
    let engine = MockEngine::start(&fast()).unwrap();
    let called = one(&engine, Ask { stream: false, cached: 30, ..Ask::stream(40, 12) });
    let truth = engine.stop().unwrap();
    assert_eq!((&called.end, called.tokens), (&End::Done, 12));
    assert_eq!(called.usage, Some(Usage { prompt: 40, completion: 12, cached: 30 }));
    let truth = truth_of(&truth, &called);
    assert_eq!((truth.stream, truth.output_tokens, truth.finish), (false, Some(12), Finish::Length));
    assert!(truth.first_token_ns < truth.last_token_ns && truth.last_token_ns <= truth.first_write_ns);
}

#[test]
fn a_client_that_leaves_is_cancelled_or_generated_for() {
    for ignore_disconnect in [false, true] {
        let engine = MockEngine::start(&Options { ignore_disconnect, ..fast() }).unwrap();
        let called = one(&engine, Ask { leave_after: Some(5), ..Ask::stream(10, 400) });
        // The next is answered all the same.
        assert_eq!(one(&engine, Ask::stream(10, 450)).end, End::Done);
        let truth = engine.stop().unwrap();
        assert_eq!((called.end.clone(), called.tokens), (End::Left, 5));
        let request = truth_of(&truth, &called);
        let tokens = request.output_tokens.unwrap();
        assert_eq!(request.finish, Finish::ClientGone);
        if ignore_disconnect {
            assert_eq!(tokens, 400);
            assert!(request.tokens_after_gone > 100, "{request:?}");
        } else {
            assert!((5..400).contains(&tokens) && request.tokens_after_gone <= tokens - 5, "{request:?}");
        }
        assert!(request.end_ns >= called.last_token_ns.unwrap());
        check_energy(&truth, &lines(&engine));
    }
}

#[test]
fn an_engine_that_is_stopped_ends_its_requests() {
    let engine = MockEngine::start(&Options::default()).unwrap();
    // More than it can generate before it is stopped.
    let mut client = begun(&engine, Ask::stream(10, 5_000));
    let truth = engine.stop().unwrap();
    assert!(!rest(&mut client).contains("[DONE]"));
    check_energy(&truth, &lines(&engine));
    assert_eq!(truth.requests.len(), 1);
    let request = &truth.requests[0];
    assert_eq!(request.finish, Finish::Stopped);
    assert!(request.output_tokens < Some(5_000) && request.energy_mj > Some(0.0), "{request:?}");
}

#[test]
fn nothing_is_left_of_an_engine_whose_front_was_killed() {
    let engine = MockEngine::start(&Options { devices: vec![0, 1], ..Options::default() }).unwrap();
    let pids = engine.pids();
    assert_eq!(pids.all().into_iter().collect::<BTreeSet<_>>().len(), 4);
    let mut client = begun(&engine, Ask::stream(10, 5_000));
    // `kill` fails if one of them lives on.
    let truth = engine.kill().unwrap();
    assert!(!rest(&mut client).contains("[DONE]"));
    assert!(truth.requests.is_empty(), "there was nobody to write it");
    check_buried(pids, &lines(&engine));
}

/// The last that is said of each device is that it is idle, and of each worker that it has left it.
fn check_buried(pids: &Pids, lines: &[Value]) {
    for (device, pid) in pids.on_devices() {
        let power = lines.iter().rfind(|line| line["device"] == device && line["power_w"].is_number()).unwrap();
        let memory = lines.iter().rfind(|line| line["process"]["pid"] == pid).unwrap();
        assert_eq!((&power["power_w"], &memory["process"]["memory_mib"]), (&Value::from(120.0), &Value::from(0)));
    }
}

#[test]
fn every_token_is_one_write() {
    let engine = MockEngine::start(&fast()).unwrap();
    let front = engine.pids().front;
    // Gathering writes are counted; those of one buffer to a socket, as to the core, are not.
    let writes = || {
        let io = fs::read_to_string(format!("/proc/{front}/io")).unwrap();
        io.lines().find_map(|line| line.strip_prefix("syscw: ")?.parse::<u64>().ok()).unwrap()
    };
    let before = writes();
    assert_eq!(one(&engine, Ask::stream(10, 300)).end, End::Done);
    let written = writes() - before;
    // The head may go with the role or by itself; then tokens, usage, the mark and the end; and a line of the log.
    assert!((302..=310).contains(&written), "{written} writes for 300 tokens");
    engine.stop().unwrap();
}
