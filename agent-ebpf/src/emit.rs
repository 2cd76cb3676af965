//! The only code that writes to the rings.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ktime_get_ns, bpf_loop, bpf_probe_read_user, generated::bpf_probe_read_user as raw_read_user},
};
use inferscope_common::{
    counters::Counter,
    record::{Data, Header, Kind, MAX_HELLO, MAX_PAYLOAD, SOURCE_LINES, SOURCE_SYSCALL, Socket, TlsHello, UnixSocket},
    wake::ANY_RECORD,
};

use crate::{
    account::{Account, Outcome},
    count,
    flow::{Flow, LINES},
    globals::config,
    maps::{DATA, EVENTS, SCRATCH, SCRATCH_SLOTS, WAKE},
    sock::{self, AF_UNIX},
    task::{Current, current_start_ns},
};

/// Header of a record about the current task.
#[inline(always)]
pub fn header<T>(kind: Kind, current: Current) -> Header {
    Header { tgid: current.tgid, tid: current.tid, start_ns: current_start_ns(), ..nobodys::<T>(kind) }
}

/// Header of a record that is about no process: what sockets do happens in interrupts.
#[inline(always)]
pub fn nobodys<T>(kind: Kind) -> Header {
    Header {
        len: size_of::<T>() as u32,
        kind: kind as u16,
        flags: 0,
        time_ns: unsafe { bpf_ktime_get_ns() },
        tgid: 0,
        tid: 0,
        start_ns: 0,
    }
}

/// Wakes the reader if it said that it sleeps, and if as much waits for it as it said. Waking on every record costs the
/// traced program about a microsecond each; never waking loses most of them.
#[inline(always)]
fn wake_flag() -> u64 {
    wake_flag_of(false)
}

