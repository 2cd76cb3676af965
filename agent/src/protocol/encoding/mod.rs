//! Content codings (RFC 9110 section 8.4): the bytes of an encoded body in, the body's own bytes out.
//!
//! Owns gzip, deflate, br and zstd, two of them at most on one body, and the bounds on what a body may unpack to.
//! What a server flushes comes out with the push that carried it: an event of a compressed event stream keeps its
//! time. Leaves to others: transfer encodings (`http1`) and what the body means (`llm`).
//!
//! A label is checked against the bytes: a body that does not begin as its coding does is passed on as it is, or
//! decoded as what it shows to be, and marked ([`Event::Odd`]). A body without a label is looked at too: some clients
//! compress and say so in a header of their own, as SGLang's do with `x-body-compressed`.
//!
//! Memory: nothing before the first byte that is encoded, then for each coding its window (32 KiB for gzip and
//! deflate, up to 16 MiB for br, up to 8 MiB for zstd) and a buffer of 32 KiB.
//!
//! To add a coding: 1. one file with a type that implements `Format`; 2. its variant and names in [`Coding`]; 3. how
//! its bodies begin, in `sniff.rs`; 4. its compressor in `tests.rs`, where every property then holds for it.

mod br;
mod chain;
mod deflate;
mod format;
mod gzip;
mod meter;
pub mod reason;
mod sniff;
mod stage;
#[cfg(test)]
mod tests;
mod zstd;

pub use chain::{Decoder, Unsupported};
// For the messages of a WebSocket, which are deflate data too.
pub(super) use deflate::inflate;
pub(super) use format::OUTPUT;
pub(super) use meter::Meter;

/// A content coding that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 alone, which some servers send under the same name.
    Deflate,
    /// RFC 7932.
    Br,
    /// RFC 8878 with the window of RFC 9659.
    Zstd,
}

impl Coding {
    /// The coding with this name in lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "br" => Self::Br,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }
}

/// What comes out of a [`Decoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Decoded bytes. Never empty.
    Data(&'a [u8]),
    /// Something is not as it should be and the body can be read nevertheless; one of [`reason`].
    Odd(&'static str),
    /// Nothing more comes out; one of [`reason`]. Comes once.
    Stopped(&'static str),
}
