//! What threads use, by a BPF iterator: a program that the kernel runs for every task of the host while userspace reads.
//!
//! The program (`agent-ebpf/src/usage.rs`) adds up in a map and writes nothing, so one read of a fresh descriptor is one walk,
//! and ends at once with nothing. aya 0.14 loads such a program and makes its link, but gives the link away with the first
//! descriptor; so the two calls behind that are made here. The walk is of the agent's pid namespace.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use aya::{
    Btf as AyaBtf, Ebpf,
    maps::{Array, HashMap, MapData},
    programs::{Iter, ProgramError},
};
use aya_obj::generated::{bpf_attach_type::BPF_TRACE_ITER, bpf_cmd};
use inferscope_common::usage::{MAX_WATCHED, Usage};
use thiserror::Error;

use super::{
    error::LoadError,
    programs::{Plain, TASK_ITERATOR, program, take_map},
    sys::{bpf, zeroed},
};
use crate::host::ProcessUsage;

/// Members of structures without which the program adds up less than it says.
pub(super) const NEEDED: [&str; 12] = [
    "task_struct.tgid",
    "task_struct.pid",
    "task_struct.signal",
    "task_struct.group_leader",
    "task_struct.__state",
    "task_struct.exit_state",
    "task_struct.se",
    "sched_entity.sum_exec_runtime",
    "task_struct.sched_info",
    "sched_info.run_delay",
    "task_struct.maj_flt",
    "signal_struct.maj_flt",
];

/// Without one of them what was read from storage is not known.
const FOR_READS: [&str; 3] = ["task_struct.ioac", "signal_struct.ioac", "task_io_accounting.read_bytes"];

/// Why there is no walk on this kernel.
#[derive(Debug, Error)]
pub(super) enum WalkError {
    /// The program was refused.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The link was.
    #[error("the kernel refused a link")]
    Link(#[from] io::Error),
}

/// Walks over the tasks.
pub(super) struct TaskWalk {
    link: OwnedFd,
    watched: HashMap<MapData, u32, Plain<Usage>>,
    walk: Array<MapData, u64>,
    /// Of the last walk; 0 is none's.
    number: u64,
    pids: BTreeSet<u32>,
    knows_reads: bool,
}

impl TaskWalk {
    /// Loads the program and makes its link. The inner error is the kernel's.
    pub(super) fn new(
        ebpf: &mut Ebpf,
        btf: &AyaBtf,
        missing: &[&'static str],
    ) -> Result<Result<Self, WalkError>, LoadError> {
        let program: &mut Iter = program(ebpf, TASK_ITERATOR.0)?;
        let link = match program.load("task", btf).map_err(WalkError::from).and_then(|()| link(program)) {
            Ok(link) => link,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Self {
            link,
            watched: take_map(ebpf, "WATCHED")?,
            walk: take_map(ebpf, "WALK")?,
            number: 0,
            pids: BTreeSet::new(),
            knows_reads: !missing.iter().any(|member| FOR_READS.contains(member)),
        }))
    }

    /// See [`Watcher::watch`](super::Watcher::watch).
    pub(super) fn watch(&mut self, pids: &[u32]) -> usize {
        let wanted: BTreeSet<u32> = pids.iter().copied().collect();
        for pid in self.pids.difference(&wanted) {
            // Fails only for one that is not there.
            let _ = self.watched.remove(pid);
        }
        self.pids.retain(|pid| wanted.contains(pid));
        let new: Vec<u32> = wanted.difference(&self.pids).copied().collect();
        for &pid in &new {
            if self.pids.len() < MAX_WATCHED as usize && self.watched.insert(pid, Plain(Usage::default()), 0).is_ok() {
                self.pids.insert(pid);
            }
        }
        wanted.len() - self.pids.len()
    }

    /// See [`Watcher::read`](super::Watcher::read).
    pub(super) fn read(&mut self) -> Vec<ProcessUsage> {
        if self.pids.is_empty() {
            return Vec::new();
        }
        if let Err(error) = self.go() {
            tracing::debug!(%error, "tasks cannot be walked over");
            return Vec::new();
        }
        let usage = |&pid: &u32| {
            let Plain(usage) = self.watched.get(&pid, 0).ok()?;
            // Another walk's: the process is gone. Without threads it is a zombie.
            (usage.walk == self.number && usage.threads > 0).then(|| self.told(pid, &usage))
        };
        self.pids.iter().filter_map(usage).collect()
    }

    /// One walk.
    fn go(&mut self) -> io::Result<()> {
        self.number += 1;
        self.walk.set(0, self.number, 0).map_err(io::Error::other)?;
        let mut attr = zeroed();
        attr.iter_create.link_fd = self.link.as_raw_fd() as u32;
        let mut tasks = File::from(bpf(bpf_cmd::BPF_ITER_CREATE, &mut attr)?);
        // The program writes nothing, so the first read that is not interrupted is the last.
        let mut nothing = [0; 8];
        loop {
            match tasks.read(&mut nothing) {
                Ok(_) => return Ok(()),
                // After a million tasks the kernel takes a breath.
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn told(&self, pid: u32, usage: &Usage) -> ProcessUsage {
        ProcessUsage {
            pid,
            start_boottime_ns: usage.start_ns,
            threads: usage.threads,
            uninterruptible: usage.uninterruptible,
            cpu_ns: usage.cpu_ns,
            runqueue_ns: usage.runqueue_ns,
            main_cpu_ns: usage.main_cpu_ns,
            main_runqueue_ns: usage.main_runqueue_ns,
            main_tid: usage.main_tid,
            major_faults: usage.major_faults,
            read_bytes: self.knows_reads.then_some(usage.read_bytes),
        }
    }
}

fn link(program: &Iter) -> Result<OwnedFd, WalkError> {
    let program = program.fd()?;
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_fd().as_raw_fd() as u32;
    attr.link_create.attach_type = BPF_TRACE_ITER as u32;
    Ok(bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?)
}
