//! Calls into TLS libraries of OpenSSL's shape: entry and return of the read and write functions.
//!
//! One pair of programs serves every function: the attach cookie says which direction it is and where the count of
//! bytes comes from. Bytes are copied at the return only: after WANT_WRITE the caller repeats the same buffer,
//! and only the return knows how much was really taken. An entry is forgotten whatever the outcome.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, bpf_probe_read_user},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use inferscope_common::{counters::Counter, probe_stats::FileStats, tls_cookie};

use crate::{
    account::Account,
    count,
    log::log,
    maps::TLS_CALLS,
    sock::StreamSock,
    task::{Current, is_traced},
    tls_stream::{self, Plaintext},
};

/// Whose calls of which direction.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsCallKey {
    pub thread: u64,
    pub direction: u64,
}

/// Calls of one thread and direction that are under way. TLS inside TLS nests them: a client that reaches its proxy by TLS
/// and its server through it reads the one inside a read of the other. Deeper ones were not seen; the return of one that
/// was pushed out finds nothing and is counted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsCalls {
    pub outer: TlsCall,
    pub inner: TlsCall,
}

/// Arguments of a call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsCall {
    /// Stack pointer at the entry, 0 if there is no call. It names the call: the return has it again, whatever was entered
    /// and left in between or never left at all.
    pub stack: u64,
    pub object: u64,
    pub buffer: u64,
    /// Bytes that the buffer holds or has room for.
    pub size: u64,
    /// Where the function stores the count, 0 if it returns it.
    pub count_at: u64,
    /// Socket that was used inside the call, 0 if none.
    pub socket: u64,
    pub socket_generation: u64,
    /// Times that the entry was seen: more than once where two probes are on one function.
    pub entries: u32,
    /// 1 once a return was seen: those of further probes have nothing to add.
    pub is_taken: u32,
}

const NO_CALL: TlsCall = TlsCall {
    stack: 0,
    object: 0,
    buffer: 0,
    size: 0,
    count_at: 0,
    socket: 0,
    socket_generation: 0,
    entries: 0,
    is_taken: 0,
};

impl TlsCall {
    /// Whether this is the same call, seen through another probe.
    #[inline(always)]
    fn is_again(&self, call: &TlsCall) -> bool {
        self.stack == call.stack && self.object == call.object && self.buffer == call.buffer && self.is_taken == 0
    }
}

#[inline(always)]
fn call_key(current: Current, direction: u8) -> TlsCallKey {
    TlsCallKey { thread: current.key(), direction: u64::from(direction) }
}

/// Integer arguments of the x86-64 System V calling convention, at their places in `struct pt_regs`.
struct Arguments {
    first: u64,
    second: u64,
    third: u64,
    fourth: u64,
    fifth: u64,
    stack: u64,
}

impl Arguments {
    /// All at once and by volatile loads: left to itself the compiler picks the register first and then loads from
    /// a computed address, which the verifier refuses for the context ("dereference of modified ctx ptr").
    #[inline(always)]
    fn of(ctx: &ProbeContext) -> Self {
        let regs = ctx.regs;
        unsafe {
            Self {
                first: core::ptr::read_volatile(&raw const (*regs).rdi),
                second: core::ptr::read_volatile(&raw const (*regs).rsi),
                third: core::ptr::read_volatile(&raw const (*regs).rdx),
                fourth: core::ptr::read_volatile(&raw const (*regs).rcx),
                fifth: core::ptr::read_volatile(&raw const (*regs).r8),
                stack: core::ptr::read_volatile(&raw const (*regs).rsp),
            }
        }
    }
}

#[uprobe]
pub fn tls_entry(ctx: ProbeContext) -> u32 {
    let current = Current::get();
    if !is_traced(current.tgid) {
        return 0;
    }
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let arguments = Arguments::of(&ctx);
    let count_at = match tls_cookie::count(cookie) {
        tls_cookie::COUNT_FOURTH => arguments.fourth,
        tls_cookie::COUNT_FIFTH => arguments.fifth,
        _ => 0,
    };
    // SSL_read and SSL_write take an int, whose upper half is undefined in the register.
    let is_int = tls_cookie::count(cookie) == tls_cookie::COUNT_RETURNED;
    let size = if is_int { arguments.third & 0xffff_ffff } else { arguments.third };
    let call = TlsCall {
        stack: arguments.stack,
        object: arguments.first,
        buffer: arguments.second,
        size,
        count_at,
        entries: 1,
        ..NO_CALL
    };
    remember(call_key(current, tls_cookie::direction(cookie)), &call);
    0
}

