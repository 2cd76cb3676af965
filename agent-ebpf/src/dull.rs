//! Paths that can be no model's: a POST to one is not copied, not even until userspace has answered.
//!
//! Userspace writes the table, one entry per path and process, and only where the path alone decides. Here a request
//! is looked up by the hash of its path. A head that is shorter than [`WINDOW`], and a path that does not end within it,
//! are never looked up: the price is one verdict.

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use inferscope_common::targets::{DullPath, HASH_BASIS, MAX_HASHED_PATH, hash_byte};

use crate::{maps::DULL_PATHS, task::Current};

/// `POST `.
const METHOD: usize = 5;

/// Bytes of a head that are read: the method, the longest path, and the byte behind it.
const WINDOW: usize = METHOD + MAX_HASHED_PATH + 1;

/// Whether the message of `len` bytes at `head` is a POST to a path that is known.
#[inline(always)]
pub fn is_known(head: u64, len: u64) -> bool {
    if len < WINDOW as u64 {
        return false;
    }
    let mut bytes = [0u8; WINDOW];
    if unsafe { bpf_probe_read_user_buf(head as *const u8, &mut bytes) }.is_err() || bytes[1] != b'O' {
        return false;
    }
    let mut hash = HASH_BASIS;
    let mut ended = false;
    let mut at = METHOD;
    while at < WINDOW {
        let byte = bytes[at];
        if byte == b' ' || byte == b'?' {
            ended = true;
            break;
        }
        hash = hash_byte(hash, byte);
        at += 1;
    }
    ended && DULL_PATHS.get_ptr(DullPath { hash, tgid: Current::get().tgid, pad: 0 }).is_some()
}
