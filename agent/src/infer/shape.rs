//! What an exchange looks like from outside: when bytes went which way, and how many.
//!
//! Rules, each with what it is right about and what it cannot know:
//!
//! * A request is what the client sends between two records of the server, if that is [`MIN_REQUEST`] bytes or more.
//!   Less is HTTP/2's own traffic (settings, acknowledgements), which comes at any time.
//! * A response is what the server sends from there to the next request, the connection's end or long silence. Several
//!   calls that share a connection at one time look like one.
//! * Records that come within [`PIECE_NS`] of each other are one piece: a server writes an event's length, text and end
//!   as it likes. Many small pieces are a stream.
//! * The first piece of a stream holds the head of the response, which most servers send before the first token. So
//!   the first token is taken to be in the second piece; where it came with the head, that is one gap too late.
//! * The first records after a TLS 1.3 handshake may be session tickets: records of one length at the very beginning are
//!   (most servers send two or more), and a single one is if it comes while a ticket must be expected. No model answers
//!   as fast as that; where a server sends no ticket and its response's head at once, the head is missed.

use std::time::Duration;

use super::handshake::Cipher;
use crate::{call::gaps::GapSketch, time::Mono};

/// Bytes of the shortest request for a model: a request line, a host, a length and a JSON body.
const MIN_REQUEST: u64 = 100;

/// Within this time a record belongs to the piece before it, ns. A busy server needs up to that between the head of a
/// response and an event that it sends at once; engines leave more between two tokens of one stream.
const PIECE_NS: u64 = 3_000_000;

/// A read of what was waiting already comes within this time after the request, ns.
const WAITING_NS: u64 = 1_000_000;

/// Pieces of a stream at least. A response that the network cuts has a few.
const MIN_STREAM_PIECES: u64 = 4;

/// Mean bytes of a stream's piece at most: an event with a token has some hundred. A download's pieces are larger.
const MAX_STREAM_PIECE: u64 = 4_096;

/// Records at the beginning that are held back until it is known whether they are tickets. Servers send four at most.
const MAX_HELD: usize = 8;

/// Plaintext of `HTTP/1.1 100 Continue` and two line ends: what a client that asks for it waits for before it sends its
/// body.
const CONTINUE: u64 = 25;

/// An exchange that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// The request's first record was sent.
    pub start: Mono,
    /// Its last one was.
    pub request_end: Mono,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// The response's first record came.
    pub first_record: Mono,
    /// The response's second piece came, if it is a stream.
    pub first_token: Option<Mono>,
    /// The last record came.
    pub end: Mono,
    /// Bytes of the response.
    pub response_bytes: u64,
    /// Its records.
    pub records: u64,
    /// Its pieces.
    pub pieces: u64,
    /// Gaps between the pieces behind the first.
    pub gaps: GapSketch,
    /// Whether the sizes are those of the plaintext; else the records' own.
    pub plaintext_sizes: bool,
}

/// Records of the client, none of the server's between them.
#[derive(Clone, Copy, Debug)]
struct Request {
    start: Mono,
    end: Mono,
    bytes: u64,
}

#[derive(Debug)]
struct Exchange {
    request: Request,
    response: Option<Response>,
}

#[derive(Debug)]
struct Response {
    first: Mono,
    second_piece: Option<Mono>,
    piece: Mono,
    last: Mono,
    bytes: u64,
    records: u64,
    pieces: u64,
    gaps: GapSketch,
    /// Bytes of records at the end that may be alerts.
    doubtful: (u64, u64),
}

/// The state of a connection.
#[derive(Debug, Default)]
pub struct Talk {
    sending: Option<Request>,
    exchange: Option<Exchange>,
    held: Vec<(Mono, u16)>,
    /// The first response has begun: no tickets are expected any more.
    settled: bool,
}

impl Talk {
    /// Whether an exchange is under way, or over and not yet known to be.
    pub fn is_busy(&self) -> bool {
        self.sending.is_some() || self.exchange.is_some()
    }

    /// Whether the server answered last.
    pub fn is_answered(&self) -> bool {
        self.sending.is_none() && self.exchange.is_some() || !self.held.is_empty()
    }

    /// Records were missed: what is under way cannot be measured. True if something was.
    pub fn forget(&mut self) -> bool {
        let busy = self.is_busy();
        (self.sending, self.exchange) = (None, None);
        self.held.clear();
        busy
    }

    /// The client sent application data. What that shows to be over goes to `out`.
    pub fn client(&mut self, cipher: Cipher, at: Mono, len: u16, out: &mut dyn FnMut(Shape)) {
        // The connection's end; nobody begins a request with so few bytes.
        if cipher.client_alert == Some(len) && self.sending.is_none() {
            return;
        }
        // An answer came; a ticket may come while the request is still being sent.
        if !self.held.is_empty() && !self.is_ticket_time(cipher, at) {
            self.settle(cipher, out);
        }
        let bytes = size(cipher, len);
        let request = self.sending.get_or_insert(Request { start: at, end: at, bytes: 0 });
        (request.end, request.bytes) = (at, request.bytes + bytes);
    }

