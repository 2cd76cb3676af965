//! Why bytes were not understood: the closed set behind [`Item::Malformed`](super::Item::Malformed).

/// The lengths contradict each other or are beyond the format's limits.
pub const LENGTHS: &str = "bad lengths of an event stream message";
/// The checksum of the lengths is wrong.
pub const PRELUDE_CHECKSUM: &str = "bad prelude checksum of an event stream message";
/// The checksum of the message is wrong.
pub const CHECKSUM: &str = "bad checksum of an event stream message";
/// The headers do not follow the format.
pub const HEADERS: &str = "bad headers of an event stream message";
