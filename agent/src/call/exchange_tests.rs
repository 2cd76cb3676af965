//! Ends of exchanges, and bodies that are encoded.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::llm::{Options, RequestLine};

fn completion_of(ended: Ended, side: Side, status: u16, streamed: bool, finished: bool) -> Option<Completion> {
    let body = Body { streamed, finished, broken: false, empty: false, readable: true };
    completion(ended, side, Some(status), None, &body, Capture::Complete)
}

#[test]
fn a_close_is_attributed_to_the_role_that_closed() {
    let ended = |by, side| completion_of(Ended::Closed(by), side, 200, true, false);
    assert_eq!(ended(ClosedBy::Local, Side::Client), Some(Completion::ClientClosed));
    assert_eq!(ended(ClosedBy::Peer, Side::Client), Some(Completion::ServerClosed));
    assert_eq!(ended(ClosedBy::Local, Side::Server), Some(Completion::ServerClosed));
    assert_eq!(ended(ClosedBy::Peer, Side::Server), Some(Completion::ClientClosed));
    assert_eq!(ended(ClosedBy::Unknown, Side::Server), None);
}

#[test]
fn an_answer_that_said_it_was_over_is_done_however_the_connection_ended() {
    let ended = Ended::Closed(ClosedBy::Local);
    assert_eq!(completion_of(ended, Side::Client, 200, true, true), Some(Completion::Done));
}

#[test]
fn an_error_status_is_an_error_even_when_the_body_came_whole() {
    assert_eq!(completion_of(Ended::Whole, Side::Client, 404, false, true), Some(Completion::Error));
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole_if_the_server_ended_it() {
    let ended = |by, streamed| completion_of(Ended::Delimited(by), Side::Client, 200, streamed, false);
    assert_eq!(ended(ClosedBy::Peer, false), Some(Completion::Done));
    assert_eq!(ended(ClosedBy::Local, false), Some(Completion::ClientClosed));
    assert_eq!(ended(ClosedBy::Peer, true), Some(Completion::ServerClosed));
}

#[test]
fn a_whole_stream_that_could_not_be_read_is_done_and_one_with_a_gap_is_not_judged() {
    let whole = |readable, capture| {
        let body = Body { streamed: true, finished: false, broken: false, empty: false, readable };
        completion(Ended::Whole, Side::Client, Some(200), None, &body, capture)
    };
    assert_eq!(whole(false, Capture::Complete), Some(Completion::Done));
    assert_eq!(whole(true, Capture::Gap), None);
    assert_eq!(whole(true, Capture::Complete), Some(Completion::ServerClosed));
}

/// A call that was asked in this encoding and answered in that one.
struct Coded {
    exchange: Exchange,
    now: u64,
}

impl Coded {
    fn new(request: Option<&str>, response: Option<&str>) -> Self {
        let line = RequestLine { method: "POST", path: "/v1/chat/completions", host: None, headers: None };
        let session = Session::open(&line, &Options::default());
        let mut exchange = Exchange::new(0, Mono(0), HttpFacts::default(), session);
        exchange.set_encoding(Mono(0), Part::Request, request);
        exchange.set_encoding(Mono(0), Part::Response, response);
        Self { exchange, now: 0 }
    }

    /// Asks with a body in these pieces.
    fn ask(mut self, pieces: &[&[u8]]) -> Self {
        for piece in pieces {
            self.now += 1;
            self.exchange.request_body(Mono(self.now), piece);
        }
        self.exchange.request_end(Mono(self.now));
        let headers = Headers { content_type: Some("text/event-stream".into()), ..Headers::default() };
        self.exchange.response_head(Mono(self.now), Mono(self.now), 200, &headers);
        self
    }

    /// Answers with a body in these pieces, a millisecond apart.
    fn answer(mut self, pieces: &[Vec<u8>]) -> Self {
        for piece in pieces {
            self.now += 1_000_000;
            self.exchange.response_body(Mono(self.now), piece);
        }
        self
    }

    fn whole(mut self) -> Outcome {
        self.exchange.response_end(Mono(self.now));
        self.exchange.finish(Ended::Whole, Side::Client, true).unwrap()
    }
}

const ASKED: &[u8] = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// The events of an answer.
fn events() -> Vec<String> {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    vec![
        chunk("{\"content\":\"a\"}", "null"),
        chunk("{\"content\":\"b\"}", "null"),
        chunk("{}", "\"stop\""),
        "data: [DONE]\n\n".to_owned(),
    ]
}

/// The same compressed, each event flushed as servers do, and the end.
fn compressed(events: &[String]) -> Vec<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut pieces = Vec::new();
    for event in events {
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
        pieces.push(std::mem::take(encoder.get_mut()));
    }
    pieces.push(encoder.finish().unwrap());
    pieces
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    compressed(&[String::from_utf8(plain.to_vec()).unwrap()]).concat()
}

