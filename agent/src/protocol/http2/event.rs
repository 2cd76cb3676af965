//! What the parser says.

use crate::protocol::head::{Headers, RequestHead, ResponseHead};

/// Something that happened in one direction of a connection. A stream's events come in order; those of different
/// streams are interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A stream's header block is whole.
    Head {
        /// The stream.
        stream: u32,
        /// What it says.
        head: Box<Head>,
    },
    /// Bytes of a stream's body, padding taken off. Never empty.
    Data {
        /// The stream.
        stream: u32,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// So many bytes are missing of a stream's head or body, and of nothing else.
    Gap {
        /// The stream.
        stream: u32,
        /// How many.
        missing: u64,
    },
    /// The sender has nothing more to say on a stream (`END_STREAM`).
    End {
        /// The stream.
        stream: u32,
    },
    /// The sender gives a stream up (`RST_STREAM`).
    Reset {
        /// The stream.
        stream: u32,
        /// Why (RFC 9113 section 7).
        code: u32,
    },
    /// The sender takes no streams beyond this one.
    GoAway {
        /// The last one that it may have acted on.
        last: u32,
    },
    /// The sender takes frames of so many bytes: for [`Parser::allow`](super::Parser::allow) of the other direction.
    Allows {
        /// The largest payload.
        frame: u32,
    },
    /// So many bytes are missing and may have held anything of any stream.
    Lost {
        /// How many; 0 if bytes that are here could not be told apart.
        missing: u64,
    },
    /// Bytes could not be understood.
    Malformed {
        /// The stream; 0 if they belong to the connection.
        stream: u32,
        /// One of [`reason`](super::reason).
        reason: &'static str,
    },
    /// So many bytes were passed over while looking for a frame. Comes once, before the frame that was found or when
    /// the connection closes.
    Skipped(u64),
}

/// A header block's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// A request begins. What is not known of it is empty or absent.
    Request(RequestHead),
    /// A response begins. The status is 0 if it is not known.
    Response(ResponseHead),
    /// What came behind a body; also a block of which nothing says what it is.
    Trailers(Headers),
}

/// `RST_STREAM` and `GOAWAY` code of a stream that is not wanted any more.
pub const CANCEL: u32 = 0x8;
