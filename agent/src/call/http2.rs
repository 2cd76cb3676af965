//! HTTP/2 on one connection: an exchange per stream.
//!
//! Owns the streams: when an exchange begins and ends, and what a connection is worth to the kernel side. Frames and
//! heads are `protocol::http2`'s.
//!
//! All streams share the connection, and the kernel side cannot tell them apart, so it copies all of it or nothing. It
//! copies as long as nobody says that no model is called here: the first [`MAX_UNWANTED`] requests were none of a
//! model's, and the host is no provider's. From then on the connection is not looked at again, and a model's call that
//! comes after all is missed; what is copied is too dear to be kept up for good on connections like those of a
//! Kubernetes API server. A connection that has carried a model's call is followed to its end.
//!
//! Where a request's head was not seen (the connection was joined in its middle, or bytes are missing) its answer may
//! still show whose it is, as with HTTP/1.1.

use std::collections::BTreeMap;

use inferscope_common::verdict::REJECT;

use super::{
    connection::{Begun, Input, Step},
    exchange::{ClosedBy, Ended, Exchange, Part},
    opener::{self, Opener},
};
use crate::{
    llm::{self, Proof, Session},
    protocol::{
        head::{Headers, RequestHead, ResponseHead},
        http2::{self, Event, Head, Parser},
    },
    time::Mono,
};

/// Streams that are known at once. Servers allow 100 to 250; a hostile pair must not grow memory.
const MAX_STREAMS: usize = 256;

/// Requests that are none of a model's before a connection is given up. A client that checks a gateway's health, lists
/// its models and reads its settings needs fewer.
const MAX_UNWANTED: u32 = 8;

/// Pushes in a row without a frame before a connection is given up. After missing bytes a frame shows in the next push
/// or after a large one, which is a few hundred.
const MAX_BLIND: u32 = 1024;

/// A connection that speaks HTTP/2. Bounded: two parsers and [`MAX_STREAMS`] exchanges.
pub(super) struct Http2 {
    requests: Parser,
    responses: Parser,
    streams: Streams,
    /// Pushes without a frame, per part.
    blind: [u32; 2],
}

impl Http2 {
    /// From the client's preface on. The server may have spoken first.
    pub fn new() -> Self {
        Self::with(Parser::requests(), Parser::responses(), false)
    }

    /// The same behind an upgrade: `first` is the exchange of stream 1, whose request is whole. It is known by the stream
    /// that it began on, which is none.
    pub fn upgraded(first: Box<Exchange>) -> Self {
        let mut http2 = Self::new();
        http2.streams.add(1, Some(first), false);
        http2.streams.last = 1;
        http2
    }

    /// From the middle of a connection.
    pub fn joined() -> Self {
        Self::with(Parser::join(true), Parser::join(false), true)
    }

    fn with(requests: Parser, responses: Parser, is_joined: bool) -> Self {
        let streams = Streams {
            open: BTreeMap::new(),
            pending: [None; 2],
            may_have_missed: is_joined,
            last: 0,
            has_wanted: false,
            unwanted: 0,
        };
        Self { requests, responses, streams, blind: [0; 2] }
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
        let Self { requests, responses, streams, blind } = self;
        let (parser, other) = match part {
            Part::Request => (requests, responses),
            Part::Response => (responses, requests),
        };
        let mut context = Context { at, part, sender, other, opener, steps };
        match input {
            Input::Bytes(bytes) => {
                streams.pending[part as usize].get_or_insert(at);
                parser.push(bytes, &mut |event| streams.on_event(event, &mut context));
                if !parser.holds_beginning() {
                    streams.pending[part as usize] = None;
                }
                let blind = &mut blind[part as usize];
                *blind = if parser.is_lost() { *blind + 1 } else { 0 };
                if *blind == MAX_BLIND {
                    *blind = 0;
                    steps(Step::Answer(REJECT));
                }
            }
            Input::Gap { missing, .. } => parser.gap(missing, &mut |event| streams.on_event(event, &mut context)),
            Input::Close => parser.close(&mut |event| streams.on_event(event, &mut context)),
        }
    }