/// Remembers a call that begins. A call that lies deeper on the stack is inside the one that is known; any other shows
/// that the known one was left without its return.
#[inline(always)]
fn remember(key: TlsCallKey, call: &TlsCall) {
    let Some(calls) = TLS_CALLS.get_ptr_mut(key) else {
        if TLS_CALLS.insert(key, TlsCalls { outer: *call, inner: NO_CALL }, 0).is_err() {
            count::add(Counter::TlsCallTableFull, 1);
        }
        return;
    };
    let calls = unsafe { &mut *calls };
    let slot = if call.stack < calls.outer.stack {
        &mut calls.inner
    } else {
        calls.inner.stack = 0;
        &mut calls.outer
    };
    if slot.is_again(call) {
        slot.entries += 1;
    } else {
        *slot = *call;
    }
}

/// Gives the call that returns with the stack pointer at `stack`, and forgets it.
#[inline(always)]
fn recall(key: TlsCallKey, stack: u64) -> Option<TlsCall> {
    let calls = unsafe { &mut *TLS_CALLS.get_ptr_mut(key)? };
    let is_inner = calls.inner.stack == stack;
    let slot = if is_inner { &mut calls.inner } else { &mut calls.outer };
    if slot.stack != stack {
        return None;
    }
    let call = *slot;
    if call.entries > 1 {
        slot.entries -= 1;
        slot.is_taken = 1;
    } else if is_inner {
        slot.stack = 0;
    } else {
        let _ = TLS_CALLS.remove(key);
    }
    Some(call)
}

#[uretprobe]
pub fn tls_return(ctx: RetProbeContext) -> u32 {
    let current = Current::get();
    if !is_traced(current.tgid) {
        return 0;
    }
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let direction = tls_cookie::direction(cookie);
    // The return address has been taken off the stack.
    let stack = unsafe { core::ptr::read_volatile(&raw const (*ctx.regs).rsp) }.wrapping_sub(8);
    let Some(call) = recall(call_key(current, direction), stack) else {
        lost(current, Counter::TlsReturnUnmatched);
        return 0;
    };
    if call.is_taken != 0 {
        return 0;
    }
    let ret: u64 = ctx.ret();
    let is_long = tls_cookie::count(cookie) == tls_cookie::COUNT_RETURNED_LONG;
    // The others return a 32-bit int; the upper half of the register is undefined.
    let ret = if is_long { ret as i64 } else { i64::from(ret as u32 as i32) };
    if ret <= 0 {
        return 0;
    }
    let n = if call.count_at == 0 {
        ret as u64
    } else {
        match unsafe { bpf_probe_read_user(call.count_at as *const u64) } {
            Ok(n) => n,
            Err(_) => {
                lost(current, Counter::TlsCountUnreadable);
                return 0;
            }
        }
    };
    // A count that exceeds the buffer is none: whatever exports these names need not be OpenSSL.
    if n > 0 && (n <= call.size || call.buffer == 0) {
        // No buffer: GnuTLS sends what it kept from a call that would have blocked. That counts as unreadable.
        let TlsCall { object, buffer, socket, socket_generation, .. } = call;
        tls_stream::transfer(current, &Plaintext { object, buffer, n, socket, socket_generation }, cookie);
    } else if n > call.size {
        count::add_to_file(tls_cookie::file(cookie), &FileStats { overruns: 1, ..tls_stream::NOTHING });
    }
    0
}

/// Counts a call of which too little is known.
#[inline(always)]
fn lost(current: Current, why: Counter) {
    count::add(why, 1);
    if let Some(account) = Account::of(current.tgid) {
        account.on_call_lost();
    }
}

/// A socket call happened. If the thread is inside a TLS call of the same direction, that is the stream's socket:
/// a handshake inside a read writes, which is why the direction must agree. Of TLS inside TLS it is both streams'. False
/// if the thread is inside none.
#[inline(always)]
pub fn note_socket(current: Current, direction: u8, socket: &StreamSock) -> bool {
    let Some(calls) = TLS_CALLS.get_ptr_mut(call_key(current, direction)) else { return false };
    let calls = unsafe { &mut *calls };
    (calls.outer.socket, calls.outer.socket_generation) = (socket.id, socket.generation);
    (calls.inner.socket, calls.inner.socket_generation) = (socket.id, socket.generation);
    true
}

/// Entry of the function that frees a connection object.
#[uprobe]
pub fn tls_free(ctx: ProbeContext) -> u32 {
    let current = Current::get();
    let Some(object) = ctx.arg::<u64>(0) else { return 0 };
    log!(ctx, "TLS object {:x} of {} is freed", object, current.tgid);
    tls_stream::close(current, object);
    0
}
