//! Calls of Go's `crypto/tls`: `(*Conn).Read`, `(*Conn).Close`, and `(*Conn).writeRecordLocked`, to which `Write` comes down.
//!
//! Go's own calling convention since 1.17: arguments in `rax`, `rbx`, `rcx`, results in `rax` and on, the goroutine in `r14`. A
//! goroutine changes its thread during a call and its stack is moved when it grows, so a call is known by its goroutine and
//! its distance from the stack's upper end, and a return probe would crash the program: its trampoline's address
//! would be copied with the stack. Plain probes sit where the call ends instead, one way or the other ([`GoPlace`]).
//! The entry runs again after the stack has grown; it only stores the same once more.
//!
//! Writes are taken before they happen, where nothing but the socket can fail them any more: one goroutine writes and another
//! reads, so on a busy machine the answer may be read before the write has returned. A write that the socket then refuses is told
//! whole; the connection is over with it.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, bpf_probe_read_user},
    macros::uprobe,
    programs::ProbeContext,
};
use inferscope_common::{
    counters::Counter,
    go_place::{self, ARGUMENTS_KEPT, COUNT_ON_STACK, DEFERRED, GoPlace},
    probe_stats::FileStats,
    tls_cookie,
};

use crate::{
    count,
    log::log,
    maps::{GO_CALLS, GO_PLACES, TLS_STREAMS},
    sock::{self, StreamSock},
    task::{Current, is_traced},
    tls_stream::{self, Plaintext, TlsKey},
};

/// Offset of `stack.hi` in Go's `runtime.g`: `stack` comes first, `lo` before `hi`.
const STACK_HI: u64 = 8;

/// Offset of `Sysfd` in `net.netFD`: behind the `fdMutex` that its `poll.FD` begins with.
const SYSFD: u64 = 16;

/// RFC 8446 5.1: application data. The same function writes the handshake and alerts.
const APPLICATION_DATA: u8 = 23;

/// A call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GoCallKey {
    /// Address of the goroutine's `runtime.g`.
    pub goroutine: u64,
    /// From the call's return address to the upper end of the stack. Tells the inner of two calls from the outer one.
    pub depth: u64,
    pub tgid: u32,
    pub direction: u32,
}

/// Its arguments: the receiver, and the buffer's address and length.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GoCall {
    pub object: u64,
    pub buffer: u64,
    pub size: u64,
}

/// What the programs use of `struct pt_regs`.
struct Registers {
    ax: u64,
    bx: u64,
    cx: u64,
    di: u64,
    goroutine: u64,
    sp: u64,
    ip: u64,
}

impl Registers {
    /// All at once and by volatile loads, as in [`crate::tls`].
    #[inline(always)]
    fn of(ctx: &ProbeContext) -> Self {
        let regs = ctx.regs;
        unsafe {
            Self {
                ax: core::ptr::read_volatile(&raw const (*regs).rax),
                bx: core::ptr::read_volatile(&raw const (*regs).rbx),
                cx: core::ptr::read_volatile(&raw const (*regs).rcx),
                di: core::ptr::read_volatile(&raw const (*regs).rdi),
                goroutine: core::ptr::read_volatile(&raw const (*regs).r14),
                sp: core::ptr::read_volatile(&raw const (*regs).rsp),
                ip: core::ptr::read_volatile(&raw const (*regs).rip),
            }
        }
    }

    /// Key of the call whose return address is at `frame`.
    #[inline(always)]
    fn key(&self, current: Current, frame: u64, direction: u8) -> Option<GoCallKey> {
        let hi: u64 = read(self.goroutine.wrapping_add(STACK_HI))?;
        let depth = hi.wrapping_sub(frame);
        Some(GoCallKey { goroutine: self.goroutine, depth, tgid: current.tgid, direction: u32::from(direction) })
    }
}

