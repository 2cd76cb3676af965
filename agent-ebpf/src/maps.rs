//! Every map, with the reason for its size. Userspace may resize them at load; these are the defaults.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use inferscope_common::{
    counters,
    go_place::{GoPlace, MAX_PLACES},
    join::{Joined, Place},
    probe_stats::{FileStats, MAX_FILES},
    process_stats::{MAX_PROCESSES, ProcessStats},
    record::MAX_RECORD,
    targets::{DullPath, MAX_PORTS},
    usage::{MAX_WATCHED, Usage},
    verdict::Verdict,
};

use crate::{
    aead::AeadCall,
    cuda::{CudaCall, CudaCallKey, Steps},
    flow::Flow,
    go_tls::{GoCall, GoCallKey},
    headers::Chains,
    records::{Asked, Carry, Received},
    retransmit::Retransmits,
    tls::{TlsCallKey, TlsCalls},
    tls_stream::{TlsKey, TlsStream},
    transfer::Call,
    weights::Opens,
};

/// Payload. A call is copied whole before it returns, and on its processor nothing else runs meanwhile, the reader
/// included.
#[map]
pub static DATA: RingBuf = RingBuf::with_byte_size(32 << 20, 0);

/// Everything that is not payload, so that payload cannot starve it. 1 MiB is about 18,000 records.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Set by a reader that is about to sleep, to the payload bytes from which the next record wakes it, or to
/// [`ANY_RECORD`](inferscope_common::wake::ANY_RECORD). At 0 the reader polls by itself, and no record costs the traced program a wake-up.
#[map]
pub static WAKE: Array<u32> = Array::with_max_entries(1, 0);

/// Set by userspace until everything is attached, and again when it is about to stop: no program takes anything up then, so
/// that all begin at once, and that the rings can be emptied and the ledger closed while detaching is still ahead.
#[map]
pub static PAUSED: Array<u32> = Array::with_max_entries(1, 0);

/// [`counters::Counter`] slots.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counters::COUNT, 0);

/// What the probes of each file have seen, by the slot that the attach cookie names.
#[map]
pub static PROBE_STATS: PerCpuArray<FileStats> = PerCpuArray::with_max_entries(MAX_FILES, 0);

/// What each process moved and what was captured of it.
#[map]
pub static PROCESSES: LruHashMap<u32, ProcessStats> = LruHashMap::with_max_entries(MAX_PROCESSES, 0);

/// A record under construction. User probes run preemptible, so a program can find the processor's buffer taken
/// by a preempted one; four of them cover every depth of preemption that was seen, and the fifth is counted.
#[repr(C)]
pub struct Scratch {
    pub busy: u64,
    pub record: [u8; MAX_RECORD],
}

/// Buffers per processor.
pub const SCRATCH_SLOTS: u32 = 4;

#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SCRATCH_SLOTS, 0);

/// A stream socket that data was seen on.
#[repr(C)]
pub struct Sock {
    /// Inode number, which tells apart sockets that reuse the address.
    pub inode: u64,
    /// The same for userspace: the inode number of a TCP socket, which `/proc` shows too; for a UNIX socket the time at
    /// which it was first seen, so that one that was evicted and comes back is a new stream.
    pub generation: u64,
    /// 1: userspace was told that one half of a UNIX socket was shut down.
    pub half: u64,
    /// When what kept it from sending is looked at again, [`NEVER`](crate::limits::NEVER) for a UNIX socket.
    pub limits_due: u64,
    /// Sum of what was told of that.
    pub limits_told: u64,
    pub flow: Flow,
    /// Where its TLS records end, in the read direction.
    pub carry: Carry,
}

/// TCP sockets by address of the kernel's `sock`. Entries go when the socket closes, so this bounds the sockets that are
/// open at once. Not LRU: an eviction would lose the stream's position without a word.
#[map]
pub static SOCKS: HashMap<u64, Sock> = HashMap::with_max_entries(65_536, 0);

/// Sockets whose end nothing tells for certain, by the same address: those of the UNIX family (see
/// [`unix_end`](crate::unix_end)) and TCP sockets that are closed with bytes still to be read. LRU, which is what bounds
/// entries that nobody takes out; sized for those in use at once.
#[map]
pub static LOOSE_SOCKS: LruHashMap<u64, Sock> = LruHashMap::with_max_entries(16_384, 0);

/// A pipe on which messages pass one a line.
#[repr(C)]
pub struct Pipe {
    /// Inode number, which tells apart pipes that reuse the address.
    pub inode: u64,
    /// When it was first seen: one that was evicted and comes back is a new stream.
    pub generation: u64,
    pub flow: Flow,
}

/// Pipes that were taken up, by address of the kernel's `pipe_inode_info`; none of the many others. LRU, which is what
/// bounds entries of pipes that end without a last call on them. Some hundred times the servers that a host runs.
#[map]
pub static PIPES: LruHashMap<u64, Pipe> = LruHashMap::with_max_entries(8192, 0);

/// What is known of the pipes whose addresses have some bits in common.
#[repr(C)]
pub struct PipeHint {
    /// 1: one of them was taken up. Never taken back: a needless look into [`PIPES`] harms nobody.
    pub taken_up: u64,
    /// Inode number of the last one that was not, and how many of its calls began like no message: half a word each.
    pub missed: u64,
}

/// Hints at pipes. A look here costs a pipe that is of no interest a tenth of a look into a hash map. 128 KiB.
#[map]
pub static PIPE_HINTS: Array<PipeHint> = Array::with_max_entries(PIPE_HINT_COUNT, 0);

