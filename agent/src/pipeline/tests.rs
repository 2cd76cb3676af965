//! The pipeline from records to calls, without a kernel.

use proptest::prelude::*;

use super::*;
use crate::{
    call::{Capture, Completion},
    host::ProcessIdentity,
    record::{Address, Direction, ObjectId, Socket, SocketState, Source},
};

const SERVER: &str = "127.0.0.1:8000";
const CLIENT: &str = "127.0.0.1:40000";

const BODY: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

pub(super) fn request() -> Vec<u8> {
    request_for("m")
}

pub(super) fn request_for(model: &str) -> Vec<u8> {
    let body = BODY.replace("\"m\"", &format!("\"{model}\""));
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer sk-canary\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A streamed answer, one HTTP chunk per event.
pub(super) fn response() -> Vec<Vec<u8>> {
    let mut pieces =
        vec![b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()];
    let chunk = |data: &str| {
        let event = format!("data: {data}\n\n");
        format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
    };
    let delta = |delta: &str, finish: &str| {
        format!(
            r#"{{"id":"c1","object":"chat.completion.chunk","model":"m-1","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#
        )
    };
    pieces.push(chunk(&delta(r#"{"role":"assistant","content":""}"#, "null")));
    pieces.push(chunk(&delta(r#"{"content":"one"}"#, "null")));
    pieces.push(chunk(&delta(r#"{"content":"two"}"#, "null")));
    pieces.push(chunk(&delta(r#"{"content":"three"}"#, "null")));
    pieces.push(chunk(&delta("{}", r#""stop""#)));
    pieces.push(chunk(
        r#"{"id":"c1","object":"chat.completion.chunk","model":"m-1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}"#,
    ));
    pieces.push(chunk("[DONE]"));
    pieces.push(b"0\r\n\r\n".to_vec());
    pieces
}

/// A pipeline with hands: writes records of streams and keeps what comes out.
pub(super) struct Bench {
    pub(super) pipeline: Pipeline,
    pub(super) calls: Vec<FinishedCall>,
    pub(super) answers: Vec<Verdict>,
    pub(super) joins: Vec<(Place, Option<Joined>)>,
    now: u64,
}

/// One process's end of a connection, with the positions that the kernel side would count.
pub(super) struct End {
    pub(super) stream: ObjectId,
    source: Source,
    tgid: u32,
    read: u64,
    write: u64,
    pub(super) turn: u32,
    last: Option<Direction>,
}

impl End {
    pub(super) fn socket(address: u64, tgid: u32) -> Self {
        let stream = ObjectId { address, generation: 1 };
        Self { stream, source: Source::Syscall, tgid, read: 0, write: 0, turn: 0, last: None }
    }
}

impl Bench {
    pub(super) fn new(all_http: bool) -> Self {
        Self::with(ConnectionOptions { all_http, ..Default::default() })
    }

    pub(super) fn with(connection: ConnectionOptions) -> Self {
        let options = PipelineOptions {
            connection,
            idle_ns: 1_000_000_000,
            epoch: [1; 16],
            infer: false,
            limits: Default::default(),
        };
        Self { pipeline: Pipeline::new(options), calls: Vec::new(), answers: Vec::new(), joins: Vec::new(), now: 1_000 }
    }

    pub(super) fn take(&mut self, record: Record<'_>) {
        let Self { pipeline, calls, answers, joins, .. } = self;
        pipeline.on_record(record, &mut |output| match output {
            Output::Call(call) => calls.push(*call),
            Output::Dull(_) => {}
            Output::Join { stream, with } => joins.push((stream, with)),
            Output::Observe(_) | Output::Notice(_) => {}
            Output::Answer { verdict, .. } => answers.push(verdict),
        });
    }

    pub(super) fn origin(&mut self, tgid: u32) -> Origin {
        self.now += 1_000_000;
        Origin { time: Mono(self.now), tgid, tid: tgid, start_ns: 7 }
    }

    pub(super) fn data(&mut self, end: &mut End, direction: Direction, payload: &[u8]) {
        self.data_after_skip(end, direction, payload, 0);
    }

    fn data_after_skip(&mut self, end: &mut End, direction: Direction, payload: &[u8], skipped: u64) {
        let origin = self.origin(end.tgid);
        if end.last != Some(direction) {
            end.last = Some(direction);
            end.turn += 1;
        }
        let position = if direction == Direction::Read { &mut end.read } else { &mut end.write };
        let offset = *position;
        *position += payload.len() as u64;
        let data = Data {
            stream: end.stream,
            offset,
            skipped,
            total: payload.len() as u32,
            turn: end.turn,
            direction,
            source: end.source,
            overhead: 0,
            payload,
        };
        self.take(Record::Data(origin, data));
    }

    /// Bytes that were in no buffer of a call.
    pub(super) fn passed(&mut self, end: &mut End, direction: Direction, bytes: u64) {
        let position = if direction == Direction::Read { &mut end.read } else { &mut end.write };
        *position += bytes;
        let offset = *position;
        let origin = self.origin(end.tgid);
        let (stream, turn, source) = (end.stream, end.turn, end.source);
        let total = bytes as u32;
        self.take(Record::Data(
            origin,
            Data { stream, offset, skipped: 0, total, turn, direction, source, overhead: 0, payload: b"" },
        ));
    }

    pub(super) fn tick(&mut self) {
        let (now, Self { pipeline, calls, .. }) = (Mono(self.now), self);
        pipeline.on_tick(now, &mut |output| {
            if let Output::Call(call) = output {
                calls.push(*call);
            }
        });
    }

    pub(super) fn addresses(&mut self, stream: ObjectId, local: &str, peer: &str) {
        let origin = self.origin(0);
        let (local, peer) = (Address::Ip(local.parse().unwrap()), Address::Ip(peer.parse().unwrap()));
        self.take(Record::Socket(origin, Socket { id: stream, local, peer }));
    }

    pub(super) fn state(&mut self, stream: ObjectId, old: u8, new: u8, error: u32) {
        let origin = self.origin(0);
        self.take(Record::SocketState(origin, SocketState { id: stream, old, new, unread: false, error }));
    }

    pub(super) fn one_call(&mut self) -> FinishedCall {
        assert_eq!(self.calls.len(), 1, "{:?}", self.calls);
        self.calls.remove(0)
    }

    pub(super) fn balanced(&self) {
        let ledger = crate::selfstat::Ledger { pipeline: self.pipeline.stats().clone(), ..Default::default() };
        assert_eq!(ledger.balance(), Ok(()));
    }
}

#[test]
fn a_streamed_call_seen_from_its_server() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    let identity =
        ProcessIdentity { pid: 42, start_boottime_ns: 7, executable: Some("python3".into()), ..Default::default() };
    let origin = bench.origin(42);
    bench.take(Record::Process(origin, identity.clone()));
    bench.addresses(end.stream, SERVER, CLIENT);
    bench.data(&mut end, Direction::Read, &request());
    response().iter().for_each(|piece| bench.data(&mut end, Direction::Write, piece));
    let call = bench.one_call();
    assert_eq!((call.side, call.completion, call.capture), (Side::Server, Some(Completion::Done), Capture::Complete));
    assert_eq!((call.process, call.peer), (identity, Some(Address::Ip(CLIENT.parse().unwrap()))));
    let facts = call.facts.unwrap();
    assert_eq!((facts.usage.input, facts.usage.output), (Some(5), Some(3)));
    assert_eq!(facts.response.finish_reasons, ["stop"]);
    // A millisecond between records: request, head, role, then three with content.
    assert_eq!((call.chunk_count, call.gaps.count()), (3, 2));
    assert_eq!(call.timing.first_chunk.unwrap().since(call.timing.start).as_millis(), 3);
    assert_eq!(call.timing.first_event.unwrap().since(call.timing.start).as_millis(), 2);
    assert_eq!(bench.answers[0].verdict, inferscope_common::verdict::FOLLOW);
    bench.balanced();
}

#[test]
fn both_ends_of_one_connection_share_a_trace() {
    for server_first in [false, true] {
        let mut bench = Bench::new(false);
        let (mut client, mut server) = (End::socket(0xa, 1), End::socket(0xb, 2));
        bench.addresses(client.stream, CLIENT, SERVER);
        bench.addresses(server.stream, SERVER, CLIENT);
        if server_first {
            bench.data(&mut server, Direction::Read, &request());
            bench.data(&mut client, Direction::Write, &request());
        } else {
            bench.data(&mut client, Direction::Write, &request());
            bench.data(&mut server, Direction::Read, &request());
        }
        for piece in response() {
            bench.data(&mut server, Direction::Write, &piece);
            bench.data(&mut client, Direction::Read, &piece);
        }
        let [server, client] = &bench.calls[..] else { panic!("{} calls", bench.calls.len()) };
        assert_eq!((server.side, client.side), (Side::Server, Side::Client));
        assert_eq!(server.ids.parent, Some(client.ids.span));
        assert_eq!(server.ids.trace, client.ids.trace);
        assert_eq!(client.ids.parent, None);
    }
}

#[test]
fn who_closed_is_who_the_kernel_says() {
    use tcp::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1};
    type Change = (u8, u8, u32);
    // State changes of the server's socket (old, new, error), and what they mean for the call.
    let cases: [(&[Change], Completion); 4] = [
        (&[(ESTABLISHED, CLOSE_WAIT, 0), (9, CLOSE, 0)], Completion::ClientClosed),
        (&[(ESTABLISHED, FIN_WAIT1, 0), (FIN_WAIT1, CLOSE, 0)], Completion::ServerClosed),
        (&[(ESTABLISHED, CLOSE, 104)], Completion::ClientClosed),
        (&[(ESTABLISHED, CLOSE, 0)], Completion::ServerClosed),
    ];
    for (states, expected) in cases {
        let mut bench = Bench::new(false);
        let mut end = End::socket(0xa, 42);
        bench.data(&mut end, Direction::Read, &request());
        response()[..4].iter().for_each(|piece| bench.data(&mut end, Direction::Write, piece));
        for &(old, new, error) in states {
            assert!(bench.calls.is_empty(), "over before the socket was closed");
            bench.state(end.stream, old, new, error);
        }
        let call = bench.one_call();
        assert_eq!(call.completion, Some(expected), "{states:?}");
        assert_eq!(call.facts.unwrap().usage.output, None, "what was not said is not zero");
    }
}

#[test]
fn an_answer_without_a_byte_is_not_done_because_the_server_closes() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Write, &request());
    bench.data(&mut end, Direction::Read, b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
    bench.state(end.stream, tcp::ESTABLISHED, tcp::CLOSE_WAIT, 0);
    bench.state(end.stream, tcp::CLOSE_WAIT, tcp::CLOSE, 0);
    assert_eq!(bench.one_call().completion, Some(Completion::ServerClosed));
}

#[test]
fn an_answer_that_was_lost_with_its_head_is_a_gap() {
    for answered in [&b""[..], b"HTTP/1.1 200 O"] {
        let mut bench = Bench::new(false);
        let mut end = End::socket(0xa, 42);
        bench.data(&mut end, Direction::Write, &request());
        if !answered.is_empty() {
            bench.data(&mut end, Direction::Read, answered);
        }
        bench.passed(&mut end, Direction::Read, 500);
        bench.state(end.stream, tcp::ESTABLISHED, tcp::CLOSE, 0);
        let call = bench.one_call();
        assert_eq!((call.completion, call.capture), (Some(Completion::ClientClosed), Capture::Gap));
    }
}

#[test]
fn a_tls_stream_ends_with_its_object_and_knows_its_socket() {
    let mut bench = Bench::new(false);
    let socket = ObjectId { address: 0xa, generation: 3 };
    let mut end = End { source: Source::OpenSsl, ..End::socket(0x7f00, 42) };
    bench.addresses(socket, CLIENT, SERVER);
    let origin = bench.origin(42);
    bench.take(Record::TlsBind { origin, tls: end.stream, socket });
    bench.data(&mut end, Direction::Write, &request());
    response()[..4].iter().for_each(|piece| bench.data(&mut end, Direction::Read, piece));
    let origin = bench.origin(42);
    bench.take(Record::TlsClose { origin, tls: end.stream });
    let call = bench.one_call();
    assert_eq!((call.completion, call.tls), (Some(Completion::ClientClosed), true));
    assert_eq!((call.source, call.peer), (Source::OpenSsl, Some(Address::Ip(SERVER.parse().unwrap()))));
    assert_eq!(bench.pipeline.connection_count(), 0);
}

#[test]
fn a_tls_stream_without_a_socket_does_not_guess_who_left() {
    let mut bench = Bench::new(false);
    let mut end = End { source: Source::OpenSsl, ..End::socket(0x7f00, 42) };
    bench.data(&mut end, Direction::Read, &request());
    let origin = bench.origin(42);
    bench.take(Record::TlsClose { origin, tls: end.stream });
    assert_eq!(bench.one_call().completion, None);
}

#[test]
fn the_end_of_a_process_ends_its_tls_streams() {
    let mut bench = Bench::new(false);
    let mut end = End { source: Source::OpenSsl, ..End::socket(0x7f00, 42) };
    bench.data(&mut end, Direction::Write, &request());
    let origin = bench.origin(42);
    bench.take(Record::Exit { origin, status: 9 });
    assert_eq!(bench.one_call().completion, Some(Completion::ClientClosed));
}

#[test]
fn a_stream_at_the_same_address_replaces_one_whose_end_was_missed() {
    let mut bench = Bench::new(false);
    let mut first = End::socket(0xa, 42);
    bench.data(&mut first, Direction::Read, &request());
    let mut second = End::socket(0xa, 42);
    second.stream.generation = 2;
    bench.data(&mut second, Direction::Read, &request());
    assert_eq!(bench.one_call().completion, None);
    assert_eq!((bench.pipeline.connection_count(), bench.pipeline.stats().ends_missed), (1, 1));
}

#[test]
fn an_object_on_its_second_connection_outlives_the_first_ones_socket() {
    let mut bench = Bench::new(false);
    let [first, second] = [0xa, 0xb].map(|address| ObjectId { address, generation: 3 });
    let mut end = End { source: Source::OpenSsl, ..End::socket(0x7f00, 42) };
    bench.addresses(first, CLIENT, "127.0.0.1:1");
    bench.addresses(second, CLIENT, SERVER);
    for socket in [first, second] {
        let origin = bench.origin(42);
        bench.take(Record::TlsBind { origin, tls: end.stream, socket });
        bench.data(&mut end, Direction::Write, &request());
        response()[..4].iter().for_each(|piece| bench.data(&mut end, Direction::Read, piece));
        if socket == second {
            bench.state(first, tcp::FIN_WAIT1, tcp::CLOSE, 0);
        }
        response()[4..].iter().for_each(|piece| bench.data(&mut end, Direction::Read, piece));
    }
    let peers: Vec<_> =
        bench.calls.iter().map(|call| (call.peer.as_ref().unwrap().ip().unwrap().port(), call.capture)).collect();
    assert_eq!(peers, [(1, Capture::Complete), (8000, Capture::Complete)]);
}

#[test]
fn silence_ends_a_call_and_the_connection_goes_on() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Read, &request());
    let idle = Mono(bench.now + 2_000_000_000);
    let Bench { pipeline, calls, .. } = &mut bench;
    pipeline.on_tick(Mono(idle.0 - 1_500_000_000), &mut |_| panic!("given up too early"));
    pipeline.on_tick(idle, &mut |output| {
        if let Output::Call(call) = output {
            calls.push(*call);
        }
    });
    assert_eq!(bench.one_call().completion, Some(Completion::Idle));
    bench.data(&mut end, Direction::Read, &request());
    response().iter().for_each(|piece| bench.data(&mut end, Direction::Write, piece));
    assert_eq!(bench.one_call().completion, Some(Completion::Done));
}

#[test]
fn a_call_that_is_running_when_the_agent_stops_is_reported_as_such() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Read, &request());
    let Bench { pipeline, calls, .. } = &mut bench;
    pipeline.finish(&mut |output| {
        if let Output::Call(call) = output {
            calls.push(*call);
        }
    });
    let call = bench.one_call();
    assert_eq!((call.completion, call.capture), (None, Capture::Truncated));
}

#[test]
fn missing_bytes_are_marked_and_what_follows_is_whole() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Read, &request());
    let pieces = response();
    for (n, piece) in pieces.iter().enumerate() {
        // The third piece is lost on its way: positions go on without it.
        if n == 3 {
            end.write += piece.len() as u64;
        } else {
            bench.data(&mut end, Direction::Write, piece);
        }
    }
    bench.data(&mut end, Direction::Read, &request());
    pieces.iter().for_each(|piece| bench.data(&mut end, Direction::Write, piece));
    let [first, second] = &bench.calls[..] else { panic!("{} calls", bench.calls.len()) };
    assert_eq!((first.capture, second.capture), (Capture::Gap, Capture::Complete));
    assert!(!first.notes.is_empty());
    assert_eq!(bench.pipeline.stats().lost, pieces[3].len() as u64);
    let missed = bench.pipeline.missed();
    assert_eq!(missed, [(42, crate::selfstat::Missed { lost: pieces[3].len() as u64, ..missed[0].1 })]);
    assert_eq!(missed[0].1.unparsed, bench.pipeline.stats().unparsed);
    bench.balanced();
}

#[test]
fn other_traffic_is_dropped_and_no_call() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Read, b"POST /login HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}");
    assert_eq!(bench.answers[0].verdict, inferscope_common::verdict::DROP);
    bench.data(&mut end, Direction::Write, b"HTTP/1.1 204 No Content\r\n\r\n");
    assert!(bench.calls.is_empty());

    let mut bench = Bench::new(true);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Read, b"GET /page?key=secret HTTP/1.1\r\nhost: a\r\n\r\n");
    bench.data(&mut end, Direction::Write, b"HTTP/1.1 204 No Content\r\n\r\n");
    let call = bench.one_call();
    assert_eq!((call.http.path.as_deref(), call.http.status), (Some("/page"), Some(204)));
    assert_eq!(call.facts, None);
}

/// The kernel side leaves out the answer to an exchange that was dropped.
fn skip(end: &mut End, direction: Direction, bytes: u64, skipped: &mut u64) {
    let position = if direction == Direction::Read { &mut end.read } else { &mut end.write };
    *position += bytes;
    *skipped += bytes;
    if end.last != Some(direction) {
        end.last = Some(direction);
        end.turn += 1;
    }
}

#[test]
fn an_answer_that_was_left_out_does_not_shift_those_that_follow() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    let mut skipped = 0;
    let chat = |n: usize| request_for(&format!("m{n}"));
    let answer =
        |n: usize| String::from_utf8(response().concat()).unwrap().replace("m-1", &format!("m-{n}")).into_bytes();
    bench.data(&mut end, Direction::Read, &chat(0));
    bench.data(&mut end, Direction::Write, &answer(0));
    bench.data(&mut end, Direction::Read, b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}");
    skip(&mut end, Direction::Write, 700, &mut skipped);
    for n in 1..4 {
        bench.data(&mut end, Direction::Read, &chat(n));
        bench.data_after_skip(&mut end, Direction::Write, &answer(n), skipped);
    }
    let seen: Vec<_> = bench
        .calls
        .iter()
        .map(|call| {
            let facts = call.facts.clone().unwrap();
            (facts.request.model.unwrap(), facts.response.model.unwrap(), call.completion, call.capture)
        })
        .collect();
    let expected: Vec<_> =
        (0..4).map(|n| (format!("m{n}"), format!("m-{n}"), Some(Completion::Done), Capture::Complete)).collect();
    assert_eq!(seen, expected);
    bench.balanced();
}

#[test]
fn an_answer_without_its_request_does_not_drop_the_next_one() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Write, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let verdict = bench.answers[0];
    bench.data(&mut end, Direction::Read, &request());
    // What flow.rs checks: an answer holds for its turn and the next.
    assert!(end.turn.wrapping_sub(verdict.turn) > 1, "the drop would reach the request");
}

#[test]
fn who_a_killed_process_was_is_known_when_its_sockets_close() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    let identity =
        ProcessIdentity { pid: 42, start_boottime_ns: 7, executable: Some("vllm".into()), ..Default::default() };
    let origin = bench.origin(42);
    bench.take(Record::Process(origin, identity.clone()));
    bench.data(&mut end, Direction::Read, &request());
    let origin = bench.origin(42);
    bench.take(Record::Exit { origin, status: 9 });
    bench.state(end.stream, tcp::ESTABLISHED, tcp::CLOSE, 0);
    let call = bench.one_call();
    assert_eq!((call.process, call.completion), (identity, Some(Completion::ServerClosed)));
}

#[test]
fn the_rest_of_a_lost_message_does_not_start_the_next_call() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Read, &request());
    response().iter().for_each(|piece| bench.data(&mut end, Direction::Write, piece));
    bench.data(&mut end, Direction::Read, b"\r\n");
    bench.now += 60_000_000_000;
    bench.data(&mut end, Direction::Read, &request());
    let asked = bench.now;
    response().iter().for_each(|piece| bench.data(&mut end, Direction::Write, piece));
    assert_eq!(bench.calls[1].timing.start, Mono(asked));
    assert_eq!(bench.calls[1].timing.end, Mono(bench.now), "the last byte is the framing's");
}

