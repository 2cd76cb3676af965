//! One connection of one process: two directions of bytes in, exchanges out.
//!
//! Owns which direction carries requests, which version of HTTP is spoken, and how a connection ends. Pairing is
//! `http1`'s, `http2`'s and `websocket`'s. Says what it wants of the kernel side ([`Step::Answer`]).

use inferscope_common::verdict::{DROP, KEEP};

use super::{
    ConnectionOptions, Side,
    exchange::{ClosedBy, Ended, Exchange, Part},
    http1::{Http1, Switch},
    http2::Http2,
    opener::Opener,
    progress::Look,
    websocket::WebSocket,
};
use crate::{
    protocol::{http1, http2},
    record::Direction,
    stream::{Lane, Piece},
    time::Mono,
};

/// Pieces with frames of HTTP/2 that do not say whose they are, before the connection is let go. A head, which does,
/// comes with every exchange.
const MAX_UNDECIDED: u32 = 16;

/// What a connection reports while it takes bytes.
pub enum Step {
    /// An exchange began.
    Began(Begun),
    /// An exchange is over.
    Over(Box<Exchange>, Ended),
    /// The kernel side should do this with the stream (`inferscope_common::verdict`).
    Answer(u32),
    /// The same, made on the response's turn: it must not reach the next request.
    AnswerResponse(u32),
    /// The kernel side need not copy requests for the path with this hash.
    Dull(u64),
    /// Bytes that belong to no message.
    Unparsed(u64),
    /// Bytes that could not be understood, and why.
    Malformed(&'static str),
    /// An exchange was given up because too many were waiting.
    Overflow,
}

/// What names an exchange while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Counts the connection's exchanges.
    pub number: u64,
    /// Stream of HTTP/2; 0 for HTTP/1.1.
    pub stream: u32,
    /// First byte.
    pub start: Mono,
    /// Whether its path is a model's.
    pub is_model: bool,
}

impl Begun {
    pub(super) fn of(exchange: &Exchange) -> Self {
        Self {
            number: exchange.number,
            stream: exchange.stream,
            start: exchange.start,
            is_model: exchange.session.is_some(),
        }
    }
}

/// What one direction brings.
pub(super) enum Input<'a> {
    Bytes(&'a [u8]),
    /// Bytes that are missing, and how many of them were not left out on purpose.
    Gap {
        missing: u64,
        lost: u64,
    },
    Close,
}

/// State of one connection. Bounded: two lanes and what the version of HTTP holds.
pub struct Connection {
    side: Option<Side>,
    read: Lane,
    write: Lane,
    opener: Opener,
    speaks: Speaks,
    undecided: u32,
    /// A frame's header that came alone, before anything was decided.
    header: Option<Alone>,
    /// Whether anybody was seen to close, and who first.
    closed_by: Option<ClosedBy>,
    last_seen: Mono,
}

struct Alone {
    at: Mono,
    direction: Direction,
    bytes: Vec<u8>,
}

/// What is spoken. HTTP/1.1 until something else shows.
enum Speaks {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    WebSocket(Box<WebSocket>),
}

impl Connection {
    /// A connection that nothing is known of.
    pub fn new(options: ConnectionOptions) -> Self {
        Self {
            side: None,
            read: Lane::default(),
            write: Lane::default(),
            opener: Opener::new(options),
            speaks: Speaks::Http1(Box::new(Http1::new())),
            undecided: 0,
            header: None,
            closed_by: None,
            last_seen: Mono(0),
        }
    }

    /// The process's role, once known.
    pub fn side(&self) -> Option<Side> {
        self.side
    }

    /// When bytes last came.
    pub fn last_seen(&self) -> Mono {
        self.last_seen
    }

    /// Whether an exchange is under way.
    pub fn is_busy(&self) -> bool {
        match &self.speaks {
            Speaks::Http1(http1) => http1.exchanges().next().is_some(),
            Speaks::Http2(http2) => http2.exchanges().next().is_some(),
            Speaks::WebSocket(socket) => socket.exchanges().next().is_some(),
        }
    }

    /// Whether an exchange is under way on which nothing came since `since`.
    pub fn is_idle(&self, since: Mono) -> bool {
        match &self.speaks {
            Speaks::Http1(_) => self.is_busy() && self.last_seen < since,
            Speaks::Http2(http2) => http2.exchanges().any(|exchange| exchange.last_seen() < since),
            Speaks::WebSocket(socket) => socket.exchanges().any(|exchange| exchange.last_seen() < since),
        }
    }

