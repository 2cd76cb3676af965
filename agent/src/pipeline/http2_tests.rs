//! Calls over HTTP/2, from records to calls.

use inferscope_common::verdict::{DROP, KEEP, REJECT};
use proptest::prelude::*;

use super::{
    tests::{Bench, End, request, response},
    *,
};
use crate::{
    call::{Capture, Completion},
    protocol::http2::testing::Writer,
};

const PATH: &str = "/v1/chat/completions";

fn body(model: &str) -> String {
    format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#)
}

/// The events of [`response`], without the framing of HTTP/1.1, for an answer of `output` tokens.
fn events(output: u64) -> Vec<String> {
    let pieces = response();
    let text = |piece: &[u8]| {
        let text = String::from_utf8(piece.to_vec()).unwrap();
        let data = text.split_once("\r\n").unwrap().1.trim_end_matches("\r\n").to_owned();
        data.replace("\"completion_tokens\":3", &format!("\"completion_tokens\":{output}"))
    };
    pieces[1..8].iter().map(|piece| text(piece)).collect()
}

/// Both directions of a connection, and where its pieces are cut.
struct Wire {
    client: Writer,
    server: Writer,
    /// What was written, in order.
    pieces: Vec<(bool, Vec<u8>)>,
    given: [usize; 2],
}

impl Wire {
    fn new() -> Self {
        let mut wire = Self { client: Writer::client(), server: Writer::server(), pieces: Vec::new(), given: [0; 2] };
        wire.client.settings(&[(3, 100)]);
        wire.server.settings(&[(5, 1 << 20)]);
        wire.cut();
        wire
    }

    /// What has been written since is a piece of its own, the client's first.
    fn cut(&mut self) {
        for (is_client, writer) in [(true, &self.client), (false, &self.server)] {
            let given = &mut self.given[usize::from(is_client)];
            if writer.bytes.len() > *given {
                self.pieces.push((is_client, writer.bytes[*given..].to_vec()));
                *given = writer.bytes.len();
            }
        }
    }

    fn ask(&mut self, stream: u32) {
        self.client.post(stream, PATH);
        self.client.data(stream, true, body(&format!("m{stream}")).as_bytes());
        self.cut();
    }

    /// Answers streams side by side, each with as many tokens as its number says.
    fn answer(&mut self, streams: &[u32]) {
        for &stream in streams {
            self.server.ok(stream);
            self.cut();
        }
        for n in 0..events(0).len() {
            for &stream in streams {
                self.server.data(stream, false, events(stream.into())[n].as_bytes());
                self.cut();
            }
        }
        for &stream in streams {
            self.server.data(stream, true, b"");
            self.cut();
        }
    }

    /// Gives the pieces to one end.
    fn give(&self, bench: &mut Bench, end: &mut End, side: Side) {
        for (is_client, bytes) in &self.pieces {
            bench.data(end, direction(side, *is_client), bytes);
        }
    }
}

fn direction(side: Side, is_client: bool) -> Direction {
    if (side == Side::Client) == is_client { Direction::Write } else { Direction::Read }
}

/// Checks a call that came whole on a stream.
fn whole(call: &FinishedCall, side: Side, stream: u32) {
    assert_eq!(
        (call.side, call.completion, call.capture),
        (side, Some(Completion::Done), Capture::Complete),
        "{call:?}"
    );
    assert_eq!((call.http.path.as_deref(), call.http.status), (Some(PATH), Some(200)));
    let facts = call.facts.as_ref().unwrap();
    assert_eq!(facts.request.model, Some(format!("m{stream}")));
    assert_eq!((facts.usage.input, facts.usage.output), (Some(5), Some(stream.into())));
    assert_eq!((call.chunk_count, call.gaps.count()), (3, 2));
    assert!(call.timing.request_end.is_some() && call.timing.response_start.is_some());
}

#[test]
fn streams_side_by_side_are_calls_of_their_own_at_both_ends() {
    let mut wire = Wire::new();
    [1, 3, 5].into_iter().for_each(|stream| wire.ask(stream));
    wire.answer(&[5, 1, 3]);
    let mut bench = Bench::new(false);
    let (mut client, mut server) = (End::socket(0xa, 1), End::socket(0xb, 2));
    bench.addresses(client.stream, "127.0.0.1:40000", "127.0.0.1:8000");
    bench.addresses(server.stream, "127.0.0.1:8000", "127.0.0.1:40000");
    for (is_client, bytes) in &wire.pieces {
        bench.data(&mut client, direction(Side::Client, *is_client), bytes);
        bench.data(&mut server, direction(Side::Server, *is_client), bytes);
    }
    bench.balanced();
    assert_eq!(bench.calls.len(), 6);
    for stream in [1, 3, 5] {
        let model = Some(format!("m{stream}"));
        let of = |side| {
            let is_it = |call: &&FinishedCall| call.side == side && call.facts.as_ref().unwrap().request.model == model;
            bench.calls.iter().find(is_it).unwrap()
        };
        let (client, server) = (of(Side::Client), of(Side::Server));
        whole(client, Side::Client, stream);
        whole(server, Side::Server, stream);
        assert_eq!((server.ids.parent, server.ids.trace), (Some(client.ids.span), client.ids.trace));
    }
    assert_eq!(bench.pipeline.links.len(), 0);
    assert!(bench.answers.iter().all(|answer| answer.verdict == KEEP), "{:?}", bench.answers);
}

