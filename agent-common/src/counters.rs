//! Slots of the kernel's per-CPU counters.
//!
//! Two equations tie them together, and the ledger checks both:
//! bytes offered = emitted + lost to the ring + lost to scratch + unreadable + truncated, and
//! bytes emitted = bytes that the ring reader received.

use crate::record::Kind;

/// Index into the `COUNTERS` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Bytes of reads and writes that were chosen for copying.
    BytesOffered,
    /// Bytes that went onto the bulk ring.
    BytesEmitted,
    /// Bytes lost because the bulk ring was full.
    BytesLostRing,
    /// Bytes lost because every scratch buffer of the processor was in use.
    BytesLostScratch,
    /// Bytes that could not be read from the process's memory.
    BytesUnreadable,
    /// Bytes beyond the piece limit of one read or write.
    BytesTruncated,
    /// Bytes left out because of a verdict or because the stream is not of interest. Not a loss.
    BytesSkipped,
    /// Bytes that passed a followed socket without any program seeing them (sendfile, splice, io_uring).
    BytesUnseen,
    /// Records on the bulk ring.
    DataRecords,
    /// Failed reserves on the bulk ring.
    DataRecordsLost,
    /// Records on the ring of rare events.
    EventRecords,
    /// Failed reserves on the ring of rare events.
    EventRecordsLost,
    /// Of them [`Kind::Socket`](crate::record::Kind::Socket): calls without addresses until it is told again.
    SocketEventsLost,
    /// Of them [`Kind::SocketState`](crate::record::Kind::SocketState): who closed is not known.
    SocketStateEventsLost,
    /// Of them [`Kind::TlsBind`](crate::record::Kind::TlsBind): told again at the stream's next call.
    TlsBindEventsLost,
    /// Of them [`Kind::TlsClose`](crate::record::Kind::TlsClose): a call ends at its idle time.
    TlsCloseEventsLost,
    /// Of them [`Kind::Fork`](crate::record::Kind::Fork), [`Kind::Exec`](crate::record::Kind::Exec) and
    /// [`Kind::Exit`](crate::record::Kind::Exit), [`Kind::OomVictim`](crate::record::Kind::OomVictim): a process is named by what was
    /// known before, and why it died is not known.
    ProcessEventsLost,
    /// Of them the lengths of records and plaintext: a stream's socket may stay unknown.
    LengthEventsLost,
    /// Of them what may tell why a call was slow: [`Kind::Retransmit`](crate::record::Kind::Retransmit),
    /// [`Kind::SendLimits`](crate::record::Kind::SendLimits), [`Kind::FileOpen`](crate::record::Kind::FileOpen) and
    /// [`Kind::Listen`](crate::record::Kind::Listen).
    CauseEventsLost,
    /// Of them [`Kind::CudaStep`](crate::record::Kind::CudaStep) and
    /// [`Kind::CudaAllocFailed`](crate::record::Kind::CudaAllocFailed): steps are counted all the same, their times are not known.
    CudaEventsLost,
    /// Sockets and pipes not tracked because the table was full.
    SocketTableFull,
    /// TLS streams not tracked because the table was full.
    TlsTableFull,
    /// TLS calls whose entry could not be remembered.
    TlsCallTableFull,
    /// TLS calls that returned without a remembered entry: they began before the probes, or were evicted.
    TlsReturnUnmatched,
    /// TLS calls whose count of bytes could not be read from the process's memory.
    TlsCountUnreadable,
    /// Bytes of streams that no table had room for, and of messages whose header could not be read.
    BytesUntracked,
    /// Receives that only peeked; the bytes come again.
    Peeked,
    /// Processes not added to the target list because it was full.
    TargetTableFull,
    /// Requests left out because their path was known to be no model's.
    DullPaths,
    /// Times that the chain of TLS record headers on a socket was lost: bytes that no program saw, or that are no TLS.
    HeaderChainsLost,
    /// Bytes that io_uring moved over stream sockets, followed or not.
    BytesUring,
    /// Calls of AEAD functions that seal or open something else than a TLS record (QUIC, tickets, files). Not a loss.
    AeadForeign,
    /// Calls of AEAD functions with a TLS record whose lengths or memory do not agree with it.
    AeadUnread,
    /// Opens of weight files not told because the process opens too many.
    FileOpensSkipped,
    /// Calls of CUDA's runtime that could not be remembered, or whose entry was not seen.
    CudaCallsLost,
    /// Steps on GPUs and failed allocations not told because the process has too many.
    CudaSkipped,
    /// Number of counters.
    Count,
}

impl Counter {
    /// The counter of a [`Kind`](crate::record::Kind) that did not fit the ring of rare events.
    #[inline(always)]
    pub const fn lost_event(kind: u16) -> Self {
        const SOCKET: u16 = Kind::Socket as u16;
        const UNIX_SOCKET: u16 = Kind::UnixSocket as u16;
        const SOCKET_STATE: u16 = Kind::SocketState as u16;
        const TLS_BIND: u16 = Kind::TlsBind as u16;
        const TLS_CLOSE: u16 = Kind::TlsClose as u16;
        const FORK: u16 = Kind::Fork as u16;
        const EXIT: u16 = Kind::Exit as u16;
        const OOM_VICTIM: u16 = Kind::OomVictim as u16;
        const RETRANSMIT: u16 = Kind::Retransmit as u16;
        const LISTEN: u16 = Kind::Listen as u16;
        const CUDA_STEP: u16 = Kind::CudaStep as u16;
        const CUDA_ALLOC_FAILED: u16 = Kind::CudaAllocFailed as u16;
        match kind {
            SOCKET | UNIX_SOCKET => Self::SocketEventsLost,
            SOCKET_STATE => Self::SocketStateEventsLost,
            TLS_BIND => Self::TlsBindEventsLost,
            TLS_CLOSE => Self::TlsCloseEventsLost,
            FORK..=EXIT | OOM_VICTIM => Self::ProcessEventsLost,
            RETRANSMIT..=LISTEN => Self::CauseEventsLost,
            CUDA_STEP | CUDA_ALLOC_FAILED => Self::CudaEventsLost,
            _ => Self::LengthEventsLost,
        }
    }
}

/// Number of counters.
pub const COUNT: u32 = Counter::Count as u32;
