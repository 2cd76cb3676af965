//! What the threads of processes have used: an iterator over the tasks of the host, run when userspace reads it.
//!
//! Nothing is attached to anything that a program does, so a traced one pays nothing, and a thread that is not watched costs
//! whoever reads a look into [`WATCHED`]. Userspace numbers its walks ([`WALK`]); the first thread of a process that a walk
//! meets starts its sums over, so that nothing needs to be cleared between two.

use core::ffi::c_void;

use inferscope_common::usage::Usage;

use crate::{
    globals::offset,
    maps::{WALK, WATCHED},
    task::{read_at, start_ns},
};

/// `TASK_UNINTERRUPTIBLE` of include/linux/sched.h.
const TASK_UNINTERRUPTIBLE: u32 = 0x2;
/// `TASK_NOLOAD`: with the former an idle wait, which is no state D.
const TASK_NOLOAD: u32 = 0x400;

/// `struct bpf_iter__task`: meta data of the walk, and the task that it has come to.
#[repr(C)]
struct Step {
    _meta: u64,
    /// Null at the end of the walk.
    task: u64,
}

/// `bpf_iter_task`. aya-ebpf has no attribute for iterators, so the section is named by hand.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn task_usage(step: *mut c_void) -> i32 {
    let task = unsafe { core::ptr::read_volatile(&raw const (*step.cast::<Step>()).task) };
    if task != 0 {
        let _added = add(task);
    }
    0
}

#[inline(always)]
fn add(task: u64) -> Option<()> {
    let tgid: u32 = read_at(task, unsafe { offset!(task_tgid) })?;
    let usage = unsafe { &mut *WATCHED.get_ptr_mut(tgid)? };
    let walk = unsafe { core::ptr::read_volatile(WALK.get_ptr(0)?) };
    if usage.walk != walk {
        start(usage, walk, task);
    }
    if read_at::<u32>(task, unsafe { offset!(task_exit_state) })? == 0 {
        usage.threads += 1;
        let state: u32 = read_at(task, unsafe { offset!(task_state) })?;
        usage.uninterruptible += u32::from(state & (TASK_UNINTERRUPTIBLE | TASK_NOLOAD) == TASK_UNINTERRUPTIBLE);
    }
    // A leader that has ended before its threads is still there to be added, like them.
    let cpu: u64 = read_at(task, unsafe { offset!(task_cpu) })?;
    let runqueue: u64 = read_at(task, unsafe { offset!(task_run_delay) })?;
    usage.cpu_ns += cpu;
    usage.runqueue_ns += runqueue;
    if usage.main_tid == 0 || runqueue > usage.main_runqueue_ns {
        (usage.main_cpu_ns, usage.main_runqueue_ns) = (cpu, runqueue);
        usage.main_tid = read_at(task, unsafe { offset!(task_pid) })?;
    }
    usage.major_faults += read_at::<u64>(task, unsafe { offset!(task_major_faults) }).unwrap_or(0);
    usage.read_bytes += read_at::<u64>(task, unsafe { offset!(task_read_bytes) }).unwrap_or(0);
    Some(())
}

/// Starts a process over, with what its threads left that have ended.
#[inline(always)]
fn start(usage: &mut Usage, walk: u64, task: u64) {
    let signal: u64 = read_at(task, unsafe { offset!(task_signal) }).unwrap_or(0);
    usage.walk = walk;
    usage.start_ns = start_ns(task);
    (usage.cpu_ns, usage.runqueue_ns) = (0, 0);
    (usage.main_cpu_ns, usage.main_runqueue_ns, usage.main_tid) = (0, 0, 0);
    (usage.threads, usage.uninterruptible) = (0, 0);
    usage.major_faults = read_at(signal, unsafe { offset!(signal_major_faults) }).unwrap_or(0);
    usage.read_bytes = read_at(signal, unsafe { offset!(signal_read_bytes) }).unwrap_or(0);
}
