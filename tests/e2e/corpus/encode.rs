//! Bodies as they travel: with a content encoding, in the pieces that a server flushes.

use std::io::Write as _;

use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use inferscope_tests::corpus::Message;

/// A content encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// None.
    Identity,
    /// `gzip` (RFC 1952).
    Gzip,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
}

/// Compression levels of servers that compress while they answer.
const BROTLI_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// Window of 4 MiB: what encoders for the web use at most.
const BROTLI_WINDOW_BITS: u32 = 22;

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Gzip, Self::Brotli, Self::Zstd];

    /// For names of scenarios.
    pub fn name(self) -> &'static str {
        self.token().unwrap_or("identity")
    }

    /// The value of `content-encoding`.
    pub fn token(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// The encoding of a message: what has no body is not encoded.
    pub fn on(self, message: &Message) -> Self {
        if message.body.is_empty() { Self::Identity } else { self }
    }

    /// The body's bytes, a piece for each flush: what was flushed can be decoded without what follows.
    pub fn pieces(self, message: &Message) -> Result<Vec<Vec<u8>>> {
        let units = units(message);
        match self.on(message) {
            Self::Identity => Ok(units.into_iter().map(<[u8]>::to_vec).collect()),
            Self::Gzip => {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
                let mut pieces = Vec::new();
                for unit in units {
                    gzip.write_all(unit)?;
                    gzip.flush()?;
                    pieces.push(std::mem::take(gzip.get_mut()));
                }
                pieces.push(gzip.finish()?);
                Ok(pieces)
            }
            Self::Brotli => {
                let buffer = 4096;
                let mut brotli = brotli::CompressorWriter::new(Vec::new(), buffer, BROTLI_QUALITY, BROTLI_WINDOW_BITS);
                let mut pieces = Vec::new();
                for unit in units {
                    brotli.write_all(unit)?;
                    brotli.flush()?;
                    pieces.push(std::mem::take(brotli.get_mut()));
                }
                // The end of the stream is written when the writer is given up.
                pieces.push(brotli.into_inner());
                Ok(pieces)
            }
            Self::Zstd => {
                let mut zstd = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                let mut pieces = Vec::new();
                for unit in units {
                    zstd.write_all(unit)?;
                    zstd.flush()?;
                    pieces.push(std::mem::take(zstd.get_mut()));
                }
                pieces.push(zstd.finish()?);
                Ok(pieces)
            }
        }
    }
}

/// What a server writes at one time: an event of a stream, or the whole body.
fn units(message: &Message) -> Vec<&[u8]> {
    if !message.is_sse() {
        return vec![&message.body];
    }
    let mut units = Vec::new();
    let mut rest = &message.body[..];
    while let Some(at) = rest.windows(2).position(|two| two == b"\n\n" || two == b"\n\r") {
        let (unit, after) = rest.split_at(at + 2);
        units.push(unit);
        rest = after;
    }
    units.push(rest);
    units
}
