//! Who is running: thread group, start time, and whether it is to be traced.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel};
use inferscope_common::{
    config::MISSING,
    targets::{EVERYONE, EXCLUDED, LISTED, PENDING, WANTED},
};

use crate::{
    globals::{config, offset},
    maps::{PAUSED, TARGETS},
};

/// Reads a `T` at `base + offset` in kernel memory; `None` if the offset is missing or the address faults.
#[inline(always)]
pub fn read_at<T>(base: u64, offset: u32) -> Option<T> {
    if base == 0 || offset == MISSING {
        return None;
    }
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }.ok()
}

/// Thread group and thread of the current task.
#[derive(Clone, Copy)]
pub struct Current {
    pub tgid: u32,
    pub tid: u32,
}

impl Current {
    #[inline(always)]
    pub fn get() -> Self {
        let both = bpf_get_current_pid_tgid();
        Self { tgid: (both >> 32) as u32, tid: both as u32 }
    }

    /// The two as one map key.
    #[inline(always)]
    pub fn key(self) -> u64 {
        u64::from(self.tgid) << 32 | u64::from(self.tid)
    }
}

/// Whether a thread group is to be traced.
#[inline(always)]
pub fn is_traced(tgid: u32) -> bool {
    if tgid == 0 || tgid == unsafe { config!(self_tgid) } {
        return false;
    }
    if is_paused() {
        return false;
    }
    let mode = unsafe { config!(target_mode) };
    if mode == EVERYONE {
        return true;
    }
    let flags = target_flags(tgid);
    flags & EXCLUDED == 0 && (mode != LISTED || flags & (WANTED | PENDING) != 0)
}

/// Whether nothing is taken up at the moment.
#[inline(always)]
pub fn is_paused() -> bool {
    PAUSED.get_ptr(0).is_none_or(|paused| unsafe { core::ptr::read_volatile(paused) } != 0)
}

/// Flags of a thread group, 0 if it is not listed.
#[inline(always)]
pub fn target_flags(tgid: u32) -> u32 {
    TARGETS.get_ptr(tgid).map_or(0, |flags| unsafe { core::ptr::read_volatile(flags) })
}

/// Tells apart what one thread group is after another, and what one process runs after another: an object's address means
/// something within one of them only. A process that dies does not free its objects, and the children of one server
/// have theirs at the same addresses.
#[inline(always)]
pub fn era() -> u32 {
    let exec_id: u32 = read_at(unsafe { bpf_get_current_task() }, unsafe { offset!(task_self_exec_id) }).unwrap_or(0);
    // The lower half wraps every four seconds: two processes of one number would have to begin a multiple of that apart, to
    // the nanosecond.
    (current_start_ns() as u32).wrapping_add(exec_id)
}

/// `start_boottime` of the current task's group leader, 0 if unknown.
#[inline(always)]
pub fn current_start_ns() -> u64 {
    start_ns(unsafe { bpf_get_current_task() })
}

/// `start_boottime` of a task's group leader, 0 if unknown.
#[inline(always)]
pub fn start_ns(task: u64) -> u64 {
    let leader: u64 = match read_at(task, unsafe { offset!(task_group_leader) }) {
        Some(leader) => leader,
        None => return 0,
    };
    read_at(leader, unsafe { offset!(task_start_boottime) }).unwrap_or(0)
}
