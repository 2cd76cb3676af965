//! A WebSocket to a model API: an exchange per response.
//!
//! Owns when a response begins and ends, and which message is of which. A response begins with the client's message that
//! asks for it, or with the server's first of it where nobody asked: its voice detection hands over what was spoken and
//! answers that. It ends with the server's last message of it. Frames are `protocol::websocket`'s, what a message says
//! is `llm::Socket`'s.
//!
//! A server that has two requests to answer begins in their order, so a response that begins is the oldest's that waits.
//! From then on its id tells, which also pairs the two ends of a call, whoever of them saw more of the socket.

use std::collections::VecDeque;

use inferscope_common::{
    targets::{HASH_BASIS, hash_byte},
    verdict::REJECT,
};

use super::{
    HttpFacts,
    connection::{Begun, Input, Step},
    exchange::{ClosedBy, Ended, Exchange, Part},
    opener::Opener,
};
use crate::{
    llm::{Asked, Envelope, Role, Socket},
    protocol::{
        head::Headers,
        websocket::{End, Event, Extensions, Parser, reason},
    },
    time::Mono,
};

/// Largest message that is read, as of an event stream. What is larger is sound or pictures that the client sends, and
/// carries nothing that is counted.
const MAX_MESSAGE: usize = 1 << 20;

/// Room for a message that is kept for the next one. Nearly all are smaller; a piece of sound is 20 KiB.
const KEPT_ROOM: usize = 64 * 1024;

/// Responses under way. Servers allow one of a conversation and a few beside it; a hostile pair must not grow memory.
const MAX_CALLS: usize = 32;

/// Pieces of speech whose transcript may still come.
const MAX_SPOKEN: usize = 16;

/// A WebSocket. Bounded: two parsers, two messages, [`MAX_CALLS`] exchanges.
pub(super) struct WebSocket {
    halves: [Half; 2],
    calls: Calls,
}

/// One direction.
struct Half {
    parser: Parser,
    message: Message,
}

/// A message that is coming.
struct Message {
    start: Mono,
    bytes: Vec<u8>,
    /// There is more than is read.
    is_cut: bool,
    /// Bytes of it are missing.
    is_damaged: bool,
}

struct Calls {
    socket: Socket,
    /// Of the request that opened the socket.
    http: HttpFacts,
    open: Vec<Call>,
    /// Speech that was handed over, by its item where the server names one.
    spoken: VecDeque<(Option<String>, Mono)>,
    /// When the last of it was, until a response answers it.
    unanswered: Option<Mono>,
}

/// A response under way.
struct Call {
    exchange: Exchange,
    /// What asked for it, until the server says something of it.
    asked: Option<Asked>,
    /// When that, or what takes its place, had come.
    asked_at: Mono,
    /// Its id, once it has begun; a transcript's item.
    id: Option<String>,
    is_transcript: bool,
    lane: Option<String>,
    /// The client's id of the event that asked for it.
    event: Option<String>,
}

impl Call {
    fn has_begun(&self) -> bool {
        self.exchange.is_answered()
    }

    /// What asked for it is read with what the socket has said by then.
    fn settle(&mut self, socket: &mut Socket) {
        if let Some(asked) = self.asked.take() {
            self.exchange.session = Some(Box::new(socket.settle(asked)));
            self.exchange.request_end(self.asked_at);
        }
    }

    fn into_exchange(mut self, socket: &mut Socket) -> Box<Exchange> {
        self.settle(socket);
        Box::new(self.exchange)
    }
}

/// What is known while an event is taken.
struct Context<'a> {
    at: Mono,
    part: Part,
    sender: ClosedBy,
    opener: &'a mut Opener,
    steps: &'a mut dyn FnMut(Step),
}

