//! Calls of the AEAD functions below rustls with aws-lc: one call seals or opens one TLS record.
//!
//! rustls has no functions of its own that could be found in a stripped program; those of the C library below it can. They
//! serve QUIC, tickets and files too, so a call is taken for a TLS record by its additional data alone, which is the
//! record's header (RFC 8446 5.2, RFC 5246 6.2.3.3), and only if the header's length agrees with the call's. That proves
//! the function as well: no other one has such arguments. The first argument is the key of one direction of one connection;
//! which two belong together is for userspace to find out.
//!
//! Sealing may happen in place, so its plaintext is copied at the entry; opening leaves it behind at the return. A library may
//! reach one of the functions through another, and the outer one is then the one that counts.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, bpf_loop, bpf_probe_read_user},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use inferscope_common::{counters::Counter, tls_cookie};

use crate::{
    count,
    maps::AEAD_CALLS,
    records,
    task::{Current, is_traced},
    tls_stream::{self, Half},
};

/// RFC 8446 5.1.
const APPLICATION_DATA: u8 = 23;

/// Length of the tag that every cipher of TLS appends, but for the CCM_8 ones, which rustls does not have.
const TAG: u64 = 16;

/// Length of the additional data of TLS 1.3: the record's header.
const HEADER_13: u64 = 5;

/// Length of the additional data of TLS 1.2: sequence number, type, version, length of the plaintext.
const HEADER_12: u64 = 13;

/// Bytes that one record protects at most: 2^14 and the content type (RFC 8446 5.4).
const MAX_INNER: u64 = (1 << 14) + 1;

/// What the additional data of a call says of its record.
#[derive(Clone, Copy)]
#[repr(C)]
struct Record {
    /// Bytes that the record protects.
    inner: u64,
    /// Length of its fragment on the wire; 0 if the additional data does not say it.
    fragment: u64,
    /// Its content type; 0 if that is the last of the protected bytes.
    kind: u64,
}

/// A call of an opening function under way. A thread is in at most one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AeadCall {
    object: u64,
    /// Where the plaintext will be.
    out: u64,
    /// Where its length will be, 0 if `record` says it.
    len_at: u64,
    record: Record,
    salt: u32,
    /// `AEAD_*`.
    shape: u32,
}

/// Arguments of a call, whichever function it is.
struct Arguments {
    object: u64,
    /// Where the plaintext is, or will be.
    plain: u64,
    /// Where the length of the plaintext will be, 0 if nowhere.
    len_at: u64,
    /// Bytes that go in, without those of `extra`.
    len: u64,
    /// More plaintext, which is sealed behind the rest.
    extra: u64,
    extra_len: u64,
    nonce: u64,
    header: u64,
    header_len: u64,
}

impl Arguments {
    /// Reads the registers at once and by volatile loads, for the reason that [`crate::tls`] gives, and the stack's
    /// arguments behind the return address.
    #[inline(always)]
    fn of(ctx: &ProbeContext, shape: u8) -> Option<Self> {
        let regs = ctx.regs;
        let (rdi, rsi, rdx, r8, r9, rsp) = unsafe {
            (
                core::ptr::read_volatile(&raw const (*regs).rdi),
                core::ptr::read_volatile(&raw const (*regs).rsi),
                core::ptr::read_volatile(&raw const (*regs).rdx),
                core::ptr::read_volatile(&raw const (*regs).r8),
                core::ptr::read_volatile(&raw const (*regs).r9),
                core::ptr::read_volatile(&raw const (*regs).rsp),
            )
        };
        let stack: [u64; 7] = unsafe { bpf_probe_read_user((rsp + 8) as *const [u64; 7]) }.ok()?;
        let none = Self {
            object: rdi,
            plain: 0,
            len_at: 0,
            len: 0,
            extra: 0,
            extra_len: 0,
            nonce: r8,
            header: stack[2],
            header_len: stack[3],
        };
        Some(match shape {
            // (ctx, out, *out_len, max, nonce, nonce_len | in, in_len, ad, ad_len)
            tls_cookie::AEAD_SEAL => Self { plain: stack[0], len: stack[1], ..none },
            // (ctx, out, out_tag, *tag_len, max, nonce | nonce_len, in, in_len, extra, extra_len, ad, ad_len)
            tls_cookie::AEAD_SEAL_SCATTER => Self {
                plain: stack[1],
                len: stack[2],
                extra: stack[3],
                extra_len: stack[4],
                nonce: r9,
                header: stack[5],
                header_len: stack[6],
                ..none
            },
            // As sealing, with the tag at the end of what goes in.
            tls_cookie::AEAD_OPEN => Self { plain: rsi, len_at: rdx, len: stack[1].checked_sub(TAG)?, ..none },
            // (ctx, out, nonce, nonce_len, in, in_len | tag, tag_len, ad, ad_len)
            tls_cookie::AEAD_OPEN_GATHER => Self { plain: rsi, len: r9, nonce: rdx, ..none },
            _ => return None,
        })
    }
}

