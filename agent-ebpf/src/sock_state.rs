//! TCP state changes of sockets that userspace knows: how a connection ended, and when to forget it. And who begins to
//! listen.
//!
//! Two things are looked at before an entry goes. Bytes that no program saw (io_uring) show as a step of the sequence
//! numbers, also if no call follows that would find it. And a connection may be over with bytes still to be read, after
//! a half-close above all: its entry moves to the table of loose sockets until they were.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use inferscope_common::record::{Data, Kind, Listen, READ, SocketState, WRITE};

use crate::{
    emit, limits,
    maps::{LOOSE_SOCKS, SOCKS, Sock, VERDICTS},
    sock::{self, Found},
    syscall,
    task::{Current, is_traced},
    transfer,
};

/// `TCP_*` of include/net/tcp_states.h.
pub const TCP_ESTABLISHED: u8 = 1;
pub const TCP_FIN_WAIT1: u8 = 4;
pub const TCP_CLOSE: u8 = 7;
pub const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LISTEN: u8 = 10;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let id: u64 = ctx.arg(0);
    let (old, new): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    let (old, new) = (old as u8, new as u8);
    if new == TCP_LISTEN {
        tell_of_listener(id);
        return 0;
    }
    let Some(entry) = SOCKS.get_ptr_mut(id) else { return 0 };
    let (generation, announced) = unsafe { ((*entry).generation, (*entry).flow.announced) };
    // From here on sequence numbers count FINs too.
    if announced != 0 && (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT) && new != TCP_CLOSE_WAIT {
        // The last bytes may meet a peer that has gone, which ends the connection within the call that sends them.
        if !syscall::is_writing_to(id) {
            settle(id, entry, WRITE);
        }
        settle(id, entry, READ);
    }
    let unread = new == TCP_CLOSE && sock::has_unread(id);
    if announced != 0 {
        limits::tell(id, entry);
        tell(id, generation, old, new, unread);
    }
    if new == TCP_CLOSE {
        if unread && announced != 0 && unsafe { (*entry).flow.is_copied() } {
            let _ = LOOSE_SOCKS.insert(id, unsafe { &*entry }, 0);
        }
        let _ = SOCKS.remove(id);
        let _ = VERDICTS.remove(id);
    }
    0
}

/// Tells that a process waits for connections. That happens within its call of `listen`.
#[inline(always)]
fn tell_of_listener(id: u64) {
    let current = Current::get();
    if !is_traced(current.tgid) || !sock::is_tcp(id) {
        return;
    }
    emit::event(&Listen {
        header: emit::header::<Listen>(Kind::Listen, current),
        port: sock::local_port(id),
        family: sock::family(id),
        pad: 0,
    });
}

/// Tells of bytes that passed a direction of a stream since its last call.
#[inline(always)]
fn settle(id: u64, entry: *mut Sock, direction: u8) {
    let flow = unsafe { &mut (*entry).flow };
    let end = transfer::end_of(sock::end_seq(id, direction), id, direction);
    if !flow.is_copied() || flow.lane(direction).seq_known == 0 || end.is_none() {
        return;
    }
    let passed = flow.pass(direction, 0, end);
    if passed > 0 {
        emit::passed(emit::nobodys::<Data>(Kind::Data), id, unsafe { (*entry).generation }, flow, direction, passed);
    }
}

/// A call returned nothing. On a connection that is over, what was left of it is read by now.
#[inline(always)]
pub fn end_was_read(found: &Found) {
    let Some(entry) = LOOSE_SOCKS.get_ptr(found.id) else { return };
    let (inode, generation) = unsafe { ((*entry).inode, (*entry).generation) };
    // Nothing is what a read of no length returns, too.
    if inode != found.inode || sock::has_unread(found.id) {
        return;
    }
    tell(found.id, generation, TCP_CLOSE, TCP_CLOSE, false);
    let _ = LOOSE_SOCKS.remove(found.id);
}

/// Tells userspace of a state. UNIX sockets have TCP's, as far as they go.
#[inline(always)]
pub fn tell(id: u64, generation: u64, old: u8, new: u8, unread: bool) {
    tell_with(id, generation, old, new, unread, sock::error(id));
}

/// The same for what is no socket, and has no error of its own.
#[inline(always)]
pub fn tell_of_pipe(id: u64, generation: u64, old: u8, new: u8) {
    tell_with(id, generation, old, new, false, 0);
}

#[inline(always)]
fn tell_with(id: u64, generation: u64, old: u8, new: u8, unread: bool, error: u32) {
    emit::event(&SocketState {
        header: emit::nobodys::<SocketState>(Kind::SocketState),
        id,
        generation,
        old,
        new,
        unread: u16::from(unread),
        error,
    });
}