impl WebSocket {
    /// A socket that a request with these facts has opened.
    pub fn new(socket: Socket, http: HttpFacts, extensions: &Extensions) -> Self {
        let half = |parser| Half { parser, message: Message::new() };
        let calls = Calls { socket, http, open: Vec::new(), spoken: VecDeque::new(), unanswered: None };
        Self { halves: [half(Parser::client(extensions)), half(Parser::server(extensions))], calls }
    }

    /// Takes a piece of one direction, which `sender` sends.
    pub fn take(
        &mut self,
        at: Mono,
        part: Part,
        sender: ClosedBy,
        input: Input<'_>,
        opener: &mut Opener,
        steps: &mut dyn FnMut(Step),
    ) {
        let Self { halves, calls } = self;
        let Half { parser, message } = &mut halves[part as usize];
        let mut context = Context { at, part, sender, opener, steps };
        let mut sink = |event: Event<'_>| calls.on_event(event, message, &mut context);
        let mut unread = 0;
        match input {
            Input::Bytes(bytes) => unread = parser.push(bytes, &mut sink),
            Input::Gap { missing, .. } => parser.gap(missing, &mut sink),
            Input::Close => parser.close(&mut sink),
        }
        if unread > 0 {
            steps(Step::Unparsed(unread as u64));
        }
    }

    /// Ends every open exchange that `is_meant`.
    pub fn give_up(&mut self, ended: Ended, is_meant: impl Fn(&Exchange) -> bool, steps: &mut dyn FnMut(Step)) {
        self.calls.give_up(ended, is_meant, steps);
    }

    /// The exchanges under way.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.calls.open.iter().map(|call| &call.exchange)
    }

    /// The same, to look at what came since the last time.
    pub fn exchanges_mut(&mut self) -> impl Iterator<Item = &mut Exchange> {
        self.calls.open.iter_mut().map(|call| &mut call.exchange)
    }

    /// Nothing of one part can be seen, whatever passes.
    pub fn unseen(&mut self, at: Mono, part: Part) {
        self.calls.open.iter_mut().for_each(|call| call.exchange.gap(at, part, 0));
    }
}

impl Calls {
    fn on_event(&mut self, event: Event<'_>, message: &mut Message, context: &mut Context<'_>) {
        let at = context.at;
        match event {
            Event::Begin(_) => message.begin(at),
            Event::Data(bytes) => message.extend(bytes),
            Event::Gap(missing) => {
                message.is_damaged = true;
                self.on_gap(missing, context);
            }
            Event::End(End::Complete) => {
                self.on_message(message, context);
                message.end();
            }
            Event::End(End::Damaged(reason)) => {
                self.on_gap(0, context);
                self.on_malformed(reason, context);
                message.end();
            }
            Event::End(End::Cut) => message.end(),
            Event::Ping | Event::Pong => {}
            Event::Close(_) => {
                self.give_up(Ended::Closed(context.sender), |_| true, context.steps);
            }
            Event::Lost(reason) => {
                self.on_gap(0, context);
                self.on_malformed(reason, context);
                // What the server says is enough to tell the calls; what the client says is not.
                if context.part == Part::Response {
                    self.give_up(Ended::Lost, |_| true, context.steps);
                    (context.steps)(Step::Answer(REJECT));
                }
            }
        }
    }

    /// Bytes are missing: of which response nobody knows, or of what later ones rest on.
    fn on_gap(&mut self, missing: u64, context: &Context<'_>) {
        match context.part {
            Part::Request => self.socket.cut(),
            Part::Response => {
                self.open.iter_mut().for_each(|call| call.exchange.gap(context.at, context.part, missing));
            }
        }
    }

    fn on_malformed(&mut self, reason: &'static str, context: &mut Context<'_>) {
        let (at, part) = (context.at, context.part);
        if part == Part::Response {
            self.open.iter_mut().for_each(|call| call.exchange.malformed(at, part, reason));
        }
        (context.steps)(Step::Malformed(reason));
    }

