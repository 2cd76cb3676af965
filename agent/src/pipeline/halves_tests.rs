//! Connections whose directions are streams of their own, from records to calls.

use std::collections::HashMap;

use proptest::prelude::*;

use super::{
    tests::{Bench, request_for, response},
    *,
};
use crate::{
    call::{Capture, Completion},
    record::{Address, TlsRecords},
};

const TGID: u32 = 42;

/// A connection as the kernel side tells of it.
struct Conn {
    n: u64,
    /// Object of each half, the one that reads first, and how far it is.
    halves: [(ObjectId, u64); 2],
}

impl Conn {
    fn new(n: u64) -> Self {
        // A client's request goes out first, so the half that writes is seen first.
        let half = |address, generation| (ObjectId { address, generation }, 0);
        Self { n, halves: [half(0x7000 + 2 * n, 2 * n + 2), half(0x7001 + 2 * n, 2 * n + 1)] }
    }

    fn socket(&self) -> ObjectId {
        ObjectId { address: 0xf000 + self.n, generation: 100 + self.n }
    }

    /// One record, with what the socket shows of it if that is told.
    fn record(&mut self, bench: &mut Bench, direction: Direction, payload: &[u8], is_told: bool) {
        let told = TlsRecords::of(self.socket(), direction, &[payload.len() as u16 + 17]);
        if is_told && direction == Direction::Read {
            let origin = bench.origin(TGID);
            bench.take(Record::TlsRecords(origin, told));
        }
        let (stream, offset) = &mut self.halves[usize::from(direction == Direction::Write)];
        let origin = bench.origin(TGID);
        let data = Data {
            stream: *stream,
            offset: *offset,
            skipped: 0,
            total: payload.len() as u32,
            turn: 1,
            direction,
            source: Source::Rustls,
            overhead: 17,
            payload,
        };
        *offset += payload.len() as u64;
        bench.take(Record::Data(origin, data));
        if is_told && direction == Direction::Write {
            let origin = bench.origin(TGID);
            bench.take(Record::TlsRecords(origin, told));
        }
    }

    fn close(&self, bench: &mut Bench) {
        bench.state(self.socket(), 1, 8, 0);
        bench.state(self.socket(), 8, 7, 0);
    }
}

/// One call's records, with both directions told or not.
fn call(bench: &mut Bench, conn: &mut Conn, side: Side, told: [bool; 2]) {
    let (asks, answers) = match side {
        Side::Client => (Direction::Write, Direction::Read),
        Side::Server => (Direction::Read, Direction::Write),
    };
    let is_told = |direction| told[usize::from(direction == Direction::Write)];
    conn.record(bench, asks, &request_for(&format!("m{}", conn.n)), is_told(asks));
    for piece in response() {
        conn.record(bench, answers, &piece, is_told(answers));
    }
}

#[test]
fn two_halves_are_one_call() {
    for side in [Side::Client, Side::Server] {
        let mut bench = Bench::new(false);
        let mut conn = Conn::new(1);
        if side == Side::Server {
            // What is read is seen first.
            conn.halves.iter_mut().for_each(|(object, _)| object.generation = 10 - object.generation);
        }
        bench.addresses(conn.socket(), "127.0.0.1:40000", "127.0.0.1:8000");
        call(&mut bench, &mut conn, side, [true; 2]);
        call(&mut bench, &mut conn, side, [true; 2]);
        bench.balanced();
        assert_eq!(bench.calls.len(), 2, "{:?}", bench.calls);
        for call in &bench.calls {
            assert_eq!((call.side, call.completion, call.capture), (side, Some(Completion::Done), Capture::Complete));
            assert_eq!((call.source, call.binding, call.tls), (Source::Rustls, Some(Binding::Records), true));
            let peer = Address::Ip("127.0.0.1:8000".parse().unwrap());
            assert_eq!((call.chunk_count, &call.peer), (3, &Some(peer)));
            assert!(call.timing.start < call.timing.end);
        }
        let asks = usize::from(side == Side::Client);
        let (gate, joined) = (conn.halves[asks].0, conn.halves[1 - asks].0);
        let with = Joined { generation: joined.generation, gate: gate.address, gate_generation: gate.generation };
        assert_eq!(bench.joins, [(Place { object: joined.address, tgid: TGID, pad: 0 }, Some(with))]);
        assert!(bench.answers.iter().all(|answer| answer.generation == gate.generation), "{:?}", bench.answers);
        assert_eq!(bench.pipeline.stats().bound_by_records, 1);
    }
}