    /// The server sent application data. What that shows to be over goes to `out`.
    pub fn server(&mut self, cipher: Cipher, at: Mono, len: u16, out: &mut dyn FnMut(Shape)) {
        if !self.is_busy() {
            return;
        }
        if !self.settled && cipher.tickets_until.is_some() {
            let alike = self.held.iter().all(|&(_, other)| other == len);
            if self.held.len() < MAX_HELD && alike {
                self.held.push((at, len));
                return;
            }
            self.settle(cipher, out);
        }
        self.answer(cipher, at, len, out);
    }

    /// The connection is over, or silent. False if a request was left without an answer.
    pub fn end(&mut self, cipher: Cipher, out: &mut dyn FnMut(Shape)) -> bool {
        self.settle(cipher, out);
        let unanswered = self.sending.take().is_some_and(|request| request.bytes >= MIN_REQUEST);
        if let Some(exchange) = self.exchange.take() {
            exchange.finish(cipher, out);
        }
        !unanswered
    }

    fn is_ticket_time(&self, cipher: Cipher, at: Mono) -> bool {
        let waiting = self.sending.map(|request| Mono(request.end.0.saturating_add(WAITING_NS)));
        cipher.tickets_until.is_some_and(|until| at <= until) || waiting.is_some_and(|until| at <= until)
    }

    /// Decides what the held records were, which are all of one length.
    fn settle(&mut self, cipher: Cipher, out: &mut dyn FnMut(Shape)) {
        let held = std::mem::take(&mut self.held);
        if let [(at, len)] = held[..]
            && !self.is_ticket_time(cipher, at)
        {
            self.answer(cipher, at, len, out);
        }
    }

    fn answer(&mut self, cipher: Cipher, at: Mono, len: u16, out: &mut dyn FnMut(Shape)) {
        if let Some(mut request) = self.sending.take_if(|request| request.bytes >= MIN_REQUEST) {
            if let Some(before) = self.exchange.take() {
                if before.is_continue(cipher) {
                    (request.start, request.bytes) = (before.request.start, request.bytes + before.request.bytes);
                } else {
                    before.finish(cipher, out);
                }
            }
            self.exchange = Some(Exchange { request, response: None });
            self.settled = true;
        }
        self.sending = None;
        if let Some(exchange) = &mut self.exchange {
            exchange.on_record(cipher, at, len);
        }
    }
}

impl Exchange {
    fn on_record(&mut self, cipher: Cipher, at: Mono, len: u16) {
        let is_doubtful = cipher.server_alert == Some(len);
        let Some(response) = &mut self.response else {
            if !is_doubtful {
                self.response = Some(Response::new(at, size(cipher, len)));
            }
            return;
        };
        if is_doubtful {
            response.doubtful.0 += size(cipher, len);
            response.doubtful.1 += 1;
            return;
        }
        if at.0.saturating_sub(response.last.0) > PIECE_NS {
            response.pieces += 1;
            match response.second_piece {
                None => response.second_piece = Some(at),
                Some(_) => response.gaps.record(at.since(response.piece)),
            }
            response.piece = at;
        }
        // Something followed, so they were no alerts.
        let (bytes, records) = std::mem::take(&mut response.doubtful);
        response.bytes += bytes + size(cipher, len);
        response.records += records + 1;
        response.last = at;
    }

    /// Whether the response only asked for the request's body.
    fn is_continue(&self, cipher: Cipher) -> bool {
        let one = |response: &Response| response.records == 1 && response.bytes == CONTINUE;
        cipher.overhead.is_some() && self.response.as_ref().is_some_and(one)
    }

    fn finish(self, cipher: Cipher, out: &mut dyn FnMut(Shape)) {
        let Self { request, response } = self;
        let Some(response) = response else { return };
        let Response { first, second_piece, piece: _, last, bytes, records, pieces, gaps, doubtful: _ } = response;
        let is_stream = pieces >= MIN_STREAM_PIECES && bytes / pieces <= MAX_STREAM_PIECE;
        out(Shape {
            start: request.start,
            request_end: request.end,
            request_bytes: request.bytes,
            first_record: first,
            first_token: second_piece.filter(|_| is_stream),
            end: last,
            response_bytes: bytes,
            records,
            pieces,
            gaps: if is_stream { gaps } else { GapSketch::default() },
            plaintext_sizes: cipher.overhead.is_some(),
        });
    }
}

impl Response {
    fn new(at: Mono, bytes: u64) -> Self {
        Self {
            first: at,
            second_piece: None,
            piece: at,
            last: at,
            bytes,
            records: 1,
            pieces: 1,
            gaps: GapSketch::default(),
            doubtful: (0, 0),
        }
    }
}

impl Shape {
    /// Whether the response came in many small pieces.
    pub fn is_stream(&self) -> bool {
        self.first_token.is_some()
    }

    /// From the request's first record to a later time.
    pub fn since_start(&self, at: Mono) -> Duration {
        at.since(self.start)
    }
}

/// Bytes that a record counts for: of plaintext, where the overhead is known.
fn size(cipher: Cipher, len: u16) -> u64 {
    len.saturating_sub(cipher.overhead.unwrap_or(0)).into()
}