#[inline(always)]
fn read<T>(address: u64) -> Option<T> {
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// Entry of a function that does not keep its arguments.
#[uprobe]
pub fn go_entry(ctx: ProbeContext) -> u32 {
    let current = Current::get();
    if !is_traced(current.tgid) {
        return 0;
    }
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let regs = Registers::of(&ctx);
    let Some(key) = regs.key(current, regs.sp, tls_cookie::direction(cookie)) else { return 0 };
    let call = GoCall { object: regs.ax, buffer: regs.bx, size: regs.cx };
    if GO_CALLS.insert(key, call, 0).is_err() {
        count::add(Counter::TlsCallTableFull, 1);
    }
    0
}

/// A place where the call is over.
#[uprobe]
pub fn go_return(ctx: ProbeContext) -> u32 {
    let current = Current::get();
    if !is_traced(current.tgid) {
        return 0;
    }
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let regs = Registers::of(&ctx);
    let index = go_place::index(tls_cookie::file(cookie), tls_cookie::place(cookie));
    if let Some(place) = GO_PLACES.get_ptr(index) {
        on_return(current, cookie, &regs, unsafe { &*place });
    }
    0
}

#[inline(always)]
fn on_return(current: Current, cookie: u64, regs: &Registers, place: &GoPlace) {
    let frame = regs.sp.wrapping_add(u64::from(place.frame));
    if place.flags & DEFERRED != 0 {
        // A deferred function is called by the runtime as well, when the program panics: nothing is where it should be then.
        let Some(caller) = read::<u64>(regs.sp.wrapping_add(u64::from(place.called_from))) else { return };
        let function = regs.ip.wrapping_add(place.function as u64);
        if caller.wrapping_sub(function) >= u64::from(place.function_len) {
            return;
        }
    }
    let n = if place.flags & COUNT_ON_STACK != 0 {
        match read::<u64>(frame.wrapping_sub(u64::from(place.count))) {
            Some(n) => n,
            None => return,
        }
    } else {
        regs.ax
    };
    let direction = tls_cookie::direction(cookie);
    let call = if place.flags & ARGUMENTS_KEPT != 0 {
        // Where the caller reserves room for them: behind the return address.
        read::<GoCall>(frame.wrapping_add(8))
    } else {
        taken(current, regs, frame, direction)
    };
    // A read may end with bytes and io.EOF: the count is what happened.
    if n as i64 <= 0 {
        return;
    }
    let Some(GoCall { object, buffer, size }) = call else {
        count::add(Counter::TlsReturnUnmatched, 1);
        return;
    };
    if n > size {
        count::add_to_file(tls_cookie::file(cookie), &FileStats { overruns: 1, ..tls_stream::NOTHING });
        return;
    }
    transfer(current, cookie, regs.ip, place, object, buffer, n);
}

/// `writeRecordLocked(kind, data)`, where it is past the check of its stack: there it comes once.
#[uprobe]
pub fn go_write(ctx: ProbeContext) -> u32 {
    let current = Current::get();
    if !is_traced(current.tgid) {
        return 0;
    }
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let regs = Registers::of(&ctx);
    let index = go_place::index(tls_cookie::file(cookie), tls_cookie::place(cookie));
    let Some(place) = GO_PLACES.get_ptr(index) else { return 0 };
    let place = unsafe { &*place };
    let arguments = if place.flags & ARGUMENTS_KEPT != 0 {
        match read::<[u64; 4]>(regs.sp.wrapping_add(u64::from(place.frame)).wrapping_add(8)) {
            Some(kept) => kept,
            None => return 0,
        }
    } else {
        [regs.ax, regs.bx, regs.cx, regs.di]
    };
    let [object, kind, buffer, n] = arguments;
    if kind as u8 == APPLICATION_DATA && n as i64 > 0 {
        transfer(current, cookie, regs.ip, place, object, buffer, n);
    }
    0
}

#[inline(always)]
fn transfer(current: Current, cookie: u64, ip: u64, place: &GoPlace, object: u64, buffer: u64, n: u64) {
    let (mut socket, mut socket_generation) = (0, 0);
    if let Some(found) = socket_of(object, ip, place.itab) {
        (socket, socket_generation) = (found.id, found.generation);
        forget_predecessor(current, object, found.id);
    }
    tls_stream::transfer(current, &Plaintext { object, buffer, n, socket, socket_generation }, cookie);
}

/// Takes a remembered call.
#[inline(always)]
fn taken(current: Current, regs: &Registers, frame: u64, direction: u8) -> Option<GoCall> {
    let key = regs.key(current, frame, direction)?;
    let call = unsafe { *GO_CALLS.get_ptr(key)? };
    let _ = GO_CALLS.remove(key);
    Some(call)
}

/// The socket below a `tls.Conn`, if it runs on a TCP connection of the net package and on nothing else: what another type's
/// first word means is not known.
#[inline(always)]
fn socket_of(object: u64, ip: u64, itab: i64) -> Option<StreamSock> {
    if itab == 0 {
        return None;
    }
    // `conn net.Conn` comes first: method table and value.
    let [table, connection]: [u64; 2] = read(object)?;
    if table != ip.wrapping_add(itab as u64) {
        return None;
    }
    // `TCPConn{conn{fd *netFD}}`
    let net_fd: u64 = read(connection)?;
    let fd: u64 = read(net_fd.wrapping_add(SYSFD))?;
    let found = sock::of_fd(fd)?;
    if found.is_unix {
        return None;
    }
    Some(StreamSock { id: found.id, generation: found.inode })
}

/// A `tls.Conn` that nobody closed is freed all the same, and the next one may be in its place: with another socket.
#[inline(always)]
fn forget_predecessor(current: Current, object: u64, socket: u64) {
    let Some(stream) = TLS_STREAMS.get_ptr(TlsKey::of(current, object)) else { return };
    let before = unsafe { (*stream).socket };
    if before != 0 && before != socket {
        tls_stream::close(current, object);
    }
}

/// Entry of `(*Conn).Close`.
#[uprobe]
pub fn go_close(ctx: ProbeContext) -> u32 {
    let current = Current::get();
    if !is_traced(current.tgid) {
        return 0;
    }
    let object = Registers::of(&ctx).ax;
    log!(ctx, "Go TLS connection {:x} of {} is closed", object, current.tgid);
    tls_stream::close(current, object);
    0
}
