//! The pure pipeline: records in, finished calls and verdicts out.
//!
//! Owns the tables of connections, sockets, TLS bindings and processes, and with them the attribution of a call to
//! what the kernel saw. No clock, no thread, no file: the same records give the same calls, live or replayed.
//! Every table has a cap and a counter.

mod channels;
#[cfg(test)]
mod conversation_tests;
mod ends;
mod halves;
#[cfg(test)]
mod halves_tests;
mod hops;
#[cfg(test)]
mod http2_tests;
mod inference;
#[cfg(test)]
mod inference_tests;
#[cfg(test)]
mod joined_tests;
mod lines;
#[cfg(test)]
mod lines_tests;
mod missed;
mod report;
mod serving;
#[cfg(test)]
mod socket_tests;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod websocket_tests;

use inferscope_common::{
    join::{Joined, Place},
    targets::DullPath,
    verdict::Verdict,
};

use crate::{
    call::{
        Binding, ConnectionOptions, FinishedCall, Side, SpanIds,
        connection::{Begun, Connection, Step},
        conversation::Conversations,
        exchange::{ClosedBy, Ended},
        ids::{self, Epoch},
        link::{End, Links, Tuple},
    },
    infer::Inference,
    record::{Data, Direction, ObjectId, Origin, Record, Source, TlsRecords},
    selfstat::{Missed, PipelineStats},
    serving::{FlightKey, Limits, Notice, Serving, Wish},
    stream::{Binder, Finding, Halves, Plain, StreamKey},
    time::Mono,
};
use channels::Channels;
use hops::Hops;
use missed::MissedTable;
use table::{Entry, Tables};

/// `TCP_*` of include/net/tcp_states.h.
mod tcp {
    pub const ESTABLISHED: u8 = 1;
    pub const FIN_WAIT1: u8 = 4;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
}

/// A connection without a call on which nothing came for this long may be forgotten when the table fills up.
const QUIET_NS: u64 = 60_000_000_000;

/// How long a connection that is over may still be read before it is taken for closed without reading. Whoever reads
/// at all does so as soon as the end shows.
const LINGER_NS: u64 = 5_000_000_000;

/// What the pipeline is told once.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// Passed to every connection.
    pub connection: ConnectionOptions,
    /// An exchange on which nothing came for this long is given up, nanoseconds.
    pub idle_ns: u64,
    /// Sets this run's ids apart.
    pub epoch: Epoch,
    /// Infer calls from ciphertext where TLS cannot be read.
    pub infer: bool,
    /// Beyond these a call is slow, whatever is usual.
    pub limits: Limits,
}

/// What comes out.
#[derive(Debug)]
pub enum Output {
    /// A call is over.
    Call(Box<FinishedCall>),
    /// The kernel side should do this with the stream at an address.
    Answer {
        /// The stream.
        address: u64,
        /// The answer.
        verdict: Verdict,
    },
    /// The kernel side need not copy requests for this path.
    Dull(DullPath),
    /// This is to be observed beside the calls.
    Observe(Wish),
    /// An operator should hear of this now.
    Notice(Notice),
    /// The kernel side should let another stream's gate decide for this one, or let it decide for itself again.
    Join {
        /// The stream.
        stream: Place,
        /// The other.
        with: Option<Joined>,
    },
}

/// The pipeline.
pub struct Pipeline {
    options: PipelineOptions,
    tables: Tables,
    channels: Channels,
    links: Links,
    binder: Binder,
    halves: Halves,
    conversations: Conversations,
    serving: Serving,
    hops: Hops,
    /// Absent unless it was asked for.
    inference: Option<Inference>,
    stats: PipelineStats,
    missed: MissedTable,
}

impl Pipeline {
    /// An empty one.
    pub fn new(mut options: PipelineOptions) -> Self {
        // What a call's history is hashed with is what its conversation is told by.
        options.connection.session.secret = options.epoch;
        let inference = options.infer.then(Inference::default);
        Self {
            conversations: Conversations::new(options.epoch),
            serving: Serving::new(options.limits),
            hops: Hops::default(),
            options,
            inference,
            tables: Tables::default(),
            channels: Channels::default(),
            links: Links::default(),
            binder: Binder::default(),
            halves: Halves::default(),
            stats: PipelineStats::default(),
            missed: MissedTable::default(),
        }
    }

    /// Counters so far.
    pub fn stats(&self) -> &PipelineStats {
        &self.stats
    }

    /// What was missed of which process.
    pub fn missed(&self) -> Vec<(u32, Missed)> {
        self.missed.all()
    }

    /// Connections known.
    pub fn connection_count(&self) -> usize {
        self.tables.connections.len() + self.channels.len()
    }

