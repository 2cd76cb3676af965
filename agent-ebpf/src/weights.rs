//! Opens of files that may hold a model's weights.
//!
//! The name decides, by its end and in the kernel: a process opens many files and few of them are weights. The path is what
//! the process gave, because a cache of models links names to blobs without any. An open by io_uring is not seen.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_ktime_get_ns, generated::bpf_probe_read_user as raw_read_user, generated::bpf_probe_read_user_str,
};
use inferscope_common::{
    counters::Counter,
    record::{FileOpen, Kind, MAX_OPEN_PATH},
};

use crate::{count, emit, maps::OPENS, sock, task::Current};

/// `PATH_MAX`, with its NUL.
const PATH_MAX: u32 = 4_096;

/// Opens of a process that are told in a second. Models come in some hundred files at most; what opens more is reading a
/// data set, whose files may have the same endings.
const MAX_PER_SECOND: u64 = 512;
const SECOND_NS: u64 = 1_000_000_000;

/// What a process has told of.
#[repr(C)]
pub struct Opens {
    /// When its second began.
    since: u64,
    told: u64,
}

/// An open that succeeded.
pub struct Open {
    /// The path, in user memory.
    pub path: u64,
    /// `O_*`
    pub flags: u32,
    pub fd: u32,
}

/// Tells of an open if the name is one that weights have.
#[inline(always)]
pub fn notice(current: Current, open: &Open) {
    let Some(scratch) = emit::scratch() else {
        emit::event_lost(Kind::FileOpen as u16, current.tgid);
        return;
    };
    let record = scratch.record;
    let path = unsafe { record.add(size_of::<FileOpen>()) };
    let len = unsafe { bpf_probe_read_user_str(path.cast(), PATH_MAX, open.path as *const c_void) };
    // The NUL is counted.
    if len > 1 && len <= i64::from(PATH_MAX) && is_weights(record, len as u64 - 1) && may_tell(current) {
        tell(current, open, record, len as u64 - 1);
    }
    scratch.release();
}

/// Whether the path of `len` bytes behind the record's beginning ends as those of weights do. What stands before a path that
/// is shorter than the longest ending is no part of a name.
#[inline(always)]
fn is_weights(record: *const u8, len: u64) -> bool {
    const WINDOW: usize = 16;
    if len > u64::from(PATH_MAX) {
        return false;
    }
    let (front, back): (u64, u64) = unsafe {
        let window = record.add(size_of::<FileOpen>() - WINDOW).add(len as usize);
        (window.cast::<u64>().read_unaligned(), window.add(8).cast::<u64>().read_unaligned())
    };
    // Little endian: the last byte is the highest.
    (back == word(b"etensors") && front >> 32 == word(b".saf"))
        | (back >> 24 == word(b".gguf"))
        | (back >> 32 == word(b".bin"))
        | (back >> 40 == word(b".pt"))
        | (back >> 32 == word(b".pth"))
        | (back >> 24 == word(b".onnx"))
        | (back >> 8 == word(b".engine"))
}

/// Up to eight bytes as the number that they are in memory.
const fn word(bytes: &[u8]) -> u64 {
    let (mut word, mut at) = (0, bytes.len());
    while at > 0 {
        at -= 1;
        word = word << 8 | bytes[at] as u64;
    }
    word
}

/// Whether the process has not told too much in this second.
#[inline(always)]
fn may_tell(current: Current) -> bool {
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(opens) = OPENS.get_ptr_mut(current.tgid) else {
        // Not to be remembered is no reason to be silent.
        let _ = OPENS.insert(current.tgid, Opens { since: now, told: 1 }, 0);
        return true;
    };
    let opens = unsafe { &mut *opens };
    if now.wrapping_sub(opens.since) > SECOND_NS {
        (opens.since, opens.told) = (now, 0);
    }
    opens.told += 1;
    if opens.told > MAX_PER_SECOND {
        count::add(Counter::FileOpensSkipped, 1);
        return false;
    }
    true
}

#[inline(always)]
fn tell(current: Current, open: &Open, record: *mut u8, len: u64) {
    let (mut told, mut whole) = (len, true);
    if len > MAX_OPEN_PATH as u64 {
        let end = (open.path + len - MAX_OPEN_PATH as u64) as *const c_void;
        let path = unsafe { record.add(size_of::<FileOpen>()) };
        whole = unsafe { raw_read_user(path.cast(), MAX_OPEN_PATH as u32, end) } == 0;
        told = MAX_OPEN_PATH as u64;
    }
    let (inode, size) = sock::inode_and_size(u64::from(open.fd));
    unsafe {
        let record = record.cast::<FileOpen>();
        (*record).header = emit::header::<FileOpen>(Kind::FileOpen, current);
        (*record).header.len = size_of::<FileOpen>() as u32 + told as u32;
        (*record).size = size;
        (*record).inode = inode;
        (*record).flags = open.flags;
        (*record).fd = open.fd;
        (*record).path_len = len as u32;
        (*record).pad = 0;
    }
    if whole && told <= MAX_OPEN_PATH as u64 {
        let bytes = unsafe { core::slice::from_raw_parts(record, size_of::<FileOpen>() + told as usize) };
        emit::bytes(bytes, Kind::FileOpen, current.tgid);
    }
}
