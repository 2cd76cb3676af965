//! The host's side of a call: who the process is.
//!
//! Owns the identity of processes as the kernel reports it. Nothing here is taken from a payload (invariant 8).

mod boundary;
mod cgroup;
mod cgroup_stat;
mod command;
mod container;
mod engine;
mod group;
mod join;
mod sample;
mod scrub;
mod snapshot;
mod sockets;
mod start;
mod subject;
mod tree;
mod unix_peers;
mod version;
mod watch;

pub use cgroup_stat::Mounts;
pub use engine::{Engine, Kind, Role};
pub use group::{Evidence, Group, GroupId, Groups, Hop, Member};
pub use sample::{CgroupUsage, HostRecord, LocalLink, ProcessInfo, ProcessUsage};
pub use snapshot::{MAX_PROCESSES, Snapshot};
pub use start::{TICK_NS, same_start};
pub use subject::subject;
pub use watch::ProcessWatch;

/// A process, told apart from later ones that reuse its pid by its start time.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessIdentity {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// `task.start_boottime` of the group leader, nanoseconds since boot, suspend included; 0 when not known.
    pub start_boottime_ns: u64,
    /// Real user id, when it could be read.
    pub uid: Option<u32>,
    /// Short command name (`comm`).
    pub comm: Option<String>,
    /// Base name of the executable.
    pub executable: Option<String>,
    /// Container id from the control group's path.
    pub container_id: Option<String>,
}
