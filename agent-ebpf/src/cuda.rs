//! The step clock: calls into CUDA's runtime library that launch graphs and wait for them, and those that get no memory.
//!
//! A decode step of an engine is some launches and one wait. They are added up per process, and one record is written for
//! each step, when a wait returns after a launch; a launch itself costs a look into a map. What waits and has launched
//! nothing, as at the start of a step, belongs to the gap before the next one. Where a thread launches ahead of what another
//! waits for, a step is what was launched since the last wait returned. Attached only where userspace is told to.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, bpf_ktime_get_ns},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use inferscope_common::{
    counters::Counter,
    cuda_cookie::{self, ALLOCATE, LAUNCH},
    record::{CudaAllocFailed, CudaStep, Kind, NO_GAP},
};

use crate::{
    count, emit,
    maps::{CUDA_CALLS, CUDA_STEPS},
    task::{Current, current_start_ns, is_traced},
};

/// Records of a process that are written in a second. A decode step takes milliseconds; what makes more steps is no engine,
/// and must not fill the ring for others. Their number goes on.
const MAX_PER_SECOND: u64 = 1_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Whose call of which kind.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CudaCallKey {
    pub thread: u64,
    pub what: u64,
}

/// A call that waits or allocates, under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CudaCall {
    /// Stack pointer at the entry, which names the call.
    pub stack: u64,
    pub entered_ns: u64,
    /// Bytes that are asked for.
    pub size: u64,
}

/// The steps of a process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Steps {
    /// Start of the process: an earlier one of its number may have left this.
    pub start_ns: u64,
    /// Launches since the last step ended.
    pub launches: u64,
    /// The first of them.
    pub begin_ns: u64,
    /// When the last step ended, 0 if there was none.
    pub end_ns: u64,
    /// Steps so far.
    pub number: u64,
    /// When its second began, and what was told in it.
    pub since_ns: u64,
    pub told: u64,
}

const NO_STEPS: Steps = Steps { start_ns: 0, launches: 0, begin_ns: 0, end_ns: 0, number: 0, since_ns: 0, told: 0 };

