//! Socket system calls, at their exit.
//!
//! One program for all of them: any system call tracepoint taxes every call of the host, so there is exactly one.
//! At the exit the arguments are still in the saved registers and the bytes of a write are resident, so no entry
//! program and no table of calls in flight is needed.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::bpf_probe_read_user,
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use inferscope_common::{
    counters::Counter,
    record::{Data, Kind, READ, SOURCE_SYSCALL, WRITE},
};

use crate::{
    account::Account,
    count,
    emit::{self, Job, Source},
    flow::{Flow, REJECTED, TLS},
    maps::{SOCKS, Sock},
    records::{self, Carry, Interest, Transfer},
    sock::{self, TcpSock},
    task::{Current, is_traced},
    tls,
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

/// Code segment of 64-bit programs (`__USER_CS`). A 32-bit call has other numbers for the same calls.
const USER_CS: u64 = 0x33;

const MSG_PEEK: u64 = 2;

/// What a system call transferred.
struct Call {
    direction: u8,
    source: Source,
}

#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let ret: i64 = ctx.arg(1);
    if ret > 0 {
        let regs: *const u8 = ctx.arg(0);
        on_success(regs, ret as u64);
    }
    0
}

#[inline(always)]
unsafe fn reg(regs: *const u8, offset: usize) -> u64 {
    unsafe { core::ptr::read_volatile(regs.add(offset).cast::<u64>()) }
}

#[inline(always)]
fn on_success(regs: *const u8, n: u64) {
    // Numbers of arch/x86/entry/syscalls/syscall_64.tbl.
    let nr = unsafe { reg(regs, regs::ORIG_AX) };
    let direction = match nr {
        0 | 19 | 45 | 47 => READ,
        1 | 20 | 44 | 46 => WRITE,
        _ => return,
    };
    if unsafe { reg(regs, regs::CS) } & 0xffff != USER_CS {
        return;
    }
    let current = Current::get();
    if !is_traced(current.tgid) {
        return;
    }
    // The kernel takes the lower half only.
    let fd = u64::from(unsafe { reg(regs, regs::DI) } as u32);
    let Some(socket) = sock::of_fd(fd) else { return };
    let Some(call) = decode(regs, nr, direction, n) else { return };
    transfer(current, &socket, &call, n);
}

#[inline(always)]
fn decode(regs: *const u8, nr: u64, direction: u8, n: u64) -> Option<Call> {
    let (si, dx) = unsafe { (reg(regs, regs::SI), reg(regs, regs::DX)) };
    let source = match nr {
        // read, write, sendto, recvfrom
        0 | 1 | 44 | 45 => {
            if nr == 45 && unsafe { reg(regs, regs::R10) } & MSG_PEEK != 0 {
                count::add(Counter::Peeked, 1);
                return None;
            }
            Source { segment: si, segment_left: n, iovecs: 0, iovecs_left: 0 }
        }
        // readv, writev
        19 | 20 => Source { segment: 0, segment_left: 0, iovecs: si, iovecs_left: dx },
        // sendmsg, recvmsg: struct user_msghdr has msg_iov at 16 and msg_iovlen at 24
        _ => {
            if nr == 47 && dx & MSG_PEEK != 0 {
                count::add(Counter::Peeked, 1);
                return None;
            }
            let [iovecs, iovecs_left]: [u64; 2] = unsafe { bpf_probe_read_user((si + 16) as *const [u64; 2]) }.ok()?;
            Source { segment: 0, segment_left: 0, iovecs, iovecs_left }
        }
    };
    Some(Call { direction, source })
}