#[test]
fn credentials_are_in_nothing_that_comes_out() {
    let mut bench = Bench::new(true);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Read, &request());
    response().iter().for_each(|piece| bench.data(&mut end, Direction::Write, piece));
    assert!(!format!("{:?}", bench.one_call()).contains("canary"));
}

#[test]
fn noise_on_a_followed_stream_is_counted() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Read, &request());
    bench.data(&mut end, Direction::Write, &[0xff; 500]);
    bench.data(&mut end, Direction::Write, &[0x00; 500]);
    bench.state(end.stream, tcp::ESTABLISHED, tcp::CLOSE, 0);
    assert_eq!(bench.one_call().completion, Some(Completion::ServerClosed));
    assert!(bench.pipeline.stats().malformed + bench.pipeline.stats().unparsed > 0);
    bench.balanced();
}

/// Everything about a call that may not depend on how its bytes were cut. Times depend on it by nature.
fn essence(call: &FinishedCall) -> impl PartialEq + std::fmt::Debug {
    let FinishedCall { ids: _, timing: _, gaps, side, facts, http, completion, capture, chunk_count, .. } = call;
    (*side, facts.clone(), http.clone(), *completion, *capture, *chunk_count, gaps.count())
}

fn run_in_pieces(requests: &[&[u8]], responses: &[&[u8]]) -> Vec<FinishedCall> {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    requests.iter().for_each(|piece| bench.data(&mut end, Direction::Read, piece));
    responses.iter().for_each(|piece| bench.data(&mut end, Direction::Write, piece));
    bench.balanced();
    bench.calls
}