    /// A record that could not be read.
    pub fn on_bad_record(&mut self) {
        self.stats.records += 1;
        self.stats.records_bad += 1;
    }

    /// A record of a process that is no target, with so many bytes of payload.
    pub fn on_untargeted(&mut self, bytes: u64) {
        self.stats.records += 1;
        self.stats.received += bytes;
        self.stats.untargeted += bytes;
    }

    /// Takes a record.
    pub fn on_record(&mut self, record: Record<'_>, out: &mut dyn FnMut(Output)) {
        self.stats.records += 1;
        match record {
            Record::Data(origin, data) => self.on_data(&origin, &data, out),
            Record::Socket(_, socket) => {
                let known = self.tables.learn_socket(socket);
                self.count_unnamed(known);
            }
            Record::SocketState(origin, state) => self.on_socket_state(origin.time, &state, out),
            Record::TlsBind { origin, tls, socket } => {
                let key = StreamKey::Tls { tgid: origin.tgid, object: tls };
                self.binder.forget_stream(key);
                self.bind(key, socket, Binding::Nested);
                self.stop_inferring(socket, out);
            }
            Record::TlsRecords(origin, records) => {
                let TlsRecords { socket, direction, total, .. } = records;
                let findings =
                    self.binder.records(origin.time, origin.tid, socket, direction, records.fragments(), total);
                findings.into_iter().for_each(|finding| self.on_finding(finding, out));
            }
            Record::TlsPlain { origin, tls, direction, source, total, overhead } => {
                let tls = key_of(&origin, tls, direction, source);
                self.on_plain(&origin, &Plain { tls, direction, bytes: total, overhead }, out);
            }
            Record::TlsHeader(origin, header) => self.on_tls_header(&origin, &header, out),
            Record::TlsHello(origin, hello) => self.on_tls_hello(&origin, &hello),
            Record::TlsClose { origin, tls } => {
                let key = StreamKey::Tls { tgid: origin.tgid, object: tls };
                // The library's object goes before the socket does: on a known socket whose other end is still
                // there, this process is the one that leaves.
                let by = if self.tables.is_bound(key) { ClosedBy::Local } else { ClosedBy::Unknown };
                self.close(key, by, out);
            }
            Record::Fork { origin, .. } => self.machinery_changed(origin.tgid, out),
            Record::Exec { origin } => {
                self.program_changed(origin.time, origin.tgid, out);
                self.close_tls_of(origin.tgid, out);
            }
            Record::Exit { origin, status } => {
                self.process_ended(origin.time, origin.tgid, status, out);
                self.close_tls_of(origin.tgid, out);
                for key in self.tables.unix_streams_of(origin.tgid) {
                    self.close(key, ClosedBy::Local, out);
                }
                self.leave_channels_of(origin.tgid, out);
                // Not now: the kernel closes its TCP sockets after this, and they are its calls' ends.
                self.tables.processes.ended(origin.tgid);
                self.infer(out, |inference, _| inference.ended(origin.tgid));
            }
            Record::Process(origin, identity) => {
                let known = self.tables.processes.learn(origin.tgid, identity);
                self.count_unnamed(known);
            }
            machinery @ (Record::Host(..)
            | Record::Gpu(..)
            | Record::OomVictim { .. }
            | Record::Retransmit(..)
            | Record::SendLimits(..)
            | Record::FileOpen(..)
            | Record::Listen(..)
            | Record::CudaStep(..)
            | Record::CudaAllocFailed(..)) => self.on_machinery(machinery, out),
        }
    }

    /// Gives up what has been idle for too long. `now` is on the records' clock.
    pub fn on_tick(&mut self, now: Mono, out: &mut dyn FnMut(Output)) {
        while let Some(socket) = self.tables.lingered(Mono(now.0.saturating_sub(LINGER_NS))) {
            self.end_socket(socket, out);
        }
        self.tick_halves(now, out);
        self.tables.make_room(Mono(now.0.saturating_sub(QUIET_NS)));
        let since = Mono(now.0.saturating_sub(self.options.idle_ns));
        for key in self.tables.idle_since(since) {
            self.with_connection(key, out, |connection, steps| connection.give_up_idle(since, steps));
        }
        self.tick_channels(since, Mono(now.0.saturating_sub(QUIET_NS)), out);
        let idle = self.options.idle_ns;
        self.infer(out, |inference, found| inference.tick(now, idle, found));
        self.advance(now, out);
    }

