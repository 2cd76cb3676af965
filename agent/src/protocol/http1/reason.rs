//! Why bytes were not understood: the closed set behind [`Event::Malformed`](super::Event::Malformed).

/// Where a message should begin stands something else.
pub const NO_MESSAGE: &str = "no message start";
/// The head is larger than 64 KiB.
pub const HEAD_TOO_LARGE: &str = "head too large";
/// The head has more than 128 header lines.
pub const TOO_MANY_HEADERS: &str = "too many headers";
/// The head does not follow the grammar.
pub const BAD_HEAD: &str = "bad head";
/// The version is not HTTP/1.0 or HTTP/1.1.
pub const BAD_VERSION: &str = "bad version";
/// The content lengths contradict each other or are no numbers.
pub const CONTENT_LENGTH: &str = "bad content-length";
/// A request whose transfer encodings do not end in `chunked` has no known end.
pub const TRANSFER_ENCODING: &str = "bad transfer-encoding";
/// A chunk's size is no hexadecimal number of 64 bits.
pub const CHUNK_SIZE: &str = "bad chunk size";
/// A chunk's size line with its extensions is longer than 4 KiB.
pub const CHUNK_LINE: &str = "chunk line too long";
/// A chunk's data is not followed by a line end.
pub const CHUNK_END: &str = "bad chunk end";
/// The trailers are larger than 16 KiB.
pub const TRAILERS: &str = "trailers too large";
