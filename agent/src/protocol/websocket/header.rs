//! A frame's header (RFC 6455 section 5.2).

use super::reason;

/// Longest header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// Longest payload of a control frame (RFC 6455 section 5.5).
const MAX_CONTROL: u64 = 125;

/// A header under construction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The frame ends its message.
    pub fin: bool,
    /// The first reserved bit.
    pub rsv1: bool,
    pub opcode: Opcode,
    /// Bytes of the payload.
    pub length: u64,
    pub mask: Option<[u8; 4]>,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// Whether the frame stands outside messages.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl Held {
    /// Takes one byte; gives the header when it is whole.
    pub(super) fn take(&mut self, byte: u8) -> Result<Option<Header>, &'static str> {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
        }
        self.len += 1;
        let header = read(self.bytes.get(..self.len).unwrap_or_default())?;
        if header.is_some() {
            self.len = 0;
        }
        Ok(header)
    }
}

/// Reads the beginning of a frame; nothing while it is too short.
fn read(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let [first, second, ref rest @ ..] = *bytes else { return Ok(None) };
    let opcode = match first & 0x0f {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xa => Opcode::Pong,
        _ => return Err(reason::OPCODE),
    };
    let (fin, rsv1) = (first & 0x80 != 0, first & 0x40 != 0);
    if first & 0x30 != 0 {
        return Err(reason::RESERVED);
    }
    let (length, rest) = match (second & 0x7f, rest) {
        (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
        (127, [a, b, c, d, e, f, g, h, rest @ ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest),
        (126 | 127, _) => return Ok(None),
        (short, rest) => (u64::from(short), rest),
    };
    let shortest = match second & 0x7f {
        126 => 126..=u64::from(u16::MAX),
        127 => u64::from(u16::MAX) + 1..=u64::MAX >> 1,
        _ => 0..=125,
    };
    if !shortest.contains(&length) {
        return Err(reason::LENGTH);
    }
    if opcode.is_control() && (!fin || length > MAX_CONTROL) {
        return Err(reason::CONTROL);
    }
    let mask = match (second & 0x80 != 0, rest.first_chunk()) {
        (false, _) => None,
        (true, Some(mask)) => Some(*mask),
        (true, None) => return Ok(None),
    };
    Ok(Some(Header { fin, rsv1, opcode, length, mask }))
}
