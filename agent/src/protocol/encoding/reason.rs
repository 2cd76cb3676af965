//! Why a body is odd or could not be decoded: the closed set behind [`Event::Odd`](super::Event::Odd) and
//! [`Event::Stopped`](super::Event::Stopped).

/// The body is not encoded as its label says; it is read as what its first bytes show.
pub const MISLABELLED: &str = "content encoding is not what the label says";
/// Something follows the end of the encoded data; it is passed over.
pub const TRAILING: &str = "bytes after the encoded body";
/// The checksum or length at the end of a gzip member does not fit what was decoded.
pub const CHECKSUM: &str = "bad checksum of the encoded body";
/// There is no memory for a decoder.
pub const MEMORY: &str = "no memory to decode the body";
/// The encoded data breaks its format's rules.
pub const CORRUPT: &str = "encoded body is damaged";
/// The encoded data needs a larger window than RFC 9659 allows.
pub const WINDOW: &str = "window of the encoded body is too large";
/// The body unpacks to more than is read of one.
pub const TOO_LARGE: &str = "decoded body is too large";
/// The body unpacks to more than any real body of its size does.
pub const BOMB: &str = "decoded body is out of proportion";
/// The body ends before its encoded data does.
pub const TRUNCATED: &str = "encoded body ends early";
/// Bytes are missing, and what follows cannot be decoded without them.
pub const GAP: &str = "bytes are missing in an encoded body";