    /// Ends every open exchange that `is_meant`.
    pub fn give_up(&mut self, ended: Ended, is_meant: impl Fn(&Exchange) -> bool, steps: &mut dyn FnMut(Step)) {
        for stream in self.streams.open.values_mut() {
            if let Some(exchange) = stream.exchange.take_if(|exchange| is_meant(exchange)) {
                steps(Step::Over(exchange, ended));
            }
        }
    }

    /// The exchanges under way.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.streams.open.values().filter_map(|stream| stream.exchange.as_deref())
    }

    /// The same, to look at what came since the last time.
    pub fn exchanges_mut(&mut self) -> impl Iterator<Item = &mut Exchange> {
        self.streams.exchanges_mut()
    }

    /// Nothing of one part can be seen, whatever passes.
    pub fn unseen(&mut self, at: Mono, part: Part) {
        self.streams.exchanges_mut().for_each(|exchange| exchange.gap(at, part, 0));
    }
}

/// What is known while an event is taken.
struct Context<'a> {
    at: Mono,
    part: Part,
    /// Who sends this direction.
    sender: ClosedBy,
    /// The other direction's parser.
    other: &'a mut Parser,
    opener: &'a mut Opener,
    steps: &'a mut dyn FnMut(Step),
}

struct Streams {
    open: BTreeMap<u32, Stream>,
    /// When the first byte of a head that is not whole came, per part.
    pending: [Option<Mono>; 2],
    /// There may be streams whose request was not seen.
    may_have_missed: bool,
    /// Highest stream of a request.
    last: u32,
    has_wanted: bool,
    /// Requests that were none of a model's.
    unwanted: u32,
}

/// A stream whose response has not ended.
struct Stream {
    /// Absent if nobody asked for it, or it is over while the server does not know yet.
    exchange: Option<Box<Exchange>>,
    /// It is not known yet whether it is a model's: nothing but the bodies can tell.
    is_doubtful: bool,
    /// Its request may still come.
    is_early: bool,
}

impl Streams {
    fn on_event(&mut self, event: Event<'_>, context: &mut Context<'_>) {
        let (at, part) = (context.at, context.part);
        match event {
            Event::Head { stream, head } => {
                match *head {
                    Head::Request(head) => self.on_request(stream, head, context),
                    Head::Response(head) => self.on_response(stream, &head, context),
                    Head::Trailers(headers) => self.on_trailers(stream, headers, context),
                }
                self.pending[part as usize] = None;
            }
            Event::Data { stream, bytes } => {
                self.pending[part as usize] = None;
                self.on_data(stream, bytes, context);
            }
            Event::Gap { stream, missing } => {
                // It may have been a head that opens the stream.
                self.may_have_missed = true;
                if let Some(exchange) = self.exchange_mut(stream) {
                    exchange.gap(at, part, missing);
                }
            }
            Event::End { stream } => match part {
                Part::Request => {
                    if let Some(exchange) = self.exchange_mut(stream) {
                        exchange.request_end(at);
                    }
                }
                Part::Response => {
                    let Some(stream) = self.open.remove(&stream) else { return };
                    if let Some(mut exchange) = stream.exchange {
                        exchange.response_end(at);
                        over(exchange, Ended::Whole, context);
                    }
                    if stream.is_doubtful {
                        self.count_unwanted(false, context);
                    }
                }
            },
            Event::Reset { stream, code: _ } => self.on_reset(stream, context),
            Event::GoAway { last } if part == Part::Response => {
                for stream in self.open.split_off(&last.saturating_add(1)).into_values() {
                    if let Some(exchange) = stream.exchange {
                        over(exchange, Ended::Closed(context.sender), context);
                    }
                }
            }
            Event::GoAway { .. } => {}
            Event::Allows { frame } => context.other.allow(frame),
            Event::Lost { .. } => {
                self.may_have_missed = true;
                // How much of it belongs to which stream nobody knows; nothing does to one that had said all.
                let is_touched = |exchange: &&mut Exchange| match part {
                    Part::Request => !exchange.is_asked(),
                    Part::Response => !exchange.is_finished(),
                };
                self.exchanges_mut().filter(is_touched).for_each(|exchange| exchange.gap(at, part, 0));
            }
            Event::Malformed { stream, reason } => {
                if let Some(exchange) = self.exchange_mut(stream) {
                    exchange.malformed(at, part, reason);
                }
                (context.steps)(Step::Malformed(reason));
            }
            Event::Skipped(bytes) => (context.steps)(Step::Unparsed(bytes)),
        }
    }

