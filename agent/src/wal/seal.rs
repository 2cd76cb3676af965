//! Encryption at rest: the key's file, and the key of one segment.
//!
//! Owns what may be a key file and how frames are encrypted. A segment's key is HKDF-SHA256 of the master key with the segment's
//! salt, and a frame's nonce is its seq: a seq is in a segment once, so no nonce is used twice under one key. Nothing here is
//! ever printed.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};

use super::format::{FrameHeader, KEY_CHECK_BYTES, SALT_BYTES};

/// Bytes of a master key.
const KEY_BYTES: usize = 32;

/// Largest key file: 64 hex digits and the end of their line.
const MAX_FILE: u64 = 66;

/// What encryption adds to a payload: its checksum and the tag.
pub const SEAL_BYTES: usize = 4 + 16;

/// What the keys are for: other uses of the same master key give other keys.
const PURPOSE: &[u8] = b"inferscope wal 1 frames";

/// What the proof that a key is right is for.
const CHECK: &[u8] = b"inferscope wal 1 check";

/// Why a key file was refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("the key file {} cannot be read", path.display())]
    Read {
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read it.
    #[error(
        "the key file {} has mode {mode:04o}, so that others may read or change it: chmod 0600 or 0400 it, and draw a new key if \
         others had access",
        path.display()
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no key.
    #[error("the key file {} must hold exactly 32 bytes, or 64 hex digits", path.display())]
    Length {
        /// The file.
        path: PathBuf,
    },
}

/// The key that all keys of segments come from.
#[derive(Clone)]
pub struct MasterKey([u8; KEY_BYTES]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl MasterKey {
    /// Reads a key file: 32 bytes as they are, or 64 hex digits with or without an end of line.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let read = |source| KeyError::Read { path: path.to_owned(), source };
        // Without waiting: the path may name a pipe.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            return Err(read(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Mode { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
        Self::parse(&bytes).ok_or_else(|| KeyError::Length { path: path.to_owned() })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        if let Ok(raw) = bytes.try_into() {
            return Some(Self(raw));
        }
        let text = std::str::from_utf8(bytes).ok()?;
        let digits = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if digits.len() != 2 * KEY_BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut key = [0; KEY_BYTES];
        for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(key))
    }

    /// A key for tests.
    #[cfg(test)]
    pub(crate) fn of(byte: u8) -> Self {
        Self([byte; KEY_BYTES])
    }

    /// What a segment's header holds so that a wrong key is known for one.
    pub fn check(&self, salt: &[u8; SALT_BYTES]) -> [u8; KEY_CHECK_BYTES] {
        let mut check = [0; KEY_CHECK_BYTES];
        let filled = Salt::new(HKDF_SHA256, salt)
            .extract(&self.0)
            .expand(&[CHECK], CheckLength)
            .and_then(|okm| okm.fill(&mut check));
        // It fails for lengths that HKDF does not give, and 16 is none of them.
        debug_assert!(filled.is_ok());
        check
    }

    /// The key of the segment with this salt.
    pub fn segment(&self, salt: &[u8; SALT_BYTES]) -> Option<SegmentKey> {
        let prk = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        let okm = prk.expand(&[PURPOSE], &AES_256_GCM).ok()?;
        Some(SegmentKey(Box::new(LessSafeKey::new(UnboundKey::from(okm)))))
    }
}

struct CheckLength;

impl KeyType for CheckLength {
    fn len(&self) -> usize {
        KEY_CHECK_BYTES
    }
}

/// The key of one segment.
#[derive(Clone)]
pub struct SegmentKey(Box<LessSafeKey>);

impl fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentKey(..)")
    }
}

fn nonce(seq: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&seq.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl SegmentKey {
    /// Encrypts a payload into `stored`, which becomes [`SEAL_BYTES`] longer than it. `None` when the library refuses.
    pub fn seal(&self, header: &FrameHeader, payload: &[u8], stored: &mut Vec<u8>) -> Option<()> {
        stored.clear();
        stored.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        stored.extend_from_slice(payload);
        self.0.seal_in_place_append_tag(nonce(header.seq), Aad::from(header.associated()), stored).ok()
    }

    /// The payload of what is stored, and the checksum that it had before it was written; `None` when it was changed.
    pub fn open(&self, header: &FrameHeader, mut stored: Vec<u8>) -> Option<(Vec<u8>, u32)> {
        let plain = self.0.open_in_place(nonce(header.seq), Aad::from(header.associated()), &mut stored).ok()?;
        let (crc, payload) = plain.split_first_chunk::<4>()?;
        let (crc, len) = (u32::from_le_bytes(*crc), payload.len());
        stored.copy_within(4..4 + len, 0);
        stored.truncate(len);
        (crc32c::crc32c(&stored) == crc).then_some((stored, crc))
    }
}
