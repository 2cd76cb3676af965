//! Servers that are spoken to over pipes and UNIX sockets, from records to calls.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    tests::{self, Bench},
    *,
};
use crate::{
    call::{Capture, Completion, NoteKind},
    record::{Address, Direction, ObjectId, Socket, SocketState, Source},
};

const CLIENT: u32 = 10;
const SERVER: u32 = 20;

/// One process's end of a channel, with the position that the kernel side would count.
#[derive(Clone, Copy)]
struct Wire {
    object: ObjectId,
    source: Source,
    direction: Direction,
    tgid: u32,
    offset: u64,
}

impl Wire {
    fn pipe(address: u64, direction: Direction, tgid: u32) -> Self {
        Self { object: ObjectId { address, generation: 1 }, source: Source::Pipe, direction, tgid, offset: 0 }
    }

    fn socket(address: u64, direction: Direction, tgid: u32) -> Self {
        Self { source: Source::Lines, ..Self::pipe(address, direction, tgid) }
    }
}

/// A client and its server: both ends of the pipe to it, and of the one from it.
struct Pair {
    client: [Wire; 2],
    server: [Wire; 2],
}

const TO: usize = 0;
const FROM: usize = 1;

impl Pair {
    fn pipes(to: u64, from: u64, client: u32, server: u32) -> Self {
        use Direction::{Read, Write};
        Self {
            client: [Wire::pipe(to, Write, client), Wire::pipe(from, Read, client)],
            server: [Wire::pipe(to, Read, server), Wire::pipe(from, Write, server)],
        }
    }

    fn usual() -> Self {
        Self::pipes(0x100, 0x200, CLIENT, SERVER)
    }

    /// A line to the server, seen at both ends.
    fn ask(&mut self, bench: &mut Bench, line: &str) {
        pass(bench, &mut self.client[TO], line);
        pass(bench, &mut self.server[TO], line);
    }

    /// A line from the server.
    fn answer(&mut self, bench: &mut Bench, line: &str) {
        pass(bench, &mut self.server[FROM], line);
        pass(bench, &mut self.client[FROM], line);
    }
}

fn pass(bench: &mut Bench, wire: &mut Wire, text: &str) {
    let origin = bench.origin(wire.tgid);
    let payload = text.as_bytes();
    let data = Data {
        stream: wire.object,
        offset: wire.offset,
        skipped: 0,
        total: payload.len() as u32,
        turn: 1,
        direction: wire.direction,
        source: wire.source,
        overhead: 0,
        payload,
    };
    wire.offset += payload.len() as u64;
    bench.take(Record::Data(origin, data));
}

fn state(bench: &mut Bench, id: ObjectId, old: u8, new: u8) {
    let origin = bench.origin(0);
    bench.take(Record::SocketState(origin, SocketState { id, old, new, unread: false, error: 0 }));
}

fn exit(bench: &mut Bench, tgid: u32) {
    let origin = bench.origin(tgid);
    bench.take(Record::Exit { origin, status: 0 });
}

fn keep(output: Output, calls: &mut Vec<FinishedCall>) {
    if let Output::Call(call) = output {
        calls.push(*call);
    }
}

fn call(id: u64, tool: &str) -> String {
    let params = json!({"name": tool, "arguments": {"a": "canary"}});
    format!("{}\n", json!({"method": "tools/call", "params": params, "jsonrpc": "2.0", "id": id}))
}

fn result(id: u64) -> String {
    format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}))
}

fn line(message: Value) -> String {
    format!("{message}\n")
}

fn initialize(id: u64) -> String {
    line(json!({"method": "initialize", "params": {"protocolVersion": "2025-06-18"}, "jsonrpc": "2.0", "id": id}))
}

/// Process, side and tool of each call, sorted.
fn seen(bench: &Bench) -> Vec<(u32, Side, String, Option<Completion>)> {
    let mut out: Vec<_> = bench
        .calls
        .iter()
        .map(|call| {
            let rpc = call.facts.as_ref().and_then(|facts| facts.rpc.clone()).unwrap();
            (call.process.pid, call.side, rpc.tool.unwrap_or(rpc.method), call.completion)
        })
        .collect();
    out.sort_by_key(|(pid, side, name, _)| (*pid, *side as u8, name.clone()));
    out
}

fn of(calls: &[FinishedCall], side: Side) -> &FinishedCall {
    calls.iter().find(|call| call.side == side).unwrap()
}

