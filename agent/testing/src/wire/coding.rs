//! Content codings, with a flush behind each piece.

use std::io::Write;

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, zstd_sys::ZSTD_EndDirective as Directive};

/// Window of br and zstd as a power of two. Small, so that a test can have thousands of decoders.
const WINDOW: u32 = 16;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// None.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950.
    Deflate,
    /// RFC 7932.
    Br,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Identity, Self::Gzip, Self::Deflate, Self::Br, Self::Zstd];

    /// The name in `Content-Encoding`, where one is sent.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Br => Some("br"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// What comes out behind each piece; behind the last one also what ends the coding.
    pub fn encode(self, pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let level = Compression::default();
        let (mut out, end) = match self {
            Self::Identity => (pieces.to_vec(), Vec::new()),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                let out = flushed(pieces, &mut encoder, |encoder| std::mem::take(encoder.get_mut()));
                (out, encoder.finish().expect("memory takes it"))
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                let out = flushed(pieces, &mut encoder, |encoder| std::mem::take(encoder.get_mut()));
                (out, encoder.finish().expect("memory takes it"))
            }
            Self::Br => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, WINDOW);
                let out = flushed(pieces, &mut encoder, |encoder| std::mem::take(encoder.get_mut()));
                (out, encoder.into_inner())
            }
            Self::Zstd => return zstd(pieces),
        };
        if let Some(last) = out.last_mut() {
            last.extend(end);
        }
        out
    }
}

fn flushed<W: Write>(pieces: &[Vec<u8>], encoder: &mut W, take: impl Fn(&mut W) -> Vec<u8>) -> Vec<Vec<u8>> {
    let each = pieces.iter().map(|piece| {
        encoder.write_all(piece).expect("memory takes it");
        encoder.flush().expect("memory takes it");
        take(encoder)
    });
    each.collect()
}

fn zstd(pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut encoder = CCtx::create();
    encoder.set_parameter(CParameter::WindowLog(WINDOW)).expect("a window that there is");
    encoder.set_parameter(CParameter::ChecksumFlag(true)).expect("a flag that there is");
    let mut out = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let directive = if at + 1 == pieces.len() { Directive::ZSTD_e_end } else { Directive::ZSTD_e_flush };
        let mut buffer = vec![0; zstd_safe::compress_bound(piece.len()) + 64];
        let mut target = OutBuffer::around(&mut buffer[..]);
        let left = encoder.compress_stream2(&mut target, &mut InBuffer::around(piece), directive);
        assert_eq!(left, Ok(0), "the buffer is large enough");
        let written = target.pos();
        buffer.truncate(written);
        out.push(buffer);
    }
    out
}
