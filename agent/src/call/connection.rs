//! One connection of one process: two directions of bytes in, exchanges out.
//!
//! Owns which direction carries requests, the pairing of requests and responses (HTTP/1.1 answers in order), and
//! when an exchange begins and ends. Says what it wants of the kernel side ([`Step::Answer`]).

use std::{collections::VecDeque, sync::Arc};

use inferscope_common::verdict::{DROP, FOLLOW, REJECT};

use super::{
    HttpFacts, Side, dull,
    exchange::{ClosedBy, Ended, Exchange, Part},
};
use crate::{
    llm::{Options, Proof, RequestLine, Session},
    protocol::{
        head::{RequestHead, ResponseHead},
        http1::{self, Beginning, End, Event, Parser},
    },
    record::Direction,
    stream::{Lane, Piece},
    targets::Targets,
    time::Mono,
};

/// Requests that may wait for their responses on one connection. Real clients do not pipeline; a hostile one must
/// not grow memory.
const MAX_PIPELINED: usize = 64;

/// What a connection reports while it takes bytes.
pub enum Step {
    /// An exchange began, with this number and at this time.
    Began(u64, Mono),
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

/// What a connection is told once.
#[derive(Clone, Debug, Default)]
pub struct ConnectionOptions {
    /// Passed to every model session.
    pub session: Options,
    /// Follow every HTTP exchange, and keep what a connection of HTTP/2 says although it is not decoded.
    pub all_http: bool,
    /// Which hosts and ports are of interest.
    pub targets: Arc<Targets>,
}

/// State of one connection. Bounded: two lanes, two parsers and [`MAX_PIPELINED`] exchanges.
pub struct Connection {
    side: Option<Side>,
    read: Lane,
    write: Lane,
    requests: Parser,
    responses: Parser,
    pairing: Pairing,
    /// Whether anybody was seen to close, and who first.
    closed_by: Option<ClosedBy>,
    last_seen: Mono,
}

impl Connection {
    /// A connection that nothing is known of.
    pub fn new(options: ConnectionOptions) -> Self {
        Self {
            side: None,
            read: Lane::default(),
            write: Lane::default(),
            requests: Parser::requests(),
            responses: Parser::responses(),
            pairing: Pairing {
                options,
                exchanges: VecDeque::new(),
                uploading: None,
                joined: None,
                pending: [None; 2],
                began: 0,
                closed_by: ClosedBy::Unknown,
                undecoded: false,
            },
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
        !self.pairing.exchanges.is_empty()
    }

    /// Number and start of the exchange that began last, if it is under way and wanted.
    pub fn newest(&self) -> Option<(u64, Mono)> {
        let last = self.pairing.exchanges.back()?;
        last.is_wanted(self.pairing.options.all_http).then_some((last.number, last.start))
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
        if self.pairing.undecoded {
            steps(Step::Unparsed(piece.bytes.len() as u64));
            return;
        }
        let Some(part) = self.part_of(direction, piece.bytes) else {
            if piece.bytes.is_empty() {
                return;
            }
            // Looked like HTTP to the kernel side and is not. What follows in the other direction may be a request.
            steps(Step::Unparsed(piece.bytes.len() as u64));
            steps(Step::AnswerResponse(DROP));
            return;
        };
        let missing = piece.skipped + piece.lost;
        if missing > 0 {
            self.feed(at, part, Input::Gap(missing), steps);
        }
        if !piece.bytes.is_empty() {
            self.pairing.pending[part as usize].get_or_insert(at);
            self.feed(at, part, Input::Bytes(piece.bytes), steps);
            if self.pairing.undecoded {
                // The preface, and what came with it.
                steps(Step::Unparsed(piece.bytes.len() as u64));
                return;
            }
            let parser = if part == Part::Request { &self.requests } else { &self.responses };
            if !parser.holds_beginning() {
                self.pairing.pending[part as usize] = None;
            }
        }
    }

    /// Somebody closes, or has closed their half. The first to do so is remembered.
    pub fn closing(&mut self, by: ClosedBy) {
        self.closed_by.get_or_insert(by);
    }

    /// Nothing of one direction could be seen, whatever passed on it.
    pub fn unseen(&mut self, direction: Direction) {
        let at = self.last_seen;
        let Some(part) = self.part_of(direction, &[]) else { return };
        for exchange in &mut self.pairing.exchanges {
            exchange.gap(at, part, 0);
        }
    }

    /// The connection is gone. `by` is who did it, unless that was seen before.
    pub fn close(&mut self, by: ClosedBy, steps: &mut dyn FnMut(Step)) {
        let by = self.closed_by.unwrap_or(by);
        let at = self.last_seen;
        self.pairing.closed_by = by;
        self.feed(at, Part::Request, Input::Close, steps);
        // A response without a length ends with the connection, and is then whole.
        self.feed(at, Part::Response, Input::Close, steps);
        self.give_up(Ended::Closed(by), steps);
    }

    /// Ends every open exchange.
    pub fn give_up(&mut self, ended: Ended, steps: &mut dyn FnMut(Step)) {
        self.pairing.uploading = None;
        for exchange in self.pairing.exchanges.drain(..) {
            steps(Step::Over(Box::new(exchange), ended));
        }
    }

    /// Which part of the exchange a direction carries. Decided by the first bytes that can be told.
    fn part_of(&mut self, direction: Direction, bytes: &[u8]) -> Option<Part> {
        if self.side.is_none() {
            self.side = match (direction, http1::beginning(bytes)) {
                (_, Beginning::Other) => None,
                (Direction::Read, Beginning::Request) => Some(Side::Server),
                (Direction::Write, Beginning::Request) => Some(Side::Client),
                (Direction::Read, Beginning::Response | Beginning::Events) => Some(Side::Client),
                (Direction::Write, Beginning::Response | Beginning::Events) => Some(Side::Server),
            };
        }
        Some(match (self.side?, direction) {
            (Side::Server, Direction::Read) | (Side::Client, Direction::Write) => Part::Request,
            _ => Part::Response,
        })
    }

    fn feed(&mut self, at: Mono, part: Part, input: Input<'_>, steps: &mut dyn FnMut(Step)) {
        let Self { requests, responses, pairing, .. } = self;
        match part {
            Part::Request => input.give(requests, &mut |event| pairing.on_request(at, event, responses, steps)),
            Part::Response => {
                let mut tunnel = false;
                input.give(responses, &mut |event| tunnel |= pairing.on_response(at, event, steps));
                if tunnel {
                    requests.tunnel(&mut |_| ());
                }
            }
        }
    }
}

/// What a parser is given.
enum Input<'a> {
    Bytes(&'a [u8]),
    Gap(u64),
    Close,
}

impl Input<'_> {
    fn give(self, parser: &mut Parser, sink: &mut dyn FnMut(Event<'_>)) {
        match self {
            Self::Bytes(bytes) => parser.push(bytes, sink),
            Self::Gap(missing) => parser.gap(missing, sink),
            Self::Close => parser.close(sink),
        }
    }
}

/// The exchanges of a connection, oldest first, and which of them the next event belongs to.
struct Pairing {
    options: ConnectionOptions,
    exchanges: VecDeque<Exchange>,
    /// Number of the exchange whose request is being read.
    uploading: Option<u64>,
    /// Number of the exchange that was joined in its response and of which it is not known yet what it is.
    joined: Option<u64>,
    /// When the first byte of a message that is not yet recognised came, per part.
    pending: [Option<Mono>; 2],
    began: u64,
    /// Whether the connection speaks HTTP/2, of which nothing is decoded.
    undecoded: bool,
    /// Who closed the connection, while it is being closed.
    closed_by: ClosedBy,
}

impl Pairing {
    fn on_request(&mut self, at: Mono, event: Event<'_>, responses: &mut Parser, steps: &mut dyn FnMut(Step)) {
        match event {
            Event::Request(head) => {
                if responses.leave_joined()
                    && let Some(exchange) = self.exchanges.pop_front()
                {
                    self.joined = None;
                    steps(Step::Over(Box::new(exchange), Ended::Lost));
                }
                responses.expect(&head.method);
                self.begin(at, head, steps);
            }
            Event::Body(bytes) => {
                if let Some(exchange) = self.uploading() {
                    exchange.request_body(at, bytes);
                }
            }
            Event::BodyGap(missing) => {
                if let Some(exchange) = self.uploading() {
                    exchange.gap(at, Part::Request, missing);
                }
            }
            Event::End(end) => {
                if let Some(exchange) = self.uploading() {
                    if end == End::Lost {
                        exchange.gap(at, Part::Request, 0);
                    }
                    exchange.request_end(at);
                }
                self.uploading = None;
            }
            Event::Malformed(reason) => {
                if let Some(exchange) = self.uploading() {
                    exchange.malformed(at, Part::Request, reason);
                }
                self.undecoded = reason == http1::reason::HTTP2;
                steps(Step::Answer(match self.undecoded {
                    // A recording of everything is for whoever can decode it. Nothing is held here.
                    true if self.options.all_http => FOLLOW,
                    true => REJECT,
                    // Whatever this is, it is not followed any further than to the next request.
                    false => DROP,
                }));
                steps(Step::Malformed(reason));
            }
            Event::Skipped(n) => steps(Step::Unparsed(n)),
            Event::Response(_) | Event::Joined | Event::Tunnel => {}
        }
    }