#[test]
fn a_tool_s_call_is_a_span_at_each_end_and_the_two_are_linked() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pair.ask(&mut bench, &call(7, "add"));
    pair.answer(&mut bench, &result(7));
    let done = Some(Completion::Done);
    assert_eq!(seen(&bench), [(CLIENT, Side::Client, "add".into(), done), (SERVER, Side::Server, "add".into(), done)]);
    let (client, server) = (of(&bench.calls, Side::Client), of(&bench.calls, Side::Server));
    assert_eq!((server.ids.parent, server.ids.trace), (Some(client.ids.span), client.ids.trace));
    assert!(client.timing.start <= server.timing.start && server.timing.end <= client.timing.end);
    assert!(client.timing.response_start.is_some() && client.timing.request_end.is_some());
    assert_eq!((client.source, client.capture), (Source::Pipe, Capture::Complete));
    assert!(!format!("{:?}", bench.calls).contains("canary"));
    bench.balanced();
}

#[test]
fn answers_out_of_order_find_their_requests() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pair.ask(&mut bench, &(call(1, "slow") + &call(2, "fast")));
    pair.answer(&mut bench, &result(2));
    assert_eq!(seen(&bench).len(), 2);
    assert!(seen(&bench).iter().all(|(_, _, tool, _)| tool == "fast"));
    pair.answer(&mut bench, &result(1));
    assert_eq!(seen(&bench).len(), 4);
}

#[test]
fn a_server_may_ask_too() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pair.ask(&mut bench, &call(1, "ask"));
    pair.answer(
        &mut bench,
        &line(json!({"method": "sampling/createMessage", "params": {}, "jsonrpc": "2.0", "id": 1})),
    );
    pair.ask(&mut bench, &line(json!({"jsonrpc": "2.0", "id": 1, "result": {"model": "m"}})));
    pair.answer(&mut bench, &result(1));
    let sides: Vec<_> = seen(&bench).into_iter().map(|(pid, side, name, _)| (pid, side, name)).collect();
    assert_eq!(
        sides,
        [
            (CLIENT, Side::Client, "ask".into()),
            (CLIENT, Side::Server, "sampling/createMessage".into()),
            (SERVER, Side::Client, "sampling/createMessage".into()),
            (SERVER, Side::Server, "ask".into()),
        ]
    );
}

#[test]
fn several_servers_of_one_client_with_the_same_ids() {
    let mut bench = Bench::new(false);
    let mut pairs: Vec<Pair> =
        (0..4).map(|n| Pair::pipes(0x100 + 0x10 * n, 0x1000 + 0x10 * n, CLIENT, SERVER + n as u32)).collect();
    for pair in &mut pairs {
        pair.ask(&mut bench, &initialize(0));
    }
    // The client reads the first answer before its server's write is seen.
    for pair in pairs.iter_mut().rev() {
        pass(&mut bench, &mut pair.client[FROM], &result(0));
        pass(&mut bench, &mut pair.server[FROM], &result(0));
    }
    assert_eq!(bench.calls.len(), 8);
    for server in bench.calls.iter().filter(|call| call.side == Side::Server) {
        let client = bench.calls.iter().find(|call| Some(call.ids.span) == server.ids.parent).unwrap();
        assert!(client.timing.start <= server.timing.start, "the client's own request");
    }
}

#[test]
fn one_end_alone_is_enough() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pass(&mut bench, &mut pair.client[TO], &call(1, "add"));
    pass(&mut bench, &mut pair.client[FROM], &result(1));
    assert_eq!(seen(&bench), [(CLIENT, Side::Client, "add".into(), Some(Completion::Done))]);
}

#[test]
fn what_fits_two_proves_nothing() {
    let mut bench = Bench::new(false);
    let mut pairs = [Pair::pipes(0x100, 0x200, CLIENT, SERVER), Pair::pipes(0x300, 0x400, CLIENT, SERVER + 1)];
    for pair in &mut pairs {
        pass(&mut bench, &mut pair.client[TO], &initialize(0));
    }
    for pair in &mut pairs {
        pass(&mut bench, &mut pair.client[FROM], &result(0));
    }
    assert!(bench.calls.is_empty(), "neither server is seen");
    // Another request tells the channels apart.
    pass(&mut bench, &mut pairs[0].client[TO], &call(1, "add"));
    pass(&mut bench, &mut pairs[0].client[FROM], &result(1));
    assert_eq!(bench.calls.len(), 3, "and with them the answers that waited");
}

