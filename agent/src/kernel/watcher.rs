//! What the threads of processes use: processor time, waiting for a processor, page faults, reads from storage.
//!
//! Owns the choice between two ways to find out, and says which was taken. By a walk over the tasks inside the kernel
//! ([`task_walk`](super::task_walk)), where that can be loaded: one read for all processes and all their threads, nothing
//! attached to what they do. Else from `/proc` ([`schedstat`](super::schedstat)), which takes files for every thread, so
//! that not all of them can be read. Leaves to others which processes are worth it and what the numbers mean.

use aya::{Btf as AyaBtf, Ebpf};

use super::{
    error::LoadError,
    object::Degraded,
    programs::TASK_ITERATOR,
    schedstat::Schedstat,
    task_walk::{NEEDED, TaskWalk},
};
use crate::host::ProcessUsage;

/// Reads what the threads of some processes use.
pub struct Watcher(Way);

enum Way {
    Walk(Box<TaskWalk>),
    Proc(Schedstat),
}

impl Watcher {
    /// The better way that this kernel has; says if it is the worse one. `missing` are members that its BTF lacks.
    pub(super) fn new(
        ebpf: &mut Ebpf,
        btf: &AyaBtf,
        missing: &[&'static str],
        degraded: &mut Vec<Degraded>,
    ) -> Result<Self, LoadError> {
        // The members are in the list of what is degraded already.
        if missing.iter().any(|member| NEEDED.contains(member)) {
            return Ok(Self::of_proc());
        }
        match TaskWalk::new(ebpf, btf, missing)? {
            Ok(walk) => Ok(Self(Way::Walk(Box::new(walk)))),
            Err(error) => {
                tracing::debug!(%error, "no iterator over tasks");
                degraded.push(Degraded { mechanism: "iterator over tasks".into(), consequence: TASK_ITERATOR.1 });
                Ok(Self::of_proc())
            }
        }
    }

    /// One that reads `/proc`, which needs no kernel side. It sees the threads of a process one by one, the 64 busiest of
    /// them, and of 256 processes.
    pub fn of_proc() -> Self {
        Self(Way::Proc(Schedstat::default()))
    }

    /// Whether every thread is counted.
    pub fn is_exact(&self) -> bool {
        matches!(self.0, Way::Walk(_))
    }

    /// Watches these processes and no others. Gives how many of them found no room.
    pub fn watch(&mut self, pids: &[u32]) -> usize {
        match &mut self.0 {
            Way::Walk(walk) => walk.watch(pids),
            Way::Proc(proc) => proc.watch(pids),
        }
    }

    /// What the watched processes have used by now, those that there still are. Empty if it could not be read.
    pub fn read(&mut self) -> Vec<ProcessUsage> {
        match &mut self.0 {
            Way::Walk(walk) => walk.read(),
            Way::Proc(proc) => proc.read(),
        }
    }
}