/// Entry of a function that launches, waits or allocates.
#[uprobe]
pub fn cuda_entry(ctx: ProbeContext) -> u32 {
    let current = Current::get();
    if !is_traced(current.tgid) {
        return 0;
    }
    let what = cuda_cookie::what(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    if what == LAUNCH {
        launched(current);
        return 0;
    }
    // By volatile loads, as in `tls`.
    let (size, stack) = unsafe {
        (core::ptr::read_volatile(&raw const (*ctx.regs).rsi), core::ptr::read_volatile(&raw const (*ctx.regs).rsp))
    };
    let call = CudaCall { stack, entered_ns: unsafe { bpf_ktime_get_ns() }, size };
    if CUDA_CALLS.insert(key(current, what), call, 0).is_err() {
        count::add(Counter::CudaCallsLost, 1);
    }
    0
}

/// Return of one that waits or allocates.
#[uretprobe]
pub fn cuda_return(ctx: RetProbeContext) -> u32 {
    let current = Current::get();
    if !is_traced(current.tgid) {
        return 0;
    }
    let what = cuda_cookie::what(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    // The return address has been taken off the stack.
    let stack = unsafe { core::ptr::read_volatile(&raw const (*ctx.regs).rsp) }.wrapping_sub(8);
    let key = key(current, what);
    let call = match CUDA_CALLS.get_ptr(key) {
        Some(call) => unsafe { *call },
        None => CudaCall { stack: 0, entered_ns: 0, size: 0 },
    };
    if call.stack != stack {
        // It began before the probes did.
        count::add(Counter::CudaCallsLost, 1);
        return 0;
    }
    let _ = CUDA_CALLS.remove(key);
    if what != ALLOCATE {
        waited(current, call.entered_ns);
        return 0;
    }
    let error = ctx.ret::<u64>() as u32;
    if error != 0 {
        refused(current, call.size, error);
    }
    0
}

#[inline(always)]
fn key(current: Current, what: u8) -> CudaCallKey {
    CudaCallKey { thread: current.key(), what: u64::from(what) }
}

/// What is known of a process, made if there is nothing yet.
#[inline(always)]
fn steps_of(tgid: u32) -> Option<*mut Steps> {
    if let Some(steps) = CUDA_STEPS.get_ptr_mut(tgid) {
        return Some(steps);
    }
    let _ = CUDA_STEPS.insert(tgid, NO_STEPS, 0);
    let steps = CUDA_STEPS.get_ptr_mut(tgid);
    if steps.is_none() {
        count::add(Counter::CudaCallsLost, 1);
    }
    steps
}

/// Counts a launch. Several threads of a process may launch at once, and one may wait meanwhile.
#[inline(always)]
fn launched(current: Current) {
    let Some(steps) = steps_of(current.tgid) else { return };
    unsafe {
        // Two that both find nothing note their times one after the other, which are the same but for a microsecond.
        let is_first = core::ptr::read_volatile(&raw const (*steps).launches) == 0;
        count::bump(&raw mut (*steps).launches, 1);
        if is_first {
            start_over(steps, current_start_ns());
            (*steps).begin_ns = bpf_ktime_get_ns();
        }
    }
}

/// Starts over what an earlier process of the number has left.
#[inline(always)]
unsafe fn start_over(steps: *mut Steps, start_ns: u64) {
    unsafe {
        if (*steps).start_ns != start_ns {
            (*steps).start_ns = start_ns;
            (*steps).end_ns = 0;
            (*steps).number = 0;
        }
    }
}

/// A wait is over: a step, if something was launched.
#[inline(always)]
fn waited(current: Current, entered_ns: u64) {
    let Some(steps) = CUDA_STEPS.get_ptr_mut(current.tgid) else { return };
    let launches = unsafe { count::swap(&raw mut (*steps).launches, 0) };
    if launches == 0 {
        return;
    }
    let header = emit::header::<CudaStep>(Kind::CudaStep, current);
    let (end, last) = unsafe {
        if (*steps).start_ns != header.start_ns {
            // Launched by another process, of which this one has the number.
            start_over(steps, header.start_ns);
            return;
        }
        let last = (*steps).end_ns;
        (*steps).end_ns = header.time_ns;
        (*steps).number += 1;
        (header.time_ns, last)
    };
    // A launch by another thread at this moment has its time not noted yet, or is of the next step already.
    let mut begin_ns = unsafe { (*steps).begin_ns };
    if begin_ns < last {
        begin_ns = last;
    }
    if begin_ns > end {
        begin_ns = end;
    }
    let from = if entered_ns > begin_ns { entered_ns } else { begin_ns };
    if !may_tell(steps, end) {
        return;
    }
    emit::event(&CudaStep {
        header,
        begin_ns,
        waited_ns: end.saturating_sub(from),
        gap_ns: if last == 0 { NO_GAP } else { begin_ns.saturating_sub(last) },
        number: unsafe { (*steps).number },
        launches: launches as u32,
        pad: 0,
    });
}

/// Memory was refused.
#[inline(always)]
fn refused(current: Current, size: u64, error: u32) {
    let Some(steps) = steps_of(current.tgid) else { return };
    let header = emit::header::<CudaAllocFailed>(Kind::CudaAllocFailed, current);
    if may_tell(steps, header.time_ns) {
        emit::event(&CudaAllocFailed { header, size, error, pad: 0 });
    }
}

/// Whether the process has not told too much in this second.
#[inline(always)]
fn may_tell(steps: *mut Steps, now: u64) -> bool {
    let steps = unsafe { &mut *steps };
    if now.wrapping_sub(steps.since_ns) > SECOND_NS {
        (steps.since_ns, steps.told) = (now, 0);
    }
    steps.told += 1;
    if steps.told > MAX_PER_SECOND {
        count::add(Counter::CudaSkipped, 1);
        return false;
    }
    true
}
