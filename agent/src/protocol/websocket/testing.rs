//! Writes frames, for tests.

use flate2::{Compress, Compression, FlushCompress};

/// The mask of every frame.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame with this first byte.
pub(crate) fn frame(first: u8, mask: bool, payload: &[u8]) -> Vec<u8> {
    let bit = if mask { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(bit | len as u8),
        len @ 126..65_536 => {
            out.push(bit | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(bit | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    if mask {
        out.extend(KEY);
        out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        out.extend_from_slice(payload);
    }
    out
}

/// Compresses messages as a sender does that keeps its window from message to message, or does not.
pub(crate) fn compress(messages: &[&[u8]], takeover: bool) -> Vec<Vec<u8>> {
    let mut compress = Compress::new(Compression::default(), false);
    let mut out = Vec::new();
    for message in messages {
        let mut bytes = Vec::with_capacity(message.len() + 100);
        let before = compress.total_in();
        while (compress.total_in() - before) < message.len() as u64 || bytes.len() == bytes.capacity() {
            bytes.reserve(1_000);
            let rest = &message[(compress.total_in() - before) as usize..];
            compress.compress_vec(rest, &mut bytes, FlushCompress::Sync).unwrap();
        }
        if message.is_empty() {
            bytes = vec![0, 0, 0, 0xff, 0xff];
        }
        assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]));
        bytes.truncate(bytes.len() - 4);
        out.push(bytes);
        if !takeover {
            compress.reset();
        }
    }
    out
}
