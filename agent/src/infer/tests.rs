//! Conversations as they are on the wire: what comes out, and what must not.

use proptest::prelude::*;

use super::{
    hello::tests::{client_hello, server_hello},
    *,
};

const MS: u64 = 1_000_000;
const SOCKET: ObjectId = ObjectId { address: 1, generation: 2 };
const TLS_13: u16 = 17;

/// A connection of a client, with hands.
struct Wire {
    inference: Inference,
    now: u64,
    plain: u64,
    found: Vec<Inferred>,
    lost: u32,
    unanswered: u32,
}

impl Wire {
    fn new() -> Self {
        Self { inference: Inference::default(), now: 1_000 * MS, plain: 0, found: vec![], lost: 0, unanswered: 0 }
    }

    fn origin(&self) -> Origin {
        Origin { time: Mono(self.now), tgid: 7, tid: 7, start_ns: 3 }
    }

    fn act(&mut self, act: impl FnOnce(&mut Inference, &mut dyn FnMut(Found))) {
        let Self { inference, found, lost, unanswered, .. } = self;
        act(inference, &mut |one| match one {
            Found::Exchange(inferred) => found.push(*inferred),
            Found::Lost => *lost += 1,
            Found::Unanswered => *unanswered += 1,
        });
    }

    fn header(&mut self, direction: Direction, content: u8, len: u16, after_gap: bool) {
        let header = TlsHeader { socket: SOCKET, direction, plain: self.plain, content, len, after_gap };
        let origin = self.origin();
        self.act(|inference, out| assert!(inference.record(&origin, &header, out)));
    }

    /// Application data of so many bytes.
    fn sends(&mut self, plain: u16) {
        self.header(Direction::Write, 23, plain + TLS_13, false);
    }

    fn receives(&mut self, plain: u16) {
        self.header(Direction::Read, 23, plain + TLS_13, false);
    }

    fn after(&mut self, ms: u64) -> &mut Self {
        self.now += ms * MS;
        self
    }

    fn hello(&mut self, direction: Direction, bytes: &[u8]) {
        let origin = self.origin();
        assert!(self.inference.hello(&origin, &TlsHello { socket: SOCKET, direction, bytes }));
        self.header(direction, 22, bytes.len() as u16, false);
    }

    /// TLS 1.3 up to the client's Finished, in `trip` ms.
    fn handshake(&mut self, trip: u64) {
        self.hello(Direction::Write, &client_hello("api.openai.com", 100, &["http/1.1"]));
        self.after(trip).hello(Direction::Read, &server_hello(0x1301, true));
        for len in [23, 800, 281, 53] {
            self.header(Direction::Read, 23, len, false);
        }
        self.header(Direction::Write, 20, 1, false);
        self.header(Direction::Write, 23, 4 + 32 + TLS_13, false);
    }

    fn stream(&mut self) {
        self.after(1).sends(300);
        for plain in [170, 240] {
            self.after(10).now -= 9 * MS + 900_000;
            self.receives(plain);
        }
        self.after(30);
        for _ in 0..10 {
            self.receives(250);
            self.after(20);
        }
        self.receives(5);
    }

    fn close(mut self) -> Self {
        self.act(|inference, out| inference.close(SOCKET, out));
        assert!(self.inference.is_empty());
        self
    }
}

fn only(wire: &Wire) -> &Inferred {
    assert_eq!((wire.found.len(), wire.lost), (1, 0), "{:?}", wire.found);
    &wire.found[0]
}

#[test]
fn a_stream_behind_two_tickets() {
    let mut wire = Wire::new();
    wire.handshake(3);
    wire.after(1).sends(300);
    let start = wire.now;
    for plain in [233, 233] {
        wire.receives(plain);
    }
    wire.after(2).receives(170);
    let head = wire.now;
    wire.receives(240);
    wire.after(30);
    let token = wire.now;
    for _ in 0..10 {
        wire.receives(250);
        wire.after(20);
    }
    wire.receives(5);
    let wire = wire.close();
    let Inferred { shape, parties, .. } = only(&wire);
    assert_eq!((shape.start, shape.first_record, shape.first_token), (Mono(start), Mono(head), Some(Mono(token))));
    assert_eq!((shape.request_bytes, shape.response_bytes, shape.records, shape.pieces), (300, 2_915, 13, 12));
    assert_eq!(shape.gaps.max().unwrap().as_millis(), 20);
    assert!(shape.plaintext_sizes && shape.is_stream());
    assert_eq!(parties.server_name.as_deref(), Some("api.openai.com"));
    assert_eq!((parties.requests, parties.offers_http2), (Some(Direction::Write), false));
}

#[test]
fn a_single_early_record_is_a_ticket_and_a_later_one_is_not() {
    let mut wire = Wire::new();
    wire.handshake(20);
    wire.after(1).sends(300);
    wire.after(19).receives(90);
    wire.after(500).receives(700);
    let wire = wire.close();
    assert_eq!((only(&wire).shape.response_bytes, only(&wire).shape.records), (700, 1));

    let mut wire = Wire::new();
    wire.handshake(20);
    wire.after(1).sends(300);
    wire.after(200).receives(700);
    let wire = wire.close();
    assert_eq!(only(&wire).shape.response_bytes, 700);
}