    fn on_request(&mut self, number: u32, head: RequestHead, context: &mut Context<'_>) {
        if number.is_multiple_of(2) {
            return;
        }
        self.last = self.last.max(number);
        let Context { at, opener, .. } = context;
        let start = self.pending[Part::Request as usize].unwrap_or(*at);
        let is_providers = head.host.as_deref().is_some_and(llm::is_provider);
        // What is not known of it may be what a model's request has.
        let content_type = head.headers.content_type.clone().unwrap_or_else(|| "application/json".to_owned());
        let is_path_known = !head.path.is_empty() || head.method == "CONNECT";
        let mut exchange = opener.open(*at, start, head);
        if let Some(stream) = self.open.get_mut(&number) {
            if let Some(known) = stream.exchange.as_mut().filter(|_| is_path_known && stream.is_early) {
                known.learn(exchange);
            }
            return;
        }
        exchange.stream = number;
        if !is_path_known {
            exchange.join(Session::join_at_head(Some(&content_type), &opener.options.session));
        }
        let is_doubtful = !is_path_known && !opener.options.all_http;
        if !opener.wants(&exchange) {
            self.make_room(context);
            self.add(number, None, false);
            self.count_unwanted(is_providers && exchange.is_targeted(), context);
            return;
        }
        if !is_doubtful {
            self.has_wanted = true;
            (context.steps)(Step::Began(Begun::of(&exchange)));
        }
        self.make_room(context);
        self.add(number, Some(Box::new(exchange)), is_doubtful);
    }

    fn on_response(&mut self, number: u32, head: &ResponseHead, context: &mut Context<'_>) {
        if head.is_interim() {
            return;
        }
        let at = context.at;
        let started = self.pending[Part::Response as usize].unwrap_or(at);
        if !self.open.contains_key(&number) {
            let content_type = head.headers.content_type.as_deref();
            let session = Session::join_at_head(content_type, &context.opener.options.session);
            self.join(number, session, context);
        }
        if let Some(exchange) = self.exchange_mut(number) {
            opener::answer(exchange, at, started, head);
        }
    }

    /// What came behind a body, or a head of which nothing is known.
    fn on_trailers(&mut self, number: u32, headers: Headers, context: &mut Context<'_>) {
        let (at, part) = (context.at, context.part);
        let Some(exchange) = self.exchange_mut(number) else { return };
        if part == Part::Response && !exchange.is_answered() {
            self.on_response(number, &ResponseHead { headers, ..ResponseHead::default() }, context);
        } else if part == Part::Response {
            exchange.response_trailers(&headers);
            exchange.response_end(at);
        }
    }

    fn on_data(&mut self, number: u32, bytes: &[u8], context: &mut Context<'_>) {
        let (at, part) = (context.at, context.part);
        if !self.open.contains_key(&number) && part == Part::Response {
            let session = http2::is_event(bytes).then(|| Session::join(&context.opener.options.session));
            self.join(number, session, context);
        }
        let Some(stream) = self.open.get_mut(&number) else {
            (context.steps)(Step::Unparsed(bytes.len() as u64));
            return;
        };
        let Some(exchange) = &mut stream.exchange else { return };
        match part {
            Part::Request => exchange.request_body(at, bytes),
            Part::Response => exchange.response_body(at, bytes),
        }
        if stream.is_doubtful {
            self.judge(number, context);
        }
    }

