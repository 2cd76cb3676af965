//! Why bytes were not understood: the closed set behind [`Event::Malformed`](super::Event::Malformed).

/// The client's direction does not begin with the preface.
pub const PREFACE: &str = "bad http2 preface";
/// Where a frame should begin stands something that is none, or one that must not stand there.
pub const FRAME: &str = "bad http2 frame";
/// A frame is larger than its receiver allows.
pub const FRAME_SIZE: &str = "http2 frame too large";
/// A frame is padded with more bytes than it has.
pub const PADDING: &str = "bad http2 padding";
/// Another frame stands between a header block's.
pub const INTERRUPTED: &str = "interrupted header block";
/// A header block has no end, or one that no program reaches.
pub const BLOCK_SIZE: &str = "header block too large";
/// A header block does not follow RFC 7541.
pub const COMPRESSION: &str = "bad header compression";
/// A header block stands for more fields than are looked at.
pub const TOO_MANY_FIELDS: &str = "too many header fields";
