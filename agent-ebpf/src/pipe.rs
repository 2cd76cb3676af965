//! Pipes on which messages pass one a line ([`lines`](crate::lines)).
//!
//! A host has many pipes, and next to none of them is of interest. So no more is kept of one than how often it was not,
//! until something was read or written that begins like a message; then both of its ends are followed, however small the
//! pieces are that the other end reads. There are no sequence numbers: positions count what was read and written since.
//!
//! No tracepoint tells of a pipe's end. A read that returns nothing does, and a write that nobody can read; what no
//! call tells ends with its process, in userspace.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
};
use inferscope_common::{
    counters::Counter,
    record::{Data, Kind, READ, SOURCE_PIPE, WRITE},
};

use crate::{
    account::{self, Account},
    count, emit,
    flow::{Flow, LINES},
    globals::offset,
    lines,
    maps::{PIPE_HINT_COUNT, PIPE_HINTS, PIPES, Pipe, VERDICTS},
    sock::{self, PipeFile, StreamSock},
    sock_state::{TCP_CLOSE, TCP_CLOSE_WAIT, TCP_FIN_WAIT1, tell_of_pipe},
    task::{Current, read_at},
    transfer::{self, Call},
};

/// Calls that begin like no message, after which a pipe is not looked at again. Servers greet with some lines at most.
const MAX_MISSES: u64 = 64;

/// The half of [`PipeHint::missed`](crate::maps::PipeHint::missed) that is the count.
const COUNT: u64 = 0xffff_ffff;

/// Moves the pipe on, and decides whether the call's bytes are copied.
#[inline(always)]
pub fn is_wanted(current: Current, found: &PipeFile, call: &mut Call) -> bool {
    let n = call.n;
    let direction = call.direction as u8 & WRITE;
    let entry = match known(found) {
        Some(entry) => entry,
        None => {
            if !begins(found, call) || !sock::is_wanted_without_port() {
                return false;
            }
            let Some(entry) = taken_up(found) else {
                count::add(Counter::SocketTableFull, 1);
                account::untracked(current.tgid, n);
                return false;
            };
            entry
        }
    };
    let (generation, flow) = unsafe { ((*entry).generation, &mut (*entry).flow) };
    flow.apply_verdict(found.id, generation);
    if call.passed != 0 {
        let passed = flow.pass(direction, n, None);
        if flow.is_copied() {
            if let Some(account) = Account::of(current.tgid) {
                account.on_unseen(passed);
            }
            let header = emit::header::<Data>(Kind::Data, current);
            emit::passed_on(header, found.id, generation, flow, direction, passed, SOURCE_PIPE);
        }
        return false;
    }
    let copy = flow.is_copied();
    call.position = flow.advance(direction, n, None, false, copy);
    if !copy {
        count::add(Counter::BytesSkipped, n);
        return false;
    }
    call.socket = StreamSock { id: found.id, generation };
    call.skipped = flow.lane(direction).skipped;
    call.turn = u64::from(flow.turn);
    call.carrier = u64::from(SOURCE_PIPE);
    true
}

/// A read returned nothing, or a write failed for want of a reader.
#[inline(always)]
pub fn end_was_met(found: &PipeFile, direction: u8) {
    let Some(entry) = known(found) else { return };
    let generation = unsafe { (*entry).generation };
    let way = if direction == READ { TCP_CLOSE_WAIT } else { TCP_FIN_WAIT1 };
    tell_of_pipe(found.id, generation, way, TCP_CLOSE);
    let _ = PIPES.remove(found.id);
    let _ = VERDICTS.remove(found.id);
}

/// Whether a call that returned `ret` can be of interest: all that most calls on pipes cost.
#[inline(always)]
pub fn may_matter(found: &PipeFile, ret: i64) -> bool {
    let Some(hint) = PIPE_HINTS.get_ptr(hint_of(found.id)) else { return false };
    if unsafe { core::ptr::read_volatile(&raw const (*hint).taken_up) } != 0 {
        return true;
    }
    if ret < lines::SHORTEST as i64 {
        return false;
    }
    let missed = unsafe { core::ptr::read_volatile(&raw const (*hint).missed) };
    missed & COUNT < MAX_MISSES || missed & !COUNT != inode_of(found) << 32
}

/// Whether a call's bytes begin like a message. Counted if they do not.
#[inline(always)]
fn begins(found: &PipeFile, call: &Call) -> bool {
    if call.passed != 0 {
        return false;
    }
    let (head, len) = transfer::head_of(&call.source);
    if lines::is_message(head, if len < call.n { len } else { call.n }) {
        return true;
    }
    if let Some(hint) = PIPE_HINTS.get_ptr_mut(hint_of(found.id)) {
        // Both halves at once: another pipe with the same hint must not get this one's count.
        let missed = unsafe { &raw mut (*hint).missed };
        let (before, inode) = (unsafe { core::ptr::read_volatile(missed) }, inode_of(found) << 32);
        let count = if before & !COUNT == inode { before & COUNT } else { 0 };
        if count < MAX_MISSES {
            unsafe { core::ptr::write_volatile(missed, inode | (count + 1)) };
        }
    }
    false
}

/// The entry of a pipe that was taken up.
#[inline(always)]
fn known(found: &PipeFile) -> Option<*mut Pipe> {
    let entry = PIPES.get_ptr_mut(found.id)?;
    if unsafe { (*entry).inode } == inode_of(found) { Some(entry) } else { None }
}

/// A new entry, in the place of an earlier user of the address.
#[inline(always)]
fn taken_up(found: &PipeFile) -> Option<*mut Pipe> {
    if let Some(hint) = PIPE_HINTS.get_ptr_mut(hint_of(found.id)) {
        unsafe { core::ptr::write_volatile(&raw mut (*hint).taken_up, 1) };
    }
    let inode = inode_of(found);
    let mut flow = Flow::new();
    flow.state = LINES;
    let fresh = Pipe { inode, generation: unsafe { bpf_ktime_get_ns() }, flow };
    // The two ends may see it first at once: the second must not replace what the first is using.
    let how = match PIPES.get_ptr(found.id) {
        Some(other) if unsafe { (*other).inode } != inode => BPF_ANY,
        _ => BPF_NOEXIST,
    };
    let _ = PIPES.insert(found.id, &fresh, u64::from(how));
    PIPES.get_ptr_mut(found.id)
}

#[inline(always)]
fn inode_of(found: &PipeFile) -> u64 {
    read_at(found.inode, unsafe { offset!(inode_ino) }).unwrap_or(0)
}

/// Place among the hints. Objects of the kernel's are 64 bytes and more.
#[inline(always)]
fn hint_of(id: u64) -> u32 {
    (id >> 6) as u32 & (PIPE_HINT_COUNT - 1)
}
