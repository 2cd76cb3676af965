//! Streams: which bytes belong together, and which are missing.
//!
//! Owns stream identity ([`StreamKey`]), reassembly by position ([`Lane`]), the search for the socket of a TLS stream
//! ([`Binder`]) and the joining of streams that are one direction each ([`Halves`]). Knows nothing of what the bytes mean. The kernel side gives every piece its true position, so nothing is sorted or held back here: a step
//! forward is a gap and said so, a step back is a repetition and left out.

mod binder;
mod halves;
mod lane;

pub use binder::{Binder, Finding, Plain};
pub use halves::{Halves, Held, Pair, Route};
pub use lane::{Lane, Piece};

use crate::record::{Direction, ObjectId};

/// A stream as the pipeline tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamKey {
    /// A socket's own bytes.
    Socket(ObjectId),
    /// The plaintext of a TLS connection. After a fork the same object lives in two processes, so the process is
    /// part of the identity.
    Tls {
        /// Thread group.
        tgid: u32,
        /// The library's object.
        object: ObjectId,
    },
    /// The plaintext of one direction of a TLS connection. Its two halves are given out as one [`StreamKey::Tls`].
    Half {
        /// Thread group.
        tgid: u32,
        /// The library's object.
        object: ObjectId,
        /// Direction.
        direction: Direction,
    },
}

impl StreamKey {
    /// The socket, for a stream that is one.
    pub fn socket(&self) -> Option<ObjectId> {
        match *self {
            Self::Socket(object) => Some(object),
            Self::Tls { .. } | Self::Half { .. } => None,
        }
    }

    /// The direction, for a stream that is only one.
    pub fn half(&self) -> Option<Direction> {
        match *self {
            Self::Half { direction, .. } => Some(direction),
            Self::Socket(_) | Self::Tls { .. } => None,
        }
    }

    /// The kernel side's name of the stream.
    pub fn object(&self) -> ObjectId {
        match *self {
            Self::Socket(object) | Self::Tls { object, .. } | Self::Half { object, .. } => object,
        }
    }
}