    /// Reports the calls that are still under way. For the end.
    pub fn finish(&mut self, out: &mut dyn FnMut(Output)) {
        self.finish_halves(out);
        for key in self.tables.keys() {
            self.with_connection(key, out, |connection, steps| connection.give_up(Ended::Shutdown, steps));
        }
        self.finish_channels(out);
        self.infer(out, |inference, found| inference.finish(found));
        self.serving.finish(&mut |call| out(Output::Call(call)));
        self.tell_loads(out);
        self.conversations.finish(&mut |tool| out(Output::Call(Box::new(tool))));
        self.count_conversations();
    }

    /// A table of names was full: calls go on, with less about them.
    fn count_unnamed(&mut self, known: bool) {
        self.stats.names_refused += u64::from(!known);
    }

    fn on_data(&mut self, origin: &Origin, data: &Data<'_>, out: &mut dyn FnMut(Output)) {
        if data.source.is_lines() {
            self.on_lines(origin, data, out);
            return;
        }
        if data.payload.is_empty() {
            self.on_passed(origin, data, out);
            return;
        }
        self.stats.received += data.payload.len() as u64;
        let key = key_of(origin, data.stream, data.direction, data.source);
        if data.source.is_half() {
            self.on_half(origin, key, data, out);
            return;
        }
        if let Some(earlier) = self.tables.replaced_by(key) {
            self.stats.ends_missed += 1;
            self.close(earlier, ClosedBy::Unknown, out);
        }
        if data.source.is_tls() {
            let (direction, bytes, overhead) = (data.direction, data.total, data.overhead);
            self.on_plain(origin, &Plain { tls: key, direction, bytes, overhead }, out);
        }
        self.deliver(origin, key, data, out);
    }

    /// Gives a record to its connection.
    fn deliver(&mut self, origin: &Origin, key: StreamKey, data: &Data<'_>, out: &mut dyn FnMut(Output)) {
        let mut options = self.options.connection.clone();
        options.session.server = Some((origin.tgid, origin.start_ns));
        let fresh = || Entry {
            connection: Connection::new(options),
            tgid: origin.tgid,
            start_ns: origin.start_ns,
            source: data.source,
            turn: 0,
        };
        let Some(entry) = self.tables.entry(key, fresh) else {
            self.stats.refused += data.payload.len() as u64;
            self.missed.of(origin.tgid).refused += data.payload.len() as u64;
            self.stats.connections_refused += 1;
            return;
        };
        // A prefork server's child takes over a connection that its parent accepted: the one that moves the bytes is
        // the one that serves.
        (entry.tgid, entry.start_ns, entry.turn) = (origin.tgid, origin.start_ns, data.turn);
        let piece = entry.connection.place(data.direction, data.offset, data.skipped, data.payload);
        self.stats.repeated += piece.repeated;
        self.stats.delivered += piece.bytes.len() as u64;
        self.stats.lost = self.stats.lost.saturating_add(piece.lost);
        if piece.lost > 0 {
            let lost = &mut self.missed.of(origin.tgid).lost;
            *lost = lost.saturating_add(piece.lost);
        }
        self.with_connection(key, out, |connection, steps| {
            connection.push(origin.time, data.direction, &piece, steps);
        });
    }

    /// Bytes that were in no buffer of a call. On a connection that is not known nothing is missing yet.
    fn on_passed(&mut self, origin: &Origin, data: &Data<'_>, out: &mut dyn FnMut(Output)) {
        let key = StreamKey::Socket(data.stream);
        let Some(entry) = self.tables.connections.get_mut(&key) else { return };
        entry.turn = data.turn;
        let Data { direction, offset, skipped, total, .. } = *data;
        let before = entry.connection.place(direction, offset.saturating_sub(total.into()), skipped, &[]);
        let mut piece = entry.connection.place(direction, offset, skipped, &[]);
        piece.lost += before.lost;
        piece.skipped += before.skipped;
        self.stats.lost = self.stats.lost.saturating_add(piece.lost);
        self.with_connection(key, out, |connection, steps| connection.push(origin.time, direction, &piece, steps));
    }

    /// Plaintext of a TLS stream: a hint at its socket, as long as that is not known.
    fn on_plain(&mut self, origin: &Origin, plain: &Plain, out: &mut dyn FnMut(Output)) {
        self.on_plaintext_read(origin);
        let finding = if plain.tls.half().is_some() {
            self.note_half(origin, plain.tls, out);
            if self.halves.is_bound(plain.tls) {
                self.binder.plain_of_bound(origin.time, origin.tid, plain)
            } else {
                self.binder.plain(origin.time, origin.tid, plain)
            }
        } else if !self.tables.is_bound(plain.tls) {
            self.binder.plain(origin.time, origin.tid, plain)
        } else {
            None
        };
        if let Some(finding) = finding {
            self.on_finding(finding, out);
        }
    }