#[test]
fn a_node_client_s_channels_are_sockets() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pair.client = [Wire::socket(0x10, Direction::Write, CLIENT), Wire::socket(0x30, Direction::Read, CLIENT)];
    pair.server = [Wire::socket(0x20, Direction::Read, SERVER), Wire::socket(0x40, Direction::Write, SERVER)];
    for (one, other) in [(0x10, 0x20), (0x20, 0x10), (0x30, 0x40), (0x40, 0x30)] {
        let unix = |sock| Address::Unix { sock, name: None };
        let id = ObjectId { address: one, generation: 1 };
        let origin = bench.origin(CLIENT);
        bench.take(Record::Socket(origin, Socket { id, local: unix(one), peer: unix(other) }));
    }
    pair.ask(&mut bench, &call(1, "add"));
    pair.answer(&mut bench, &result(1));
    let (client, server) = (of(&bench.calls, Side::Client), of(&bench.calls, Side::Server));
    assert_eq!(server.ids.parent, Some(client.ids.span));
    pair.ask(&mut bench, &call(2, "die"));
    // The server's end of what it writes is closed.
    state(&mut bench, pair.client[FROM].object, tcp::ESTABLISHED, tcp::CLOSE_WAIT);
    let ended: Vec<_> = seen(&bench).into_iter().filter(|(_, _, name, _)| name == "die").collect();
    let left = Some(Completion::ServerClosed);
    assert_eq!(ended, [(CLIENT, Side::Client, "die".into(), left), (SERVER, Side::Server, "die".into(), left)]);
}

#[test]
fn one_socket_carries_both_directions() {
    let mut bench = Bench::new(false);
    for address in [0x10, 0x30] {
        let mut write = Wire::socket(address, Direction::Write, CLIENT);
        pass(&mut bench, &mut write, &initialize(0));
    }
    for address in [0x30, 0x10] {
        let mut read = Wire::socket(address, Direction::Read, CLIENT);
        pass(&mut bench, &mut read, &result(0));
    }
    assert_eq!(bench.calls.len(), 2, "nothing is known of the other ends");
}

#[test]
fn a_server_that_dies_ends_its_calls() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pair.ask(&mut bench, &initialize(0));
    pair.answer(&mut bench, &result(0));
    bench.calls.clear();
    pair.ask(&mut bench, &call(1, "die"));
    exit(&mut bench, SERVER);
    let left = Some(Completion::ServerClosed);
    assert_eq!(seen(&bench), [(SERVER, Side::Server, "die".into(), left)]);
    // The client reads the end of what the server wrote.
    state(&mut bench, pair.client[FROM].object, tcp::CLOSE_WAIT, tcp::CLOSE);
    assert_eq!(seen(&bench)[0], (CLIENT, Side::Client, "die".into(), left));
    exit(&mut bench, CLIENT);
    assert_eq!((bench.calls.len(), bench.pipeline.connection_count()), (2, 0));
}

#[test]
fn a_client_that_leaves_is_who_left() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pair.ask(&mut bench, &initialize(0));
    pair.answer(&mut bench, &result(0));
    bench.calls.clear();
    pair.ask(&mut bench, &call(1, "slow"));
    state(&mut bench, pair.server[TO].object, tcp::CLOSE_WAIT, tcp::CLOSE);
    assert!(bench.calls.is_empty(), "it may be answered yet");
    exit(&mut bench, SERVER);
    state(&mut bench, pair.client[FROM].object, tcp::CLOSE_WAIT, tcp::CLOSE);
    let left = |side| of(&bench.calls, side).completion;
    assert_eq!(
        (left(Side::Client), left(Side::Server)),
        (Some(Completion::ClientClosed), Some(Completion::ClientClosed))
    );
    assert_eq!(bench.pipeline.connection_count(), 0);
}

#[test]
fn a_write_that_nobody_reads_ends_the_call() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pass(&mut bench, &mut pair.client[TO], &call(1, "add"));
    state(&mut bench, pair.client[TO].object, tcp::FIN_WAIT1, tcp::CLOSE);
    assert_eq!(seen(&bench), [(CLIENT, Side::Client, "add".into(), Some(Completion::ServerClosed))]);
}

#[test]
fn a_notification_has_no_answer() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pair.ask(&mut bench, &line(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})));
    assert_eq!(bench.calls.len(), 2);
    assert!(bench.calls.iter().all(|call| call.completion == Some(Completion::Done)));
}

#[test]
fn a_call_to_a_tool_that_a_model_asked_for_is_in_the_model_s_trace() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    let asks = r#"{"object":"chat.completion","choices":[{"index":0,"message":{"tool_calls":[{"id":"c1","function":{"name":"mcp__math__add","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    let mut model = tests::End::socket(0x10, CLIENT);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    bench.data(&mut model, Direction::Write, head.as_bytes());
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    bench.data(&mut model, Direction::Read, format!("{head}{}\r\n\r\n{asks}", asks.len()).as_bytes());
    let asked = bench.one_call();
    pair.ask(&mut bench, &call(1, "add"));
    pair.answer(&mut bench, &result(1));
    let (client, server) = (of(&bench.calls, Side::Client).ids, of(&bench.calls, Side::Server).ids);
    assert_eq!((client.trace, server.trace), (asked.ids.trace, asked.ids.trace));
    assert_eq!(server.parent, Some(client.span));
    bench.pipeline.finish(&mut |output| keep(output, &mut bench.calls));
    let tool = bench.calls.iter().find(|call| call.tool.is_some()).unwrap();
    assert_eq!((client.parent, tool.ids.parent), (Some(tool.ids.span), Some(asked.ids.span)));
}

