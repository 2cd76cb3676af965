//! HTTP/1.1 on one connection: requests are answered in order.
//!
//! Owns the pairing of requests and responses, and where HTTP/1.1 ends ([`Switch`]). Framing is `protocol::http1`'s.

use std::collections::VecDeque;

use inferscope_common::verdict::{DROP, FOLLOW, REJECT};

use super::{
    HttpFacts,
    connection::{Begun, Input, Step},
    dull,
    exchange::{ClosedBy, Ended, Exchange, Part},
    opener::{self, Opener},
    websocket::WebSocket,
};
use crate::{
    llm::{Proof, Session},
    protocol::{
        head::{RequestHead, ResponseHead},
        http1::{End, Event, Parser},
        websocket::{Extensions, Unsupported, reason},
    },
    time::Mono,
};

/// Requests that may wait for their responses on one connection. Real clients do not pipeline; a hostile one must
/// not grow memory.
const MAX_PIPELINED: usize = 64;

/// Another protocol goes on where HTTP/1.1 ends.
pub(super) enum Switch {
    /// HTTP/2, which the client speaks from here on: the preface has begun.
    Http2,
    /// HTTP/2, which the server has agreed to: this exchange is its first stream (RFC 7540 section 3.2).
    Upgraded(Box<Exchange>),
    /// A WebSocket, which the server has agreed to (RFC 6455 section 4.2.2).
    WebSocket(Box<WebSocket>),
}

/// A connection that speaks HTTP/1.1. Bounded: two parsers and [`MAX_PIPELINED`] exchanges.
pub(super) struct Http1 {
    requests: Parser,
    responses: Parser,
    pairing: Pairing,
}

impl Http1 {
    pub fn new() -> Self {
        Self {
            requests: Parser::requests(),
            responses: Parser::responses(),
            pairing: Pairing {
                exchanges: VecDeque::new(),
                uploading: None,
                joined: None,
                unheard: 0,
                pending: [None; 2],
                asked_for_http2: None,
                switch: None,
                beyond: Vec::new(),
                closed_by: ClosedBy::Unknown,
            },
        }
    }

    /// Takes a piece of one direction.
    pub fn take(&mut self, at: Mono, part: Part, input: Input<'_>, opener: &mut Opener, steps: &mut dyn FnMut(Step)) {
        let Self { requests, responses, pairing } = self;
        let is_bytes = matches!(input, Input::Bytes(_));
        if is_bytes {
            pairing.pending[part as usize].get_or_insert(at);
        }
        match part {
            Part::Request => {
                input.give(requests, &mut |event| pairing.on_request(at, event, responses, opener, steps));
            }
            Part::Response => {
                let (mut tunnel, mut told) = (false, false);
                let lost = if let Input::Gap { lost, .. } = input { lost } else { 0 };
                input.give(responses, &mut |event| {
                    told = true;
                    tunnel |= pairing.on_response(at, event, opener, steps);
                });
                if !told {
                    pairing.unheard = pairing.unheard.saturating_add(lost);
                }
                if tunnel {
                    requests.tunnel(&mut |_| ());
                }
            }
        }
        let parser = if part == Part::Request { &self.requests } else { &self.responses };
        if is_bytes && !parser.holds_beginning() {
            self.pairing.pending[part as usize] = None;
        }
    }

    /// Another protocol, if it begins here, and the bytes of it that have been taken.
    pub fn switch(&mut self) -> Option<(Switch, Vec<u8>)> {
        let switch = self.pairing.switch.take()?;
        Some((switch, std::mem::take(&mut self.pairing.beyond)))
    }

    /// The connection is gone; `by` says who did it.
    pub fn close(&mut self, at: Mono, by: ClosedBy, opener: &mut Opener, steps: &mut dyn FnMut(Step)) {
        self.pairing.closed_by = by;
        self.take(at, Part::Request, Input::Close, opener, steps);
        // A response without a length ends with the connection, and is then whole.
        self.take(at, Part::Response, Input::Close, opener, steps);
        self.give_up(Ended::Closed(by), steps);
    }

