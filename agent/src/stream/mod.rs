//! Streams: which bytes belong together, and which are missing.
//!
//! Owns stream identity ([`StreamKey`]), reassembly by position ([`Lane`]) and the search for the socket of a TLS stream
//! ([`Binder`]). Knows nothing of what the bytes mean. The kernel side gives every piece its true position, so nothing is sorted or held back here: a step
//! forward is a gap and said so, a step back is a repetition and left out.

mod binder;
mod lane;

pub use binder::{Binder, Finding};
pub use lane::{Lane, Piece};

use crate::record::ObjectId;

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
}

impl StreamKey {
    /// The socket, for a stream that is one.
    pub fn socket(&self) -> Option<ObjectId> {
        match *self {
            Self::Socket(object) => Some(object),
            Self::Tls { .. } => None,
        }
    }

    /// The kernel side's name of the stream.
    pub fn object(&self) -> ObjectId {
        match *self {
            Self::Socket(object) | Self::Tls { object, .. } => object,
        }
    }
}