#[test]
fn what_is_missing_is_a_gap_of_what_waits() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pair.ask(&mut bench, &initialize(0));
    pair.answer(&mut bench, &result(0));
    bench.calls.clear();
    pass(&mut bench, &mut pair.client[TO], &call(1, "add"));
    pair.client[FROM].offset += 50;
    pass(&mut bench, &mut pair.client[FROM], &("half\n".to_owned() + &result(1)));
    let call = &bench.calls[0];
    assert_eq!(call.capture, Capture::Gap);
    assert_eq!(call.notes[0].kind, NoteKind::Gap { part: "response", bytes: 50 });
    assert_eq!(bench.pipeline.stats().lost, 50);
    bench.balanced();
}

#[test]
fn what_is_no_protocol_of_ours_is_rejected() {
    let mut bench = Bench::new(false);
    let mut wire = Wire::pipe(0x100, Direction::Write, CLIENT);
    let other = line(json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    for _ in 0..40 {
        pass(&mut bench, &mut wire, &other);
    }
    let rejected: Vec<_> = bench.answers.iter().map(|verdict| (verdict.verdict, verdict.generation)).collect();
    assert_eq!(rejected, [(inferscope_common::verdict::REJECT, 1)]);
    bench.balanced();
}

#[test]
fn a_call_that_is_never_answered_is_given_up() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pair.ask(&mut bench, &call(1, "slow"));
    let Bench { pipeline, calls, .. } = &mut bench;
    pipeline.on_tick(Mono(10_000_000_000), &mut |output| keep(output, calls));
    assert_eq!(seen(&bench).iter().map(|call| call.3).collect::<Vec<_>>(), [Some(Completion::Idle); 2]);
    pair.ask(&mut bench, &call(2, "slow"));
    let Bench { pipeline, calls, .. } = &mut bench;
    pipeline.finish(&mut |output| keep(output, calls));
    assert_eq!((bench.calls.len(), bench.calls[2].completion, bench.calls[2].capture), (4, None, Capture::Truncated));
}

#[test]
fn a_pipe_at_an_address_that_was_used_before_is_another() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    pair.ask(&mut bench, &call(1, "add"));
    let mut later = Pair::pipes(0x100, 0x200, CLIENT, SERVER + 1);
    for wire in later.client.iter_mut().chain(&mut later.server) {
        wire.object.generation = 2;
    }
    later.ask(&mut bench, &call(1, "other"));
    assert_eq!((bench.calls.len(), bench.pipeline.stats().ends_missed), (2, 1));
    later.answer(&mut bench, &result(1));
    assert_eq!(bench.calls.len(), 4);
}

#[test]
fn a_child_that_writes_for_the_server_ends_nothing() {
    let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
    for id in 0..3 {
        pair.ask(&mut bench, &call(id, "add"));
        // As a shell script's does.
        pair.server[FROM].tgid = 100 + id as u32;
        pair.answer(&mut bench, &result(id));
        exit(&mut bench, 100 + id as u32);
    }
    assert_eq!(bench.calls.len(), 6);
    assert!(bench.calls.iter().all(|call| call.completion == Some(Completion::Done)));
}

proptest! {
    /// However the bytes are read, the calls are the same.
    #[test]
    fn the_cut_does_not_matter(cuts in prop::collection::vec(1usize..40, 1..40)) {
        let run = |cuts: &[usize]| {
            let (mut bench, mut pair) = (Bench::new(false), Pair::usual());
            let (asked, answered) = (call(1, "a") + "stray\n" + &call(2, "b"), result(2) + &result(1));
            for (wire, text) in [(TO, &asked), (FROM, &answered)] {
                let (mut rest, mut cuts) = (text.as_str(), cuts.iter().cycle());
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                    pass(&mut bench, &mut pair.server[wire], piece);
                    rest = behind;
                }
            }
            bench.balanced();
            seen(&bench)
        };
        let whole = run(&[usize::MAX]);
        prop_assert_eq!(whole.len(), 2);
        prop_assert_eq!(&whole, &run(&cuts));
        prop_assert_eq!(&whole, &run(&[1]));
    }
}