/// Size of [`PIPE_HINTS`]; a power of two.
pub const PIPE_HINT_COUNT: u32 = 8192;

/// Userspace's answers, by stream id. A program that applies one removes it. LRU: an answer that is never
/// fetched belongs to a stream that is gone.
#[map]
pub static VERDICTS: LruHashMap<u64, Verdict> = LruHashMap::with_max_entries(16_384, 0);

/// TLS streams. LRU because nothing tells the kernel side that a process died with its streams open. An evicted
/// stream that comes back has a new generation, which userspace sees.
#[map]
pub static TLS_STREAMS: LruHashMap<TlsKey, TlsStream> = LruHashMap::with_max_entries(32_768, 0);

/// TLS calls under way, by thread and direction. LRU: a thread that dies inside a call leaves its entry. An eviction shows
/// as a return that finds nothing.
#[map]
pub static TLS_CALLS: LruHashMap<TlsCallKey, TlsCalls> = LruHashMap::with_max_entries(16_384, 0);

/// Calls of Go's TLS under way: at most one per goroutine and direction, more where TLS runs inside TLS. A call that never
/// returns leaves its entry to be evicted.
#[map]
pub static GO_CALLS: LruHashMap<GoCallKey, GoCall> = LruHashMap::with_max_entries(16_384, 0);

/// What is known of the probed places in Go files, by file and place.
#[map]
pub static GO_PLACES: Array<GoPlace> = Array::with_max_entries(MAX_PLACES, 0);

/// The system call that is being looked at, one per processor: its program is never preempted. On the stack the verifier
/// would follow each kind of call on its own through all that is the same for them.
#[map]
pub static CALL: PerCpuArray<Call> = PerCpuArray::with_max_entries(1, 0);

/// Calls of opening AEAD functions under way: at most one per thread.
#[map]
pub static AEAD_CALLS: LruHashMap<u64, AeadCall> = LruHashMap::with_max_entries(16_384, 0);

/// Streams that are one direction of a connection, and which stream's gate decides for both. LRU: one that is forgotten
/// decides for itself, which costs copying.
#[map]
pub static JOINED: LruHashMap<Place, Joined> = LruHashMap::with_max_entries(32_768, 0);

/// Processes that have a TLS stream whose socket is not known, and until when their records are told. LRU: an entry is
/// of use for a second, and one that is kept is made anew by the next call.
#[map]
pub static UNBOUND: LruHashMap<u32, Asked> = LruHashMap::with_max_entries(4096, 0);

/// The last receive of each thread of a process whose records are kept, until it is told or followed by another. LRU: it
/// is told within the same turn of an event loop, or never.
#[map]
pub static RECEIVED: LruHashMap<u64, Received> = LruHashMap::with_max_entries(16_384, 0);

/// Where the headers of TLS records are, on sockets whose plaintext nobody reads. Filled only when inference is asked
/// for; without it userspace makes the map as small as one can be. LRU: a connection that is forgotten is picked up again
/// at its next record.
#[map]
pub static CHAINS: LruHashMap<u64, Chains> = LruHashMap::with_max_entries(16_384, 0);

/// Flags of thread groups (`targets::WANTED` and its neighbours), unless every process is traced.
#[map]
pub static TARGETS: HashMap<u32, u32> = HashMap::with_max_entries(32_768, 0);

/// Names that make a process a target at its exec.
#[map]
pub static TARGET_COMMS: HashMap<[u8; 16], u32> = HashMap::with_max_entries(64, 0);

/// Flags of TCP ports, when `config.ports` is not 0.
#[map]
pub static PORTS: HashMap<u16, u32> = HashMap::with_max_entries(MAX_PORTS, 0);

/// Paths that userspace has found to be no model's. LRU: one that is forgotten is learnt again at its next request.
/// Sized for the paths of some hundred services.
#[map]
pub static DULL_PATHS: LruHashMap<DullPath, u32> = LruHashMap::with_max_entries(8192, 0);

/// Thread groups whose threads' use is added up. Userspace puts them in and takes them out.
#[map]
pub static WATCHED: HashMap<u32, Usage> = HashMap::with_max_entries(MAX_WATCHED, 0);

/// Number of the walk over the tasks that userspace is about to make.
#[map]
pub static WALK: Array<u64> = Array::with_max_entries(1, 0);

/// Sockets that had to send something again. LRU: one that is forgotten tells a record too many. Sized for those that do so
/// within some milliseconds.
#[map]
pub static RETRANSMITS: LruHashMap<u64, Retransmits> = LruHashMap::with_max_entries(4096, 0);

/// Processes that open weights, and how many in this second. LRU: one that is forgotten may tell more.
#[map]
pub static OPENS: LruHashMap<u32, Opens> = LruHashMap::with_max_entries(1024, 0);

/// Processes that launch graphs on GPUs, and how far their step is. Some per GPU; userspace makes the map as small as one can
/// be where no step clock is asked for. LRU: nothing tells that a process is gone.
#[map]
pub static CUDA_STEPS: LruHashMap<u32, Steps> = LruHashMap::with_max_entries(1024, 0);

/// Calls of CUDA's runtime that wait or allocate, under way, by thread. LRU: a thread that dies inside one leaves its entry.
/// As small as one can be, likewise.
#[map]
pub static CUDA_CALLS: LruHashMap<CudaCallKey, CudaCall> = LruHashMap::with_max_entries(4096, 0);
