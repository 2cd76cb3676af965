//! What the programs must know of a probed place in a Go function, beyond what fits into an attach cookie.
//!
//! Go's functions take and return in registers and move their stacks, so nothing can be remembered by stack address or by
//! thread, and return probes are out of the question. What stands where on the stack is read from the code, once per file.

use crate::probe_stats::MAX_FILES;

/// Places of one file at most. Go 1.26 has eight returns in `Read`, and no version has more.
pub const PLACES_PER_FILE: u32 = 32;

/// Length of the `GO_PLACES` map.
pub const MAX_PLACES: u32 = MAX_FILES * PLACES_PER_FILE;

/// [`GoPlace::flags`]: the count of bytes is on the stack, not in `rax`.
pub const COUNT_ON_STACK: u32 = 1;
/// [`GoPlace::flags`]: the function keeps its arguments where its caller reserves room for them, to its end.
pub const ARGUMENTS_KEPT: u32 = 2;
/// [`GoPlace::flags`]: the place is in a function that is called when the probed one ends.
pub const DEFERRED: u32 = 4;

/// Value of the `GO_PLACES` map; the index is [`index`]. Addresses are told as distances from the probed instruction, because a
/// position-independent program is mapped anywhere.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoPlace {
    /// To the method table of `*net.TCPConn` as a `net.Conn`; 0 if it is not known.
    pub itab: i64,
    /// With [`DEFERRED`]: to the first byte of the function that ends.
    pub function: i64,
    /// With [`DEFERRED`]: its length.
    pub function_len: u32,
    /// From the stack pointer to the function's return address.
    pub frame: u32,
    /// With [`COUNT_ON_STACK`]: from the count to the function's return address.
    pub count: u32,
    /// With [`DEFERRED`]: from the stack pointer to the return address of the function that is called.
    pub called_from: u32,
    /// Some of the constants above.
    pub flags: u32,
    /// Zero.
    pub pad: u32,
}

/// Where the map has a place.
#[inline(always)]
pub const fn index(file: u32, place: u8) -> u32 {
    file * PLACES_PER_FILE + place as u32
}

const _: () = {
    assert!(size_of::<GoPlace>() == 40);
    assert!(PLACES_PER_FILE <= 1 << 8);
};