#[test]
fn tickets_alone_are_no_answer() {
    for tickets in [1, 2] {
        let mut wire = Wire::new();
        wire.handshake(3);
        wire.sends(300);
        for _ in 0..tickets {
            wire.receives(230);
        }
        let wire = wire.close();
        assert_eq!((wire.found.len(), wire.unanswered), (0, 1));
    }
}

#[test]
fn one_connection_carries_one_exchange_after_the_other() {
    let mut wire = Wire::new();
    wire.handshake(3);
    wire.after(5).sends(400);
    wire.sends(200);
    wire.after(50).receives(900);
    wire.after(100).sends(300);
    wire.after(50).receives(800);
    let wire = wire.close();
    let sizes: Vec<_> = wire.found.iter().map(|f| (f.number, f.shape.request_bytes, f.shape.response_bytes)).collect();
    assert_eq!(sizes, [(0, 600, 900), (1, 300, 800)]);
    assert!(wire.found.iter().all(|found| !found.shape.is_stream()));
}

#[test]
fn a_body_that_waits_for_continue_belongs_to_its_head() {
    let mut wire = Wire::new();
    wire.handshake(3);
    wire.after(5).sends(250);
    wire.after(50).receives(CONTINUE_BYTES);
    wire.after(1).sends(9_000);
    wire.after(50).receives(800);
    let wire = wire.close();
    assert_eq!(only(&wire).shape.request_bytes, 9_250);
}

const CONTINUE_BYTES: u16 = "HTTP/1.1 100 Continue\r\n\r\n".len() as u16;

#[test]
fn alerts_and_the_traffic_of_http2_begin_nothing() {
    let mut wire = Wire::new();
    wire.handshake(3);
    wire.after(5).sends(300);
    wire.after(50).receives(900);
    // SETTINGS and its acknowledgement, a window update, a ping.
    for plain in [9, 13, 17] {
        wire.sends(plain);
        wire.after(3).receives(400);
    }
    // close_notify of both ends.
    wire.receives(2);
    wire.sends(2);
    let wire = wire.close();
    assert_eq!((only(&wire).shape.response_bytes, wire.unanswered), (2_100, 0));
}

#[test]
fn what_was_missed_is_given_up_and_the_next_one_is_whole() {
    let mut wire = Wire::new();
    wire.handshake(3);
    wire.after(5).sends(300);
    wire.after(50).header(Direction::Read, 23, 900, true);
    assert_eq!((wire.lost, wire.found.len()), (1, 0));
    wire.after(5).sends(300);
    wire.after(50).receives(500);
    let wire = wire.close();
    assert_eq!((wire.found.len(), wire.found[0].shape.response_bytes), (1, 500));
}

#[test]
fn a_certificate_of_the_client_is_handshake() {
    let mut wire = Wire::new();
    wire.hello(Direction::Write, &client_hello("api.openai.com", 0, &["h2"]));
    wire.after(3).hello(Direction::Read, &server_hello(0x1302, true));
    wire.header(Direction::Read, 23, 2_000, false);
    for len in [900, 281, 4 + 48 + TLS_13] {
        wire.header(Direction::Write, 23, len, false);
    }
    wire.after(30).sends(300);
    wire.after(50).receives(500);
    let wire = wire.close();
    assert_eq!((only(&wire).shape.request_bytes, only(&wire).parties.offers_http2), (300, true));
}

/// As the Java runtime speaks: padding behind everything that is no application data, one ticket when a session is
/// resumed, right before the response's head.
#[test]
fn java_pads_its_finished_and_its_alerts() {
    let mut wire = Wire::new();
    wire.hello(Direction::Write, &client_hello("api.openai.com", 0, &[]));
    wire.after(5).hello(Direction::Read, &server_hello(0x1302, true));
    for len in [23, 69] {
        wire.header(Direction::Read, 23, len, false);
    }
    wire.after(5).header(Direction::Write, 23, 85, false);
    wire.sends(238);
    wire.sends(110);
    wire.after(5).receives(233);
    wire.receives(149);
    wire.receives(335);
    wire.after(30).header(Direction::Write, 23, 35, false);
    let wire = wire.close();
    assert_eq!((only(&wire).shape.request_bytes, only(&wire).shape.response_bytes, wire.unanswered), (348, 484, 0));
}

#[test]
fn tls_12_has_its_own_overhead_and_cbc_none_that_is_known() {
    for (suite, request, known) in [(0xc02f, 276, true), (0xcca8, 284, true), (0xc013, 300, false)] {
        let mut wire = Wire::new();
        wire.hello(Direction::Write, &client_hello("api.openai.com", 0, &[]));
        wire.after(3).hello(Direction::Read, &server_hello(suite, false));
        wire.header(Direction::Write, 22, 40, false);
        wire.header(Direction::Write, 23, 300, false);
        wire.after(3).header(Direction::Read, 23, 500, false);
        let wire = wire.close();
        assert_eq!((only(&wire).shape.request_bytes, only(&wire).shape.plaintext_sizes), (request, known));
    }
}

