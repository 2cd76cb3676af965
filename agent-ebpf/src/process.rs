//! The life of processes: fork, exec, exit, and whom the kernel kills for want of memory. Also keeps the list of targets, so that a child of a target and a
//! program of a wanted name are traced from their first instruction.
//!
//! Where more than a name decides, userspace does, a moment later. Until then the process is traced (`PENDING`): the
//! first call of a short-lived program is made within milliseconds, and userspace leaves out what it did not want.

use aya_ebpf::{
    EbpfContext as _, helpers::bpf_get_current_comm, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use inferscope_common::{
    counters::Counter,
    record::{Exec, Exit, Fork, Header, Kind, OomVictim},
    targets::{EVERYONE, EXCLUDED, PENDING, WANTED},
};

use crate::{
    account, count, emit,
    globals::{config, offset},
    log::log,
    maps::{TARGET_COMMS, TARGETS},
    task::{Current, is_paused, is_traced, read_at, start_ns, target_flags},
};

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    let child: u64 = ctx.arg(1);
    let current = Current::get();
    let flags = if unsafe { config!(target_mode) } == EVERYONE { 0 } else { target_flags(current.tgid) };
    // An exclusion passes to the child too, until it runs another program.
    if flags == 0 && !is_traced(current.tgid) {
        return 0;
    }
    let (Some(pid), Some(tgid)) =
        (read_at::<u32>(child, unsafe { offset!(task_pid) }), read_at::<u32>(child, unsafe { offset!(task_tgid) }))
    else {
        return 0;
    };
    if pid != tgid {
        return 0;
    }
    if flags != 0 {
        set_target(tgid, flags);
    }
    if !is_traced(current.tgid) {
        return 0;
    }
    emit::event(&Fork {
        header: emit::header::<Fork>(Kind::Fork, current),
        child_tgid: tgid,
        pad: 0,
        child_start_ns: start_ns(child),
    });
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let current = Current::get();
    let Ok(comm) = bpf_get_current_comm() else { return 0 };
    if unsafe { config!(target_mode) } != EVERYONE {
        // An exclusion was of the program before; being chosen stays.
        let mut flags = target_flags(current.tgid) & !EXCLUDED;
        if TARGET_COMMS.get_ptr(comm).is_some() {
            flags |= WANTED;
        }
        if unsafe { config!(judged) } != 0 && current.tgid != unsafe { config!(self_tgid) } {
            flags |= PENDING;
        }
        if flags != 0 {
            set_target(current.tgid, flags);
        }
    }
    if is_traced(current.tgid) {
        log!(ctx, "exec of {}", current.tgid);
        emit::event(&Exec { header: emit::header::<Exec>(Kind::Exec, current), comm });
    }
    0
}

/// `sched_process_exit(struct task_struct *p, ...)`; runs once per thread.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let current = Current::get();
    let listed = unsafe { config!(target_mode) } != EVERYONE && target_flags(current.tgid) != 0;
    let traced = is_traced(current.tgid);
    if !traced && !listed {
        return 0;
    }
    let Some(signal) = read_at::<u64>(task, unsafe { offset!(task_signal) }) else { return 0 };
    // The exit path takes the thread off `live` before it gets here, so the last one finds zero.
    match read_at::<i32>(signal, unsafe { offset!(signal_live) }) {
        Some(0) => {}
        _ => return 0,
    }
    let _ = TARGETS.remove(current.tgid);
    if !traced {
        return 0;
    }
    log!(ctx, "exit of {}", current.tgid);
    let group: u32 = read_at(signal, unsafe { offset!(signal_group_exit_code) }).unwrap_or(0);
    let own: u32 = read_at(task, unsafe { offset!(task_exit_code) }).unwrap_or(0);
    emit::event(&Exit {
        header: emit::header::<Exit>(Kind::Exit, current),
        status: if group != 0 { group } else { own },
        pad: 0,
    });
    account::close(current.tgid);
    0
}

/// `mark_victim(struct task_struct *task, uid_t uid)`; the number of the victim's thread on kernels that are older than this
/// form. Told of everybody: it is rare, and who else was killed says why a neighbour was slow.
#[btf_tracepoint(function = "mark_victim")]
pub fn mark_victim(ctx: BtfTracePointContext) -> i32 {
    // As the number that the register holds: of a pointer the verifier allows no comparison that tells the two forms apart.
    let Some(victim) = read_at::<u64>(ctx.as_ptr() as u64, 0) else { return 0 };
    if is_paused() {
        return 0;
    }
    let (victim, start_ns) = if victim <= u64::from(u32::MAX) {
        (Current { tgid: victim as u32, tid: victim as u32 }, 0)
    } else {
        let tgid: Option<u32> = read_at(victim, unsafe { offset!(task_tgid) });
        let tid: Option<u32> = read_at(victim, unsafe { offset!(task_pid) });
        let (Some(tgid), Some(tid)) = (tgid, tid) else { return 0 };
        (Current { tgid, tid }, start_ns(victim))
    };
    let header = emit::header::<OomVictim>(Kind::OomVictim, victim);
    emit::event(&OomVictim { header: Header { start_ns, ..header } });
    0
}

#[inline(always)]
fn set_target(tgid: u32, flags: u32) {
    if TARGETS.insert(tgid, flags, 0).is_err() {
        count::add(Counter::TargetTableFull, 1);
    }
}
