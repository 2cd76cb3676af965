//! `gzip` (RFC 1952): members one after the other, each with a header, deflate data and a trailer.
//!
//! A wrong checksum is told and the bytes are kept: they have been handed out long before it comes.

use flate2::{Crc, Decompress};

use super::{
    deflate::inflate,
    format::{Fault, Format, Step},
    reason,
};

/// Flags of a header (RFC 1952 section 2.3.1).
const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;

/// Decoder of one body.
pub(super) struct Gzip {
    state: State,
    /// Whether a member has ended.
    any: bool,
    flags: u8,
    inflate: Decompress,
    crc: Crc,
}

/// The part of a member that comes next.
#[derive(Clone, Copy)]
enum State {
    /// The fixed part of the header; so many bytes are behind.
    Fixed(u8),
    ExtraLength(Option<u8>),
    Extra(u16),
    Name,
    Comment,
    /// The header's checksum; so many bytes of it are to come.
    HeaderCrc(u8),
    Data,
    Trailer {
        bytes: [u8; 8],
        len: usize,
    },
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self { state: State::Fixed(0), any: false, flags: 0, inflate: Decompress::new(false), crc: Crc::new() }
    }

    /// Takes one byte of a header or trailer.
    fn wrapper(&mut self, byte: u8) -> Option<Fault> {
        self.state = match self.state {
            State::Fixed(at) => {
                let fits = match at {
                    0 => byte == 0x1f,
                    1 => byte == 0x8b,
                    2 => byte == 8,
                    3 => {
                        self.flags = byte;
                        true
                    }
                    _ => true,
                };
                match (fits, at) {
                    (false, _) if self.any => return Some(Fault::Trailing),
                    (false, _) => return Some(Fault::Broken(reason::CORRUPT)),
                    (true, 9) => self.field(FEXTRA),
                    (true, _) => State::Fixed(at + 1),
                }
            }
            State::ExtraLength(None) => State::ExtraLength(Some(byte)),
            State::ExtraLength(Some(low)) => match u16::from_le_bytes([low, byte]) {
                0 => self.field(FNAME),
                len => State::Extra(len),
            },
            State::Extra(left @ 2..) => State::Extra(left - 1),
            State::Extra(_) => self.field(FNAME),
            State::Name if byte == 0 => self.field(FCOMMENT),
            State::Comment if byte == 0 => self.field(FHCRC),
            State::HeaderCrc(2..) => State::HeaderCrc(1),
            State::HeaderCrc(_) => State::Data,
            State::Trailer { mut bytes, len } => {
                if let Some(slot) = bytes.get_mut(len) {
                    *slot = byte;
                }
                if len + 1 < bytes.len() {
                    State::Trailer { bytes, len: len + 1 }
                } else {
                    return self.member_end(bytes);
                }
            }
            state @ (State::Name | State::Comment | State::Data) => state,
        };
        None
    }

    /// The first part of the header from the one with this flag on.
    fn field(&self, from: u8) -> State {
        let has = |flag| self.flags & flag != 0;
        match from {
            FEXTRA if has(FEXTRA) => State::ExtraLength(None),
            FEXTRA => self.field(FNAME),
            FNAME if has(FNAME) => State::Name,
            FNAME => self.field(FCOMMENT),
            FCOMMENT if has(FCOMMENT) => State::Comment,
            FCOMMENT => self.field(FHCRC),
            _ if has(FHCRC) => State::HeaderCrc(2),
            _ => State::Data,
        }
    }

    /// Checks a member's checksum and length (RFC 1952 section 2.3.1) and makes ready for the next one.
    fn member_end(&mut self, trailer: [u8; 8]) -> Option<Fault> {
        let is = u64::from(self.crc.amount()) << 32 | u64::from(self.crc.sum());
        self.inflate.reset(false);
        self.crc.reset();
        (self.state, self.any) = (State::Fixed(0), true);
        (u64::from_le_bytes(trailer) != is).then_some(Fault::Odd(reason::CHECKSUM))
    }
}

impl Format for Gzip {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        if let State::Data = self.state {
            let (step, over) = inflate(&mut self.inflate, input, output);
            self.crc.update(output.get(..step.written).unwrap_or_default());
            if over {
                self.state = State::Trailer { bytes: [0; 8], len: 0 };
            }
            return step;
        }
        let mut step = Step::default();
        for &byte in input {
            step.fault = self.wrapper(byte);
            step.consumed += 1;
            if step.fault.is_some() || matches!(self.state, State::Data) {
                break;
            }
        }
        step
    }

    fn is_whole(&self) -> bool {
        self.any && matches!(self.state, State::Fixed(0))
    }
}