proptest! {
    /// Invariant 2: the same bytes in any chunking give the same calls.
    #[test]
    fn any_chunking_gives_the_same_call(request_cut in 1usize..60, response_cut in 1usize..300) {
        let (request, response) = (request(), response().concat());
        let whole = run_in_pieces(&[&request], &[&response]);
        let cut = run_in_pieces(
            &request.chunks(request_cut).collect::<Vec<_>>(),
            &response.chunks(response_cut).collect::<Vec<_>>(),
        );
        prop_assert_eq!(whole.len(), 1);
        prop_assert_eq!(cut.len(), 1);
        prop_assert_eq!(format!("{:?}", essence(&whole[0])), format!("{:?}", essence(&cut[0])));
    }

    /// A response cut anywhere by a close is one call, never a panic, never two.
    #[test]
    fn a_response_cut_anywhere_is_one_call(at in 0usize..1200, by_peer in any::<bool>()) {
        let response = response().concat();
        let mut bench = Bench::new(false);
        let mut end = End::socket(0xa, 42);
        bench.data(&mut end, Direction::Read, &request());
        bench.data(&mut end, Direction::Write, &response[..at.min(response.len())]);
        bench.state(end.stream, tcp::ESTABLISHED, tcp::CLOSE, u32::from(by_peer));
        prop_assert_eq!(bench.calls.len(), 1);
        bench.balanced();
    }
}
