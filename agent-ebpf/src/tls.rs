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
    count,
    log::log,
    maps::TLS_CALLS,
    sock::TcpSock,
    task::{Current, is_traced},
    tls_stream::{self, Plaintext},
};

/// A thread is in at most one call per direction. TLS inside TLS nests calls of one direction; the outer call is
/// then the one that is remembered, and the inner one's return is counted as unmatched.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsCallKey {
    pub thread: u64,
    pub direction: u64,
}

/// Arguments of a call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TlsCall {
    pub object: u64,
    pub buffer: u64,
    /// Bytes that the buffer holds or has room for.
    pub size: u64,
    /// Where the function stores the count, 0 if it returns it.
    pub count_at: u64,
    /// Socket that was used inside the call, 0 if none.
    pub socket: u64,
    pub socket_generation: u64,
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
    let call =
        TlsCall { object: arguments.first, buffer: arguments.second, size, count_at, socket: 0, socket_generation: 0 };
    if TLS_CALLS.insert(call_key(current, tls_cookie::direction(cookie)), call, 0).is_err() {
        count::add(Counter::TlsCallTableFull, 1);
    }
    0
}

#[uretprobe]
pub fn tls_return(ctx: RetProbeContext) -> u32 {
    let current = Current::get();
    if !is_traced(current.tgid) {
        return 0;
    }
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let direction = tls_cookie::direction(cookie);
    let key = call_key(current, direction);
    let Some(call) = TLS_CALLS.get_ptr(key) else {
        count::add(Counter::TlsReturnUnmatched, 1);
        return 0;
    };
    let call = unsafe { *call };
    let _ = TLS_CALLS.remove(key);
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
            Err(_) => return 0,
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

/// A socket call happened. If the thread is inside a TLS call of the same direction, that is the stream's socket:
/// a handshake inside a read writes, which is why the direction must agree. False if it is inside none.
#[inline(always)]
pub fn note_socket(current: Current, direction: u8, socket: &TcpSock) -> bool {
    let Some(call) = TLS_CALLS.get_ptr_mut(call_key(current, direction)) else { return false };
    unsafe {
        (*call).socket = socket.id;
        (*call).socket_generation = socket.generation;
    }
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
