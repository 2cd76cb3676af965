//! Decompression of messages (RFC 7692 section 7.2.2).

use flate2::Decompress;

use super::reason;
use crate::protocol::encoding::{self, Meter, OUTPUT};

/// What a sender leaves out at a message's end.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Decompresses the messages of one direction.
pub(super) struct Inflater {
    /// Whether messages refer to earlier ones.
    takeover: bool,
    /// Nothing before the first compressed message.
    stream: Option<Box<Stream>>,
    meter: Meter,
    /// Why the message at hand cannot be decompressed to its end.
    fault: Option<&'static str>,
    /// Why no message can be decompressed any more.
    lost: Option<&'static str>,
}

struct Stream {
    inflate: Decompress,
    /// The message at hand ended with a final block, which some senders make (RFC 7692 section 7.2.3.4).
    over: bool,
    output: [u8; OUTPUT],
}

impl Stream {
    fn new() -> Box<Self> {
        Box::new(Self { inflate: Decompress::new(false), over: false, output: [0; OUTPUT] })
    }
}

impl Inflater {
    /// Makes ready for a direction whose messages refer to earlier ones, or do not.
    pub(super) fn new(takeover: bool) -> Self {
        Self { takeover, stream: None, meter: Meter::endless(), fault: None, lost: None }
    }

    /// Takes bytes of a message.
    pub(super) fn push(&mut self, mut bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
        let mut full = false;
        while (full || !bytes.is_empty()) && self.fault.or(self.lost).is_none() {
            let Self { stream, meter, lost, .. } = self;
            let Stream { inflate, over, output } = stream.get_or_insert_with(Stream::new).as_mut();
            if *over {
                return;
            }
            let (step, ended) = encoding::inflate(inflate, bytes, output);
            if meter.count(step.consumed, step.written).is_some() {
                *lost = Some(reason::BOMB);
                return;
            }
            if let Some(data) = output.get(..step.written).filter(|data| !data.is_empty()) {
                sink(data);
            }
            bytes = bytes.get(step.consumed..).unwrap_or_default();
            (*over, full) = (ended, step.written == output.len());
            if step.fault.is_some() {
                self.gap(reason::CORRUPT);
            } else if step.consumed == 0 && step.written == 0 {
                return;
            }
        }
    }

    /// The message at hand cannot be decompressed any further.
    pub(super) fn gap(&mut self, reason: &'static str) {
        self.fault.get_or_insert(reason);
        if self.takeover {
            self.lost.get_or_insert(reason::CONTEXT);
        }
    }

    /// The message is over. Says why it was not all decompressed.
    pub(super) fn end(&mut self, sink: &mut dyn FnMut(&[u8])) -> Option<&'static str> {
        self.push(&TAIL, sink);
        let fault = self.fault.take().or(self.lost);
        if let Some(stream) = &mut self.stream
            && (!self.takeover || stream.over)
        {
            stream.inflate.reset(false);
            stream.over = false;
        }
        fault
    }
}
