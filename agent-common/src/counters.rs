//! Slots of the kernel's per-CPU counters.
//!
//! Two equations tie them together, and the ledger checks both:
//! bytes offered = emitted + lost to the ring + lost to scratch + unreadable + truncated, and
//! bytes emitted = bytes that the ring reader received.

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
    /// Sockets not tracked because the table was full.
    SocketTableFull,
    /// TLS streams not tracked because the table was full.
    TlsTableFull,
    /// TLS calls whose entry could not be remembered.
    TlsCallTableFull,
    /// TLS calls that returned without a remembered entry: they began before the probes, or were evicted.
    TlsReturnUnmatched,
    /// Receives that only peeked; the bytes come again.
    Peeked,
    /// Processes not added to the target list because it was full.
    TargetTableFull,
    /// Requests left out because their path was known to be no model's.
    DullPaths,
    /// Calls of AEAD functions that seal or open something else than a TLS record (QUIC, tickets, files). Not a loss.
    AeadForeign,
    /// Calls of AEAD functions with a TLS record whose lengths or memory do not agree with it.
    AeadUnread,
    /// Number of counters.
    Count,
}

/// Number of counters.
pub const COUNT: u32 = Counter::Count as u32;