    /// Ends every open exchange.
    pub fn give_up(&mut self, ended: Ended, steps: &mut dyn FnMut(Step)) {
        let Pairing { uploading, exchanges, unheard, .. } = &mut self.pairing;
        *uploading = None;
        let unheard = std::mem::take(unheard);
        for mut exchange in exchanges.drain(..) {
            if unheard > 0 && !exchange.is_answered() {
                // Its answer may have been in there.
                exchange.gap(exchange.last_seen(), Part::Response, unheard);
            }
            steps(Step::Over(Box::new(exchange), ended));
        }
    }

    /// The exchanges under way, oldest first.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.pairing.exchanges.iter()
    }

    /// The same, to look at what came since the last time.
    pub fn exchanges_mut(&mut self) -> impl Iterator<Item = &mut Exchange> {
        self.pairing.exchanges.iter_mut()
    }

    /// Nothing of one part can be seen, whatever passes.
    pub fn unseen(&mut self, at: Mono, part: Part) {
        self.pairing.exchanges.iter_mut().for_each(|exchange| exchange.gap(at, part, 0));
    }
}

impl Input<'_> {
    fn give(self, parser: &mut Parser, sink: &mut dyn FnMut(Event<'_>)) {
        match self {
            Self::Bytes(bytes) => parser.push(bytes, sink),
            Self::Gap { missing, .. } => parser.gap(missing, sink),
            Self::Close => parser.close(sink),
        }
    }
}

/// The exchanges of a connection, oldest first, and which of them the next event belongs to.
struct Pairing {
    exchanges: VecDeque<Exchange>,
    /// Number of the exchange whose request is being read.
    uploading: Option<u64>,
    /// Number of the exchange that was joined in its response and of which it is not known yet what it is.
    joined: Option<u64>,
    /// Bytes lost of the server's direction since the last response, outside any.
    unheard: u64,
    /// When the first byte of a message that is not yet recognised came, per part.
    pending: [Option<Mono>; 2],
    /// Number of the exchange whose request asked for HTTP/2.
    asked_for_http2: Option<u64>,
    switch: Option<Switch>,
    /// Bytes of the protocol that follows: of one push at most.
    beyond: Vec<u8>,
    /// Who closed the connection, while it is being closed.
    closed_by: ClosedBy,
}

impl Pairing {
    fn on_request(
        &mut self,
        at: Mono,
        event: Event<'_>,
        responses: &mut Parser,
        opener: &mut Opener,
        steps: &mut dyn FnMut(Step),
    ) {
        match event {
            Event::Request(head) => {
                if responses.leave_joined()
                    && let Some(exchange) = self.exchanges.pop_front()
                {
                    self.joined = None;
                    steps(Step::Over(Box::new(exchange), Ended::Lost));
                }
                responses.expect(&head.method);
                self.begin(at, head, opener, steps);
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
                // Whatever this is, it is not followed any further than to the next request.
                steps(Step::Answer(DROP));
                steps(Step::Malformed(reason));
            }
            Event::Skipped(n) => steps(Step::Unparsed(n)),
            Event::Http2 => self.switch = Some(Switch::Http2),
            Event::Beyond(bytes) => self.go_beyond(bytes),
            Event::Response(_) | Event::Joined | Event::Tunnel => {}
        }
    }

