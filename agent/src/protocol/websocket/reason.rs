//! Why frames or messages were not understood: the closed set behind [`Event::Lost`](super::Event::Lost) and
//! [`End::Damaged`](super::End::Damaged), and what the socket's owner has to say beside them.

/// Missing bytes reach a frame's header.
pub const GAP: &str = "bytes are missing between websocket frames";
/// An opcode that RFC 6455 does not define.
pub const OPCODE: &str = "unknown websocket opcode";
/// A reserved bit that no extension was agreed on for.
pub const RESERVED: &str = "reserved bit in a websocket frame";
/// A client's frame without a mask, or a server's with one.
pub const MASK: &str = "websocket frame with the other side's masking";
/// A length that is not written in its shortest form or has its highest bit set.
pub const LENGTH: &str = "bad length of a websocket frame";
/// A control frame that is fragmented or longer than 125 bytes.
pub const CONTROL: &str = "bad websocket control frame";
/// A message inside a message, or a continuation of none.
pub const FRAGMENT: &str = "websocket fragment out of order";
/// The compressed data breaks its format's rules.
pub const CORRUPT: &str = "websocket message is damaged";
/// Bytes are missing that the rest of the compressed data may refer to.
pub const CONTEXT: &str = "bytes are missing before a compressed websocket message";
/// The two ends agreed on an extension that is not known.
pub const EXTENSION: &str = "unknown websocket extension";
/// A message is larger than is read.
pub const OVERSIZE: &str = "a websocket message is larger than is read";
/// The messages unpack to more than any real ones of their size do.
pub const BOMB: &str = "websocket messages are out of proportion";