#[test]
fn a_call_whose_answer_cannot_be_told_from_others_says_so() {
    let mut bench = Bench::new(false);
    let mut conn = Conn::new(1);
    call(&mut bench, &mut conn, Side::Client, [false, true]);
    assert_eq!(bench.calls.len(), 0);
    conn.close(&mut bench);
    assert_eq!(bench.calls.len(), 1);
    let call = bench.calls.remove(0);
    assert_eq!((call.side, call.capture), (Side::Client, Capture::Gap));
    assert_eq!((call.facts.unwrap().request.model.as_deref(), call.http.status), (Some("m1"), None));
    let Bench { pipeline, calls, .. } = &mut bench;
    pipeline.finish(&mut |output| {
        if let Output::Call(call) = output {
            calls.push(*call);
        }
    });
    let answer: usize = response().iter().map(Vec::len).sum();
    let stats = bench.pipeline.stats();
    assert_eq!((bench.calls.len(), stats.unpaired, stats.halves_unbound), (0, answer as u64, 1));
    bench.balanced();
}

#[test]
fn a_call_of_which_neither_half_is_known_is_counted() {
    let mut bench = Bench::new(false);
    let mut conn = Conn::new(1);
    call(&mut bench, &mut conn, Side::Client, [false; 2]);
    assert!(bench.pipeline.stats().held > 0);
    bench.balanced();
    bench.pipeline.on_tick(Mono(u64::MAX / 2), &mut |_| ());
    let stats = bench.pipeline.stats();
    assert_eq!((stats.held, stats.halves_unbound, stats.unpaired), (0, 2, stats.received));
    bench.balanced();
}

/// A connection, and what is left of the call that it is in, last first.
struct Script {
    conn: Conn,
    left: Vec<(Direction, Vec<u8>)>,
}

/// One step of one of several connections.
#[derive(Clone, Debug)]
struct Step {
    conn: usize,
    told: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0usize..4, prop::bool::weighted(0.8)).prop_map(|(conn, told)| Step { conn, told });
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// However the records of several connections interleave and whatever of them is told: no call has one connection's
    /// request and another's answer, and no byte is unaccounted for.
    #[test]
    fn no_call_is_made_of_two(steps in steps()) {
        let mut bench = Bench::new(false);
        let mut scripts: HashMap<usize, Script> = HashMap::new();
        for Step { conn: n, told } in steps {
            let fresh = || Script { conn: Conn::new(n as u64), left: Vec::new() };
            let Script { conn, left } = scripts.entry(n).or_insert_with(fresh);
            if left.is_empty() {
                let answers = response().into_iter().map(|piece| {
                    let tagged = String::from_utf8(piece).unwrap().replace("m-1", &format!("m-{n}"));
                    (Direction::Read, tagged.into_bytes())
                });
                left.push((Direction::Write, request_for(&format!("m{n}"))));
                left.extend(answers);
                left.reverse();
            }
            if let Some((direction, payload)) = left.pop() {
                conn.record(&mut bench, direction, &payload, told);
            }
            bench.balanced();
        }
        for n in 0..4 {
            if let Some(script) = scripts.get(&n) {
                script.conn.close(&mut bench);
            }
        }
        for call in &bench.calls {
            let Some(facts) = &call.facts else { continue };
            if let (Some(asked), Some(answered)) = (&facts.request.model, &facts.response.model) {
                prop_assert_eq!(asked.trim_start_matches('m'), answered.trim_start_matches("m-"));
            }
        }
        bench.balanced();
        prop_assert_eq!(bench.pipeline.stats().bindings_withdrawn, 0);
    }
}
