//! What threads use, from `/proc`: for kernels that let no program walk over their tasks.
//!
//! It takes two files for every thread, some 10 us, so of each process only the [`BUSIEST`] threads are read, and of
//! [`MAX_PROCESSES`] processes. Which threads those are is found out in every [`ROUND`]th reading, which looks at all
//! ([`MAX_THREADS`] at most). Sums are kept here and grow by what each thread has grown: they do not fall when a thread ends or
//! is no longer among the busiest, and what an idle one uses is added a round later.

use std::collections::{BTreeMap, HashMap};

use procfs::{
    ProcError,
    process::{Process, Stat, Task},
};

use crate::host::ProcessUsage;

/// Threads of a process that every reading looks at.
const BUSIEST: usize = 64;

/// Threads of a process that are looked at to find the busiest.
const MAX_THREADS: usize = 1_024;

/// Readings from one look at all threads to the next.
const ROUND: u32 = 32;

/// Processes that are read.
const MAX_PROCESSES: usize = 256;

/// Reads `/proc` for some processes.
#[derive(Default)]
pub(super) struct Schedstat {
    processes: BTreeMap<u32, Known>,
}

/// What is known of a process.
#[derive(Default)]
struct Known {
    /// When it began, in ticks since boot: another process may get its number.
    start: u64,
    readings: u32,
    threads: HashMap<i32, Used>,
    busiest: Vec<i32>,
    sum: Used,
}

/// Nanoseconds on a processor, and waiting for one.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Used {
    cpu: u64,
    runqueue: u64,
}

impl Used {
    fn of(task: &Task) -> Result<Self, ProcError> {
        let stat = task.schedstat()?;
        Ok(Self { cpu: stat.sum_exec_runtime, runqueue: stat.run_delay })
    }

    fn since(self, before: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(before.cpu), runqueue: self.runqueue.saturating_sub(before.runqueue) }
    }

    fn add(&mut self, more: Self) {
        self.cpu += more.cpu;
        self.runqueue += more.runqueue;
    }
}

impl Schedstat {
    /// See [`Watcher::watch`](super::Watcher::watch).
    pub(super) fn watch(&mut self, pids: &[u32]) -> usize {
        self.processes.retain(|pid, _| pids.contains(pid));
        let mut refused = 0;
        for &pid in pids {
            if self.processes.contains_key(&pid) {
                continue;
            }
            if self.processes.len() < MAX_PROCESSES {
                self.processes.insert(pid, Known::default());
            } else {
                refused += 1;
            }
        }
        refused
    }

    /// See [`Watcher::read`](super::Watcher::read).
    pub(super) fn read(&mut self) -> Vec<ProcessUsage> {
        self.processes.iter_mut().filter_map(|(&pid, known)| known.read(pid).ok()).collect()
    }
}

impl Known {
    fn read(&mut self, pid: u32) -> Result<ProcessUsage, ProcError> {
        let process = Process::new(i32::try_from(pid).map_err(|_| ProcError::NotFound(None))?)?;
        let stat = process.stat()?;
        if stat.state == 'Z' {
            return Err(ProcError::NotFound(None));
        }
        if stat.starttime != self.start {
            *self = Self { start: stat.starttime, ..Self::default() };
        }
        if self.readings.is_multiple_of(ROUND) {
            self.look_at_all(&process)?;
        } else {
            self.look_at_busiest(&process);
        }
        self.readings = self.readings.wrapping_add(1);
        let states = self.busiest.iter().filter_map(|&tid| Some(process.task_from_tid(tid).ok()?.stat().ok()?.state));
        let uninterruptible = states.filter(|&state| state == 'D').count() as u32;
        let main = self.threads.iter().max_by_key(|(_, used)| used.runqueue);
        let (main_tid, main) = main.map_or((0, Used::default()), |(&tid, &used)| (tid.unsigned_abs(), used));
        Ok(ProcessUsage {
            pid,
            start_boottime_ns: start_ns(&stat),
            threads: u32::try_from(stat.num_threads).unwrap_or(0),
            uninterruptible,
            cpu_ns: self.sum.cpu,
            runqueue_ns: self.sum.runqueue,
            main_cpu_ns: main.cpu,
            main_runqueue_ns: main.runqueue,
            main_tid,
            major_faults: stat.majflt,
            read_bytes: process.io().ok().map(|io| io.read_bytes),
        })
    }

    /// Reads every thread, forgets those that have ended and chooses the busiest anew.
    fn look_at_all(&mut self, process: &Process) -> Result<(), ProcError> {
        let before = std::mem::take(&mut self.threads);
        let mut grown = Vec::new();
        for task in process.tasks()?.flatten().take(MAX_THREADS) {
            // It may have ended since it was listed.
            let Ok(used) = Used::of(&task) else { continue };
            let growth = used.since(before.get(&task.tid).copied().unwrap_or_default());
            self.sum.add(growth);
            self.threads.insert(task.tid, used);
            grown.push((growth.cpu + growth.runqueue, task.tid));
        }
        grown.sort_unstable_by(|one, other| other.cmp(one));
        self.busiest = grown.into_iter().take(BUSIEST).map(|(_, tid)| tid).collect();
        Ok(())
    }

    fn look_at_busiest(&mut self, process: &Process) {
        for &tid in &self.busiest {
            let Ok(used) = process.task_from_tid(tid).and_then(|task| Used::of(&task)) else { continue };
            let before = self.threads.insert(tid, used).unwrap_or_default();
            self.sum.add(used.since(before));
        }
    }
}

/// When a process began, to the tick: `/proc` rounds it.
fn start_ns(stat: &Stat) -> u64 {
    stat.starttime.saturating_mul(1_000_000_000 / procfs::ticks_per_second().max(1))
}