    fn begin(&mut self, at: Mono, head: RequestHead, steps: &mut dyn FnMut(Step)) {
        let line = RequestLine {
            method: &head.method,
            path: &head.path,
            host: head.host.as_deref(),
            headers: Some(&head.headers),
        };
        let targeted = self.options.targets.wants_host(line.host);
        let session = if targeted { Session::open(&line, &self.options.session) } else { None };
        let wanted = targeted && (session.is_some() || self.options.all_http);
        steps(Step::Answer(if wanted { FOLLOW } else { DROP }));
        if !wanted
            && head.method == "POST"
            && let Some(hash) = dull::hash(&head.path)
        {
            steps(Step::Dull(hash));
        }
        // The kernel side left out what an exchange that nobody wanted was answered with.
        if self.exchanges.back().is_some_and(|last| !last.is_wanted(self.options.all_http) && !last.is_answered()) {
            self.exchanges.pop_back();
        }
        if self.exchanges.len() == MAX_PIPELINED {
            // Not the one that is being answered: the rest of its answer would go to the next.
            let oldest = self.exchanges.iter().position(|exchange| !exchange.is_answered()).unwrap_or(0);
            if let Some(exchange) = self.exchanges.remove(oldest) {
                steps(Step::Over(Box::new(exchange), Ended::Lost));
            }
            steps(Step::Overflow);
        }
        let number = self.began;
        self.began += 1;
        let start = self.pending[Part::Request as usize].take().unwrap_or(at);
        let http = HttpFacts { method: Some(head.method), path: Some(head.path), host: head.host, status: None };
        let mut exchange = Exchange::new(number, start, http, session);
        if !targeted {
            exchange.set_untargeted();
        }
        exchange.set_encoding(at, Part::Request, head.headers.content_encoding.as_deref());
        self.exchanges.push_back(exchange);
        self.uploading = Some(number);
        if wanted {
            steps(Step::Began(number, start));
        }
    }

