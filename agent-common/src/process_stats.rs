//! What the kernel side counts for each process: bytes on its sockets against bytes that were captured, and losses by
//! reason. The difference is what a process moved that nobody could read.

/// Processes counted at once. The map evicts the one that moved bytes longest ago; the global counters keep its sums.
pub const MAX_PROCESSES: u32 = 8_192;

/// Value of the `PROCESSES` map; the key is the thread group. All in bytes, pairs in the order read, written.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStats {
    /// Through system calls on stream sockets: TCP and UNIX.
    pub socket: [u64; 2],
    /// Of them on sockets that carry TLS records.
    pub tls: [u64; 2],
    /// Plaintext that TLS libraries' calls transferred, whether it was copied or not.
    pub plain: [u64; 2],
    /// Chosen for copying.
    pub offered: u64,
    /// Copied.
    pub emitted: u64,
    /// Lost because the ring was full.
    pub lost_ring: u64,
    /// Lost because every scratch buffer was in use.
    pub lost_scratch: u64,
    /// Not readable in the process's memory.
    pub unreadable: u64,
    /// Beyond the piece limit of one call.
    pub truncated: u64,
    /// Passed a followed socket without their being in any buffer of a call (sendfile, splice), or without any call.
    pub unseen: u64,
    /// On streams that no table had room for, and of messages whose header could not be read.
    pub untracked: u64,
    /// Rare events that did not fit their ring; a count.
    pub events_lost: u64,
    /// TLS calls whose beginning was not seen, or whose count could not be read; a count.
    pub calls_lost: u64,
    /// Moved over stream sockets by io_uring, which no system call shows. Not in `socket`.
    pub uring: [u64; 2],
    /// 1 once the process has ended: the next one with its number starts from zero.
    pub ended: u64,
}

/// Members of [`ProcessStats`], each of 8 bytes.
pub const PROCESS_STATS_LEN: usize = size_of::<ProcessStats>() / size_of::<u64>();

const _: () = assert!(PROCESS_STATS_LEN == 19);
