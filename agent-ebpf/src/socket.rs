//! Requests that may open a WebSocket to a model API: a GET whose path ends in a segment that such an API has.
//!
//! The `Upgrade` header is userspace's to look for: it may stand anywhere in the head, behind keys of any length, and the
//! path alone leaves next to nothing else over. A head that is shorter than [`WINDOW`], which no handshake of RFC 6455
//! is, and a path that does not end within it, are left alone.

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use inferscope_common::targets::{HASH_BASIS, MAX_HASHED_PATH, SOCKET_HASHES, hash_byte};

/// `GET `.
const METHOD: usize = 4;

/// Bytes of a head that are read: the method, the longest path, and the byte behind it.
const WINDOW: usize = METHOD + MAX_HASHED_PATH + 1;

/// Whether the message of `len` bytes at `head` is a GET for such a path.
#[inline(always)]
pub fn is_opened(head: u64, len: u64) -> bool {
    if len < WINDOW as u64 {
        return false;
    }
    let mut bytes = [0u8; WINDOW];
    if unsafe { bpf_probe_read_user_buf(head as *const u8, &mut bytes) }.is_err() || bytes[0] != b'G' {
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
        hash = if byte == b'/' { HASH_BASIS } else { hash_byte(hash, byte) };
        at += 1;
    }
    ended && (hash == SOCKET_HASHES[0] || hash == SOCKET_HASHES[1])
}