/// The same for a process's payload, whose `first` wakes a reader that dozes at once: a program of a few milliseconds would
/// be gone before it looks, and nobody could say who it was.
#[inline(always)]
fn wake_flag_of(first: bool) -> u64 {
    if let Some(flag) = WAKE.get_ptr_mut(0) {
        unsafe {
            let from = core::ptr::read_volatile(flag);
            let due = from == ANY_RECORD
                || from > ANY_RECORD && (first || DATA.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(from));
            if due {
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
        let header = unsafe { &*core::ptr::from_ref(record).cast::<Header>() };
        event_lost(header.kind, header.tgid);
        return false;
    };
    slot.write(*record);
    slot.submit(wake_flag());
    count::add(Counter::EventRecords, 1);
    true
}

/// Counts an event that did not fit. A function of its own: the way is rare, and the verifier need not walk it at every
/// place that tells something.
#[inline(never)]
pub fn event_lost(kind: u16, tgid: u32) {
    count::add(Counter::EventRecordsLost, 1);
    count::add(Counter::lost_event(kind), 1);
    // State changes of sockets happen in interrupts, on behalf of nobody.
    if tgid != 0 {
        if let Some(account) = Account::of(tgid) {
            account.on_event_lost();
        }
    }
}

/// The processor's first scratch buffer, taken.
pub struct Taken {
    busy: *mut u64,
    /// [`MAX_RECORD`](inferscope_common::record::MAX_RECORD) bytes.
    pub record: *mut u8,
}

impl Taken {
    #[inline(always)]
    pub fn release(self) {
        unsafe { count::swap(self.busy, 0) };
    }
}

/// Takes the processor's first scratch buffer; none if a program that was preempted has it.
#[inline(always)]
pub fn scratch() -> Option<Taken> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    let busy = unsafe { &raw mut (*scratch).busy };
    if unsafe { count::swap(busy, 1) } != 0 {
        return None;
    }
    Some(Taken { busy, record: unsafe { (&raw mut (*scratch).record).cast() } })
}

/// Writes a record of any length to the ring of rare events.
#[inline(always)]
pub fn bytes(record: &[u8], kind: Kind, tgid: u32) {
    if EVENTS.output::<[u8]>(record, wake_flag()).is_ok() {
        count::add(Counter::EventRecords, 1);
    } else {
        event_lost(kind as u16, tgid);
    }
}

/// Tells the beginning of a hello, `n` bytes at `at` in user memory. One that cannot be told leaves its connection without
/// a name.
#[inline(always)]
pub fn hello(current: Current, id: u64, generation: u64, direction: u8, at: u64, n: u64) {
    let Some(scratch) = scratch() else {
        event_lost(Kind::TlsHello as u16, current.tgid);
        return;
    };
    let record = scratch.record;
    let n = if n > MAX_HELLO as u64 { MAX_HELLO as u64 } else { n };
    unsafe {
        let hello = record.cast::<TlsHello>();
        (*hello).header = header::<TlsHello>(Kind::TlsHello, current);
        (*hello).header.len = size_of::<TlsHello>() as u32 + n as u32;
        (*hello).id = id;
        (*hello).generation = generation;
        (*hello).direction = direction;
        (*hello).pad = [0; 7];
        if raw_read_user(record.add(size_of::<TlsHello>()).cast(), n as u32, at as *const c_void) == 0 {
            let told = core::slice::from_raw_parts(record, size_of::<TlsHello>() + n as usize);
            bytes(told, Kind::TlsHello, current.tgid);
        }
    }
    scratch.release();
}

/// Tells userspace a socket's addresses; false if that did not work and is to be tried again.
#[inline(always)]
pub fn socket(id: u64, generation: u64, current: Current) -> bool {
    let family = sock::family(id);
    if family == AF_UNIX {
        return unix_socket(id, generation, current);
    }
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

/// The same for a UNIX socket. Written in place: two names are more than the stack has room for.
#[inline(always)]
fn unix_socket(id: u64, generation: u64, current: Current) -> bool {
    let Some(mut slot) = EVENTS.reserve::<UnixSocket>(0) else {
        count::add(Counter::EventRecordsLost, 1);
        return false;
    };
    let record = slot.as_mut_ptr();
    let peer = sock::unix_peer(id);
    unsafe {
        // The names are filled to their lengths only, and nothing of an earlier record may show behind.
        core::ptr::write_bytes(record.cast::<u64>(), 0, size_of::<UnixSocket>() / size_of::<u64>());
        (*record).header = header::<UnixSocket>(Kind::UnixSocket, current);
        (*record).id = id;
        (*record).generation = generation;
        (*record).peer = peer;
        (*record).name_len = sock::unix_name(id, (&raw mut (*record).name).cast());
        (*record).peer_name_len = sock::unix_name(peer, (&raw mut (*record).peer_name).cast());
    }
    slot.submit(wake_flag());
    count::add(Counter::EventRecords, 1);
    true
}

/// Tells userspace where a direction is, after bytes that were in no buffer of a call. Not left to the stream's next
/// bytes: there may be none.
#[inline(always)]
pub fn passed(header: Header, id: u64, generation: u64, flow: &mut Flow, direction: u8, n: u64) {
    let source = if flow.state == LINES { SOURCE_LINES } else { SOURCE_SYSCALL };
    passed_on(header, id, generation, flow, direction, n, source);
}

/// The same for a stream of any source.
#[inline(always)]
pub fn passed_on(mut header: Header, id: u64, generation: u64, flow: &mut Flow, direction: u8, n: u64, source: u8) {
    header.len = size_of::<Data>() as u32;
    header.kind = Kind::Data as u16;
    let turn = flow.turn;
    let lane = flow.lane(direction);
    event(&Data {
        header,
        id,
        generation,
        offset: lane.offset,
        skipped: lane.skipped,
        total: n as u32,
        captured: 0,
        turn,
        direction,
        source,
        overhead: 0,
    });
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

impl Source {
    /// One buffer.
    #[inline(always)]
    pub const fn buffer(at: u64, n: u64) -> Self {
        Self { segment: at, segment_left: n, iovecs: 0, iovecs_left: 0 }
    }

    /// An array of buffers.
    #[inline(always)]
    pub const fn segments(iovecs: u64, iovecs_left: u64) -> Self {
        Self { segment: 0, segment_left: 0, iovecs, iovecs_left }
    }
}

/// `struct mmsghdr` of the x86-64 ABI: a `struct user_msghdr` and the count of bytes behind it.
pub mod mmsghdr {
    /// `msg_hdr.msg_iov` and `msg_iovlen`.
    pub const IOVECS: u64 = 16;
    /// `msg_len`.
    pub const LEN: u64 = 56;
    pub const SIZE: u64 = 64;
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

/// Segments of one message, and messages of one call, at most: `UIO_MAXIOV`, beyond which the kernel takes none.
pub const MAX_IOVECS: u64 = 1024;

/// Copies a call's bytes to the bulk ring, one record per piece.
#[inline(always)]
pub fn data(job: &mut Job) {
    offer(job);
    pieces(job);
}

#[inline(always)]
fn offer(job: &mut Job) {
    count::add(Counter::BytesOffered, job.remaining);
    job.account = Account::of(job.header.tgid);
    if let Some(account) = job.account {
        account.on_offer(job.remaining);
    }
}

#[inline(always)]
fn pieces(job: &mut Job) {
    if job.source.iovecs_left > MAX_IOVECS {
        job.source.iovecs_left = MAX_IOVECS;
    }
    // Each segment takes a round, and may end in a piece that is not full.
    let rounds = unsafe { config!(max_chunks) } + 2 * MAX_IOVECS as u32;
    unsafe {
        bpf_loop(rounds, copy_piece as *mut c_void, (job as *mut Job).cast(), 0);
    }
    if job.remaining > 0 {
        outcome(job, Outcome::Truncated, job.remaining);
    }
}

/// Messages of a call that are left to be copied.
#[repr(C)]
struct Messages {
    job: *mut Job,
    /// `struct mmsghdr` array.
    at: u64,
    left: u64,
    /// Bytes of them.
    bytes: u64,
}

/// The same for a call that transferred several messages: `count` of them, at `at` in user memory.
#[inline(always)]
pub fn messages(job: &mut Job, at: u64, count: u64) {
    offer(job);
    let mut messages = Messages { job, at, left: count, bytes: job.remaining };
    unsafe {
        bpf_loop(MAX_IOVECS as u32, copy_message as *mut c_void, (&raw mut messages).cast(), 0);
    }
    if messages.bytes > 0 {
        outcome(unsafe { &*messages.job }, Outcome::Truncated, messages.bytes);
    }
}

extern "C" fn copy_message(_round: u64, messages: *mut c_void) -> i64 {
    let messages = unsafe { &mut *messages.cast::<Messages>() };
    if messages.left == 0 {
        return 1;
    }
    let iovecs = unsafe { bpf_probe_read_user((messages.at + mmsghdr::IOVECS) as *const [u64; 2]) };
    let len = unsafe { bpf_probe_read_user((messages.at + mmsghdr::LEN) as *const u32) };
    let (Ok([iovecs, iovecs_left]), Ok(len)) = (iovecs, len) else { return 1 };
    // It may have been written anew since the call added up.
    let n = if u64::from(len) > messages.bytes { messages.bytes } else { u64::from(len) };
    messages.at += mmsghdr::SIZE;
    messages.left -= 1;
    messages.bytes -= n;
    let job = unsafe { &mut *messages.job };
    let next = job.position + n;
    job.source = Source::segments(iovecs, iovecs_left);
    job.remaining = n;
    pieces(job);
    job.position = next;
    0
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
pub struct Iovec {
    pub base: u64,
    pub len: u64,
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
            outcome(job, Outcome::Unreadable, job.remaining);
            job.remaining = 0;
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
        let first = match job.account {
            Some(account) => account.is_unheard(),
            None => false,
        };
        if DATA.output::<[u8]>(bytes, wake_flag_of(first)).is_ok() {
            outcome(job, Outcome::Emitted, n);
            count::add(Counter::DataRecords, 1);
        } else {
            outcome(job, Outcome::LostRing, n);
            count::add(Counter::DataRecordsLost, 1);
        }
    }
}
