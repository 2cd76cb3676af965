//! What the threads of a process have used, as the kernel side adds it up when userspace asks.

/// Processes that are added up for at once: entries of the `WATCHED` map.
pub const MAX_WATCHED: u32 = 4_096;

/// Value of the `WATCHED` map; the key is the thread group. Holds what the last walk over the tasks found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of the walk that filled it; an older one's means that the process was not met.
    pub walk: u64,
    /// `start_boottime` of the group leader, ns; 0 if it is not known.
    pub start_ns: u64,
    /// On a processor, ns; threads that are still there.
    pub cpu_ns: u64,
    /// Runnable and waiting for a processor, ns; likewise.
    pub runqueue_ns: u64,
    /// The first of the two for the thread that has waited longest in its life.
    pub main_cpu_ns: u64,
    /// The second.
    pub main_runqueue_ns: u64,
    /// Major page faults; of threads that have ended, too.
    pub major_faults: u64,
    /// Bytes read from storage; likewise.
    pub read_bytes: u64,
    /// Threads that have not exited.
    pub threads: u32,
    /// Of them in uninterruptible sleep (state D).
    pub uninterruptible: u32,
    /// Number of the thread that has waited longest.
    pub main_tid: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<Usage>() == 80);
