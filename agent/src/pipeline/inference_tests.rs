//! Inferred calls: who gets one, and that nobody gets two.

use inferscope_common::verdict::{REJECT, Verdict};

use super::*;
use crate::{
    call::Side,
    record::{Address, ObjectId, Socket, SocketState, Source, TlsHeader, TlsHello},
    targets::{Selectors, Targets},
};

const MS: u64 = 1_000_000;
const SOCKET: ObjectId = ObjectId { address: 10, generation: 11 };
const TLS: ObjectId = ObjectId { address: 20, generation: 21 };

struct Bench {
    pipeline: Pipeline,
    calls: Vec<FinishedCall>,
    answers: Vec<Verdict>,
    now: u64,
}

impl Bench {
    fn new(infer: bool, all_http: bool, hosts: &[&str]) -> Self {
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        let targets = Targets { include: Selectors { hosts, ..Selectors::default() }, ..Targets::default() };
        let connection = ConnectionOptions { all_http, targets: targets.into(), ..ConnectionOptions::default() };
        let options =
            PipelineOptions { connection, idle_ns: 1_000 * MS, epoch: [1; 16], infer, limits: Default::default() };
        Self { pipeline: Pipeline::new(options), calls: vec![], answers: vec![], now: 0 }
    }

    fn take(&mut self, record: Record<'_>) {
        let Self { pipeline, calls, answers, .. } = self;
        pipeline.on_record(record, &mut |output| match output {
            Output::Call(call) => calls.push(*call),
            Output::Answer { verdict, .. } => answers.push(verdict),
            Output::Dull(_) | Output::Join { .. } | Output::Observe(_) | Output::Notice(_) => {}
        });
    }

    fn origin(&mut self) -> Origin {
        self.now += 5 * MS;
        Origin { time: Mono(self.now), tgid: 7, tid: 7, start_ns: 3 }
    }

    fn header(&mut self, direction: Direction, content: u8, len: u16) {
        let header = TlsHeader { socket: SOCKET, direction, plain: 0, content, len, after_gap: false };
        let origin = self.origin();
        self.take(Record::TlsHeader(origin, header));
    }

    fn hello(&mut self, direction: Direction, bytes: &[u8]) {
        let origin = self.origin();
        self.take(Record::TlsHello(origin, TlsHello { socket: SOCKET, direction, bytes }));
        self.header(direction, 22, bytes.len() as u16);
    }

    /// A TLS 1.2 connection of a client with one exchange.
    fn exchange(&mut self, name: &str) {
        let [local, peer] = ["10.0.0.1:40000", "10.0.0.2:443"].map(|end| Address::Ip(end.parse().unwrap()));
        let origin = self.origin();
        self.take(Record::Socket(origin, Socket { id: SOCKET, local, peer }));
        self.hello(Direction::Write, &client_hello(name));
        self.hello(Direction::Read, &SERVER_HELLO);
        self.header(Direction::Write, 23, 324);
        self.header(Direction::Read, 23, 524);
    }

    fn close(&mut self) {
        let origin = self.origin();
        self.take(Record::SocketState(
            origin,
            SocketState { id: SOCKET, old: 5, new: tcp::CLOSE, error: 0, unread: false },
        ));
    }
}

/// A ClientHello of which the name is the only extension.
fn client_hello(name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    let len = name.len() as u8;
    let mut hello = vec![1, 0, 0, 0, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2f, 1, 0, 0, len + 9, 0, 0, 0, len + 5, 0, len + 3, 0, 0, len]);
    hello.extend(name);
    hello
}

/// TLS 1.2 with ECDHE and AES-GCM.
const SERVER_HELLO: [u8; 42] = {
    let mut hello = [0; 42];
    (hello[0], hello[4], hello[5]) = (2, 3, 3);
    (hello[39], hello[40]) = (0xc0, 0x2f);
    hello
};

fn leave_alone() -> Verdict {
    Verdict { generation: SOCKET.generation, turn: 0, verdict: REJECT }
}

#[test]
fn a_call_to_a_provider_is_inferred() {
    let mut bench = Bench::new(true, false, &[]);
    bench.exchange("api.openai.com");
    assert!(bench.calls.is_empty(), "held back until it is over");
    bench.close();
    let [call] = &bench.calls[..] else { panic!("{:?}", bench.calls) };
    let facts = call.inferred.as_ref().unwrap();
    assert_eq!((call.side, call.source, call.tls), (Side::Client, Source::Ciphertext, true));
    assert_eq!((facts.request_bytes, facts.response_bytes, facts.records), (300, 500, 1));
    assert_eq!(call.http.host.as_deref(), Some("api.openai.com:443"));
    assert!(call.facts.is_none() && call.completion.is_none() && call.http.status.is_none());
    assert_eq!((bench.pipeline.stats().inferred, bench.pipeline.stats().calls), (1, 0));
    assert!(bench.answers.is_empty());
}

#[test]
fn others_are_left_alone_unless_they_are_asked_for() {
    for (infer, all_http, hosts, name, expected) in [
        (false, true, &[][..], "api.openai.com", 0),
        (true, false, &[], "updates.example", 0),
        (true, true, &[], "updates.example", 1),
        (true, false, &["*.example"], "updates.example", 1),
        (true, false, &["*.example"], "api.openai.com", 0),
        (true, false, &["10.0.0.2"], "", 1),
        (true, false, &[], "", 0),
    ] {
        let mut bench = Bench::new(infer, all_http, hosts);
        bench.exchange(name);
        bench.close();
        assert_eq!(bench.calls.len(), expected, "{infer} {all_http} {hosts:?} {name}");
        if infer && expected == 0 {
            assert_eq!(bench.answers.first(), Some(&leave_alone()), "{name}");
        }
    }
}

#[test]
fn nothing_is_inferred_of_what_is_read() {
    // The socket of a TLS stream that is read.
    let mut bench = Bench::new(true, false, &[]);
    bench.exchange("api.openai.com");
    let origin = bench.origin();
    bench.take(Record::TlsBind { origin, tls: TLS, socket: SOCKET });
    bench.close();
    assert!(bench.calls.is_empty() && bench.answers == [leave_alone()]);

    // A stream whose socket is not known: its plaintext shows up after the records.
    let mut bench = Bench::new(true, false, &[]);
    bench.exchange("api.openai.com");
    let origin = bench.origin();
    let (direction, source) = (Direction::Read, Source::OpenSsl);
    bench.take(Record::TlsPlain { origin, tls: TLS, direction, source, total: 500, overhead: 0 });
    bench.close();
    assert!(bench.calls.is_empty());
    assert_eq!(bench.pipeline.stats().infer_withheld, 1);
}

#[test]
fn what_is_under_way_at_the_end_is_cut() {
    let mut bench = Bench::new(true, false, &[]);
    bench.exchange("api.openai.com");
    let Bench { pipeline, calls, .. } = &mut bench;
    pipeline.finish(&mut |output| {
        if let Output::Call(call) = output {
            calls.push(*call);
        }
    });
    assert_eq!(bench.calls[0].capture, crate::call::Capture::Truncated);
}