#[uprobe]
pub fn aead_entry(ctx: ProbeContext) -> u32 {
    let current = Current::get();
    if is_traced(current.tgid) {
        enter(&ctx, current);
    }
    0
}

#[inline(always)]
fn enter(ctx: &ProbeContext, current: Current) {
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let shape = tls_cookie::count(cookie);
    let Some(call) = Arguments::of(ctx, shape) else {
        count::add(Counter::AeadUnread, 1);
        return;
    };
    let record = match header_of(&call) {
        Header::Of(record) => record,
        other => {
            count::add(if matches!(other, Header::Foreign) { Counter::AeadForeign } else { Counter::AeadUnread }, 1);
            // Its return must not find an earlier call.
            let _ = AEAD_CALLS.remove(current.key());
            return;
        }
    };
    // The first four bytes of a nonce are the key's own and the same for all of its records (RFC 8446 5.3, RFC 5288 3, RFC
    // 7905 2). They tell apart the keys that live at one address one after the other.
    let Ok(salt) = (unsafe { bpf_probe_read_user(call.nonce as *const u32) }) else {
        count::add(Counter::AeadUnread, 1);
        return;
    };
    records::keep(current);
    if shape == tls_cookie::AEAD_SEAL || shape == tls_cookie::AEAD_SEAL_SCATTER {
        seal(current, &call, &record, salt, cookie);
        return;
    }
    let thread = current.key();
    if let Some(outer) = AEAD_CALLS.get_ptr(thread) {
        let (object, shape) = unsafe { ((*outer).object, (*outer).shape) };
        if object == call.object && shape == u32::from(tls_cookie::AEAD_OPEN) {
            return;
        }
    }
    let Arguments { object, plain, len_at, .. } = call;
    let opening = AeadCall { object, out: plain, len_at, record, salt, shape: u32::from(shape) };
    if AEAD_CALLS.insert(thread, opening, 0).is_err() {
        count::add(Counter::TlsCallTableFull, 1);
    }
}

#[uretprobe]
pub fn aead_return(ctx: RetProbeContext) -> u32 {
    let current = Current::get();
    if !is_traced(current.tgid) {
        return 0;
    }
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let thread = current.key();
    // A call that is no TLS record is not remembered, so a return without an entry says nothing.
    let Some(call) = AEAD_CALLS.get_ptr(thread) else { return 0 };
    let call = unsafe { *call };
    if call.shape != u32::from(tls_cookie::count(cookie)) {
        return 0;
    }
    let _ = AEAD_CALLS.remove(thread);
    // An int; the upper half of the register is undefined.
    if ctx.ret::<u64>() as u32 == 1 {
        opened(current, &call, cookie);
    }
    0
}

/// What a call's additional data is.
enum Header {
    Of(Record),
    Foreign,
    Unread,
}

