//! The attach cookie of the probes in CUDA's runtime: what a function does. The file's slot is in the upper half, as in
//! [`tls_cookie`](crate::tls_cookie).

/// Launches a graph; its return is not probed.
pub const LAUNCH: u8 = 0;
/// Waits for what was launched.
pub const WAIT: u8 = 1;
/// Allocates memory of a GPU: the second argument is how much.
pub const ALLOCATE: u8 = 2;

/// One of the above.
#[inline(always)]
pub const fn what(cookie: u64) -> u8 {
    cookie as u8
}
