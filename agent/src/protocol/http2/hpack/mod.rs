//! Header compression (RFC 7541), the reading side, for somebody who only listens.
//!
//! Owns the representations and the tables. Keeps values of listed names only ([`listed`]), in the dynamic table too:
//! of everything else the sizes are enough to keep the table right. What it decodes is overwritten when it has been
//! given out.
//!
//! **How far it can be trusted.** Who has seen a direction from its beginning knows every field. After missing bytes,
//! or when a connection is joined in its middle, the table is unknown: a field that stands in it is
//! [`Name::Unknown`], or has an unknown value, until it is sent in full again. What is inserted from then on is known for
//! good, because positions count from the newest entry. So a field may be missing, but none has another one's value,
//! as long as the encoder keeps to the RFC and every missing byte is told ([`Decoder::forget`]).

mod huffman;
mod static_table;
mod table;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use static_table::STATIC;
use table::{Entry, Table};

use super::{fields::listed, reason};
use crate::protocol::{
    head::{MAX_PATH, MAX_VALUE},
    wiped::wipe,
};

/// A field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// One that may be known.
    Listed(&'static str),
    /// Any other.
    Other,
    /// It stands in a part of the table that was not seen.
    Unknown,
}

/// A field of a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Its name.
    pub name: Name,
    /// The beginning of its value; absent if it is unknown, or its name is not listed.
    pub value: Option<&'a [u8]>,
    /// Bytes of name and value, as far as they are known.
    pub bytes: usize,
}

/// Longest name that can be a listed one.
const MAX_NAME: usize = 64;

/// Largest integer. Nothing that is counted here is longer than a block.
const MAX_INTEGER: usize = 1 << 28;

/// One direction of a connection.
pub(super) struct Decoder {
    table: Table,
}

impl Decoder {
    /// A decoder that sees the direction from its beginning.
    pub fn new() -> Self {
        Self { table: Table::new() }
    }

    /// Blocks were missed, or will be.
    pub fn forget(&mut self) {
        self.table.forget();
    }

    /// Decodes a whole block. After an error the table is unknown.
    pub fn decode(&mut self, block: &[u8], sink: &mut dyn FnMut(Field<'_>)) -> Result<(), &'static str> {
        let mut rest = block;
        while !rest.is_empty() {
            if self.field(&mut rest, sink).is_none() {
                self.forget();
                return Err(reason::COMPRESSION);
            }
        }
        Ok(())
    }

    /// One representation (RFC 7541 section 6); nothing if it is none.
    fn field(&mut self, rest: &mut &[u8], sink: &mut dyn FnMut(Field<'_>)) -> Option<()> {
        let first = *rest.first()?;
        match first {
            0x80.. => self.indexed(integer(rest, 7)?, sink),
            0x40.. => self.literal(rest, 6, true, sink),
            0x20.. => {
                self.table.resize(integer(rest, 5)?);
                Some(())
            }
            _ => self.literal(rest, 4, false, sink),
        }
    }

    fn indexed(&self, index: usize, sink: &mut dyn FnMut(Field<'_>)) -> Option<()> {
        let position = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(position) {
            let bytes = name.len() + value.len();
            let field = match listed(name.as_bytes()) {
                Some(name) => Field { name: Name::Listed(name), value: Some(value.as_bytes()), bytes },
                None => Field { name: Name::Other, value: None, bytes },
            };
            sink(field);
            return Some(());
        }
        sink(match self.table.get(position - STATIC.len()) {
            Some(entry) => Field { name: entry.name, value: entry.value.as_deref(), bytes: entry.bytes },
            None => Field { name: Name::Unknown, value: None, bytes: 0 },
        });
        Some(())
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix: u8,
        is_inserted: bool,
        sink: &mut dyn FnMut(Field<'_>),
    ) -> Option<()> {
        let (name, name_bytes) = match integer(rest, prefix)?.checked_sub(1) {
            None => literal_name(rest)?,
            Some(position) => self.name_at(position),
        };
        let coded = Coded::take(rest)?;
        let mut room = [0; MAX_PATH];
        // Of a value that is nobody's business only the length is wanted.
        let room = if let Name::Listed(_) = name { &mut room[..] } else { &mut room[..0] };
        let Some((value, len)) = coded.text(room) else {
            wipe(room);
            return None;
        };
        let bytes = name_bytes.saturating_add(len);
        let value = match name {
            Name::Listed(name) => clean(name, value),
            Name::Other | Name::Unknown => None,
        };
        sink(Field { name, value, bytes });
        if is_inserted {
            self.table.insert(Entry { name, value: value.map(Into::into), name_bytes, bytes });
        }
        wipe(room);
        Some(())
    }

    fn name_at(&self, position: usize) -> (Name, usize) {
        if let Some((name, _)) = STATIC.get(position) {
            return (listed(name.as_bytes()).map_or(Name::Other, Name::Listed), name.len());
        }
        let entry = self.table.get(position.saturating_sub(STATIC.len()));
        entry.map_or((Name::Unknown, 0), |entry| (entry.name, entry.name_bytes))
    }
}

/// A name that is written out.
fn literal_name(rest: &mut &[u8]) -> Option<(Name, usize)> {
    let mut room = [0; MAX_NAME];
    let (name, len) = Coded::take(rest)?.text(&mut room)?;
    let known = if len == name.len() { listed(name) } else { None };
    Some((known.map_or(Name::Other, Name::Listed), len))
}

/// What may be kept of a listed value: queries and user names may be credentials.
fn clean<'a>(name: &str, value: &'a [u8]) -> Option<&'a [u8]> {
    let (max, value) = match name {
        ":path" => (MAX_PATH, value.split(|byte| matches!(byte, b'?' | b'#')).next()?),
        // The name of the host stands last, so a part would be the wrong part.
        ":authority" | "host" if value.len() > MAX_VALUE => return None,
        ":authority" | "host" => (MAX_VALUE, value.rsplit(|&byte| byte == b'@').next()?),
        _ => (MAX_VALUE, value),
    };
    Some(value.get(..max).unwrap_or(value))
}

/// A string as it stands in a block (RFC 7541 section 5.2).
struct Coded<'a> {
    bytes: &'a [u8],
    is_huffman: bool,
}

impl<'a> Coded<'a> {
    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let is_huffman = rest.first()? & 0x80 != 0;
        let len = integer(rest, 7)?;
        let (bytes, after) = rest.split_at_checked(len)?;
        *rest = after;
        Some(Self { bytes, is_huffman })
    }

    /// The beginning of the string, which may be put into `room`, and the whole string's length.
    fn text<'b>(&self, room: &'b mut [u8]) -> Option<(&'b [u8], usize)>
    where
        'a: 'b,
    {
        if !self.is_huffman {
            return Some((self.bytes, self.bytes.len()));
        }
        let len = huffman::decode(self.bytes, room)?;
        Some((room.get(..len).unwrap_or(room), len))
    }
}

/// An integer with a prefix of so many bits (RFC 7541 section 5.1).
fn integer(rest: &mut &[u8], prefix: u8) -> Option<usize> {
    let mask = (1u8 << prefix) - 1;
    let (&first, mut after) = rest.split_first()?;
    let mut value = usize::from(first & mask);
    if first & mask == mask {
        let mut shift = 0;
        loop {
            let (&byte, next) = after.split_first()?;
            after = next;
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if value > MAX_INTEGER || shift > 28 {
                return None;
            }
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = after;
    Some(value)
}
