//! The attach cookie of a TLS function's probes: what the one pair of programs must know about the function.

/// The function returns the count itself (`SSL_read`, `SSL_write`).
pub const COUNT_RETURNED: u8 = 0;
/// The fourth argument points to the count (`SSL_read_ex`, `SSL_write_ex`).
pub const COUNT_FOURTH: u8 = 1;
/// The fifth argument points to the count (`SSL_write_ex2`, OpenSSL 3.3).
pub const COUNT_FIFTH: u8 = 2;

/// Packs a cookie: direction in bits 0 to 7, place of the count in 8 to 15, library in 16 to 23.
pub const fn pack(direction: u8, count_argument: u8, library: u8) -> u64 {
    direction as u64 | (count_argument as u64) << 8 | (library as u64) << 16
}

/// [`READ`](crate::record::READ) or [`WRITE`](crate::record::WRITE).
#[inline(always)]
pub const fn direction(cookie: u64) -> u8 {
    (cookie & 1) as u8
}

/// One of the `COUNT_*` constants.
#[inline(always)]
pub const fn count_argument(cookie: u64) -> u8 {
    (cookie >> 8) as u8
}

/// One of the `SOURCE_*` constants of [`record`](crate::record).
#[inline(always)]
pub const fn library(cookie: u64) -> u8 {
    (cookie >> 16) as u8
}
