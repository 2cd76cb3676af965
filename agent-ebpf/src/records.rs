//! The lengths of TLS records on sockets, for finding out which socket a TLS stream uses.
//!
//! Libraries that encrypt into memory (asyncio, Node, Bun, rustls) leave the socket calls to their program, so no socket call
//! happens inside a TLS call. But a record is longer than its plaintext by a constant, and the thread is the same. Lengths
//! are told only while a process has a stream that is copied and whose socket is not known; userspace draws the
//! conclusions.
//!
//! A read comes before the plaintext that asks for it. Where a stream is one direction of a connection, that is too late: a
//! server's half that reads would wait for its second request. So the last receive of each thread is kept, for processes
//! that have such streams, and told when the plaintext of an unknown one follows.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_loop, bpf_probe_read_user};
use inferscope_common::record::{Kind, MAX_TLS_RECORDS, READ, TlsPlain, TlsRecords};

use crate::{
    emit::{self, Source},
    maps::{RECEIVED, UNBOUND},
    sock::StreamSock,
    task::Current,
};

/// How long after a call of an unbound stream the records of its process are told, ns. A program sends what it has
/// encrypted within the same turn of its event loop, seen within 50 us.
const WINDOW_NS: u64 = 1_000_000_000;

/// Calls of one stream that ask for records. Most streams are bound by their first record; one that is not by
/// this many never will be.
pub const MAX_ASKED: u32 = 64;

/// RFC 8446 5.2: 2^14 and 256 of expansion; 2^14 + 2048 in TLS 1.2.
const MAX_FRAGMENT: u16 = 16_384 + 2_048;

/// Steps of the walk through a call's bytes: as many records as are told, each in a segment of its own, and some
/// segments without any.
const MAX_STEPS: u32 = 3 * MAX_TLS_RECORDS as u32;

/// Whether a process's records are told, and kept.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Asked {
    until: u64,
    keeps: u64,
}

/// A receive that was not told yet.
pub type Received = TlsRecords;

/// The record that a socket's last receive left unfinished.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Carry {
    /// Position in the stream just behind it, where the next one begins; 0 if not known.
    next: u64,
    /// Length of its fragment, 0 if it is finished.
    len: u64,
}

impl Carry {
    pub const fn new() -> Self {
        Self { next: 0, len: 0 }
    }
}

/// What becomes of a socket call's records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    Nobodys,
    Keep,
    Tell,
}

/// From now on the records of the process are told.
#[inline(always)]
pub fn ask(current: Current) {
    let until = unsafe { bpf_ktime_get_ns() } + WINDOW_NS;
    if let Some(asked) = UNBOUND.get_ptr_mut(current.tgid) {
        unsafe { (*asked).until = until };
        return;
    }
    // A failed insert leaves the stream without a socket, no more.
    let _ = UNBOUND.insert(current.tgid, Asked { until, keeps: 0 }, 0);
}

/// From now on the receives of the process are kept.
#[inline(always)]
pub fn keep(current: Current) {
    if let Some(asked) = UNBOUND.get_ptr_mut(current.tgid) {
        unsafe { (*asked).keeps = 1 };
        return;
    }
    let _ = UNBOUND.insert(current.tgid, Asked { until: 0, keeps: 1 }, 0);
}

/// Whether the process's records are to be told.
#[inline(always)]
pub fn is_asked(current: Current) -> bool {
    interest(current, READ) == Interest::Tell
}

/// What becomes of the records of a call of the process.
#[inline(always)]
pub fn interest(current: Current, direction: u8) -> Interest {
    let Some(asked) = UNBOUND.get_ptr(current.tgid) else { return Interest::Nobodys };
    let Asked { until, keeps } = unsafe { core::ptr::read(asked) };
    if until > unsafe { bpf_ktime_get_ns() } {
        Interest::Tell
    } else if keeps != 0 && direction == READ {
        Interest::Keep
    } else {
        Interest::Nobodys
    }
}

/// A socket call that transferred TLS records.
pub struct Transfer<'a> {
    pub socket: &'a StreamSock,
    pub source: &'a Source,
    /// Position of its first byte in its direction.
    pub position: u64,
    pub n: u64,
    pub direction: u8,
}

/// Tells or keeps the records of a socket call.
#[inline(always)]
pub fn note(current: Current, call: &Transfer<'_>, carry: &mut Carry, interest: Interest) {
    let mut record = TlsRecords {
        header: emit::header::<TlsRecords>(Kind::TlsRecords, current),
        id: call.socket.id,
        generation: call.socket.generation,
        total: call.n as u32,
        direction: call.direction,
        count: 0,
        pad: 0,
        lens: [0; MAX_TLS_RECORDS],
    };
    walk(call, carry, &mut record);
    let thread = current.key();
    if interest == Interest::Tell {
        emit::event(&record);
        if call.direction == READ {
            // Older than what has just been told.
            let _ = RECEIVED.remove(thread);
        }
    } else {
        // Not to be kept leaves a stream without a socket, no more.
        let _ = RECEIVED.insert(thread, record, 0);
    }
}