#[test]
fn a_server_that_speaks_first_is_understood() {
    let mut wire = Wire::new();
    wire.pieces.swap(0, 1);
    wire.ask(1);
    wire.answer(&[1]);
    for side in [Side::Client, Side::Server] {
        let mut bench = Bench::new(false);
        wire.give(&mut bench, &mut End::socket(0xa, 1), side);
        whole(&bench.one_call(), side, 1);
    }
}

/// Where one thread writes and another reads, the write may return after its answer was read.
#[test]
fn an_answer_that_is_read_before_its_request_was_written_belongs_to_it() {
    let mut wire = Wire::new();
    wire.ask(1);
    let asked = wire.pieces.len() - 1;
    wire.answer(&[1]);
    for late in 1..6 {
        let mut pieces = wire.pieces.clone();
        let request = pieces.remove(asked);
        pieces.insert(asked + late, request);
        let wire = Wire { pieces, ..Wire::new() };
        let mut bench = Bench::new(false);
        wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Client);
        let call = bench.one_call();
        assert_eq!((call.completion, call.capture), (Some(Completion::Done), Capture::Complete), "{late}");
        assert_eq!((call.http.path.as_deref(), call.http.status), (Some(PATH), Some(200)));
        let facts = call.facts.unwrap();
        assert_eq!((facts.request.model.as_deref(), facts.usage.output), (Some("m1"), Some(1)));
    }
}

#[test]
fn an_upgrade_makes_its_request_stream_1() {
    let mut wire = Wire::new();
    wire.pieces.clear();
    let body = body("m1");
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    wire.pieces.push((true, request.into_bytes()));
    let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec();
    // The settings come with the head, or behind it.
    for together in [true, false] {
        let mut wire = Wire { pieces: wire.pieces.clone(), ..Wire::new() };
        let settings = wire.server.bytes.clone();
        if together {
            wire.pieces.push((false, [head.clone(), settings].concat()));
        } else {
            wire.pieces.extend([(false, head.clone()), (false, settings)]);
        }
        wire.pieces.push((true, wire.client.bytes.clone()));
        wire.answer(&[1]);
        wire.ask(3);
        wire.answer(&[3]);
        let mut bench = Bench::new(false);
        let (mut client, mut server) = (End::socket(0xa, 1), End::socket(0xb, 2));
        bench.addresses(client.stream, "127.0.0.1:40000", "127.0.0.1:8000");
        bench.addresses(server.stream, "127.0.0.1:8000", "127.0.0.1:40000");
        for (is_client, bytes) in &wire.pieces {
            bench.data(&mut client, direction(Side::Client, *is_client), bytes);
            bench.data(&mut server, direction(Side::Server, *is_client), bytes);
        }
        assert_eq!(bench.calls.len(), 4);
        for (pair, stream) in bench.calls.chunks(2).zip([1, 3]) {
            whole(&pair[0], Side::Client, stream);
            whole(&pair[1], Side::Server, stream);
            assert_eq!(pair[1].ids.parent, Some(pair[0].ids.span));
        }
        bench.balanced();
    }
}

/// Who gives a stream up is who the frames say, and other streams go on.
#[test]
fn a_reset_ends_its_stream_only() {
    let reset = |writer: &mut Writer| {
        writer.frame(3, 0, 1, &8u32.to_be_bytes());
    };
    for (by_client, expected) in [(true, Completion::ClientClosed), (false, Completion::ServerClosed)] {
        let mut wire = Wire::new();
        wire.ask(1);
        wire.ask(3);
        wire.server.ok(1).data(1, false, events(1)[1].as_bytes());
        wire.cut();
        reset(if by_client { &mut wire.client } else { &mut wire.server });
        wire.cut();
        if by_client {
            // What was under way when it came.
            wire.server.data(1, false, events(1)[2].as_bytes()).data(1, true, b"");
        }
        wire.answer(&[3]);
        for side in [Side::Client, Side::Server] {
            let mut bench = Bench::new(false);
            wire.give(&mut bench, &mut End::socket(0xa, 1), side);
            let [cut, other] = &bench.calls[..] else { panic!("{:?}", bench.calls) };
            assert_eq!((cut.side, cut.completion, cut.chunk_count), (side, Some(expected), 1));
            assert_eq!(cut.facts.as_ref().unwrap().usage.output, None);
            whole(other, side, 3);
        }
    }
}

