//! The host's side of a call: who the process is, and which engine it is a part of.
//!
//! Owns the identity of processes as the kernel reports it ([`ProcessIdentity`], read once by [`ProcessWatch`]), what is
//! around those that serve calls ([`Snapshot`]: relatives, control groups, sockets), which of them make up one engine
//! ([`Groups`]) and what their control groups were denied ([`Mounts`]). Nothing here is taken from a payload (invariant
//! 8); a command line, which a process may choose, names an engine and never a process.
//!
//! Reading and deciding are apart. `snapshot`, `sockets`, `unix_peers`, `version` and `cgroup_stat` read; `cgroup`,
//! `scrub`, `command`, `engine`, `boundary`, `start`, `tree`, `join` and `group` are pure and tested by tables. Leaves to
//! others when to look, which comes from events of the kernel, and what the counters mean for a call.
//!
//! To add an engine, see `engine`; a layout of containers, `cgroup`; a supervisor or a proxy, `boundary`; a rule by which
//! processes are joined, `join`.

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
