//! Paths that can be no model's: a POST to one is not copied, not even until userspace has answered.
//!
//! Userspace writes the table, one entry per path and process, and only where the path alone decides. Here a request
//! is looked up by the hash of its path. What has none ([`Path::of`]) is never looked up: the price is one verdict.

use inferscope_common::targets::DullPath;

use crate::{maps::DULL_PATHS, path::Path, task::Current};

/// Whether the message of `len` bytes at `head` is a POST to a path that is known.
#[inline(always)]
pub fn is_known(head: u64, len: u64) -> bool {
    let Some(path) = Path::of(head, len, b"POST ") else { return false };
    DULL_PATHS.get_ptr(DullPath { hash: path.whole, tgid: Current::get().tgid, pad: 0 }).is_some()
}
