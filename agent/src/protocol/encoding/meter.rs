//! How much has been decoded of a body, and whether that is the end of it.

use super::{Event, reason, stage::Sink};

/// Most bytes that are decoded of one body, all its codings together. The largest bodies of LLM APIs are uploads of
/// some tens of megabytes; this bounds the time that one body can take to about a second.
const MAX_DECODED: u64 = 256 << 20;

/// Decoded bytes for each encoded one beyond which a body is a bomb. Recorded bodies of LLM APIs reach 122 (gzip, a
/// prompt of filler text), event streams 50.
const MAX_RATIO: u64 = 500;

/// Decoded bytes that any body may have, whatever their proportion: what a short body can do is harmless.
const FREE: u64 = 1 << 20;

/// The account of one body.
#[derive(Debug)]
pub(in crate::protocol) struct Meter {
    encoded: u64,
    decoded: u64,
    /// Most bytes that may be decoded.
    limit: u64,
    stopped: bool,
}

impl Meter {
    /// The account of one body.
    pub(super) fn new() -> Self {
        Self { encoded: 0, decoded: 0, limit: MAX_DECODED, stopped: false }
    }

    /// The account of bodies without end, whose proportion alone is bounded.
    pub(in crate::protocol) fn endless() -> Self {
        Self { limit: u64::MAX, ..Self::new() }
    }

    /// Counts bytes of the body as it was sent and bytes decoded by any of its codings. Says which bound is reached.
    ///
    /// A decoder reads a few bytes ahead, so where exactly a bomb is cut depends a little on how it came.
    pub(in crate::protocol) fn count(&mut self, encoded: usize, decoded: usize) -> Option<&'static str> {
        self.encoded = self.encoded.saturating_add(encoded as u64);
        self.decoded = self.decoded.saturating_add(decoded as u64);
        match self.decoded {
            decoded if decoded > self.limit => Some(reason::TOO_LARGE),
            decoded if decoded > self.encoded.saturating_mul(MAX_RATIO).saturating_add(FREE) => Some(reason::BOMB),
            _ => None,
        }
    }

    /// Ends the body's decoding and says why.
    pub(super) fn stop(&mut self, reason: &'static str, sink: Sink<'_>) {
        if !std::mem::replace(&mut self.stopped, true) {
            sink(self, Event::Stopped(reason));
        }
    }

    /// Whether nothing more is decoded.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }
}
