//! What a compressed format has to do.

use super::{Coding, br::Br, deflate::Deflate, gzip::Gzip, zstd::Zstd};

/// Size of the buffer that a decoder writes to. Not less than deflate's window: its decoder drops what it has not
/// handed out when it finds a fault.
pub(in crate::protocol) const OUTPUT: usize = 32 * 1024;

/// A decoder of one compressed format.
pub(super) trait Format: Send {
    /// Decodes some of `input` into `output`. Uses up all input that it can without filling the output.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step;

    /// Whether the encoded data may end here.
    fn is_whole(&self) -> bool;
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol) struct Step {
    /// Bytes of the input that are used up.
    pub consumed: usize,
    /// Bytes of the output that were written, before the fault if there is one.
    pub written: usize,
    /// What is wrong.
    pub fault: Option<Fault>,
}

/// What is wrong with encoded data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol) enum Fault {
    /// Decoding goes on.
    Odd(&'static str),
    /// The data was whole before this; nothing more is decoded.
    Trailing,
    /// Decoding cannot go on.
    Broken(&'static str),
}

impl Coding {
    /// The decoder of a body that begins with `start`.
    pub(super) fn decoder(self, start: &[u8]) -> Box<dyn Format> {
        match self {
            Self::Gzip => Box::new(Gzip::new()),
            Self::Deflate => Box::new(Deflate::new(start)),
            Self::Br => Box::new(Br::new()),
            Self::Zstd => Box::new(Zstd::new()),
        }
    }
}
