//! What the programs are asked to do, one JSON object a line on standard input, and what they then tell, one JSON
//! object a line on standard output.

use serde::{Deserialize, Serialize};

use super::wire::Shape;

/// To the driver: a run of calls by schedule.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Whether inside TLS.
    pub tls: bool,
    /// What each call looks like.
    pub shape: Shape,
    /// Calls in all.
    pub calls: u64,
    /// Between the starts of two, in nanoseconds.
    pub interval_ns: u64,
    /// Number of the first; the others follow.
    pub first_call: u64,
    /// Whether a connection serves one call after the other, or each has one of its own.
    pub keep_alive: bool,
}

impl Load {
    /// How long the schedule takes, to the last answer.
    pub fn duration_ns(&self) -> u64 {
        self.calls * self.interval_ns + self.shape.duration_ns()
    }
}

/// CPU and work of a process in a slice of time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Slice {
    /// CPU time of the process, user and system, in nanoseconds.
    pub cpu_ns: u64,
    /// Calls that ended.
    pub calls: u64,
    /// Content chunks that were sent or came.
    pub chunks: u64,
}

/// From the driver: how a run went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Driven {
    /// Calls that were answered byte for byte as they must be.
    pub completed: u64,
    /// What was wrong with the others; the first of them.
    pub failures: Vec<String>,
    /// Most calls that were under way at once.
    pub peak: u64,
    /// From the first due time to the last answer.
    pub wall_ns: u64,
    /// Per call, from when it was due to its last byte.
    pub latency_ns: Vec<u64>,
    /// Per streamed call, from when it was due to the first byte of content.
    pub ttft_ns: Vec<u64>,
    /// CPU and work, slice by slice.
    pub slices: Vec<Slice>,
}

/// From the server, for any line on its standard input: what it did since the last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Served {
    /// Time to first token by the server's own clock, by number of the call: from the return of the read that gave the
    /// first byte of the request to the return of the write of the first content.
    pub ttft_ns: Vec<(u64, u64)>,
    /// CPU and work, slice by slice.
    pub slices: Vec<Slice>,
}

/// To the pair: streams on one connection whose two ends are one thread's.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Lockstep {
    /// Whether inside TLS.
    pub tls: bool,
    /// What each call looks like; times in it do not count.
    pub shape: Shape,
    /// Calls.
    pub calls: u64,
    /// Number of the first.
    pub first_call: u64,
}

/// From the pair: nanoseconds per chunk, one figure a call.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stepped {
    /// Of the server's write.
    pub write_ns: Vec<f64>,
    /// Of the client's read.
    pub read_ns: Vec<f64>,
}

/// To the flood: as many chunks as the rate says, from several threads.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Flood {
    /// Whether inside TLS.
    pub tls: bool,
    /// What each call looks like; times in it do not count.
    pub shape: Shape,
    /// Threads, each of which owns both ends of a connection.
    pub threads: u64,
    /// Chunks per second, of all threads together; 0 is as many as go.
    pub rate: u64,
    /// For how long, in milliseconds.
    pub duration_ms: u64,
    /// Number of the first call.
    pub first_call: u64,
}

/// From the flood.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Flooded {
    /// Content chunks that were written and read.
    pub chunks: u64,
    /// Calls that were completed.
    pub calls: u64,
    /// How long it took.
    pub wall_ns: u64,
}

/// What a bystander does all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Habit {
    /// The cheapest system call: it transfers nothing.
    Getppid,
    /// One byte through a pipe: a write and a read that are no socket's.
    Pipe,
}

/// To a bystander.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Idle {
    /// What to do.
    pub habit: Habit,
    /// Figures to give.
    pub batches: u32,
    /// System calls behind each figure.
    pub batch: u32,
}

/// From a bystander: nanoseconds per system call.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Idled {
    /// One figure a batch.
    pub call_ns: Vec<f64>,
}
