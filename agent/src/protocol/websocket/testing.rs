//! Writes frames, for tests.

use flate2::{Compress, Compression, FlushCompress};
use inferscope_testing::wire;

/// The mask of every frame.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame with this first byte.
pub(crate) fn frame(first: u8, mask: bool, payload: &[u8]) -> Vec<u8> {
    wire::websocket::frame(first, mask.then_some(KEY), payload)
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
