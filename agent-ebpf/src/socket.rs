//! Requests that may open a WebSocket to a model API: a GET whose path ends in a segment that such an API has.
//!
//! The `Upgrade` header is userspace's to look for: it may stand anywhere in the head, behind keys of any length, and the
//! path alone leaves next to nothing else over. What has no path ([`Path::of`]), as no handshake of RFC 6455 is so short, is
//! left alone.

use inferscope_common::targets::SOCKET_HASHES;

use crate::path::Path;

/// Whether the message of `len` bytes at `head` is a GET for such a path.
#[inline(always)]
pub fn is_opened(head: u64, len: u64) -> bool {
    let Some(path) = Path::of(head, len, b"GET ") else { return false };
    path.last == SOCKET_HASHES[0] || path.last == SOCKET_HASHES[1]
}