/// User address of a call's first byte, for sniffing; 0 if there is none.
#[inline(always)]
fn head_of(source: &Source) -> (u64, u64) {
    if source.segment_left > 0 {
        return (source.segment, source.segment_left);
    }
    // The first segment may be empty.
    match unsafe { bpf_probe_read_user(source.iovecs as *const [[u64; 2]; 2]) } {
        Ok([[_, 0], [base, len]]) if source.iovecs_left > 1 => (base, len),
        Ok([[base, len], _]) => (base, len),
        // A single segment at the end of its page.
        Err(_) => match unsafe { bpf_probe_read_user(source.iovecs as *const [u64; 2]) } {
            Ok([base, len]) => (base, len),
            Err(_) => (0, 0),
        },
    }
}

#[inline(always)]
fn transfer(current: Current, socket: &TcpSock, call: &Call, n: u64) {
    // What is read after a reset: the socket's entry is gone, and a new one would never go.
    if sock::is_closed(socket.id) {
        count::add(Counter::BytesSkipped, n);
        return;
    }
    let Some(entry) = entry_of(socket) else {
        count::add(Counter::SocketTableFull, 1);
        return;
    };
    let flow = unsafe { &mut (*entry).flow };
    if flow.last == 0 && !sock::is_wanted_port(socket.id) {
        flow.state = REJECTED;
    }
    let (head, head_len) = head_of(&call.source);
    let head_len = if head_len < n { head_len } else { n };
    let copy = flow.admit(socket.id, socket.generation, call.direction, head, head_len);
    let end_seq = sock::end_seq(socket.id, call.direction);
    let closing = sock::is_closing(socket.id);
    let account = Account::of(current.tgid);
    if let Some(account) = account {
        account.on_socket(call.direction, n, flow.state == TLS);
    }
    let before = flow.lane(call.direction).offset;
    let position = flow.advance(call.direction, n, end_seq, closing, copy);
    if copy && position > before {
        if let Some(account) = account {
            account.on_unseen(position - before);
        }
    }
    if !copy {
        if flow.state == TLS || flow.state == REJECTED {
            if !tls::note_socket(current, call.direction, socket) {
                note_records(
                    current,
                    entry,
                    &Transfer { socket, source: &call.source, position, n, direction: call.direction },
                );
            }
        }
        count::add(Counter::BytesSkipped, n);
        return;
    }
    announce(current, socket, flow);
    emit::data(&mut Job {
        source: call.source,
        remaining: n,
        position,
        id: socket.id,
        generation: socket.generation,
        skipped: flow.lane(call.direction).skipped,
        header: emit::header::<Data>(Kind::Data, current),
        total: n as u32,
        turn: flow.turn,
        direction: call.direction,
        library: SOURCE_SYSCALL,
        overhead: 0,
        account: None,
    });
}

/// The call's bytes are TLS records of a library that does not make its socket calls itself.
#[inline(always)]
fn note_records(current: Current, entry: *mut Sock, call: &Transfer<'_>) {
    let interest = records::interest(current, call.direction);
    if interest != Interest::Nobodys {
        announce(current, call.socket, unsafe { &mut (*entry).flow });
        records::note(current, call, unsafe { &mut (*entry).carry }, interest);
    }
}

/// Tells userspace of the socket, once.
#[inline(always)]
fn announce(current: Current, socket: &TcpSock, flow: &mut Flow) {
    if flow.announced == 0 && emit::socket(socket.id, socket.generation, current) {
        flow.announced = 1;
    }
}

/// The socket's entry, new if there is none or if it belongs to an earlier user of the address.
#[inline(always)]
fn entry_of(socket: &TcpSock) -> Option<*mut Sock> {
    // Two threads may see a socket first at once: the second must not replace what the first is using.
    let mut how = u64::from(BPF_NOEXIST);
    if let Some(entry) = SOCKS.get_ptr_mut(socket.id) {
        if unsafe { (*entry).generation } == socket.generation {
            return Some(entry);
        }
        how = u64::from(BPF_ANY);
    }
    let fresh = Sock { generation: socket.generation, flow: Flow::new(), carry: Carry::new() };
    let _ = SOCKS.insert(socket.id, fresh, how);
    SOCKS.get_ptr_mut(socket.id)
}