#[test]
fn a_client_that_leaves_after_the_sentinel_has_all_it_asked_for() {
    let mut wire = Wire::new();
    wire.ask(1);
    wire.server.ok(1);
    events(1).iter().for_each(|event| {
        wire.server.data(1, false, event.as_bytes());
    });
    wire.cut();
    wire.client.frame(3, 0, 1, &8u32.to_be_bytes());
    wire.cut();
    let mut bench = Bench::new(false);
    wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Client);
    whole(&bench.one_call(), Side::Client, 1);
}

#[test]
fn a_goaway_ends_what_was_not_taken_and_the_connection_the_rest() {
    let mut wire = Wire::new();
    wire.ask(1);
    wire.ask(3);
    wire.server.ok(1).data(1, false, events(1)[1].as_bytes()).frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    wire.cut();
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 1);
    wire.give(&mut bench, &mut end, Side::Client);
    assert_eq!(bench.one_call().completion, Some(Completion::ServerClosed));
    bench.state(end.stream, tcp::ESTABLISHED, tcp::FIN_WAIT1, 0);
    bench.state(end.stream, tcp::FIN_WAIT1, tcp::CLOSE, 0);
    let call = bench.one_call();
    assert_eq!((call.completion, call.chunk_count), (Some(Completion::ClientClosed), 1));
}

#[test]
fn a_stream_that_falls_silent_is_given_up_while_others_go_on() {
    let mut wire = Wire::new();
    wire.ask(1);
    wire.server.ok(1).data(1, false, events(1)[1].as_bytes());
    wire.cut();
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 1);
    wire.give(&mut bench, &mut end, Side::Client);
    wire.pieces.clear();
    wire.ask(3);
    // A millisecond for each record.
    for _ in 0..1000 {
        bench.origin(1);
    }
    wire.give(&mut bench, &mut end, Side::Client);
    bench.tick();
    let call = bench.one_call();
    assert_eq!((call.completion, call.facts.unwrap().request.model), (Some(Completion::Idle), Some("m1".into())));
    wire.pieces.clear();
    wire.answer(&[3]);
    wire.give(&mut bench, &mut end, Side::Client);
    whole(&bench.one_call(), Side::Client, 3);
}

#[test]
fn a_connection_of_nobodys_is_let_go_and_a_providers_is_kept() {
    let ask = |host: &str, paths: &[&str]| {
        let mut wire = Wire::new();
        for (n, path) in paths.iter().enumerate() {
            let stream = 2 * n as u32 + 1;
            let fields = [(":method", "POST"), (":scheme", "https"), (":authority", host), (":path", path)];
            wire.client.headers(stream, true, &fields);
            wire.cut();
            wire.server.headers(stream, true, &[(":status", "204")]);
            wire.cut();
        }
        let mut bench = Bench::new(false);
        wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Client);
        assert_eq!(bench.calls.len(), 0);
        bench.balanced();
        bench.answers.iter().map(|answer| answer.verdict).collect::<Vec<_>>()
    };
    assert_eq!(ask("h", &["/x"; 7]), [KEEP]);
    assert_eq!(ask("h", &["/x"; 8]), [KEEP, REJECT]);
    assert_eq!(ask("api.openai.com", &["/v1/models"; 20]), [KEEP]);
    let gateway: Vec<&str> = [PATH].into_iter().chain(["/x"; 20]).collect();
    assert_eq!(ask("h", &gateway), [KEEP]);
}

#[test]
fn all_http_keeps_every_exchange() {
    let mut wire = Wire::new();
    for stream in (0..20).map(|n| 2 * n + 1) {
        wire.client.headers(stream, true, &[(":method", "GET"), (":path", "/x")]);
        wire.server.headers(stream, true, &[(":status", "204")]);
        wire.cut();
    }
    let mut bench = Bench::new(true);
    wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Server);
    assert_eq!(bench.calls.len(), 20);
    assert_eq!(bench.calls[0].http.path.as_deref(), Some("/x"));
    assert!(bench.answers.iter().all(|answer| answer.verdict == KEEP));
}

