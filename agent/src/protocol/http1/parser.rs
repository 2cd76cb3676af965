//! The state machine over messages.

use std::collections::VecDeque;

use super::{
    End, Event,
    body::{Body, Chunk, Piece},
    head::{self, Follows, Method},
    held::Held,
    reason,
    start::{self, Joins, Look, PROBE},
};

/// Largest head, the limit of the most generous servers in use.
const MAX_HEAD: usize = 64 * 1024;

/// Requests that may wait for their response. No client of today pipelines; a queue that reaches this has lost
/// the other direction.
const MAX_EXPECTED: usize = 64;

/// Parser of one direction of one connection.
pub struct Parser {
    side: Side,
    state: State,
    held: Held,
    /// Bytes passed over since the last message.
    skipped: u64,
    /// Something was lost since the last message, so that `expected` may name requests whose responses were in it.
    lost: bool,
    /// No message was seen yet, so that a response may be joined in the middle of its body.
    fresh: bool,
    expected: VecDeque<Method>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Requests,
    Responses,
}

#[derive(Clone, Copy)]
enum State {
    /// Looking for a message.
    Seek,
    /// A message ended here, so that another one begins.
    Between,
    Head,
    Body(Body),
    /// In an event stream that was joined at an event, so that its framing is unknown.
    Joined,
    /// Behind the last message: another protocol.
    Tunnel,
}

impl Parser {
    /// A parser of the client's direction.
    pub fn requests() -> Self {
        Self::new(Side::Requests)
    }

