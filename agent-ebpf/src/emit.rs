//! The only code that writes to the rings.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ktime_get_ns, bpf_loop, bpf_probe_read_user, generated::bpf_probe_read_user as raw_read_user},
};
use inferscope_common::{
    counters::Counter,
    record::{Data, Header, Kind, MAX_PAYLOAD, Socket},
};

use crate::{
    account::{Account, Outcome},
    count,
    globals::config,
    maps::{DATA, EVENTS, SCRATCH, SCRATCH_SLOTS, WAKE},
    sock,
    task::{Current, current_start_ns},
};

/// Header of a record about the current task.
#[inline(always)]
pub fn header<T>(kind: Kind, current: Current) -> Header {
    Header {
        len: size_of::<T>() as u32,
        kind: kind as u16,
        flags: 0,
        time_ns: unsafe { bpf_ktime_get_ns() },
        tgid: current.tgid,
        tid: current.tid,
        start_ns: current_start_ns(),
    }
}

/// Wakes the reader if it said that it sleeps. Waking on every record costs the traced program about a
/// microsecond each; never waking loses most of them.
#[inline(always)]
fn wake_flag() -> u64 {
    if let Some(flag) = WAKE.get_ptr_mut(0) {
        unsafe {
            if core::ptr::read_volatile(flag) != 0 {
                core::ptr::write_volatile(flag, 0);
                return u64::from(BPF_RB_FORCE_WAKEUP);
            }
        }
    }
    u64::from(BPF_RB_NO_WAKEUP)
}

/// Writes a record to the ring of rare events; false if it was full.
#[inline(always)]
pub fn event<T: Copy + 'static>(record: &T) -> bool {
    let Some(mut slot) = EVENTS.reserve::<T>(0) else {
        count::add(Counter::EventRecordsLost, 1);
        return false;
    };
    slot.write(*record);
    slot.submit(wake_flag());
    count::add(Counter::EventRecords, 1);
    true
}

/// Tells userspace a socket's addresses; false if that did not work and is to be tried again.
#[inline(always)]
pub fn socket(id: u64, generation: u64, current: Current) -> bool {
    let family = sock::family(id);
    let Some((local, remote, local_port, remote_port)) = sock::addresses(id, family) else {
        // Nothing to tell now or later: the data goes without addresses.
        return true;
    };
    event(&Socket {
        header: header::<Socket>(Kind::Socket, current),
        id,
        generation,
        local,
        remote,
        local_port,
        remote_port,
        family,
        pad: 0,
    })
}

/// Where the bytes of one call lie in user memory.
#[derive(Clone, Copy)]
pub struct Source {
    /// First segment.
    pub segment: u64,
    pub segment_left: u64,
    /// `struct iovec` array of the further segments.
    pub iovecs: u64,
    pub iovecs_left: u64,
}

/// One call's copy under way. Lives on the stack, so it is kept small.
#[repr(C)]
pub struct Job {
    pub source: Source,
    pub remaining: u64,
    /// Stream position of the next byte.
    pub position: u64,
    pub id: u64,
    pub generation: u64,
    pub skipped: u64,
    pub header: Header,
    pub total: u32,
    pub turn: u32,
    pub direction: u8,
    pub library: u8,
    /// As in [`Data`].
    pub overhead: u16,
    /// Of the process. Filled in by [`data`].
    pub account: Option<Account>,
}

/// Segments of one call at most (`UIO_MAXIOV` is 1,024; what was seen in practice is below 20).
const MAX_IOVECS: u64 = 64;

/// Copies a call's bytes to the bulk ring, one record per piece.
#[inline(always)]
pub fn data(job: &mut Job) {
    count::add(Counter::BytesOffered, job.remaining);
    job.account = Account::of(job.header.tgid);
    if let Some(account) = job.account {
        account.on_offer(job.remaining);
    }
    if job.source.iovecs_left > MAX_IOVECS {
        job.source.iovecs_left = MAX_IOVECS;
    }
    let rounds = unsafe { config!(max_chunks) } + MAX_IOVECS as u32;
    unsafe {
        bpf_loop(rounds, copy_piece as *mut c_void, (job as *mut Job).cast(), 0);
    }
    if job.remaining > 0 {
        outcome(job, Outcome::Truncated, job.remaining);
    }
}