#[test]
fn streams_without_end_are_bounded() {
    let mut wire = Wire::new();
    (0..2000).for_each(|n| wire.ask(2 * n + 1));
    wire.answer(&[3999]);
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 1);
    wire.give(&mut bench, &mut end, Side::Client);
    let last = bench.calls.pop().unwrap();
    whole(&last, Side::Client, 3999);
    assert_eq!(bench.pipeline.stats().overflowed, 2000 - 256);
    assert!(bench.calls.iter().all(|call| call.completion.is_none()));
    bench.balanced();
}

/// A connection that is joined at any of its pieces: what can be told of the calls that were under way is told, and
/// nothing that is wrong; the next call is whole but for what the compression hides.
#[test]
fn a_connection_is_joined_at_any_piece() {
    let mut wire = Wire::new();
    wire.ask(1);
    wire.ask(3);
    wire.answer(&[1, 3]);
    let late = wire.pieces.len();
    wire.ask(5);
    wire.answer(&[5]);
    for side in [Side::Client, Side::Server] {
        for at in 2..late {
            let mut bench = Bench::new(false);
            let mut end = End::socket(0xa, 1);
            for (is_client, bytes) in &wire.pieces[at..] {
                bench.data(&mut end, direction(side, *is_client), bytes);
            }
            bench.balanced();
            let last = bench.calls.last().unwrap_or_else(|| panic!("no call, joined at {at}"));
            assert_eq!((last.side, last.completion), (side, Some(Completion::Done)));
            let facts = last.facts.as_ref().unwrap();
            assert_eq!((facts.usage.input, facts.usage.output), (Some(5), Some(5)), "joined at {at}");
            for call in &bench.calls {
                let path = call.http.path.as_deref().filter(|path| !path.is_empty());
                assert!(path.is_none_or(|path| path == PATH), "{call:?}");
                assert!(call.http.host.as_deref().is_none_or(|host| host == "api.example"), "{call:?}");
                assert!(call.http.status.is_none_or(|status| status == 200), "{call:?}");
                let facts = call.facts.as_ref().unwrap();
                assert!(facts.usage.output.is_none_or(|n| [1, 3, 5].contains(&n)), "{call:?}");
                assert!(path.is_some() || call.capture == Capture::PartialStart, "{call:?}");
            }
            assert!(bench.calls.len() <= 3, "joined at {at}: {:?}", bench.calls);
            // Both usages are still to come, or not.
            let expected = if at <= late - 6 { 3 } else { 1 };
            assert!(bench.calls.len() >= expected, "joined at {at} of {late}: {:?}", bench.calls.len());
        }
    }
}

/// As Go's server reads: the header of a frame, then its payload.
#[test]
fn a_connection_is_joined_where_frames_are_read_in_two() {
    let mut wire = Wire::new();
    wire.ask(1);
    let late = wire.pieces.len();
    wire.ask(3);
    wire.answer(&[3]);
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 1);
    for (is_client, bytes) in &wire.pieces[late..] {
        if !is_client {
            bench.data(&mut end, Direction::Write, bytes);
            continue;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let len = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
            bench.data(&mut end, Direction::Read, &rest[..9]);
            bench.data(&mut end, Direction::Read, &rest[9..9 + len]);
            rest = &rest[9 + len..];
        }
    }
    let call = bench.one_call();
    assert_eq!(
        (call.side, call.completion, call.capture),
        (Side::Server, Some(Completion::Done), Capture::PartialStart)
    );
    let facts = call.facts.unwrap();
    assert_eq!((facts.request.model.as_deref(), facts.usage.output), (Some("m3"), Some(3)));
    assert_eq!(bench.pipeline.stats().unparsed, 0);
    bench.balanced();
}

#[test]
fn frames_that_do_not_say_whose_they_are_are_let_go_in_the_end() {
    let mut writer = Writer::server();
    writer.data(1, false, b"binary");
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 1);
    (0..15).for_each(|_| bench.data(&mut end, Direction::Read, &writer.bytes));
    assert_eq!(bench.answers, []);
    bench.data(&mut end, Direction::Read, &writer.bytes);
    assert_eq!(bench.answers[0].verdict, DROP);
    bench.balanced();
}

