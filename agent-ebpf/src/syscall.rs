//! System calls on sockets and pipes, and opens of files, at their exit.
//!
//! One program for all of them: any system call tracepoint taxes every call of the host, so there is exactly one.
//! At the exit the arguments are still in the saved registers and the bytes of a write are resident, so no entry
//! program and no table of calls in flight is needed.
//!
//! What most calls of a host cost is the first lines of [`on_exit`]: a number that is none of these goes at once.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_task_btf, bpf_loop, bpf_probe_read_user, bpf_task_pt_regs},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use inferscope_common::{
    counters::Counter,
    record::{READ, WRITE},
};

use crate::{
    account, count,
    emit::{MAX_IOVECS, Source, mmsghdr},
    limits,
    maps::CALL,
    pipe,
    sock::{self, File},
    sock_state,
    task::{Current, is_traced},
    transfer::{self, Call},
    unix_end,
    weights::{self, Open},
};

/// Offsets in `struct pt_regs` of x86-64 (arch/x86/include/asm/ptrace.h), part of the ptrace ABI.
mod regs {
    pub const ORIG_AX: usize = 120;
    pub const DI: usize = 112;
    pub const SI: usize = 104;
    pub const DX: usize = 96;
    pub const R10: usize = 56;
    pub const CS: usize = 136;
}

/// Numbers of arch/x86/entry/syscalls/syscall_64.tbl. Left out: pread64, pwrite64, preadv and pwritev, which no socket
/// takes.
mod nr {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const OPEN: u64 = 2;
    pub const READV: u64 = 19;
    pub const WRITEV: u64 = 20;
    pub const SENDFILE: u64 = 40;
    pub const SENDTO: u64 = 44;
    pub const RECVFROM: u64 = 45;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const SHUTDOWN: u64 = 48;
    pub const OPENAT: u64 = 257;
    pub const SPLICE: u64 = 275;
    pub const RECVMMSG: u64 = 299;
    pub const SENDMMSG: u64 = 307;
    pub const PREADV2: u64 = 327;
    pub const PWRITEV2: u64 = 328;
    pub const OPENAT2: u64 = 437;
}

/// Code segment of 64-bit programs (`__USER_CS`). A 32-bit call has other numbers for the same calls.
const USER_CS: u64 = 0x33;

/// What a receive gives that is not the stream's next bytes: urgent data, a look ahead, reports of errors.
const MSG_OOB: u64 = 1;
const MSG_PEEK: u64 = 2;
const MSG_ERRQUEUE: u64 = 0x2000;
/// On TCP the bytes are thrown away instead of being stored.
const MSG_TRUNC: u64 = 0x20;

const EPIPE: i64 = 32;
const ECONNRESET: i64 = 104;

#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let regs: *const u8 = ctx.arg(0);
    on_exit(regs, ctx.arg(1));
    0
}

/// Whether this thread is in the middle of a call that writes to a socket, which counts its bytes when it returns.
#[inline(always)]
pub fn is_writing_to(id: u64) -> bool {
    let regs: *const u8 = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u8 };
    // In an interrupt of a program's own code, the number is none.
    let number = unsafe { reg(regs, regs::ORIG_AX) };
    writes(number) && sock::of_fd(unsafe { reg(regs, regs::DI) } & 0xffff_ffff).is_some_and(|found| found.id == id)
}

#[inline(always)]
unsafe fn reg(regs: *const u8, offset: usize) -> u64 {
    unsafe { core::ptr::read_volatile(regs.add(offset).cast::<u64>()) }
}

/// The numbers below 64 as bits.
const LOW: u64 = bit(nr::READ)
    | bit(nr::READV)
    | bit(nr::RECVFROM)
    | bit(nr::RECVMSG)
    | bit(nr::WRITE)
    | bit(nr::WRITEV)
    | bit(nr::SENDTO)
    | bit(nr::SENDMSG)
    | bit(nr::SENDFILE)
    | bit(nr::SHUTDOWN)
    | bit(nr::OPEN);

const fn bit(nr: u64) -> u64 {
    1 << nr
}

/// Whether a number is one of [`nr`]. Arithmetic instead of a comparison with each: the verifier would follow every number
/// through all that comes before it matters.
#[inline(always)]
fn is_ours(nr: u64) -> bool {
    if nr < 64 {
        return LOW >> nr & 1 != 0;
    }
    matches!(nr, nr::SPLICE | nr::RECVMMSG | nr::SENDMMSG | nr::PREADV2 | nr::PWRITEV2) || opens(nr)
}

/// Whether a number is that of a call which opens a file.
#[inline(always)]
fn opens(nr: u64) -> bool {
    matches!(nr, nr::OPEN | nr::OPENAT | nr::OPENAT2)
}

/// Whether a number is that of a call which writes to its first descriptor.
#[inline(always)]
fn writes(nr: u64) -> bool {
    matches!(nr, nr::WRITE | nr::WRITEV | nr::SENDTO | nr::SENDMSG | nr::SENDMMSG | nr::PWRITEV2 | nr::SENDFILE)
}

