//! How a body is framed (RFC 9112 sections 6 and 7).
//!
//! Owns the position inside one body. Takes a bare line feed for a line end, as RFC 9112 section 2.2 allows.

use memchr::memchr;

use super::reason;

/// Longest size line of a chunk, extensions included. No program of today sends extensions at all.
const MAX_CHUNK_LINE: usize = 4 * 1024;

/// Largest trailer section. Trailers are passed over; a few hundred bytes are usual where there are any.
const MAX_TRAILERS: usize = 16 * 1024;

/// A body on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes are to come; none for a message without a body.
    Length(u64),
    /// Chunked transfer encoding.
    Chunked(Chunk),
    /// Up to the end of the connection.
    UntilClose,
}

/// Position inside the chunked encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the digits of a size; `line` bytes into the line.
    Size { size: u64, line: usize },
    /// Behind the digits.
    Extension { size: u64, line: usize },
    /// So many bytes of the chunk's data are to come.
    Data(u64),
    /// At the line end behind the data.
    DataEnd { cr: bool },
    /// Behind the last chunk. `text` says that the line at hand is not an empty one.
    Trailers { text: bool, total: usize },
}

impl Chunk {
    /// Where the encoding begins.
    pub(super) const START: Self = Self::Size { size: 0, line: 0 };
}

/// What the next bytes of a body are.
pub(super) enum Piece<'a> {
    /// Content.
    Data(&'a [u8]),
    /// The input is used up.
    More,
    /// The body is over.
    End,
    /// The framing is broken.
    Bad(&'static str),
}

impl Body {
    /// Takes one piece off `input`.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Piece<'a> {
        match self {
            Self::Length(0) => Piece::End,
            Self::Length(left) => take(left, input),
            Self::Chunked(chunk) => chunk.next(input),
            Self::UntilClose => {
                let mut endless = u64::MAX;
                take(&mut endless, input)
            }
        }
    }

    /// Passes over `len` bytes that are missing; false when the position cannot be known any more.
    pub(super) fn gap(&mut self, len: u64) -> bool {
        match self {
            Self::Length(left) | Self::Chunked(Chunk::Data(left)) if len <= *left => {
                *left -= len;
                true
            }
            Self::UntilClose => true,
            Self::Length(_) | Self::Chunked(_) => false,
        }
    }
}

impl Chunk {
    fn next<'a>(&mut self, input: &mut &'a [u8]) -> Piece<'a> {
        loop {
            match self {
                Self::Data(0) => *self = Self::DataEnd { cr: false },
                Self::Data(left) => return take(left, input),
                _ => {
                    let Some((&byte, rest)) = input.split_first() else { return Piece::More };
                    match self.framing(byte, rest) {
                        Ok(Some(left)) => *input = left,
                        Ok(None) => {
                            *input = rest;
                            return Piece::End;
                        }
                        Err(reason) => return Piece::Bad(reason),
                    }
                }
            }
        }
    }

    /// Takes `byte`, and more of `rest` where that is quicker; gives what is left, or none when the body is over.
    fn framing<'a>(&mut self, byte: u8, mut rest: &'a [u8]) -> Result<Option<&'a [u8]>, &'static str> {
        match *self {
            Self::Size { line: MAX_CHUNK_LINE.., .. } | Self::Extension { line: MAX_CHUNK_LINE.., .. }
                if byte != b'\n' =>
            {
                return Err(reason::CHUNK_LINE);
            }
            Self::Size { size, line } => match (char::from(byte).to_digit(16), byte) {
                (Some(digit), _) if size >> 60 == 0 => {
                    *self = Self::Size { size: size << 4 | u64::from(digit), line: line + 1 };
                }
                (Some(_), _) => return Err(reason::CHUNK_SIZE),
                (None, _) if line == 0 => return Err(reason::CHUNK_SIZE),
                (None, b'\n') => *self = Self::after_size(size),
                (None, b';' | b'\r' | b' ' | b'\t') => *self = Self::Extension { size, line: line + 1 },
                (None, _) => return Err(reason::CHUNK_SIZE),
            },
            Self::Extension { size, .. } if byte == b'\n' => *self = Self::after_size(size),
            Self::Extension { size, line } => {
                let n = memchr(b'\n', rest).unwrap_or(rest.len()).min(MAX_CHUNK_LINE - line - 1);
                *self = Self::Extension { size, line: line + 1 + n };
                rest = &rest[n..];
            }
            Self::DataEnd { cr: false } if byte == b'\r' => *self = Self::DataEnd { cr: true },
            Self::DataEnd { .. } if byte == b'\n' => *self = Self::START,
            Self::DataEnd { .. } => return Err(reason::CHUNK_END),
            Self::Trailers { text: false, .. } if byte == b'\n' => return Ok(None),
            Self::Trailers { total: MAX_TRAILERS.., .. } => return Err(reason::TRAILERS),
            Self::Trailers { text, total } => {
                // A carriage return belongs to the line end; one that does not is no harm here.
                let text = byte != b'\n' && (text || byte != b'\r');
                *self = Self::Trailers { text, total: total + 1 };
            }
            // Handled by the caller, who has the input.
            Self::Data(_) => {}
        }
        Ok(Some(rest))
    }

    fn after_size(size: u64) -> Self {
        if size == 0 { Self::Trailers { text: false, total: 0 } } else { Self::Data(size) }
    }
}

fn take<'a>(left: &mut u64, input: &mut &'a [u8]) -> Piece<'a> {
    if input.is_empty() {
        return Piece::More;
    }
    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    let (data, rest) = input.split_at(n);
    *left -= n as u64;
    *input = rest;
    Piece::Data(data)
}
