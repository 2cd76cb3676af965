//! The lengths of TLS records on sockets, for finding out which socket a TLS stream uses.
//!
//! Libraries that encrypt into memory (asyncio, Node, Bun) leave the socket calls to their program, so no socket call
//! happens inside a TLS call. But a record is longer than its plaintext by a constant, and the thread is the same. Lengths
//! are told only while a process has a stream that is copied and whose socket is not known; userspace draws the
//! conclusions.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_user_buf};
use inferscope_common::record::{Kind, MAX_TLS_RECORDS, TlsPlain, TlsRecords};

use crate::{emit, maps::UNBOUND, sock::StreamSock, task::Current};

/// How long after a call of an unbound stream the records of its process are told, ns. A program sends what it has
/// encrypted within the same turn of its event loop, seen within 50 us.
const WINDOW_NS: u64 = 1_000_000_000;

/// Calls of one stream that ask for records. Most streams are bound by their first record; one that is not by
/// this many never will be.
pub const MAX_ASKED: u64 = 64;

/// RFC 8446 5.2: 2^14 and 256 of expansion; 2^14 + 2048 in TLS 1.2.
const MAX_FRAGMENT: u16 = 16_384 + 2_048;

/// From now on the records of the process are told.
#[inline(always)]
pub fn ask(current: Current) {
    let until = unsafe { bpf_ktime_get_ns() } + WINDOW_NS;
    // A failed insert leaves the stream without a socket, no more.
    let _ = UNBOUND.insert(current.tgid, until, 0);
}

/// Whether the process's records are to be told.
#[inline(always)]
pub fn is_asked(current: Current) -> bool {
    match UNBOUND.get_ptr(current.tgid) {
        Some(until) => unsafe { *until > bpf_ktime_get_ns() },
        None => false,
    }
}

/// Tells the records of a socket call whose first `head_len` bytes are at `head` in user memory.
#[inline(always)]
pub fn tell(current: Current, socket: &StreamSock, direction: u8, head: u64, head_len: u64, n: u64) {
    let mut lens = [0u16; MAX_TLS_RECORDS];
    let mut count = 0;
    let mut at = 0u64;
    while count < MAX_TLS_RECORDS && at + 5 <= head_len {
        let mut b = [0u8; 5];
        if unsafe { bpf_probe_read_user_buf((head + at) as *const u8, &mut b) }.is_err() {
            break;
        }
        let len = u16::from_be_bytes([b[3], b[4]]);
        // RFC 8446 5.1: content type 20 to 23, legacy version 3.0 to 3.4.
        if b[0] < 0x14 || b[0] > 0x17 || b[1] != 3 || b[2] > 4 || len == 0 || len > MAX_FRAGMENT {
            break;
        }
        lens[count] = len;
        count += 1;
        at += 5 + u64::from(len);
    }
    emit::event(&TlsRecords {
        header: emit::header::<TlsRecords>(Kind::TlsRecords, current),
        id: socket.id,
        generation: socket.generation,
        total: n as u32,
        direction,
        count: count as u8,
        pad: 0,
        lens,
    });
}

/// Tells of plaintext that is not copied, if the process's records are being told.
#[inline(always)]
pub fn tell_plain(current: Current, id: u64, generation: u64, direction: u8, n: u64) {
    if !is_asked(current) {
        return;
    }
    emit::event(&TlsPlain {
        header: emit::header::<TlsPlain>(Kind::TlsPlain, current),
        id,
        generation,
        total: n as u32,
        direction,
        pad: [0; 3],
    });
}