#[inline(always)]
fn on_exit(regs: *const u8, ret: i64) {
    if !is_ours(unsafe { reg(regs, regs::ORIG_AX) }) {
        return;
    }
    // Most failures are EAGAIN and say nothing.
    if ret < 0 && ret != -EPIPE && ret != -ECONNRESET {
        return;
    }
    if unsafe { reg(regs, regs::CS) } & 0xffff != USER_CS {
        return;
    }
    let current = Current::get();
    if !is_traced(current.tgid) {
        return;
    }
    if opens(unsafe { reg(regs, regs::ORIG_AX) }) {
        on_open(current, regs, ret);
        return;
    }
    // The kernel takes the lower half only.
    let mut direction = READ;
    let mut file = sock::or_pipe_of_fd(unsafe { reg(regs, regs::DI) } & 0xffff_ffff);
    if !matches!(file, Some(File::Socket(_))) && unsafe { reg(regs, regs::ORIG_AX) } == nr::SPLICE {
        // One of its two descriptors is a pipe, the other one either end.
        direction = WRITE;
        file = sock::of_fd(unsafe { reg(regs, regs::DX) } & 0xffff_ffff).map(File::Socket);
    }
    let Some(file) = file else { return };
    if let File::Pipe(pipe) = &file {
        if !pipe::may_matter(pipe, ret) {
            return;
        }
    }
    let nr = unsafe { reg(regs, regs::ORIG_AX) };
    if writes(nr) {
        direction = WRITE;
    }
    if ret <= 0 || nr == nr::SHUTDOWN {
        match &file {
            File::Socket(socket) if socket.is_unix => {
                unix_end::notice(socket, nr == nr::SHUTDOWN, direction == READ && ret == 0);
            }
            File::Socket(socket) if ret == 0 && nr != nr::SHUTDOWN => sock_state::end_was_read(socket),
            // Nothing is what a read of no length returns, too.
            File::Pipe(pipe) if ret < 0 || unsafe { reg(regs, regs::DX) } != 0 => pipe::end_was_met(pipe, direction),
            _ => {}
        }
        return;
    }
    let Some(call) = CALL.get_ptr_mut(0) else { return };
    let call = unsafe { &mut *call };
    call.n = ret as u64;
    call.direction = u64::from(direction);
    call.limits_due = limits::NEVER;
    let is_unix = matches!(&file, File::Socket(socket) if socket.is_unix);
    if decode(regs, nr, is_unix, call) {
        transfer::take(current, &file, call);
    }
}

/// A file was opened.
#[inline(always)]
fn on_open(current: Current, regs: *const u8, fd: i64) {
    if fd < 0 {
        return;
    }
    let (di, si, dx) = unsafe { (reg(regs, regs::DI), reg(regs, regs::SI), reg(regs, regs::DX)) };
    let (path, flags) = match unsafe { reg(regs, regs::ORIG_AX) } {
        nr::OPEN => (di, si),
        nr::OPENAT => (si, dx),
        // `struct open_how` begins with them.
        _ => (si, unsafe { bpf_probe_read_user(dx as *const u64) }.unwrap_or(0)),
    };
    weights::notice(current, &Open { path, flags: flags as u32, fd: fd as u32 });
}

/// Finds out where the bytes are; false if what was received is not the stream's.
#[inline(always)]
fn decode(regs: *const u8, nr: u64, is_unix: bool, call: &mut Call) -> bool {
    let (si, dx) = unsafe { (reg(regs, regs::SI), reg(regs, regs::DX)) };
    let flags = match nr {
        nr::RECVFROM | nr::RECVMMSG => unsafe { reg(regs, regs::R10) },
        nr::RECVMSG => dx,
        _ => 0,
    };
    if flags & (MSG_OOB | MSG_PEEK | MSG_ERRQUEUE) != 0 {
        count::add(Counter::Peeked, 1);
        return false;
    }
    let n = call.n;
    call.passed = 0;
    call.messages = 0;
    match nr {
        nr::READ | nr::WRITE | nr::SENDTO | nr::RECVFROM => call.source = Source::buffer(si, n),
        nr::READV | nr::WRITEV | nr::PREADV2 | nr::PWRITEV2 => call.source = Source::segments(si, dx),
        nr::SENDMSG | nr::RECVMSG => {
            let Some([iovecs, iovecs_left]) = iovecs_of(si) else {
                account::untracked(Current::get().tgid, n);
                return false;
            };
            call.source = Source::segments(iovecs, iovecs_left);
        }
        nr::SENDMMSG | nr::RECVMMSG => {
            call.n = bytes_of(si, n);
            let Some([iovecs, iovecs_left]) = iovecs_of(si) else {
                account::untracked(Current::get().tgid, call.n);
                return false;
            };
            call.source = Source::segments(iovecs, iovecs_left);
            call.messages = si;
            call.messages_left = n;
        }
        // sendfile and splice move pages.
        _ => call.passed = 1,
    }
    if flags & MSG_TRUNC != 0 && !is_unix {
        call.passed = 1;
    }
    true
}

/// Array and number of the segments of a `struct user_msghdr`.
#[inline(always)]
fn iovecs_of(message: u64) -> Option<[u64; 2]> {
    unsafe { bpf_probe_read_user((message + mmsghdr::IOVECS) as *const [u64; 2]) }.ok()
}

/// Messages that are being added up.
#[repr(C)]
struct Sum {
    messages: u64,
    left: u64,
    bytes: u64,
}

/// Bytes of all messages of a call.
#[inline(always)]
fn bytes_of(messages: u64, count: u64) -> u64 {
    let mut sum = Sum { messages, left: count, bytes: 0 };
    unsafe { bpf_loop(MAX_IOVECS as u32, add_message as *mut c_void, (&raw mut sum).cast(), 0) };
    sum.bytes
}

extern "C" fn add_message(_round: u64, sum: *mut c_void) -> i64 {
    let sum = unsafe { &mut *sum.cast::<Sum>() };
    if sum.left == 0 {
        return 1;
    }
    let Ok(len) = (unsafe { bpf_probe_read_user((sum.messages + mmsghdr::LEN) as *const u32) }) else { return 1 };
    sum.bytes += u64::from(len);
    sum.messages += mmsghdr::SIZE;
    sum.left -= 1;
    0
}
