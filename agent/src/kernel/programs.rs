//! The object's programs and the shapes of its globals and map values: what loading, attaching and reading share.

use aya::{
    Ebpf,
    maps::{Map, MapError},
    programs::ProgramError,
};
use inferscope_common::{
    config::{Config, Offsets},
    go_place::GoPlace,
    join::{Joined, Place},
    probe_stats::FileStats,
    process_stats::ProcessStats,
    targets::DullPath,
    usage::Usage,
    verdict::Verdict,
};

use super::error::LoadError;

/// Programs on tracepoints that follow processes.
pub(super) const PROCESS_TRACEPOINTS: [&str; 3] = ["sched_process_fork", "sched_process_exec", "sched_process_exit"];

/// Programs on tracepoints that follow sockets: their ends first, so that none is missed.
pub(super) const SOCKET_TRACEPOINTS: [&str; 2] = ["inet_sock_set_state", "sys_exit"];

/// The program that counts what io_uring moves.
pub(super) const URING_TRACEPOINT: (&str, &str) =
    ("io_uring_complete", "bytes that io_uring moves are missing without a word, unless they pass a followed stream");

/// Programs on tracepoints that not every kernel has, and what is lost without each.
pub(super) const OPTIONAL_TRACEPOINTS: [(&str, &str); 3] = [
    URING_TRACEPOINT,
    ("mark_victim", "a process that was killed for want of memory looks like one that somebody killed"),
    ("tcp_retransmit_skb", "that a connection loses segments is seen late or not at all"),
];

/// The iterator over tasks, and what is lost without it.
pub(super) const TASK_ITERATOR: (&str, &str) =
    ("task_usage", "what threads use is read from /proc: dearer, and of the busiest 64 of a process only");

/// A program of the object, by name and type.
pub(super) fn program<'e, P>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut P, LoadError>
where
    &'e mut P: TryFrom<&'e mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(LoadError::Lacks(name))?;
    program.try_into().map_err(|_| LoadError::Lacks(name))
}

/// A map of the object, by name and type, out of aya's hands.
pub(super) fn take_map<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, LoadError> {
    let map = ebpf.take_map(name).ok_or(LoadError::LacksMap(name))?;
    M::try_from(map).map_err(|error| LoadError::Map(name, error))
}

/// `Config` and `Offsets` as aya wants globals: plain old data.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub T);

// SAFETY: the wrapped types are `repr(C)` structs of integers without padding (asserted in inferscope-common).
unsafe impl aya::Pod for Plain<Config> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Offsets> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Verdict> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<FileStats> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<ProcessStats> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<DullPath> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<GoPlace> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Place> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Joined> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Usage> {}