fn reasons(outcome: &Outcome) -> Vec<&'static str> {
    let reason = |note: &Note| match note.kind {
        NoteKind::Malformed { reason, .. } => reason,
        NoteKind::Undecoded { .. } => "undecoded",
        NoteKind::Gap { .. } => "gap",
    };
    outcome.notes.iter().map(reason).collect()
}

#[test]
fn a_compressed_call_is_read_like_a_plain_one_at_the_same_times() {
    let pieces: Vec<_> = events().into_iter().map(String::into_bytes).chain([Vec::new()]).collect();
    let plain = Coded::new(None, None).ask(&[ASKED]).answer(&pieces).whole();
    let coded = Coded::new(Some("gzip"), Some("gzip")).ask(&[&gzip(ASKED)]).answer(&compressed(&events())).whole();
    assert_eq!(coded.facts, plain.facts);
    assert_eq!(coded.timing, plain.timing);
    assert_eq!((coded.chunk_count, coded.completion), (2, Some(Completion::Done)));
    assert!(coded.notes.is_empty(), "{:?}", coded.notes);
    assert_eq!(coded.facts.unwrap().request.message_count, Some(1));
}

#[test]
fn a_compressed_call_is_the_same_in_one_byte_reads() {
    let bytewise: Vec<Vec<u8>> = compressed(&events()).concat().chunks(1).map(<[u8]>::to_vec).collect();
    let of = |pieces: &[Vec<u8>]| Coded::new(None, Some("gzip")).ask(&[ASKED]).answer(pieces).whole();
    let (bytewise, whole) = (of(&bytewise), of(&compressed(&events())));
    assert_eq!((bytewise.facts, bytewise.chunk_count), (whole.facts, whole.chunk_count));
    assert_eq!((bytewise.completion, bytewise.notes), (whole.completion, whole.notes));
}

#[test]
fn a_request_compressed_without_a_label_is_read() {
    let asked = gzip(ASKED);
    let bytes: Vec<&[u8]> = asked.chunks(1).collect();
    let outcome = Coded::new(None, None).ask(&bytes).whole();
    assert_eq!(outcome.facts.as_ref().and_then(|facts| facts.request.message_count), Some(1));
    assert!(outcome.notes.is_empty());
}

#[test]
fn an_unknown_encoding_is_noted_and_not_read() {
    let pieces: Vec<_> = events().into_iter().map(String::into_bytes).collect();
    let outcome = Coded::new(None, Some("compress")).ask(&[ASKED]).answer(&pieces).whole();
    assert_eq!((reasons(&outcome), outcome.chunk_count), (vec!["undecoded"], 0));
    assert_eq!(outcome.completion, Some(Completion::Done));
}

#[test]
fn a_gap_in_a_compressed_answer_leaves_the_rest_unknown() {
    let pieces = compressed(&events());
    let mut coded = Coded::new(None, Some("gzip")).ask(&[ASKED]).answer(&pieces[..1]);
    coded.exchange.gap(Mono(coded.now), Part::Response, 7);
    let outcome = coded.answer(&pieces[2..]).whole();
    assert_eq!(reasons(&outcome), ["gap", encoding::reason::GAP]);
    assert_eq!((outcome.chunk_count, outcome.completion, outcome.capture), (1, None, Capture::Gap));
}

#[test]
fn an_answer_that_unpacks_without_end_is_cut_and_marked() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let blanks = vec![b' '; 1 << 20];
    for _ in 0..8 {
        encoder.write_all(&blanks).unwrap();
    }
    let outcome = Coded::new(None, Some("gzip")).ask(&[ASKED]).answer(&[encoder.finish().unwrap()]).whole();
    assert_eq!(reasons(&outcome), [encoding::reason::BOMB]);
    assert_eq!(outcome.capture, Capture::Truncated);
}

#[test]
fn a_compressed_answer_may_end_early_when_the_client_has_left() {
    let pieces = compressed(&events());
    let cut = Coded::new(None, Some("gzip")).ask(&[ASKED]).answer(&pieces[..4]);
    let outcome = cut.exchange.finish(Ended::Closed(ClosedBy::Local), Side::Client, false).unwrap();
    assert_eq!((outcome.completion, reasons(&outcome)), (Some(Completion::Done), vec![]));
    let short = Coded::new(None, Some("gzip")).ask(&[ASKED]).answer(&pieces[..4]).whole();
    assert_eq!((short.completion, reasons(&short)), (Some(Completion::Done), vec![encoding::reason::TRUNCATED]));
}
