//! A host without a kernel: records of connections, counted as the kernel side counts them, put through a pipeline.

use inferscope::{
    call::{ConnectionOptions, FinishedCall},
    pipeline::{Output, Pipeline, PipelineOptions},
    record::{Data, Direction, ObjectId, Origin, Record, SocketState, Source},
    selfstat::{Ledger, PipelineStats},
    time::Mono,
};
use inferscope_common::record::MAX_PAYLOAD;

/// `TCP_*` of include/net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;

/// Silence after which a call is given up, nanoseconds.
const IDLE: u64 = 1_000_000_000;

/// A pipeline, the clock of its records, and the calls that have come out.
pub struct Host {
    pipeline: Pipeline,
    now: u64,
    /// Calls, oldest first.
    pub calls: Vec<FinishedCall>,
}

/// One process's end of a connection.
#[derive(Clone, Debug)]
pub struct End {
    stream: ObjectId,
    tgid: u32,
    read: u64,
    write: u64,
    turn: u32,
    last: Option<Direction>,
}

impl End {
    /// The end that process `tgid` has of the socket at `address`.
    pub fn new(address: u64, tgid: u32) -> Self {
        Self { stream: ObjectId { address, generation: 1 }, tgid, read: 0, write: 0, turn: 0, last: None }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new(ConnectionOptions::default())
    }
}

impl Host {
    /// A host of which nothing is known.
    pub fn new(connection: ConnectionOptions) -> Self {
        let options =
            PipelineOptions { connection, idle_ns: IDLE, epoch: [1; 16], infer: false, limits: Default::default() };
        Self { pipeline: Pipeline::new(options), now: 1_000, calls: Vec::new() }
    }

    /// Puts one record through.
    pub fn take(&mut self, record: Record<'_>) {
        let calls = &mut self.calls;
        self.pipeline.on_record(record, &mut |output| keep(output, calls));
    }

    /// Bytes that a process reads or writes in one call.
    pub fn bytes(&mut self, end: &mut End, direction: Direction, bytes: &[u8]) {
        let total = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        for payload in bytes.chunks(MAX_PAYLOAD) {
            self.data(end, direction, payload.len() as u64, total, payload);
        }
    }

    /// So many bytes of a direction that pass, and of which no record tells more.
    pub fn lost(&mut self, end: &mut End, direction: Direction, count: u32) {
        *end.position(direction) += u64::from(count);
        self.data(end, direction, 0, count, &[]);
    }

    fn data(&mut self, end: &mut End, direction: Direction, count: u64, total: u32, payload: &[u8]) {
        if end.last.replace(direction) != Some(direction) {
            end.turn += 1;
        }
        let origin = self.origin(end.tgid);
        let offset = *end.position(direction);
        *end.position(direction) += count;
        let (stream, turn) = (end.stream, end.turn);
        let source = Source::Syscall;
        let data = Data { stream, offset, skipped: 0, total, turn, direction, source, overhead: 0, payload };
        self.take(Record::Data(origin, data));
    }

    /// The socket is closed, by the process itself or by the other end.
    pub fn close(&mut self, end: &End, by_itself: bool) {
        let first = if by_itself { FIN_WAIT1 } else { CLOSE_WAIT };
        for (old, new) in [(ESTABLISHED, first), (first, CLOSE)] {
            let origin = self.origin(0);
            let state = SocketState { id: end.stream, old, new, unread: false, error: 0 };
            self.take(Record::SocketState(origin, state));
        }
    }

    /// So much time passes that every call under way is given up.
    pub fn silence(&mut self) {
        self.now += 2 * IDLE;
        let (now, calls) = (Mono(self.now), &mut self.calls);
        self.pipeline.on_tick(now, &mut |output| keep(output, calls));
    }

    /// The agent stops.
    pub fn finish(&mut self) {
        let calls = &mut self.calls;
        self.pipeline.finish(&mut |output| keep(output, calls));
    }

    /// The pipeline's counters.
    ///
    /// # Panics
    /// If they do not add up.
    pub fn stats(&self) -> &PipelineStats {
        let stats = self.pipeline.stats();
        let ledger = Ledger { pipeline: stats.clone(), ..Ledger::default() };
        assert_eq!(ledger.balance(), Ok(()));
        stats
    }

    /// The common part of a process's next record: a millisecond after the last.
    pub fn origin(&mut self, tgid: u32) -> Origin {
        self.now += 1_000_000;
        Origin { time: Mono(self.now), tgid, tid: tgid, start_ns: 7 }
    }
}

impl End {
    fn position(&mut self, direction: Direction) -> &mut u64 {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

fn keep(output: Output, calls: &mut Vec<FinishedCall>) {
    if let Output::Call(call) = output {
        calls.push(*call);
    }
}
