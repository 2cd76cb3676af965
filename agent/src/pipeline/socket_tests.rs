//! What sockets do beside carrying bytes in buffers: pages that pass, halves that close, names in place of ports.

use super::{
    tests::{Bench, End, request, response},
    *,
};
use crate::{
    call::{Capture, Completion, NoteKind},
    record::{Address, Socket, SocketState},
};

const BODY: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"one"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;

fn head(length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n").into_bytes()
}

fn state(bench: &mut Bench, id: ObjectId, old: u8, new: u8, unread: bool) {
    let origin = bench.origin(0);
    bench.take(Record::SocketState(origin, SocketState { id, old, new, unread, error: 0 }));
}

fn gaps(call: &FinishedCall) -> Vec<(&'static str, u64)> {
    let gap = |note: &crate::call::Note| match note.kind {
        NoteKind::Gap { part, bytes } => Some((part, bytes)),
        _ => None,
    };
    call.notes.iter().filter_map(gap).collect()
}

#[test]
fn what_was_sent_from_a_file_ends_the_answer_with_a_gap_of_its_length() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Read, &request());
    bench.data(&mut end, Direction::Write, &head(5_000));
    assert!(bench.calls.is_empty());
    bench.passed(&mut end, Direction::Write, 5_000);
    let call = bench.one_call();
    assert_eq!((call.capture, gaps(&call)), (Capture::Gap, vec![("response", 5_000)]));
    assert_eq!(bench.pipeline.stats().lost, 5_000);
    // The next one on the connection is whole.
    bench.data(&mut end, Direction::Read, &request());
    response().iter().for_each(|piece| bench.data(&mut end, Direction::Write, piece));
    assert_eq!(bench.one_call().capture, Capture::Complete);
    bench.balanced();
}

#[test]
fn a_direction_of_which_nothing_else_was_seen_has_its_gap() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Write, &request());
    bench.passed(&mut end, Direction::Read, 700);
    assert_eq!(bench.pipeline.stats().lost, 700);
    state(&mut bench, end.stream, tcp::ESTABLISHED, tcp::CLOSE_WAIT, false);
    state(&mut bench, end.stream, 9, tcp::CLOSE, false);
    assert_eq!(bench.one_call().completion, Some(Completion::ServerClosed));
}

#[test]
fn what_passes_on_a_stream_that_nobody_follows_is_no_gap() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.passed(&mut end, Direction::Write, 700);
    assert_eq!((bench.pipeline.stats().lost, bench.pipeline.connection_count()), (0, 0));
}

/// A client that shuts its half down reads the answer when the connection is over already.
#[test]
fn what_is_read_after_the_end_belongs_to_the_call() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    let id = end.stream;
    bench.data(&mut end, Direction::Write, &request());
    state(&mut bench, id, tcp::ESTABLISHED, tcp::FIN_WAIT1, false);
    state(&mut bench, id, 5, tcp::CLOSE, true);
    bench.data(&mut end, Direction::Read, &head(BODY.len()));
    assert!(bench.calls.is_empty(), "it is not over before it was read");
    bench.data(&mut end, Direction::Read, BODY.as_bytes());
    let call = bench.one_call();
    assert_eq!((call.completion, call.capture), (Some(Completion::Done), Capture::Complete));
    state(&mut bench, id, tcp::CLOSE, tcp::CLOSE, false);
    assert_eq!(bench.pipeline.connection_count(), 0);
}

#[test]
fn what_is_never_read_after_the_end_is_waited_for_a_moment_only() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Write, &request());
    bench.data(&mut end, Direction::Read, &head(BODY.len()));
    let over = bench.origin(0).time;
    state(&mut bench, end.stream, tcp::ESTABLISHED, tcp::CLOSE_WAIT, false);
    state(&mut bench, end.stream, 9, tcp::CLOSE, true);
    let mut calls = Vec::new();
    let mut tick = |bench: &mut Bench, after: u64| {
        bench.pipeline.on_tick(Mono(over.0 + after), &mut |output| {
            if let Output::Call(call) = output {
                calls.push((call.completion, call.capture));
            }
        });
        calls.len()
    };
    // Silence would give it up sooner here; the connection stays.
    tick(&mut bench, 0);
    assert_eq!(bench.pipeline.connection_count(), 1);
    tick(&mut bench, LINGER_NS + 1_000_000_000);
    assert_eq!(bench.pipeline.connection_count(), 0);
    assert_eq!(calls, [(Some(Completion::ServerClosed), Capture::Complete)]);
}

/// The two ends of a UNIX connection: a client without a name, and a server.
fn unix_ends(bench: &mut Bench) -> [End; 2] {
    let ends = [End::socket(0xa, 41), End::socket(0xb, 42)];
    let address =
        |end: &End, name: Option<&str>| Address::Unix { sock: end.stream.address, name: name.map(Into::into) };
    let (client, server) = (address(&ends[0], None), address(&ends[1], Some("/run/llm.sock")));
    for (end, local, peer) in [(&ends[0], &client, &server), (&ends[1], &server, &client)] {
        let origin = bench.origin(0);
        let (local, peer) = (local.clone(), peer.clone());
        bench.take(Record::Socket(origin, Socket { id: end.stream, local, peer }));
    }
    ends
}

#[test]
fn both_ends_of_a_unix_connection_share_a_trace() {
    let mut bench = Bench::new(false);
    let [mut client, mut server] = unix_ends(&mut bench);
    bench.data(&mut client, Direction::Write, &request());
    bench.data(&mut server, Direction::Read, &request());
    for piece in response() {
        bench.data(&mut server, Direction::Write, &piece);
        bench.data(&mut client, Direction::Read, &piece);
    }
    let [of_server, of_client] = &bench.calls[..] else { panic!("{} calls", bench.calls.len()) };
    assert_eq!((of_server.side, of_client.side), (Side::Server, Side::Client));
    assert_eq!((of_server.ids.trace, of_server.ids.parent), (of_client.ids.trace, Some(of_client.ids.span)));
}

#[test]
fn the_end_of_a_process_ends_its_unix_streams() {
    let mut bench = Bench::new(false);
    let [mut client, mut server] = unix_ends(&mut bench);
    bench.data(&mut client, Direction::Write, &request());
    bench.data(&mut server, Direction::Read, &request());
    let origin = bench.origin(41);
    bench.take(Record::Exit { origin, status: 9 });
    let call = bench.one_call();
    assert_eq!((call.process.pid, call.completion), (41, Some(Completion::ClientClosed)));
    state(&mut bench, server.stream, tcp::ESTABLISHED, tcp::CLOSE_WAIT, false);
    state(&mut bench, server.stream, tcp::CLOSE_WAIT, tcp::CLOSE, false);
    assert_eq!(bench.one_call().completion, Some(Completion::ClientClosed));
    assert_eq!(bench.pipeline.connection_count(), 0);
}
