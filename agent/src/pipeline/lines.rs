//! Calls of servers that are spoken to over their standard input and output.
//!
//! Owns the way from a record of a pipe, or of a UNIX socket with a message a line, to calls; the end of what waits when
//! a process or a channel goes away; and what such a call's attribution is. A message is seen where it is written and
//! where it is read, and gives a call at each, linked as the two ends of a connection are. What a message says is
//! `llm`'s, what waits for what is `call::requests`'s, which channels belong together is [`channels`](super::channels)'s.

use inferscope_common::verdict::{REJECT, Verdict};

use super::{
    Output, Pipeline,
    channels::{End, Held, Wire},
    tcp,
};
use crate::{
    call::{
        FinishedCall, Side, SpanIds,
        gaps::GapSketch,
        ids,
        link::{self, Tuple},
        requests::{Outcome, Over, Owner, Party, Request, Requests},
    },
    llm::{RpcFacts, Said},
    record::{Address, Data, Direction, ObjectId, Origin, SocketState, Source},
    stream::{Lane, Piece, StreamKey},
    time::Mono,
};

/// Where calls go.
type Out<'o> = &'o mut dyn FnMut(Output);

/// A record's place.
#[derive(Clone, Copy)]
struct Place {
    key: u64,
    end: End,
    at: Mono,
}

impl Pipeline {
    /// A record of a channel.
    pub(super) fn on_lines(&mut self, origin: &Origin, data: &Data<'_>, out: Out<'_>) {
        self.stats.received += data.payload.len() as u64;
        let end = match data.direction {
            Direction::Write => End::Writer,
            Direction::Read => End::Reader,
        };
        let key = self.channel_of(data, end);
        if self.channels.get(key).is_some_and(|channel| {
            let known = if data.source == Source::Pipe { channel.wires().next() } else { channel.wire(end) };
            known.is_some_and(|known| known.object != data.stream)
        }) {
            self.stats.ends_missed += 1;
            self.close_channel(key, out);
        }
        let Some(piece) = self.place_line(origin, data, key, end) else {
            self.stats.refused += data.payload.len() as u64;
            self.missed.of(origin.tgid).refused += data.payload.len() as u64;
            self.stats.connections_refused += 1;
            return;
        };
        self.stats.repeated += piece.repeated;
        self.stats.delivered += piece.bytes.len() as u64;
        self.stats.lost = self.stats.lost.saturating_add(piece.lost);
        if piece.lost > 0 {
            let lost = &mut self.missed.of(origin.tgid).lost;
            *lost = lost.saturating_add(piece.lost);
        }
        let Some(wire) = self.channels.wire_mut(key, end) else { return };
        let Some(mut speech) = wire.speech.take() else { return };
        let missing = piece.lost.saturating_add(piece.skipped);
        if missing > 0 {
            speech.gap();
            self.note_gap(key, end, origin.time, missing);
        }
        let place = Place { key, end, at: origin.time };
        let mut answers = false;
        speech.push(piece.bytes, &mut |said| answers |= self.on_said(place, said, out));
        if answers {
            speech.prove();
        }
        if let Some(wire) = self.channels.wire_mut(key, end) {
            wire.speech = Some(speech);
        }
        self.settle_held(out);
    }