    fn begin(&mut self, at: Mono, head: RequestHead, opener: &mut Opener, steps: &mut dyn FnMut(Step)) {
        let asks_for_http2 = head.upgrade.as_deref().is_some_and(|upgrade| upgrade.split(',').any(is_h2c));
        let dull = if head.method == "POST" { dull::hash(&head.path) } else { None };
        let start = self.pending[Part::Request as usize].take().unwrap_or(at);
        let exchange = opener.open(at, start, head);
        let wanted = opener.wants(&exchange);
        steps(Step::Answer(if wanted { FOLLOW } else { DROP }));
        if let Some(hash) = dull.filter(|_| !wanted) {
            steps(Step::Dull(hash));
        }
        // The kernel side left out what an exchange that nobody wanted was answered with.
        if self.exchanges.back().is_some_and(|last| !opener.wants(last) && !last.is_answered()) {
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
        if wanted {
            steps(Step::Began(Begun::of(&exchange)));
        }
        self.uploading = Some(exchange.number);
        self.asked_for_http2 = asks_for_http2.then_some(exchange.number);
        self.exchanges.push_back(exchange);
    }

    /// True if the connection stops speaking HTTP.
    fn on_response(&mut self, at: Mono, event: Event<'_>, opener: &mut Opener, steps: &mut dyn FnMut(Step)) -> bool {
        match event {
            Event::Response(head) => self.on_response_head(at, &head, opener, steps),
            Event::Body(bytes) => {
                if let Some(exchange) = self.exchanges.front_mut() {
                    exchange.response_body(at, bytes);
                    self.judge_joined(steps);
                }
            }
            Event::Joined => {
                self.join(at, opener, Some(Session::join(&opener.options.session)));
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
                if self.switch.is_none() {
                    steps(Step::Answer(REJECT));
                }
                return true;
            }
            Event::Beyond(bytes) => self.go_beyond(bytes),
            Event::Request(_) | Event::Http2 => {}
        }
        false
    }

    fn on_response_head(&mut self, at: Mono, head: &ResponseHead, opener: &mut Opener, steps: &mut dyn FnMut(Step)) {
        self.unheard = 0;
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
            let session = Session::join_at_head(head.headers.content_type.as_deref(), &opener.options.session);
            if !opener.is_fresh() || !self.join(at, opener, session) {
                steps(Step::AnswerResponse(DROP));
                return;
            }
        }
        if head.status == 101 && self.exchanges.front().map(|first| first.number) == self.asked_for_http2 {
            self.switch = self.exchanges.pop_front().map(|exchange| Switch::Upgraded(Box::new(exchange)));
            return;
        }
        let Some(exchange) = self.exchanges.front_mut() else { return };
        if head.status == 101
            && head.upgrade.as_deref().is_some_and(opener::is_websocket)
            && let Some(socket) = exchange.socket.take()
        {
            match Extensions::read(head.extensions.as_deref().unwrap_or_default()) {
                Ok(extensions) => {
                    let http = HttpFacts { status: None, ..exchange.http.clone() };
                    self.switch = Some(Switch::WebSocket(Box::new(WebSocket::new(*socket, http, &extensions))));
                }
                Err(Unsupported) => steps(Step::Malformed(reason::EXTENSION)),
            }
        }
        if head.status >= 400
            && let Some(socket) = exchange.socket.take()
        {
            exchange.session = socket.refused().map(Box::new);
        }
        opener::answer(exchange, at, started, head);
    }

    /// Begins an exchange whose request was not seen, if `session` can tell what it is; false if there is none.
    fn join(&mut self, at: Mono, opener: &mut Opener, session: Option<Session>) -> bool {
        let Some(exchange) = opener.join(at, session) else { return false };
        self.joined = Some(exchange.number);
        self.exchanges.push_back(exchange);
        true
    }

    /// Keeps what belongs to the protocol that follows, until it is taken.
    fn go_beyond(&mut self, bytes: &[u8]) {
        if self.switch.is_some() {
            self.beyond.extend_from_slice(bytes);
        }
    }

    /// Says what a joined exchange is, as soon as that is known.
    fn judge_joined(&mut self, steps: &mut dyn FnMut(Step)) {
        let Some(exchange) = self.exchanges.front().filter(|first| self.joined == Some(first.number)) else { return };
        match exchange.session.as_deref().map(Session::proof) {
            Some(Proof::Pending) => return,
            Some(Proof::Refuted) | None => {
                steps(Step::AnswerResponse(DROP));
                if let Some(exchange) = self.exchanges.pop_front() {
                    steps(Step::Over(Box::new(exchange), Ended::Lost));
                }
            }
            Some(Proof::Request | Proof::Response) => {
                steps(Step::Began(Begun::of(exchange)));
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

/// Whether an element of `Upgrade` is HTTP/2 without TLS (RFC 7540 section 3.2).
fn is_h2c(protocol: &str) -> bool {
    protocol.trim() == "h2c"
}