/// Counts what became of bytes, in the ledger and for the process.
#[inline(always)]
fn outcome(job: &Job, what: Outcome, n: u64) {
    let counter = match what {
        Outcome::Emitted => Counter::BytesEmitted,
        Outcome::LostRing => Counter::BytesLostRing,
        Outcome::LostScratch => Counter::BytesLostScratch,
        Outcome::Unreadable => Counter::BytesUnreadable,
        Outcome::Truncated => Counter::BytesTruncated,
    };
    count::add(counter, n);
    if let Some(account) = job.account {
        account.on_outcome(what, n);
    }
}

/// `struct iovec` of the x86-64 ABI.
#[repr(C)]
#[derive(Clone, Copy)]
struct Iovec {
    base: u64,
    len: u64,
}

/// One round of the copy loop: the next piece, or the next segment. Non-zero ends the loop.
extern "C" fn copy_piece(_round: u64, job: *mut c_void) -> i64 {
    let job = unsafe { &mut *job.cast::<Job>() };
    if job.remaining == 0 {
        return 1;
    }
    if job.source.segment_left == 0 {
        if job.source.iovecs_left == 0 {
            return 1;
        }
        let Ok(iovec) = (unsafe { bpf_probe_read_user(job.source.iovecs as *const Iovec) }) else {
            return 1;
        };
        job.source.iovecs += size_of::<Iovec>() as u64;
        job.source.iovecs_left -= 1;
        job.source.segment = iovec.base;
        job.source.segment_left = iovec.len;
        return 0;
    }
    let mut n = job.remaining;
    if n > job.source.segment_left {
        n = job.source.segment_left;
    }
    if n > MAX_PAYLOAD as u64 {
        n = MAX_PAYLOAD as u64;
    }
    emit_piece(job, n);
    job.source.segment += n;
    job.source.segment_left -= n;
    job.remaining -= n;
    job.position += n;
    0
}

#[inline(always)]
fn emit_piece(job: &Job, n: u64) {
    let mut slot = 0;
    while slot < SCRATCH_SLOTS {
        let Some(scratch) = SCRATCH.get_ptr_mut(slot) else { break };
        // A swap, not a load and a store: the program that preempts this one must not take the same buffer.
        let busy = unsafe { &raw mut (*scratch).busy };
        if unsafe { count::swap(busy, 1) } == 0 {
            write_piece(unsafe { (&raw mut (*scratch).record).cast() }, job, n);
            unsafe { count::swap(busy, 0) };
            return;
        }
        slot += 1;
    }
    outcome(job, Outcome::LostScratch, n);
}

#[inline(always)]
fn write_piece(record: *mut u8, job: &Job, n: u64) {
    // The verifier must see the bound on the value that is used, whatever the compiler already knows.
    if n > MAX_PAYLOAD as u64 {
        return;
    }
    let len = size_of::<Data>() as u64 + n;
    unsafe {
        let data = record.cast::<Data>();
        // One by one: as a whole it becomes a loop over bytes, which the verifier walks for every path that leads here.
        let header = &raw mut (*data).header;
        (*header).len = len as u32;
        (*header).kind = job.header.kind;
        (*header).flags = job.header.flags;
        (*header).time_ns = job.header.time_ns;
        (*header).tgid = job.header.tgid;
        (*header).tid = job.header.tid;
        (*header).start_ns = job.header.start_ns;
        (*data).id = job.id;
        (*data).generation = job.generation;
        (*data).offset = job.position;
        (*data).skipped = job.skipped;
        (*data).total = job.total;
        (*data).captured = n as u32;
        (*data).turn = job.turn;
        (*data).direction = job.direction;
        (*data).source = job.library;
        (*data).overhead = job.overhead;
        if raw_read_user(record.add(size_of::<Data>()).cast(), n as u32, job.source.segment as *const c_void) != 0 {
            outcome(job, Outcome::Unreadable, n);
            return;
        }
        let bytes = core::slice::from_raw_parts(record, len as usize);
        if DATA.output::<[u8]>(bytes, wake_flag()).is_ok() {
            outcome(job, Outcome::Emitted, n);
            count::add(Counter::DataRecords, 1);
        } else {
            outcome(job, Outcome::LostRing, n);
            count::add(Counter::DataRecordsLost, 1);
        }
    }
}
