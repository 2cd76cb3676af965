//! The attach cookie of a TLS function's probes: what the programs must know about the function.
//!
//! | bits | holds |
//! |---|---|
//! | 0 to 7 | direction |
//! | 8 to 15 | shape: where the count of bytes is |
//! | 16 to 23 | library |
//! | 24 to 31 | number of the place in [`crate::go_place`], for Go |
//! | 32 to 63 | slot of the file in [`crate::probe_stats`] |

use crate::record::SOURCE_GO;

/// The function returns the count itself as an `int` (`SSL_read`, `SSL_write`).
pub const COUNT_RETURNED: u8 = 0;
/// The fourth argument points to the count (`SSL_read_ex`, `SSL_write_ex`).
pub const COUNT_FOURTH: u8 = 1;
/// The fifth argument points to the count (`SSL_write_ex2`, OpenSSL 3.3).
pub const COUNT_FIFTH: u8 = 2;
/// The function returns the count itself as an `ssize_t` (`gnutls_record_recv`).
pub const COUNT_RETURNED_LONG: u8 = 3;

/// `EVP_AEAD_CTX_seal` of BoringSSL and aws-lc, and its three neighbours: functions below TLS, which have arguments of their
/// own and no count. See `agent-ebpf/src/aead.rs`.
pub const AEAD_SEAL: u8 = 4;
/// `EVP_AEAD_CTX_seal_scatter`
pub const AEAD_SEAL_SCATTER: u8 = 5;
/// `EVP_AEAD_CTX_open`
pub const AEAD_OPEN: u8 = 6;
/// `EVP_AEAD_CTX_open_gather`
pub const AEAD_OPEN_GATHER: u8 = 7;

/// Packs a cookie; the file's slot is added by [`with_file`] when the file has one.
pub const fn pack(direction: u8, count: u8, library: u8) -> u64 {
    direction as u64 | (count as u64) << 8 | (library as u64) << 16
}

/// Packs the cookie of a Go function's probe.
pub const fn pack_go(direction: u8, place: u8) -> u64 {
    pack(direction, COUNT_RETURNED_LONG, SOURCE_GO) | (place as u64) << 24
}

/// The cookie with the slot of its file.
pub const fn with_file(cookie: u64, slot: u32) -> u64 {
    cookie & 0xffff_ffff | (slot as u64) << 32
}

/// [`READ`](crate::record::READ) or [`WRITE`](crate::record::WRITE).
#[inline(always)]
pub const fn direction(cookie: u64) -> u8 {
    (cookie & 1) as u8
}

/// One of the `COUNT_*` constants.
#[inline(always)]
pub const fn count(cookie: u64) -> u8 {
    (cookie >> 8) as u8
}

/// One of the `SOURCE_*` constants of [`record`](crate::record).
#[inline(always)]
pub const fn library(cookie: u64) -> u8 {
    (cookie >> 16) as u8
}

/// Number of the place in [`crate::go_place`].
#[inline(always)]
pub const fn place(cookie: u64) -> u8 {
    (cookie >> 24) as u8
}

/// Slot of the file in [`crate::probe_stats`].
#[inline(always)]
pub const fn file(cookie: u64) -> u32 {
    (cookie >> 32) as u32
}