/// Takes the thread's last receive, if it is still there, and tells it if it is wanted.
#[inline(always)]
pub fn tell_received(current: Current, direction: u8, is_wanted: bool) {
    let thread = current.key();
    if direction != READ {
        return;
    }
    let Some(record) = RECEIVED.get_ptr(thread) else { return };
    if is_wanted {
        emit::event(unsafe { &*record });
    }
    let _ = RECEIVED.remove(thread);
}

/// The walk from header to header through a call's bytes.
#[repr(C)]
struct Walk {
    /// The segment that is walked, and those behind it.
    source: Source,
    /// Bytes of the call.
    n: u64,
    /// Where in the call the next record begins, and where the segment does.
    at: u64,
    base: u64,
    /// Fragment lengths found so far, four to a word, the first one lowest: not an array, because a place in one that is not
    /// constant makes the verifier walk every path for itself.
    lens: [u64; 2],
    count: u64,
    /// Whether only records that end in the call are of interest.
    is_read: u64,
    /// Fragment length of the record that does not.
    unfinished: u64,
}

impl Walk {
    #[inline(always)]
    fn push(&mut self, len: u64) {
        let shift = 16 * (self.count & 3);
        if self.count < 4 {
            self.lens[0] |= len << shift;
        } else {
            self.lens[1] |= len << shift;
        }
        self.count += 1;
    }
}

/// Reads the headers of the records in a call: for a read of those that end in it, for a write of those that begin.
#[inline(always)]
fn walk(call: &Transfer<'_>, carry: &mut Carry, record: &mut TlsRecords) {
    let is_read = u64::from(call.direction == READ);
    let (n, source) = (call.n, *call.source);
    let mut walk = Walk { source, n, at: 0, base: 0, lens: [0; 2], count: 0, is_read, unfinished: 0 };
    if call.direction == READ {
        let Carry { next, len } = *carry;
        if next > call.position {
            walk.at = next - call.position;
            if walk.at > n {
                return;
            }
            if len != 0 {
                walk.push(len);
            }
        }
    }
    unsafe { bpf_loop(MAX_STEPS, step as *mut c_void, (&raw mut walk).cast(), 0) };
    if call.direction == READ {
        *carry = Carry { next: call.position + walk.at, len: walk.unfinished };
    }
    let [low, high] = walk.lens;
    record.lens = [
        low as u16,
        (low >> 16) as u16,
        (low >> 32) as u16,
        (low >> 48) as u16,
        high as u16,
        (high >> 16) as u16,
        (high >> 32) as u16,
        (high >> 48) as u16,
    ];
    record.count = walk.count as u8;
}

/// One step of the walk: the next segment, or the next header. Non-zero ends it.
extern "C" fn step(_round: u64, walk: *mut c_void) -> i64 {
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    if walk.count >= MAX_TLS_RECORDS as u64 || walk.at + 5 > walk.n {
        return 1;
    }
    let within = walk.at.wrapping_sub(walk.base);
    if within >= walk.source.segment_left {
        if walk.source.iovecs_left == 0 {
            return 1;
        }
        let Ok([start, len]) = (unsafe { bpf_probe_read_user(walk.source.iovecs as *const [u64; 2]) }) else {
            return 1;
        };
        walk.base += walk.source.segment_left;
        (walk.source.segment, walk.source.segment_left) = (start, len);
        walk.source.iovecs += size_of::<[u64; 2]>() as u64;
        walk.source.iovecs_left -= 1;
        return 0;
    }
    if within + 5 > walk.source.segment_left {
        return 1;
    }
    let Ok(b) = (unsafe { bpf_probe_read_user((walk.source.segment + within) as *const [u8; 5]) }) else {
        return 1;
    };
    let len = u16::from_be_bytes([b[3], b[4]]);
    // RFC 8446 5.1: content type 20 to 23, legacy version 3.0 to 3.4.
    if b[0] < 0x14 || b[0] > 0x17 || b[1] != 3 || b[2] > 4 || len == 0 || len > MAX_FRAGMENT {
        return 1;
    }
    walk.at += 5 + u64::from(len);
    if walk.is_read != 0 && walk.at > walk.n {
        walk.unfinished = u64::from(len);
        return 1;
    }
    walk.push(u64::from(len));
    0
}

/// Plaintext that is not copied.
pub struct Told {
    pub id: u64,
    pub generation: u64,
    pub n: u64,
    pub direction: u8,
    pub overhead: u16,
}

/// Tells of plaintext that is not copied, if the process's records are being told.
#[inline(always)]
pub fn tell_plain(current: Current, plain: &Told, library: u8) {
    if !is_asked(current) {
        return;
    }
    emit::event(&TlsPlain {
        header: emit::header::<TlsPlain>(Kind::TlsPlain, current),
        id: plain.id,
        generation: plain.generation,
        total: plain.n as u32,
        direction: plain.direction,
        source: library,
        overhead: plain.overhead,
    });
}