    /// A message is whole, or as much of it as is read.
    fn on_message(&mut self, message: &Message, context: &mut Context<'_>) {
        let Message { ref bytes, is_cut, is_damaged, .. } = *message;
        if is_damaged {
            return;
        }
        let is_clients = context.part == Part::Request;
        match self.socket.envelope(is_clients, bytes, !is_cut) {
            Ok(Envelope { role: Role::Other, .. }) => {}
            Ok(_) if is_cut => {
                if is_clients {
                    self.socket.cut();
                }
                self.on_malformed(reason::OVERSIZE, context);
            }
            Ok(envelope) => self.on_envelope(envelope, message, context),
            Err(reason) => self.on_malformed(reason, context),
        }
    }

    fn on_envelope(&mut self, envelope: Envelope, message: &Message, context: &mut Context<'_>) {
        let Message { start, ref bytes, .. } = *message;
        match envelope.role {
            Role::Ask => {
                let asked = self.socket.ask(bytes);
                let Envelope { lane, event, .. } = envelope;
                self.open(start, asked, context, |call| Call { lane, event, ..call });
            }
            Role::Settings => {
                let asked = self.open.iter_mut().filter_map(|call| call.asked.as_mut());
                self.socket.settings(context.part == Part::Request, bytes, asked);
            }
            Role::Item => self.socket.item(bytes),
            Role::Committed => {
                self.socket.spoken(envelope.item.as_deref());
                self.unanswered = Some(start);
                self.note_spoken(envelope.item, start);
            }
            Role::Commit => self.note_spoken(None, start),
            Role::Begin | Role::Piece => {
                let place = self.place(&envelope, start, context);
                self.answer(place, start, bytes, context);
            }
            Role::End => {
                let place = self.place(&envelope, start, context);
                self.answer(place, start, bytes, context);
                self.end(place, context);
                if !envelope.is_apart {
                    self.socket.said(bytes);
                }
            }
            Role::Transcript | Role::TranscriptEnd => {
                let place = self.place_transcript(&envelope, start, context);
                self.answer(place, start, bytes, context);
                if envelope.role == Role::TranscriptEnd {
                    self.end(place, context);
                    self.socket.said(bytes);
                }
            }
            Role::Refusal => {
                if let Some(place) = self.refused(&envelope) {
                    self.answer(place, start, bytes, context);
                    self.end(place, context);
                }
            }
            Role::Other => {}
        }
    }

    /// Speech is over, from which on its transcript is waited for.
    fn note_spoken(&mut self, item: Option<String>, at: Mono) {
        if self.spoken.len() == MAX_SPOKEN {
            self.spoken.pop_front();
        }
        self.spoken.push_back((item, at));
    }

    /// Place of the response that a message is of. One that is not known begins with it.
    fn place(&mut self, envelope: &Envelope, start: Mono, context: &mut Context<'_>) -> usize {
        let Envelope { role, response, lane, .. } = envelope;
        let is_same = |call: &Call| match (response, lane) {
            _ if !call.has_begun() || call.is_transcript => false,
            (Some(_), _) => call.id == *response,
            // The Responses API names a response at its beginning and its end only, and has one on each lane.
            (None, _) => call.lane == *lane,
        };
        if *role != Role::Begin
            && let Some(place) = self.open.iter().position(is_same)
        {
            return place;
        }
        let waits = |call: &Call| !call.has_begun() && (lane.is_none() || call.lane == *lane);
        let place = self.open.iter().position(waits).unwrap_or_else(|| {
            let start = self.unanswered.unwrap_or(start);
            let unasked = Asked::Read(Box::new(self.socket.unasked()));
            self.open(start, unasked, context, |call| call)
        });
        self.unanswered = None;
        if let Some(call) = self.open.get_mut(place) {
            call.id.clone_from(response);
            call.lane.clone_from(lane);
        }
        place
    }