    /// A parser of the server's direction.
    pub fn responses() -> Self {
        Self::new(Side::Responses)
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            state: State::Seek,
            held: Held::default(),
            skipped: 0,
            lost: false,
            fresh: true,
            expected: VecDeque::new(),
        }
    }

    /// Tells a response parser the method of the next request that was sent: `HEAD` and `CONNECT` change how the
    /// response is framed. A response that nothing was told of is taken for one to `GET`. After a loss only the
    /// latest request counts, since the responses to the others may have been in it.
    pub fn expect(&mut self, method: &str) {
        if self.expected.len() == MAX_EXPECTED {
            self.expected.pop_front();
        }
        self.expected.push_back(match method {
            "HEAD" => Method::Head,
            "CONNECT" => Method::Connect,
            _ => Method::Other,
        });
    }

    /// Whether the last bytes may be the beginning of a message whose head is still to come.
    pub fn holds_beginning(&self) -> bool {
        matches!(self.state, State::Head) || !self.held.bytes().is_empty()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        let mut rest = bytes;
        let mut at_start = true;
        loop {
            match &mut self.state {
                State::Body(body) => match body.next(&mut rest) {
                    Piece::Data(data) => sink(Event::Body(data)),
                    Piece::More => return,
                    Piece::End => {
                        self.state = State::Between;
                        sink(Event::End(End::Complete));
                    }
                    Piece::Bad(reason) => {
                        sink(Event::Malformed(reason));
                        sink(Event::End(End::Lost));
                        self.lose();
                    }
                },
                _ if rest.is_empty() => return,
                State::Joined => {
                    rest = self.joined(rest, at_start, sink);
                }
                State::Tunnel => {
                    sink(Event::Beyond(rest));
                    return;
                }
                State::Seek if !at_start => {
                    self.skipped += rest.len() as u64;
                    return;
                }
                State::Seek | State::Between => {
                    rest = self.start(rest, sink);
                    continue;
                }
                State::Head => rest = self.head(rest, sink),
            }
            at_start = false;
        }
    }

    /// `len` bytes are missing here.
    pub fn gap(&mut self, len: u64, sink: &mut dyn FnMut(Event<'_>)) {
        match &mut self.state {
            _ if len == 0 => {}
            State::Tunnel => {}
            State::Joined => sink(Event::BodyGap(len)),
            State::Body(body) => {
                if body.gap(len) {
                    sink(Event::BodyGap(len));
                    // The missing bytes may have been the last ones.
                    self.push(&[], sink);
                } else {
                    sink(Event::End(End::Lost));
                    self.lose();
                }
            }
            State::Seek | State::Between | State::Head => self.lose(),
        }
    }

    /// The connection is closed in this direction; the parser is ready for another one.
    pub fn close(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        match self.state {
            State::Body(Body::UntilClose) => sink(Event::End(End::Closed)),
            State::Body(_) | State::Joined => sink(Event::End(End::Cut)),
            _ => {}
        }
        self.lose();
        self.report_skipped(sink);
        self.expected.clear();
        self.lost = false;
    }

    /// The body that was joined must be over, because the other direction has gone on; true if there was one whose end
    /// nothing tells.
    pub fn leave_joined(&mut self) -> bool {
        let joined = matches!(self.state, State::Joined);
        if joined {
            self.state = State::Seek;
        }
        joined
    }

    /// The other direction has become a tunnel ([`Event::Tunnel`]), and so this one has.
    pub fn tunnel(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if let State::Body(_) | State::Joined = self.state {
            sink(Event::End(End::Lost));
        }
        self.lose();
        self.report_skipped(sink);
        self.state = State::Tunnel;
    }

    /// Where a message begins is unknown from here.
    fn lose(&mut self) {
        self.skipped += self.held.bytes().len() as u64;
        self.held.wipe();
        (self.state, self.lost) = (State::Seek, true);
    }

    fn report_skipped(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        match std::mem::take(&mut self.skipped) {
            0 => {}
            bytes => sink(Event::Skipped(bytes)),
        }
    }

    /// Decides whether a message begins with `rest`, of which the beginning may be held already.
    fn start<'a>(&mut self, rest: &'a [u8], sink: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        let held = self.held.bytes();
        // RFC 9112 section 2.2: empty lines before a message are passed over.
        let blank = rest.iter().take_while(|byte| held.is_empty() && matches!(byte, b'\r' | b'\n')).count();
        let text = &rest[blank..];
        if text.is_empty() {
            return text;
        }
        let mut probe = [0; PROBE];
        let (a, b) = probe.split_at_mut(held.len().min(PROBE));
        let n = b.len().min(text.len());
        a.copy_from_slice(&held[..a.len()]);
        b[..n].copy_from_slice(&text[..n]);
        let probe = &probe[..held.len().min(PROBE) + n];
        let in_sync = matches!(self.state, State::Between);
        let look = match self.side {
            Side::Responses => start::response(probe),
            Side::Requests if in_sync => start::request_in_sync(probe),
            Side::Requests => start::request(probe),
        };
        match look {
            Look::Message => {
                self.state = State::Head;
                text
            }
            Look::Unsure => {
                self.held.find_end(text);
                self.held.extend(text);
                &[]
            }
            Look::Http2 => {
                self.report_skipped(sink);
                self.state = State::Tunnel;
                sink(Event::Http2);
                if !self.held.bytes().is_empty() {
                    sink(Event::Beyond(self.held.bytes()));
                }
                self.held.wipe();
                text
            }
            Look::Other if self.may_join() && start::joins(probe) != Joins::Nowhere => {
                self.join(start::joins(probe), text, sink)
            }
            Look::Other => {
                let tried = self.held.bytes().len();
                self.lose();
                if in_sync {
                    sink(Event::Malformed(reason::NO_MESSAGE));
                }
                if tried > 0 {
                    // What was held came to nothing, but this push may begin a message of its own.
                    return rest;
                }
                self.skipped += rest.len() as u64;
                &[]
            }
        }
    }

    fn may_join(&self) -> bool {
        self.fresh && self.side == Side::Responses && matches!(self.state, State::Seek)
    }

    /// Joins an event stream that goes on with what is held and `text`.
    fn join<'a>(&mut self, joins: Joins, text: &'a [u8], sink: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        match joins {
            Joins::Unsure => {
                self.held.extend(text);
                return &[];
            }
            Joins::Chunk => self.state = State::Body(Body::Chunked(Chunk::START)),
            Joins::Event => self.state = State::Joined,
            // Nothing is left to be joined.
            Joins::End | Joins::Nowhere => {
                self.skipped += text.len() as u64;
                return &[];
            }
        }
        (self.fresh, self.lost) = (false, false);
        self.report_skipped(sink);
        sink(Event::Joined);
        // Only a chunk's size can have come alone.
        let mut held = std::mem::take(&mut self.held);
        self.push(held.bytes(), sink);
        held.wipe();
        self.held = held;
        text
    }

    /// Takes bytes of a body that was joined at an event; one push may show what its framing is.
    fn joined<'a>(&mut self, rest: &'a [u8], at_start: bool, sink: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        if at_start {
            // Behind the chunk that was joined in its middle.
            let text = rest.strip_prefix(b"\r\n").unwrap_or(rest);
            match start::joins(&text[..text.len().min(PROBE)]) {
                Joins::Chunk => {
                    self.state = State::Body(Body::Chunked(Chunk::START));
                    return text;
                }
                Joins::End => {
                    self.state = State::Between;
                    sink(Event::End(End::Complete));
                    return &[];
                }
                Joins::Unsure | Joins::Event | Joins::Nowhere => {}
            }
        }
        sink(Event::Body(rest));
        &[]
    }

    fn head<'a>(&mut self, rest: &'a [u8], sink: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        let end = self.held.find_end(rest);
        let (head, rest) = rest.split_at(end.unwrap_or(rest.len()));
        if self.held.bytes().len() + head.len() > MAX_HEAD {
            sink(Event::Malformed(reason::HEAD_TOO_LARGE));
            self.skipped += head.len() as u64;
            self.lose();
        } else if end.is_none() {
            self.held.extend(head);
        } else if self.held.bytes().is_empty() {
            self.message(head, sink);
            self.held.wipe();
        } else {
            self.held.extend(head);
            let mut held = std::mem::take(&mut self.held);
            self.message(held.bytes(), sink);
            held.wipe();
            self.held = held;
        }
        rest
    }

    /// A whole head is here.
    fn message(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        let parsed = match self.side {
            Side::Requests => head::request(bytes).map(|(head, follows)| (Event::Request(head), follows)),
            Side::Responses => {
                while self.lost && self.expected.len() > 1 {
                    self.expected.pop_front();
                }
                let method = self.expected.front().copied().unwrap_or(Method::Other);
                head::response(bytes, method).map(|(mut head, follows)| {
                    head.after_loss = self.lost;
                    (Event::Response(head), follows)
                })
            }
        };
        let follows = match parsed {
            Ok((event, follows)) => {
                (self.lost, self.fresh) = (false, false);
                self.report_skipped(sink);
                sink(event);
                follows
            }
            Err(reason) => {
                sink(Event::Malformed(reason));
                self.skipped += bytes.len() as u64;
                self.lose();
                self.expected.pop_front();
                return;
            }
        };
        if follows != Follows::Response {
            self.expected.pop_front();
        }
        match follows {
            Follows::Body(body) => self.state = State::Body(body),
            Follows::Response => self.state = State::Between,
            Follows::Tunnel => {
                self.state = State::Tunnel;
                sink(Event::End(End::Complete));
                sink(Event::Tunnel);
            }
        }
    }
}