    /// True if the connection stops speaking HTTP.
    fn on_response(&mut self, at: Mono, event: Event<'_>, steps: &mut dyn FnMut(Step)) -> bool {
        match event {
            Event::Response(head) => self.on_response_head(at, &head, steps),
            Event::Body(bytes) => {
                if let Some(exchange) = self.exchanges.front_mut() {
                    exchange.response_body(at, bytes);
                    self.judge_joined(steps);
                }
            }
            Event::Joined => {
                self.join(at, Some(Session::join(&self.options.session)));
            }
            Event::BodyGap(missing) => {
                if let Some(exchange) = self.exchanges.front_mut() {
                    exchange.gap(at, Part::Response, missing);
                }
            }
            Event::End(end) => {
                let ended = match end {
                    End::Complete => Ended::Whole,
                    End::Closed => Ended::Delimited(self.closed_by),
                    // The connection says who closed it, right after this.
                    End::Cut => return false,
                    End::Lost => Ended::Lost,
                };
                if let Some(mut exchange) = self.exchanges.pop_front() {
                    match end {
                        End::Complete => exchange.response_end(at),
                        End::Lost => exchange.gap(at, Part::Response, 0),
                        End::Closed | End::Cut => {}
                    }
                    steps(Step::Over(Box::new(exchange), ended));
                }
            }
            Event::Malformed(reason) => {
                if let Some(exchange) = self.exchanges.front_mut() {
                    exchange.malformed(at, Part::Response, reason);
                }
                steps(Step::AnswerResponse(DROP));
                steps(Step::Malformed(reason));
            }
            Event::Skipped(n) => steps(Step::Unparsed(n)),
            Event::Tunnel => {
                steps(Step::Answer(REJECT));
                return true;
            }
            Event::Request(_) => {}
        }
        false
    }

