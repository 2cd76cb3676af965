//! The path of a request, as hashes: of all of it, and of its last segment.
//!
//! A loop of the kernel's goes over the bytes, which the verifier follows once; a loop of the program's it would follow
//! from every place that a request may begin at.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_loop, bpf_probe_read_user_buf};
use inferscope_common::targets::{HASH_BASIS, MAX_HASHED_PATH, hash_byte};

/// Bytes of a head that are read: the longest method and the blank behind it, the longest path, and the byte behind that.
const WINDOW: usize = b"POST ".len() + MAX_HASHED_PATH + 1;

/// A request's path.
#[repr(C)]
pub struct Path {
    bytes: [u8; WINDOW],
    /// 1 once its end was found.
    ended: u8,
    /// Hash of all of it, without the query.
    pub whole: u64,
    /// Hash of what is behind its last slash.
    pub last: u64,
    /// Where it begins in the window.
    begins: u64,
}

impl Path {
    /// The path of the message of `len` bytes at `head`, if it begins with `method` and the blank behind that. Nothing of a head
    /// that is shorter than [`WINDOW`], and of a path that does not end within it.
    #[inline(always)]
    pub fn of<const N: usize>(head: u64, len: u64, method: &[u8; N]) -> Option<Self> {
        if len < WINDOW as u64 {
            return None;
        }
        let mut path = Self { bytes: [0; WINDOW], ended: 0, whole: HASH_BASIS, last: HASH_BASIS, begins: N as u64 };
        unsafe { bpf_probe_read_user_buf(head as *const u8, &mut path.bytes) }.ok()?;
        let mut at = 0;
        while at < N {
            if path.bytes[at] != method[at] {
                return None;
            }
            at += 1;
        }
        unsafe { bpf_loop(MAX_HASHED_PATH as u32 + 1, step as *mut c_void, (&raw mut path).cast(), 0) };
        (path.ended != 0).then_some(path)
    }
}

extern "C" fn step(round: u64, path: *mut c_void) -> i64 {
    let path = unsafe { &mut *path.cast::<Path>() };
    let at = round + path.begins;
    if at >= WINDOW as u64 {
        return 1;
    }
    let byte = unsafe { core::ptr::read_volatile(path.bytes.as_ptr().add(at as usize)) };
    if byte == b' ' || byte == b'?' {
        path.ended = 1;
        return 1;
    }
    path.whole = hash_byte(path.whole, byte);
    path.last = if byte == b'/' { HASH_BASIS } else { hash_byte(path.last, byte) };
    0
}