    /// The exchanges under way that are wanted; of HTTP/1.1, where the other end can be at one only, the last.
    pub fn begun(&self) -> Vec<Begun> {
        let wanted = |exchange: &&Exchange| self.opener.wants(exchange);
        match &self.speaks {
            Speaks::Http1(http1) => http1.exchanges().last().filter(wanted).map(Begun::of).into_iter().collect(),
            Speaks::Http2(http2) => http2.exchanges().filter(wanted).map(Begun::of).collect(),
            // Until it is answered nothing names a response alike at both ends.
            Speaks::WebSocket(socket) => {
                socket.exchanges().filter(|exchange| exchange.is_answered()).map(Begun::of).collect()
            }
        }
    }

    /// How far the exchange with this number is, if it is under way.
    pub fn look(&mut self, number: u64) -> Option<Look> {
        let this = |exchange: &&mut Exchange| exchange.number == number;
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.exchanges_mut().find(this).map(Exchange::look),
            Speaks::Http2(http2) => http2.exchanges_mut().find(this).map(Exchange::look),
            Speaks::WebSocket(socket) => socket.exchanges_mut().find(this).map(Exchange::look),
        }
    }

    /// Puts a payload into its direction's order.
    pub fn place<'a>(&mut self, direction: Direction, offset: u64, skipped: u64, payload: &'a [u8]) -> Piece<'a> {
        match direction {
            Direction::Read => self.read.accept(offset, skipped, payload),
            Direction::Write => self.write.accept(offset, skipped, payload),
        }
    }

    /// Takes a piece of one direction.
    pub fn push(&mut self, at: Mono, direction: Direction, piece: &Piece<'_>, steps: &mut dyn FnMut(Step)) {
        self.last_seen = self.last_seen.max(at);
        if piece.bytes.is_empty() && self.side.is_none() {
            return;
        }
        let header = self.header.take_if(|header| header.direction == direction);
        if self.side.is_none() {
            let whole = header.as_ref().map(|header| [&header.bytes, piece.bytes].concat());
            self.begin(at, direction, whole.as_deref().unwrap_or(piece.bytes), steps);
        }
        let Some(side) = self.side else {
            let passed = header.map_or(0, |header| header.bytes.len()) + piece.bytes.len();
            if self.header.as_ref().is_none_or(|header| header.direction != direction) {
                steps(Step::Unparsed(passed as u64));
            }
            return;
        };
        let part = part_of(side, direction);
        if let Some(Alone { at, bytes, .. }) = header {
            self.feed(at, side, part, Input::Bytes(&bytes), steps);
        }
        let missing = piece.skipped + piece.lost;
        if missing > 0 {
            self.feed(at, side, part, Input::Gap { missing, lost: piece.lost }, steps);
        }
        if !piece.bytes.is_empty() {
            self.feed(at, side, part, Input::Bytes(piece.bytes), steps);
        }
    }

    /// Somebody closes, or has closed their half. The first to do so is remembered.
    pub fn closing(&mut self, by: ClosedBy) {
        self.closed_by.get_or_insert(by);
    }

    /// Nothing of one direction could be seen, whatever passed on it.
    pub fn unseen(&mut self, direction: Direction) {
        let Some(side) = self.side else { return };
        let (at, part) = (self.last_seen, part_of(side, direction));
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.unseen(at, part),
            Speaks::Http2(http2) => http2.unseen(at, part),
            Speaks::WebSocket(socket) => socket.unseen(at, part),
        }
    }

    /// The connection is gone. `by` is who did it, unless that was seen before.
    pub fn close(&mut self, by: ClosedBy, steps: &mut dyn FnMut(Step)) {
        let (at, by) = (self.last_seen, self.closed_by.unwrap_or(by));
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.close(at, by, &mut self.opener, steps),
            Speaks::Http2(_) | Speaks::WebSocket(_) => {
                let side = self.side.unwrap_or(Side::Client);
                self.feed(at, side, Part::Request, Input::Close, steps);
                self.feed(at, side, Part::Response, Input::Close, steps);
                self.give_up(Ended::Closed(by), steps);
            }
        }
    }

    /// Ends every open exchange.
    pub fn give_up(&mut self, ended: Ended, steps: &mut dyn FnMut(Step)) {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.give_up(ended, steps),
            Speaks::Http2(http2) => http2.give_up(ended, |_| true, steps),
            Speaks::WebSocket(socket) => socket.give_up(ended, |_| true, steps),
        }
    }

    /// Ends the exchanges on which nothing came since `since`.
    pub fn give_up_idle(&mut self, since: Mono, steps: &mut dyn FnMut(Step)) {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.give_up(Ended::Idle, steps),
            Speaks::Http2(http2) => http2.give_up(Ended::Idle, |exchange| exchange.last_seen() < since, steps),
            Speaks::WebSocket(socket) => socket.give_up(Ended::Idle, |exchange| exchange.last_seen() < since, steps),
        }
    }

    /// Decides by the first bytes that can be told which direction carries requests, and what is spoken.
    fn begin(&mut self, at: Mono, direction: Direction, bytes: &[u8], steps: &mut dyn FnMut(Step)) {
        use {http1::Beginning as First, http2::Beginning as Second};
        let part = match (http1::beginning(bytes), http2::beginning(bytes)) {
            (First::Request, _) => Part::Request,
            (First::Response | First::Events, _) => Part::Response,
            (First::Other, Second::Other) => {
                // Looked like HTTP to the kernel side and is not. What follows in the other direction may be a request.
                steps(Step::AnswerResponse(DROP));
                return;
            }
            (First::Other, begins @ (Second::Frames | Second::Header)) => {
                if begins == Second::Header {
                    self.header = Some(Alone { at, direction, bytes: bytes.to_vec() });
                }
                self.undecided += 1;
                if self.undecided >= MAX_UNDECIDED {
                    steps(Step::AnswerResponse(DROP));
                }
                return;
            }
            (First::Other, begins @ (Second::Requests | Second::Responses)) => {
                self.speaks = Speaks::Http2(Box::new(Http2::joined()));
                steps(Step::Answer(KEEP));
                if begins == Second::Requests { Part::Request } else { Part::Response }
            }
        };
        self.side = Some(match (direction, part) {
            (Direction::Read, Part::Request) | (Direction::Write, Part::Response) => Side::Server,
            (Direction::Write, Part::Request) | (Direction::Read, Part::Response) => Side::Client,
        });
        if self.side == Some(Side::Client) {
            self.opener.options.session.server = None;
        }
    }

    fn feed(&mut self, at: Mono, side: Side, part: Part, input: Input<'_>, steps: &mut dyn FnMut(Step)) {
        match &mut self.speaks {
            Speaks::Http1(http1) => {
                http1.take(at, part, input, &mut self.opener, steps);
                let Some((switch, beyond)) = http1.switch() else { return };
                http1.give_up(Ended::Lost, steps);
                self.speaks = match switch {
                    Switch::Http2 => Speaks::Http2(Box::new(Http2::new())),
                    Switch::Upgraded(exchange) => Speaks::Http2(Box::new(Http2::upgraded(exchange))),
                    Switch::WebSocket(socket) => Speaks::WebSocket(socket),
                };
                steps(Step::Answer(KEEP));
                if !beyond.is_empty() {
                    self.feed(at, side, part, Input::Bytes(&beyond), steps);
                }
            }
            Speaks::Http2(http2) => http2.take(at, part, sender(side, part), input, &mut self.opener, steps),
            Speaks::WebSocket(socket) => socket.take(at, part, sender(side, part), input, &mut self.opener, steps),
        }
    }
}

/// Which part of an exchange a direction carries.
fn part_of(side: Side, direction: Direction) -> Part {
    match (side, direction) {
        (Side::Server, Direction::Read) | (Side::Client, Direction::Write) => Part::Request,
        (Side::Server, Direction::Write) | (Side::Client, Direction::Read) => Part::Response,
    }
}

/// Who sends a part of an exchange.
fn sender(side: Side, part: Part) -> ClosedBy {
    match (side, part) {
        (Side::Client, Part::Request) | (Side::Server, Part::Response) => ClosedBy::Local,
        (Side::Server, Part::Request) | (Side::Client, Part::Response) => ClosedBy::Peer,
    }
}