    fn on_response_head(&mut self, at: Mono, head: &ResponseHead, steps: &mut dyn FnMut(Step)) {
        if head.is_interim() {
            self.pending[Part::Response as usize] = None;
            return;
        }
        while head.after_loss && self.exchanges.len() > 1 {
            if let Some(mut exchange) = self.exchanges.pop_front() {
                exchange.gap(at, Part::Response, 0);
                steps(Step::Over(Box::new(exchange), Ended::Lost));
            }
        }
        let started = self.pending[Part::Response as usize].take().unwrap_or(at);
        if self.exchanges.is_empty() {
            // Joined after the request. The answer may still show whose it is.
            if self.began > 0
                || !self.join(at, Session::join_at_head(head.headers.content_type.as_deref(), &self.options.session))
            {
                steps(Step::AnswerResponse(DROP));
                return;
            }
        }
        let Some(exchange) = self.exchanges.front_mut() else { return };
        exchange.response_head(at, started, head.status, &head.headers);
        exchange.set_encoding(at, Part::Response, head.headers.content_encoding.as_deref());
    }

    /// Begins an exchange whose request was not seen, if `session` can tell what it is; false if there is none.
    fn join(&mut self, at: Mono, session: Option<Session>) -> bool {
        // Nothing names its host.
        let Some(session) = session.filter(|_| self.options.targets.wants_host(None)) else { return false };
        let number = self.began;
        self.began += 1;
        self.exchanges.push_back(Exchange::joined(number, at, session));
        self.joined = Some(number);
        true
    }

    /// Says what a joined exchange is, as soon as that is known.
    fn judge_joined(&mut self, steps: &mut dyn FnMut(Step)) {
        let Some(exchange) = self.exchanges.front().filter(|first| self.joined == Some(first.number)) else { return };
        match exchange.session.as_ref().map(Session::proof) {
            Some(Proof::Pending) => return,
            Some(Proof::Refuted) | None => {
                steps(Step::AnswerResponse(DROP));
                if let Some(exchange) = self.exchanges.pop_front() {
                    steps(Step::Over(Box::new(exchange), Ended::Lost));
                }
            }
            Some(Proof::Request | Proof::Response) => {
                steps(Step::Began(exchange.number, exchange.start));
                steps(Step::AnswerResponse(FOLLOW));
            }
        }
        self.joined = None;
    }

    fn uploading(&mut self) -> Option<&mut Exchange> {
        let number = self.uploading?;
        // The one that is being sent is nearly always the last.
        self.exchanges.iter_mut().rev().find(|exchange| exchange.number == number)
    }
}