    /// Puts a record into its wire's order; nothing if the table is full.
    fn place_line<'d>(&mut self, origin: &Origin, data: &Data<'d>, key: u64, end: End) -> Option<Piece<'d>> {
        let owner = Owner { tgid: origin.tgid, start_ns: origin.start_ns };
        let channel = self.channels.entry(key)?;
        let is_first = channel.wire(end).is_none();
        if is_first {
            channel.put(
                end,
                Wire {
                    object: data.stream,
                    source: data.source,
                    owner,
                    gone: false,
                    lane: Lane::default(),
                    speech: Some(Box::default()),
                    line: origin.time,
                    requests: Requests::default(),
                    turn: data.turn,
                    last_seen: origin.time,
                },
            );
        }
        let wire = channel.wire_mut(end)?;
        let is_news = is_first || wire.owner != owner;
        (wire.owner, wire.gone, wire.turn) = (owner, false, data.turn);
        wire.last_seen = wire.last_seen.max(origin.time);
        let mut piece = wire.lane.accept(data.offset, data.skipped, data.payload);
        if data.payload.is_empty() && is_first {
            // Nothing is known of the direction before: what passed in no buffer is missing all the same.
            piece.lost = data.total.into();
        }
        if is_news {
            self.channels.learn();
        }
        Some(piece)
    }

    /// The channel that a record belongs to, named the same at both ends: a pipe's address, or that of the socket which is
    /// written to.
    fn channel_of(&self, data: &Data<'_>, end: End) -> u64 {
        if data.source == Source::Pipe || end == End::Writer {
            return data.stream.address;
        }
        match self.tables.addresses(StreamKey::Socket(data.stream)).map(|socket| &socket.peer) {
            Some(&Address::Unix { sock, .. }) if sock != 0 => sock,
            // The kernel's objects have even addresses: this is no other's.
            _ => data.stream.address | 1,
        }
    }

    /// True if it answers a request that was seen.
    fn on_said(&mut self, place: Place, said: Said, out: Out<'_>) -> bool {
        let Place { key, end, at } = place;
        match said {
            Said::Begin => {
                if let Some(wire) = self.channels.wire_mut(key, end) {
                    wire.line = at;
                }
            }
            Said::Request(id, facts) => self.on_request(place, Some(id), facts, out),
            Said::Notification(facts) => self.on_request(place, None, facts, out),
            Said::Answer(id, answer) => {
                let start = self.channels.wire(key, end).map_or(at, |wire| wire.line);
                return self.on_answer(key, Held { end, id, answer, start, stop: at }, out);
            }
            Said::Stray => {
                self.stats.malformed += 1;
                self.missed.of(self.owner_of(key, end)).malformed += 1;
            }
            Said::Foreign => {
                let Some(wire) = self.channels.wire(key, end) else { return false };
                let (address, turn) = (wire.object.address, wire.turn);
                let verdict = Verdict { generation: wire.object.generation, turn, verdict: REJECT };
                self.channels.dismiss(key);
                out(Output::Answer { address, verdict });
            }
        }
        false
    }

    /// The process at an end of a channel.
    fn owner_of(&self, key: u64, end: End) -> u32 {
        self.channels.wire(key, end).map_or(0, |wire| wire.owner.tgid)
    }

    fn on_request(&mut self, place: Place, id: Option<String>, facts: RpcFacts, out: Out<'_>) {
        let Place { key, end, at } = place;
        let Some(wire) = self.channels.wire_mut(key, end) else { return };
        let waits = id.is_some();
        let request = wire.requests.message(wire.owner, wire.line, at, id, facts);
        if !waits {
            self.report_request(key, end, request, Over::Notified, out);
            return;
        }
        let object = wire.object;
        if let Some(tuple) = tuple_of(key, &request) {
            let ids = self.request_ids(object, &request, end);
            self.links.start(side_of(end), tuple, request.owner.tgid, ids, request.start);
        }
        if let Some(wire) = self.channels.wire_mut(key, end)
            && let Some(oldest) = wire.requests.wait(request)
        {
            self.stats.overflowed += 1;
            self.report_request(key, end, oldest, Over::Overflow, out);
        }
    }

    /// An answer has come on `key`; true if its request was seen.
    fn on_answer(&mut self, key: u64, held: Held, out: Out<'_>) -> bool {
        let Some(asked) = self.channels.asked_on(key, held.end, &held.id) else {
            self.channels.hold(key, held);
            return false;
        };
        let Held { end, id, answer, start, stop } = held;
        let other = end.other();
        let wire = self.channels.wire_mut(asked, other);
        let Some(request) = wire.and_then(|wire| wire.requests.take(&id)) else { return false };
        self.report_request(asked, other, request, Over::Answered { answer, start, end: stop }, out);
        true
    }

    /// Looks again what the answers that wait are answers to.
    fn settle_held(&mut self, out: Out<'_>) {
        for (key, held) in self.channels.release() {
            let end = held.end;
            if self.on_answer(key, held, out)
                && let Some(speech) = self.channels.wire_mut(key, end).and_then(|wire| wire.speech.as_mut())
            {
                speech.prove();
            }
        }
    }

    /// Bytes are missing at an end of a channel: they may have answered what waits there on the other one.
    fn note_gap(&mut self, key: u64, end: End, at: Mono, bytes: u64) {
        let partner = self.channels.get(key).and_then(|channel| channel.partner);
        if let Some(wire) = partner.and_then(|partner| self.channels.wire_mut(partner, end.other())) {
            wire.requests.gap(at, bytes);
        }
    }

    /// A state of a pipe or of a UNIX socket.
    pub(super) fn on_channel_state(&mut self, state: &SocketState, out: Out<'_>) {
        let address = state.id.address;
        let is_over = state.new == tcp::CLOSE;
        if self.channels.get(address).is_some_and(|channel| channel.wires().any(|wire| wire.source == Source::Pipe)) {
            if is_over && self.is_on(address, state) {
                self.leave(address, if state.old == tcp::CLOSE_WAIT { End::Writer } else { End::Reader }, out);
            }
            return;
        }
        let peer = match self.tables.addresses(StreamKey::Socket(state.id)).map(|socket| &socket.peer) {
            Some(&Address::Unix { sock, .. }) if sock != 0 => sock,
            _ => address | 1,
        };
        // Which end of the connection has gone, seen from the socket.
        let by_peer = state.new == tcp::CLOSE_WAIT || (is_over && state.old == tcp::CLOSE_WAIT);
        if self.is_on(peer, state) && (by_peer || is_over) {
            self.leave(peer, if by_peer { End::Writer } else { End::Reader }, out);
        }
        if is_over && self.is_on(address, state) {
            self.leave(address, if by_peer { End::Reader } else { End::Writer }, out);
        }
    }

    /// Whether a state is of a channel, and not of an earlier one at the same address.
    fn is_on(&self, key: u64, state: &SocketState) -> bool {
        self.channels.get(key).is_some_and(|channel| channel.wires().any(|wire| wire.object == state.id))
    }

    /// An end of a channel has gone.
    fn leave(&mut self, key: u64, end: End, out: Out<'_>) {
        let Some(channel) = self.channels.get_mut(key) else { return };
        let first = *channel.left.get_or_insert(end);
        let partner = channel.partner;
        if end == End::Reader {
            let by = if first == End::Writer { Party::Requester } else { Party::Responder };
            self.end_requests(key, by, out);
        }
        if let Some(partner) = partner {
            // What is asked there was answered here.
            let left = self.channels.get(partner).and_then(|channel| channel.left);
            let by = match end {
                End::Writer if left != Some(End::Writer) => Party::Responder,
                _ => Party::Requester,
            };
            self.end_requests(partner, by, out);
        }
        let is_quiet = |key| self.channels.get(key).is_none_or(|channel| channel.is_quiet());
        if is_quiet(key) || partner.is_none() {
            self.close_channel(key, out);
        }
        // It was kept for what was to be answered here.
        if let Some(partner) = partner.filter(|&partner| self.channels.get(partner).is_some_and(|p| p.left.is_some())) {
            self.close_channel(partner, out);
        }
    }

    /// Ends what waits on a channel.
    fn end_requests(&mut self, key: u64, by: Party, out: Out<'_>) {
        for end in End::BOTH {
            let wire = self.channels.wire_mut(key, end);
            for request in wire.map(|wire| wire.requests.take_if(|_| true)).unwrap_or_default() {
                self.report_request(key, end, request, Over::Left(by), out);
            }
        }
    }

    /// Forgets a channel. What waits on it will not be answered.
    fn close_channel(&mut self, key: u64, out: Out<'_>) {
        let left = self.channels.get(key).and_then(|channel| channel.left);
        self.end_requests(key, if left == Some(End::Writer) { Party::Requester } else { Party::Responder }, out);
        self.channels.remove(key);
    }

    /// A process has ended, and with it the calls that it was an end of.
    pub(super) fn leave_channels_of(&mut self, tgid: u32, out: Out<'_>) {
        for key in self.channels.keys() {
            let left = self.channels.get(key).and_then(|channel| channel.left);
            for end in End::BOTH {
                let Some(wire) = self.channels.wire_mut(key, end) else { continue };
                wire.gone |= wire.owner.tgid == tgid;
                let by = if left.unwrap_or(end) == End::Writer { Party::Requester } else { Party::Responder };
                for request in wire.requests.take_if(|request| request.owner.tgid == tgid) {
                    self.report_request(key, end, request, Over::Left(by), out);
                }
            }
            if self.channels.get(key).is_some_and(|channel| channel.is_abandoned()) {
                self.close_channel(key, out);
            }
        }
    }

    /// Gives up what has waited since before `since`, and forgets what has been quiet since before `quiet`.
    pub(super) fn tick_channels(&mut self, since: Mono, quiet: Mono, out: Out<'_>) {
        self.give_up_requests(&|request| request.end < since, || Over::Idle, out);
        self.channels.make_room(quiet);
    }

    /// Reports what is under way. For the end.
    pub(super) fn finish_channels(&mut self, out: Out<'_>) {
        self.give_up_requests(&|_| true, || Over::Shutdown, out);
    }

    fn give_up_requests(&mut self, which: &dyn Fn(&Request) -> bool, over: fn() -> Over, out: Out<'_>) {
        for key in self.channels.keys() {
            for end in End::BOTH {
                let wire = self.channels.wire_mut(key, end);
                for request in wire.map(|wire| wire.requests.take_if(which)).unwrap_or_default() {
                    self.report_request(key, end, request, over(), out);
                }
            }
        }
    }

    /// Reports a request that was on a channel.
    fn report_request(&mut self, key: u64, end: End, request: Request, over: Over, out: Out<'_>) {
        let Some((object, source)) = self.channels.wire(key, end).map(|wire| (wire.object, wire.source)) else {
            return;
        };
        let side = side_of(end);
        let mut ids = self.request_ids(object, &request, end);
        let other = tuple_of(key, &request).map(|tuple| self.links.finish(side, tuple, ids.span)).unwrap_or_default();
        if let Some(parent) = other.parent {
            (ids.trace, ids.parent) = (parent.trace, Some(parent.span));
        }
        self.stats.idle += u64::from(matches!(over, Over::Idle));
        // Nothing names a host.
        if !self.options.connection.targets.wants_host(None) {
            return;
        }
        let addresses = self.tables.addresses(StreamKey::Socket(object));
        let Owner { tgid, start_ns } = request.owner;
        let Outcome { mut timing, facts, completion, capture, notes } =
            request.over(over, self.options.connection.session.redactor);
        timing.start = other.read_at.map_or(timing.start, |read_at| timing.start.min(read_at));
        self.stats.calls += 1;
        let call = FinishedCall {
            ids,
            side,
            process: self.tables.processes.identity(tgid, start_ns),
            local: addresses.map(|socket| socket.local.clone()),
            peer: addresses.map(|socket| socket.peer.clone()),
            tls: false,
            binding: None,
            source,
            timing,
            chunk_count: 0,
            gaps: GapSketch::default(),
            streamed: false,
            http: Default::default(),
            facts: Some(facts),
            inferred: None,
            place: Default::default(),
            hop: None,
            serving: None,
            tool: None,
            load: None,
            completion,
            capture,
            notes,
        };
        self.hand_out(call, None, other.parent.is_some() || other.read_at.is_some(), out);
    }

    fn request_ids(&self, object: ObjectId, request: &Request, end: End) -> SpanIds {
        ids::derive(&self.options.epoch, StreamKey::Socket(object), request.number, request.start, side_of(end))
    }
}

/// Who writes a request is its client.
fn side_of(end: End) -> Side {
    match end {
        End::Writer => Side::Client,
        End::Reader => Side::Server,
    }
}

/// What both ends call a request while it waits.
fn tuple_of(key: u64, request: &Request) -> Option<Tuple> {
    let channel = link::End::Channel(key);
    Some(Tuple { client: channel, server: channel, stream: request.label()? })
}
