//! Messages that pass one a line: JSON-RPC, as the Model Context Protocol sends it over a server's standard input and
//! output.
//!
//! Only the beginning of a message is looked at, and it is one of few, because what comes first is a member of JSON-RPC
//! whatever wrote it. Userspace finds out whether the messages are of interest, and rejects a stream where none is.

use aya_ebpf::helpers::bpf_probe_read_user_buf;

use crate::{flow::LINES, maps::LOOSE_SOCKS, sock};

/// Bytes that are looked at.
const HEAD: usize = 8;

/// Bytes of the shortest call that is looked at.
pub const SHORTEST: u64 = HEAD as u64;

/// Whether a message of JSON-RPC may begin at `head` in user memory, within `len` bytes.
#[inline(always)]
pub fn is_message(head: u64, len: u64) -> bool {
    let mut bytes = [0u8; HEAD];
    if len < SHORTEST || unsafe { bpf_probe_read_user_buf(head as *const u8, &mut bytes) }.is_err() {
        return false;
    }
    let mut word = u64::from_le_bytes(bytes);
    let mut known = FULL;
    // Several in an array.
    if word & 0xff_ffff == u64::from_le_bytes(*b"[{\"\0\0\0\0\0") {
        word >>= 8;
        known >>= 8;
    }
    let begins = |with: &[u8; HEAD], mask: u64| (word ^ u64::from_le_bytes(*with)) & mask & known == 0;
    begins(b"{\"jsonrp", FULL)
        || begins(b"{\"method", FULL)
        || begins(b"{\"result", FULL)
        || begins(b"{\"params", FULL)
        || begins(b"{\"error\"", FULL)
        || begins(b"{\"id\":\0\0", FULL >> 16)
}

/// Whether the other end of a UNIX socket sends messages one a line: what is read of it may begin with something else that it
/// has said before, such as a greeting.
#[inline(always)]
pub fn are_peers(id: u64) -> bool {
    LOOSE_SOCKS.get_ptr(sock::unix_peer(id)).is_some_and(|peer| unsafe { (*peer).flow.state } == LINES)
}

/// All bytes of a head.
const FULL: u64 = u64::MAX;