    fn on_finding(&mut self, finding: Finding, out: &mut dyn FnMut(Output)) {
        match finding {
            Finding::Bound { tls, socket } => {
                if tls.half().is_some() {
                    self.bind_half(tls, socket, out);
                } else {
                    self.bind(tls, socket, Binding::Records);
                }
                self.stop_inferring(socket, out);
            }
            Finding::Withdrawn { tls, socket } => {
                self.stats.bindings_withdrawn += 1;
                if tls.half().is_some() {
                    self.part_half(tls, out);
                } else {
                    self.tables.unbind(tls, socket);
                }
            }
        }
    }

    fn bind(&mut self, key: StreamKey, socket: ObjectId, binding: Binding) {
        let known = self.tables.bind(key, socket, binding);
        self.count_unnamed(known);
        match binding {
            Binding::Nested => self.stats.bound_nested += 1,
            Binding::Records => self.stats.bound_by_records += 1,
        }
        // A call that began before its socket was known has its other end to find yet.
        let Some(entry) = self.tables.connections.get(&key) else { return };
        let Some(side) = entry.connection.side() else { return };
        for Begun { number, stream, start, .. } in entry.connection.begun() {
            if let Some(tuple) = self.tuple(key, entry, stream) {
                let ids = self.ids(key, number, start, side);
                self.links.start(side, tuple, entry.tgid, ids, start);
            }
        }
    }

    /// Does something to a connection and carries out what it asks for.
    fn with_connection(
        &mut self,
        key: StreamKey,
        out: &mut dyn FnMut(Output),
        act: impl FnOnce(&mut Connection, &mut dyn FnMut(Step)),
    ) {
        let Some(mut entry) = self.tables.take(key) else { return };
        let mut steps = Vec::new();
        act(&mut entry.connection, &mut |step| steps.push(step));
        for step in steps {
            self.carry_out(key, &entry, step, out);
        }
        self.tables.put_back(key, entry);
    }

    fn carry_out(&mut self, key: StreamKey, entry: &Entry, step: Step, out: &mut dyn FnMut(Output)) {
        match step {
            Step::Began(begun @ Begun { number, stream, start, .. }) => {
                self.place_hop(key, entry, begun);
                if entry.connection.side() == Some(Side::Server) {
                    self.serve(key, entry.tgid, begun, out);
                }
                if let (Some(side), Some(tuple)) = (entry.connection.side(), self.tuple(key, entry, stream)) {
                    let ids = self.ids(key, number, start, side);
                    self.links.start(side, tuple, entry.tgid, ids, start);
                }
            }
            Step::Over(exchange, ended) => self.report(key, entry, *exchange, ended, out),
            Step::Answer(verdict) => out(answer(key, entry.turn, verdict)),
            Step::AnswerResponse(verdict) => out(answer(key, entry.turn.wrapping_sub(1), verdict)),
            Step::Dull(hash) => out(Output::Dull(DullPath { hash, tgid: entry.tgid, pad: 0 })),
            Step::Unparsed(bytes) => {
                self.stats.unparsed += bytes;
                self.missed.of(entry.tgid).unparsed += bytes;
            }
            Step::Malformed(_) => {
                self.stats.malformed += 1;
                self.missed.of(entry.tgid).malformed += 1;
            }
            Step::Overflow => self.stats.overflowed += 1,
        }
    }

    fn ids(&self, key: StreamKey, number: u64, start: Mono, side: Side) -> SpanIds {
        let mut ids = ids::derive(&self.options.epoch, key, number, start, side);
        if let Some(parent) = self.hops.parent(FlightKey { stream: key, number }) {
            (ids.trace, ids.parent) = (parent.trace, Some(parent.span));
        }
        ids
    }

    fn tuple(&self, key: StreamKey, entry: &Entry, stream: u32) -> Option<Tuple> {
        let socket = self.tables.addresses(key)?;
        Some(Tuple::new(entry.connection.side()?, End::of(&socket.local)?, End::of(&socket.peer)?, stream))
    }
}

/// The stream that a record belongs to.
fn key_of(origin: &Origin, object: ObjectId, direction: Direction, source: Source) -> StreamKey {
    match source {
        Source::Syscall | Source::Pipe | Source::Lines => StreamKey::Socket(object),
        half if half.is_half() => StreamKey::Half { tgid: origin.tgid, object, direction },
        _ => StreamKey::Tls { tgid: origin.tgid, object },
    }
}

fn answer(key: StreamKey, turn: u32, verdict: u32) -> Output {
    let object = key.object();
    Output::Answer { address: object.address, verdict: Verdict { generation: object.generation, turn, verdict } }
}