#[test]
fn without_the_servers_hello_nothing_is_told_apart() {
    let mut wire = Wire::new();
    wire.hello(Direction::Write, &client_hello("api.openai.com", 0, &[]));
    wire.stream();
    assert!(wire.close().found.is_empty());
}

#[test]
fn a_connection_that_was_joined_has_the_sizes_of_its_records() {
    let mut wire = Wire::new();
    wire.receives(9_000);
    wire.inference.join(SOCKET, Direction::Write);
    wire.after(1).receives(9_000);
    wire.after(5).sends(300);
    wire.after(50).receives(500);
    let wire = wire.close();
    let shape = &only(&wire).shape;
    assert_eq!((shape.request_bytes, shape.response_bytes, shape.plaintext_sizes), (317, 517, false));
}

#[test]
fn plaintext_that_is_read_meanwhile_is_said() {
    let mut wire = Wire::new();
    wire.handshake(3);
    wire.after(5).sends(300);
    wire.plain = 300;
    wire.after(50).receives(500);
    wire.after(5).sends(300);
    wire.after(50).receives(500);
    let origin = wire.origin();
    wire.after(5).sends(300);
    wire.after(50).receives(500);
    wire.inference.plaintext(&Origin { time: Mono(wire.now), ..origin });
    let wire = wire.close();
    let read: Vec<_> = wire.found.iter().map(|found| found.plaintext_read).collect();
    assert_eq!(read, [true, false, true]);
}

#[test]
fn silence_ends_an_answer_and_the_end_cuts_one() {
    let mut wire = Wire::new();
    wire.handshake(3);
    wire.stream();
    let (now, idle) = (wire.now, 300_000 * MS);
    wire.act(|inference, out| inference.tick(Mono(now + 29_000 * MS), idle, out));
    assert!(wire.found.is_empty());
    wire.act(|inference, out| inference.tick(Mono(now + 31_000 * MS), idle, out));
    assert!(!only(&wire).truncated);
    wire.after(60_000).sends(300);
    wire.after(10).receives(300);
    wire.act(|inference, out| inference.finish(out));
    assert!(wire.found[1].truncated);
}

proptest! {
    /// However a request and the pieces of its answer are cut into records, the exchange is the same.
    #[test]
    fn any_cut_into_records_gives_the_same_exchange(
        request in prop::collection::vec(1u16..2_000, 1..8),
        pieces in prop::collection::vec((prop::collection::vec(3u16..900, 1..5), 4u64..40), 4..20),
    ) {
        prop_assume!(request.iter().map(|&n| u64::from(n)).sum::<u64>() >= 100 && request[0] != 2);
        let mut wire = Wire::new();
        wire.handshake(3);
        wire.after(50);
        let start = wire.now;
        request.iter().for_each(|&plain| wire.sends(plain));
        wire.after(50);
        let mut starts = Vec::new();
        for (records, pause) in &pieces {
            starts.push(wire.now);
            records.iter().for_each(|&plain| wire.receives(plain));
            wire.after(*pause);
        }
        let wire = wire.close();
        let shape = &only(&wire).shape;
        // Records of one length at the very beginning pass for tickets.
        let first = &pieces[0].0;
        prop_assume!(first.len() < 2 || first[0] != first[1]);
        prop_assume!(first.len() > 1 || first[0] != pieces[1].0[0]);
        let bytes = |records: &Vec<u16>| records.iter().map(|&n| u64::from(n)).sum::<u64>();
        prop_assert_eq!(shape.start, Mono(start));
        prop_assert_eq!(shape.request_bytes, bytes(&request));
        prop_assert_eq!(shape.response_bytes, pieces.iter().map(|(records, _)| bytes(records)).sum::<u64>());
        prop_assert_eq!(shape.pieces, pieces.len() as u64);
        prop_assert_eq!(shape.first_record, Mono(starts[0]));
        prop_assert_eq!(shape.first_token, Some(Mono(starts[1])));
        prop_assert_eq!(shape.gaps.count(), pieces.len() as u64 - 2);
    }

    /// Whatever is sent, nothing panics, and no more is given out than was seen.
    #[test]
    fn any_records_at_all(records in prop::collection::vec((any::<bool>(), 19u8..25, any::<u16>(), any::<bool>(), 0u64..50), 0..200)) {
        let mut wire = Wire::new();
        wire.handshake(3);
        let mut seen = 0;
        for (out, content, len, gap, pause) in records {
            seen += u64::from(len);
            let direction = if out { Direction::Write } else { Direction::Read };
            wire.after(pause).header(direction, content, len, gap);
        }
        let wire = wire.close();
        prop_assert!(wire.found.iter().map(|f| f.shape.request_bytes + f.shape.response_bytes).sum::<u64>() <= seen);
    }
}