    /// The same for a transcript.
    fn place_transcript(&mut self, envelope: &Envelope, start: Mono, context: &mut Context<'_>) -> usize {
        let item = &envelope.item;
        if let Some(place) = self.open.iter().position(|call| call.is_transcript && call.id == *item) {
            return place;
        }
        let start = self.spoken.iter().find(|(spoken, _)| spoken == item).map_or(start, |(_, at)| *at);
        self.spoken.retain(|(spoken, _)| spoken != item);
        let (id, transcript) = (item.clone(), Asked::Read(Box::new(self.socket.transcript())));
        self.open(start, transcript, context, |call| Call { id, is_transcript: true, ..call })
    }

    /// Place of the response that is refused: the one whose event the server names, or else the oldest that waits.
    fn refused(&self, envelope: &Envelope) -> Option<usize> {
        let Envelope { event, lane, .. } = envelope;
        let waits = |call: &Call| !call.has_begun() && (event.is_none() || call.event == *event);
        let place = self.open.iter().position(waits);
        let fails = |call: &Call| call.lane == *lane && self.socket.fails_by_error();
        place.or_else(|| self.open.iter().position(fails))
    }

    /// Begins an exchange and gives its place.
    fn open(&mut self, start: Mono, asked: Asked, context: &mut Context<'_>, told: impl FnOnce(Call) -> Call) -> usize {
        if self.open.len() == MAX_CALLS {
            let oldest = self.open.remove(0);
            (context.steps)(Step::Over(oldest.into_exchange(&mut self.socket), Ended::Lost));
            (context.steps)(Step::Overflow);
        }
        self.open.push(told(Call {
            exchange: Exchange::new(context.opener.number(), start, self.http.clone(), None),
            asked: Some(asked),
            asked_at: context.at,
            id: None,
            is_transcript: false,
            lane: None,
            event: None,
        }));
        self.open.len() - 1
    }

    /// A message of a response has come, which may be its first.
    fn answer(&mut self, place: usize, start: Mono, bytes: &[u8], context: &mut Context<'_>) {
        let Some(call) = self.open.get_mut(place) else { return };
        if !call.has_begun() {
            call.settle(&mut self.socket);
            let Call { exchange, id, .. } = call;
            exchange.stream = id.as_deref().map_or(0, stream);
            exchange.response_head(context.at, start, SWITCHING, &Headers::default());
            (context.steps)(Step::Began(Begun::of(exchange)));
        }
        call.exchange.response_message(context.at, bytes);
    }

    fn end(&mut self, place: usize, context: &mut Context<'_>) {
        if place < self.open.len() {
            let mut exchange = self.open.remove(place).exchange;
            exchange.response_end(context.at);
            (context.steps)(Step::Over(Box::new(exchange), Ended::Whole));
        }
    }

    fn give_up(&mut self, ended: Ended, is_meant: impl Fn(&Exchange) -> bool, steps: &mut dyn FnMut(Step)) {
        for call in self.open.extract_if(.., |call| is_meant(&call.exchange)) {
            steps(Step::Over(call.into_exchange(&mut self.socket), ended));
        }
    }
}

/// `101 Switching Protocols`, which answered the request that opened the socket.
const SWITCHING: u16 = 101;

/// What both ends of a socket number a response by.
fn stream(id: &str) -> u32 {
    let hash = id.bytes().fold(HASH_BASIS, hash_byte);
    // None is 0, which stands for a connection that is no more than one exchange at a time.
    (hash ^ hash >> 32) as u32 | 1
}

impl Message {
    fn new() -> Self {
        Self { start: Mono(0), bytes: Vec::new(), is_cut: false, is_damaged: false }
    }

    fn begin(&mut self, at: Mono) {
        (self.start, self.is_cut, self.is_damaged) = (at, false, false);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = MAX_MESSAGE.saturating_sub(self.bytes.len());
        self.is_cut |= bytes.len() > room;
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn end(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_ROOM {
            self.bytes = Vec::new();
        }
    }
}