    /// Begins an exchange whose request was not seen, if there can be one on a stream that is not known. It may still come:
    /// where one thread writes and another reads, a quick answer can be read before the write has returned.
    fn join(&mut self, number: u32, session: Option<Session>, context: &mut Context<'_>) {
        let is_early = number > self.last;
        if !(self.may_have_missed || is_early) || number.is_multiple_of(2) {
            return;
        }
        let Some(mut exchange) = context.opener.join(context.at, session) else { return };
        exchange.stream = number;
        self.make_room(context);
        self.open.insert(number, Stream { exchange: Some(Box::new(exchange)), is_doubtful: true, is_early });
    }

    /// Says what a doubtful exchange is, as soon as that is known.
    fn judge(&mut self, number: u32, context: &mut Context<'_>) {
        let Some(stream) = self.open.get_mut(&number) else { return };
        let proof = stream.exchange.as_ref().and_then(|exchange| exchange.session.as_deref()).map(Session::proof);
        stream.is_doubtful = proof == Some(Proof::Pending);
        match (proof, &stream.exchange) {
            (Some(Proof::Pending), _) => {}
            (Some(Proof::Request | Proof::Response), Some(exchange)) => {
                self.has_wanted = true;
                (context.steps)(Step::Began(Begun::of(exchange)));
            }
            _ => {
                if let Some(exchange) = stream.exchange.take() {
                    over(exchange, Ended::Lost, context);
                }
                self.count_unwanted(false, context);
            }
        }
    }

    fn on_reset(&mut self, number: u32, context: &mut Context<'_>) {
        let exchange = match context.part {
            // What the server sends before it hears of it belongs to nobody.
            Part::Request => self.open.get_mut(&number).and_then(|stream| stream.exchange.take()),
            Part::Response => self.open.remove(&number).and_then(|stream| stream.exchange),
        };
        if let Some(exchange) = exchange {
            over(exchange, Ended::Closed(context.sender), context);
        }
    }

    /// A request was none of a model's.
    fn count_unwanted(&mut self, is_providers: bool, context: &mut Context<'_>) {
        self.unwanted = self.unwanted.saturating_add(1);
        let is_doubtful = self.open.values().any(|stream| stream.is_doubtful);
        // Said again if it was not heard.
        let is_time = self.unwanted.is_multiple_of(MAX_UNWANTED);
        if is_time && !self.has_wanted && !is_doubtful && !is_providers {
            (context.steps)(Step::Answer(REJECT));
        }
    }

    /// Gives up a stream if there is no room for another one: the oldest that nobody asked for, or that is not answered.
    fn make_room(&mut self, context: &mut Context<'_>) {
        if self.open.len() < MAX_STREAMS {
            return;
        }
        let is_answered = |stream: &Stream| stream.exchange.as_ref().is_some_and(|exchange| exchange.is_answered());
        let unwanted = self.open.iter().find(|(_, stream)| stream.exchange.is_none());
        let oldest = unwanted.or_else(|| self.open.iter().find(|(_, stream)| !is_answered(stream)));
        let Some(number) = oldest.or_else(|| self.open.first_key_value()).map(|(number, _)| *number) else { return };
        if let Some(exchange) = self.open.remove(&number).and_then(|stream| stream.exchange) {
            over(exchange, Ended::Lost, context);
            (context.steps)(Step::Overflow);
        }
    }

    fn add(&mut self, number: u32, exchange: Option<Box<Exchange>>, is_doubtful: bool) {
        self.open.insert(number, Stream { exchange, is_doubtful, is_early: false });
    }

    fn exchange_mut(&mut self, number: u32) -> Option<&mut Exchange> {
        self.open.get_mut(&number)?.exchange.as_deref_mut()
    }

    fn exchanges_mut(&mut self) -> impl Iterator<Item = &mut Exchange> {
        self.open.values_mut().filter_map(|stream| stream.exchange.as_deref_mut())
    }
}

fn over(exchange: Box<Exchange>, ended: Ended, context: &mut Context<'_>) {
    (context.steps)(Step::Over(exchange, ended));
}