#[inline(always)]
fn header_of(call: &Arguments) -> Header {
    let total = call.len + call.extra_len;
    if call.header_len == HEADER_13 {
        let Ok(b) = (unsafe { bpf_probe_read_user(call.header as *const [u8; HEADER_13 as usize]) }) else {
            return Header::Unread;
        };
        if b[0] != APPLICATION_DATA || b[1] != 3 || b[2] != 3 {
            return Header::Foreign;
        }
        let fragment = u64::from(u16::from_be_bytes([b[3], b[4]]));
        if total == 0 || total > MAX_INNER || total + TAG != fragment || call.extra_len > 1 {
            return Header::Unread;
        }
        return Header::Of(Record { inner: total, fragment, kind: 0 });
    }
    if call.header_len == HEADER_12 {
        let Ok(b) = (unsafe { bpf_probe_read_user(call.header as *const [u8; HEADER_12 as usize]) }) else {
            return Header::Unread;
        };
        // Types 20 to 23; versions 3.1 to 3.3.
        if b[8] < 20 || b[8] > APPLICATION_DATA || b[9] != 3 || b[10] == 0 || b[10] > 3 {
            return Header::Foreign;
        }
        if total > MAX_INNER || total != u64::from(u16::from_be_bytes([b[11], b[12]])) || call.extra_len > 0 {
            return Header::Unread;
        }
        return Header::Of(Record { inner: total, fragment: 0, kind: u64::from(b[8]) });
    }
    Header::Foreign
}

#[inline(always)]
fn seal(current: Current, call: &Arguments, record: &Record, salt: u32, cookie: u64) {
    let mut record = *record;
    if call.extra_len == 1 {
        // BoringSSL's way: the content type comes from elsewhere.
        let Ok(kind) = (unsafe { bpf_probe_read_user(call.extra as *const u8) }) else {
            count::add(Counter::AeadUnread, 1);
            return;
        };
        record.kind = u64::from(kind);
        record.inner = call.len;
    }
    transfer(current, call.object, call.plain, &record, salt, cookie);
}

#[inline(always)]
fn opened(current: Current, call: &AeadCall, cookie: u64) {
    let mut record = call.record;
    if call.len_at != 0 {
        match unsafe { bpf_probe_read_user(call.len_at as *const u64) } {
            Ok(n) if n == record.inner => record.inner = n,
            _ => {
                count::add(Counter::AeadUnread, 1);
                return;
            }
        }
    }
    transfer(current, call.object, call.out, &record, call.salt, cookie);
}

/// Takes a record's plaintext, without its content type and its padding.
#[inline(always)]
fn transfer(current: Current, object: u64, buffer: u64, record: &Record, salt: u32, cookie: u64) {
    let mut kind = record.kind;
    let mut n = record.inner;
    if kind == 0 {
        let Some(content) = content(buffer, n) else {
            count::add(Counter::AeadUnread, 1);
            return;
        };
        kind = content >> 32;
        n = content & 0xffff_ffff;
    }
    let is_data = kind == u64::from(APPLICATION_DATA) && n > 0;
    let overhead = if record.fragment > n { (record.fragment - n) as u16 } else { 0 };
    let half = Half { object, buffer, n, salt, overhead, is_data };
    tls_stream::transfer_half(current, &half, cookie);
}

/// Content type (upper half) and length (lower half) of the inside of a TLS 1.3 record: it ends with the type, and zeros
/// may follow (RFC 8446 5.4).
#[inline(always)]
fn content(buffer: u64, len: u64) -> Option<u64> {
    if len == 0 {
        return None;
    }
    let last: u8 = unsafe { bpf_probe_read_user((buffer + len - 1) as *const u8) }.ok()?;
    if last != 0 {
        return Some(u64::from(last) << 32 | (len - 1));
    }
    let mut search = Search { buffer, end: len - 1, kind: 0 };
    unsafe { bpf_loop(MAX_INNER as u32, step_back as *mut c_void, (&raw mut search).cast(), 0) };
    (search.kind != 0).then_some(search.kind << 32 | search.end)
}

/// The search for the last byte that is not padding.
#[repr(C)]
struct Search {
    buffer: u64,
    /// Bytes that are still in question.
    end: u64,
    kind: u64,
}

extern "C" fn step_back(_round: u64, search: *mut c_void) -> i64 {
    let search = unsafe { &mut *search.cast::<Search>() };
    if search.end >= 8 {
        let Ok(word) = (unsafe { bpf_probe_read_user((search.buffer + search.end - 8) as *const u64) }) else {
            return 1;
        };
        if word == 0 {
            search.end -= 8;
            return 0;
        }
    }
    if search.end == 0 {
        return 1;
    }
    search.end -= 1;
    let Ok(byte) = (unsafe { bpf_probe_read_user((search.buffer + search.end) as *const u8) }) else {
        return 1;
    };
    search.kind = u64::from(byte);
    i64::from(byte != 0)
}