#[test]
fn missing_bytes_mark_the_calls_that_they_may_belong_to() {
    let mut wire = Wire::new();
    wire.ask(1);
    wire.answer(&[1]);
    wire.ask(3);
    // The second answer's head and first event are lost.
    let lost = wire.pieces.len();
    wire.answer(&[3]);
    wire.ask(5);
    wire.answer(&[5]);
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 1);
    for (n, (is_client, bytes)) in wire.pieces.iter().enumerate() {
        if (lost..lost + 3).contains(&n) {
            bench.passed(&mut end, direction(Side::Client, *is_client), bytes.len() as u64);
        } else {
            bench.data(&mut end, direction(Side::Client, *is_client), bytes);
        }
    }
    let [first, second, third] = &bench.calls[..] else { panic!("{:?}", bench.calls) };
    whole(first, Side::Client, 1);
    assert_eq!((second.completion, second.capture), (Some(Completion::Done), Capture::Gap));
    let facts = second.facts.as_ref().unwrap();
    // Of the first event that is there nothing says that it begins.
    assert_eq!((facts.usage.output, second.chunk_count), (Some(3), 1));
    assert_eq!((third.completion, third.capture), (Some(Completion::Done), Capture::Complete), "{third:?}");
    assert_eq!(third.facts.as_ref().unwrap().usage.output, Some(5));
    bench.balanced();
}

/// As when a connection is reset while its server writes the end of a stream.
#[test]
fn bytes_missing_behind_an_answer_that_said_it_was_over_do_not_mark_it() {
    let mut wire = Wire::new();
    wire.ask(1);
    wire.answer(&[1]);
    let (_, end_of_stream) = wire.pieces.pop().unwrap();
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 1);
    wire.give(&mut bench, &mut end, Side::Server);
    bench.passed(&mut end, Direction::Write, end_of_stream.len() as u64);
    bench.state(end.stream, tcp::ESTABLISHED, tcp::CLOSE, 104);
    whole(&bench.one_call(), Side::Server, 1);
}

#[test]
fn a_request_of_http1_is_not_taken_for_frames() {
    let mut bench = Bench::new(false);
    let mut end = End::socket(0xa, 42);
    bench.data(&mut end, Direction::Read, &request());
    response().iter().for_each(|piece| bench.data(&mut end, Direction::Write, piece));
    assert_eq!(bench.one_call().completion, Some(Completion::Done));
}

#[test]
fn credentials_are_in_nothing_that_comes_out_of_http2() {
    let mut wire = Wire::new();
    wire.ask(1);
    wire.answer(&[1]);
    let mut bench = Bench::new(true);
    wire.give(&mut bench, &mut End::socket(0xa, 1), Side::Client);
    assert!(!format!("{:?}", bench.one_call()).contains("canary"));
}

proptest! {
    /// Invariant 2: the same bytes in any chunking give the same calls.
    #[test]
    fn any_chunking_of_http2_gives_the_same_calls(client_cut in 1usize..60, server_cut in 1usize..300, one in any::<bool>()) {
        let mut wire = Wire::new();
        wire.ask(1);
        wire.ask(3);
        wire.answer(&[3, 1]);
        let of = |is_client| {
            let own = wire.pieces.iter().filter(|piece| piece.0 == is_client);
            own.flat_map(|piece| piece.1.clone()).collect::<Vec<_>>()
        };
        let (client, server) = (of(true), of(false));
        let (client_cut, server_cut) = if one { (1, 1) } else { (client_cut, server_cut) };
        let mut bench = Bench::new(false);
        let mut end = End::socket(0xa, 42);
        client.chunks(client_cut).for_each(|piece| bench.data(&mut end, Direction::Read, piece));
        server.chunks(server_cut).for_each(|piece| bench.data(&mut end, Direction::Write, piece));
        bench.balanced();
        prop_assert_eq!(bench.calls.len(), 2);
        for (call, stream) in bench.calls.iter().zip([3, 1]) {
            prop_assert_eq!((call.completion, call.capture), (Some(Completion::Done), Capture::Complete));
            prop_assert_eq!(call.facts.as_ref().unwrap().usage.output, Some(stream));
            prop_assert_eq!(call.chunk_count, 3);
        }
    }

    /// A connection cut anywhere by a close: each call that began is one call, never a panic.
    #[test]
    fn a_connection_of_http2_cut_anywhere(at in 0usize..2000, by_peer in any::<bool>()) {
        let mut wire = Wire::new();
        wire.ask(1);
        wire.ask(3);
        let asked = wire.pieces.len();
        wire.answer(&[3, 1]);
        let server: Vec<u8> = wire.pieces.drain(asked..).flat_map(|piece| piece.1).collect();
        let mut bench = Bench::new(false);
        let mut end = End::socket(0xa, 42);
        wire.give(&mut bench, &mut end, Side::Server);
        bench.data(&mut end, Direction::Write, &server[..at.min(server.len())]);
        bench.state(end.stream, tcp::ESTABLISHED, tcp::CLOSE, u32::from(by_peer));
        prop_assert_eq!(bench.calls.len(), 2);
        bench.balanced();
    }
}
