//! What was read of processes and their host, as records carry it.
//!
//! Owns the shape and the units. A member is absent where it could not be read. Pure; who fills it is the host thread.

use serde::{Deserialize, Serialize};

/// A process with what tells what it is for, and whom it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// `task.start_boottime` of the group leader, nanoseconds since boot: tells it from a later process with its pid.
    pub start_boottime_ns: u64,
    /// Parent's thread group id.
    pub parent: u32,
    /// Real user id.
    pub uid: Option<u32>,
    /// Short command name.
    pub comm: Option<String>,
    /// Path of the executable, as the process sees it.
    pub exe: Option<String>,
    /// Command line with its secrets taken out, bounded.
    pub cmdline: Vec<String>,
    /// Path of its control group: of version 2, else of the `cpu` hierarchy.
    pub cgroup: Option<String>,
    /// Container id from that path.
    pub container_id: Option<String>,
    /// systemd unit from that path.
    pub unit: Option<String>,
    /// Kubernetes' pod uid from that path.
    pub pod_uid: Option<String>,
    /// TCP ports that it listens on.
    pub listens: Vec<u16>,
    /// Version of the engine that it is a server of, where a file of the engine says so.
    #[serde(default)]
    pub engine_version: Option<String>,
}

/// Two processes that speak to each other over a socket of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalLink {
    /// The lower pid.
    pub one: u32,
    /// The higher pid.
    pub other: u32,
}

/// What a process has used since it began; sums over its threads, those that have ended left out where marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// As in [`ProcessInfo`].
    pub pid: u32,
    /// As in [`ProcessInfo`].
    pub start_boottime_ns: u64,
    /// Threads.
    pub threads: u32,
    /// Threads that wait for a disk (state D) at this moment.
    pub uninterruptible: u32,
    /// On a processor, nanoseconds; live threads.
    pub cpu_ns: u64,
    /// Runnable and waiting for a processor, nanoseconds; live threads.
    pub runqueue_ns: u64,
    /// The first of the two for the thread that has waited longest in its life. A difference between two samples means
    /// something where `main_tid` is the same.
    pub main_cpu_ns: u64,
    /// The second.
    pub main_runqueue_ns: u64,
    /// Number of that thread.
    #[serde(default)]
    pub main_tid: u32,
    /// Major page faults.
    pub major_faults: u64,
    /// Bytes read from storage.
    pub read_bytes: Option<u64>,
}

/// What a control group has used or was denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupUsage {
    /// As in [`ProcessInfo::cgroup`].
    pub path: String,
    /// Periods in which it was throttled.
    pub throttled_periods: Option<u64>,
    /// How long, nanoseconds.
    pub throttled_ns: Option<u64>,
    /// Memory in use, bytes.
    pub memory: Option<u64>,
    /// Most memory that it may have, bytes; absent where there is no limit.
    pub memory_limit: Option<u64>,
    /// Times that memory ran into the limit.
    pub memory_limit_hits: Option<u64>,
    /// Processes that were killed for want of memory.
    pub oom_kills: Option<u64>,
    /// Time that some task waited for memory, nanoseconds (PSI `some`).
    pub memory_pressure_ns: Option<u64>,
}

/// What a record of the host says. Its time is when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostRecord {
    /// Processes around those that serve calls: ancestors, descendants, neighbours in a control group or on a GPU.
    /// Replaces what was said of the same ids before.
    Processes {
        /// The processes.
        processes: Vec<ProcessInfo>,
        /// Who speaks to whom.
        links: Vec<LocalLink>,
    },
    /// Counters.
    Usage {
        /// Of processes.
        processes: Vec<ProcessUsage>,
        /// Of control groups.
        cgroups: Vec<CgroupUsage>,
    },
}
