//! One coding of a body, from its first byte to its last.

use super::{
    Coding, Event,
    format::{Fault, Format, OUTPUT, Step},
    meter::Meter,
    reason,
    sniff::{self, LOOKED_AT, Look},
};

/// Where a stage hands its events, with the meter for the stage behind it.
pub(super) type Sink<'s> = &'s mut dyn FnMut(&mut Meter, Event<'_>);

/// One coding.
pub(super) struct Stage {
    label: Option<Coding>,
    /// The stage that takes the body's bytes as they were sent, by which its size is measured.
    outer: bool,
    state: State,
}

enum State {
    /// The first bytes do not tell yet whether they are encoded.
    Unsure { held: [u8; LOOKED_AT], len: usize },
    /// Not encoded.
    Plain,
    /// Encoded.
    Coded { format: Box<dyn Format>, output: Box<[u8]> },
    /// The encoded data is over.
    Over,
}

impl Stage {
    /// The stage of a body as it was sent; `label` is the coding that was applied last.
    pub(super) fn outer(label: Option<Coding>) -> Self {
        Self { label, outer: true, state: State::Unsure { held: [0; LOOKED_AT], len: 0 } }
    }

    /// The stage of what the outer one decodes. Without a label it passes everything on.
    pub(super) fn inner(label: Option<Coding>) -> Self {
        match label {
            Some(_) => Self { outer: false, ..Self::outer(label) },
            None => Self { label, outer: false, state: State::Plain },
        }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8], meter: &mut Meter, sink: Sink<'_>) {
        while let State::Unsure { held, len } = &mut self.state {
            let Some((&byte, rest)) = bytes.split_first() else { return };
            if let Some(slot) = held.get_mut(*len) {
                (*slot, *len) = (byte, *len + 1);
            }
            bytes = rest;
            let held = *held;
            let start = held.get(..*len).unwrap_or_default();
            match sniff::look(start, self.label) {
                Look::Unsure => {}
                Look::Plain => self.settle(None, start, meter, sink),
                Look::Coded(coding) => self.settle(Some(coding), start, meter, sink),
            }
        }
        self.feed(bytes, meter, sink);
    }

    /// Bytes are missing before the next ones.
    pub(super) fn gap(&mut self, meter: &mut Meter, sink: Sink<'_>) {
        match &self.state {
            State::Unsure { held, len } if self.label.is_none() => {
                let (held, len) = (*held, *len);
                self.settle(None, held.get(..len).unwrap_or_default(), meter, sink);
            }
            State::Plain | State::Over => {}
            State::Unsure { .. } | State::Coded { .. } => meter.stop(reason::GAP, sink),
        }
    }

    /// The body is over: hands out what is held, and says if the encoded data was not whole.
    pub(super) fn end(&mut self, meter: &mut Meter, sink: Sink<'_>) {
        match &self.state {
            State::Unsure { len: 0, .. } | State::Plain | State::Over => {}
            State::Unsure { held, len } => {
                let (held, len) = (*held, *len);
                self.settle(None, held.get(..len).unwrap_or_default(), meter, sink);
            }
            State::Coded { format, .. } if format.is_whole() => {}
            State::Coded { .. } => meter.stop(reason::TRUNCATED, sink),
        }
        self.state = State::Over;
    }

    /// What the body is has turned out. `start` are its first bytes.
    fn settle(&mut self, coding: Option<Coding>, start: &[u8], meter: &mut Meter, sink: Sink<'_>) {
        self.state = match coding {
            Some(coding) => State::Coded { format: coding.decoder(start), output: vec![0; OUTPUT].into_boxed_slice() },
            None => State::Plain,
        };
        if self.label.is_some() && self.label != coding {
            sink(meter, Event::Odd(reason::MISLABELLED));
        }
        self.feed(start, meter, sink);
    }

    fn feed(&mut self, mut bytes: &[u8], meter: &mut Meter, sink: Sink<'_>) {
        let (format, output) = match &mut self.state {
            State::Coded { format, output } => (format, output),
            State::Plain if !bytes.is_empty() => return sink(meter, Event::Data(bytes)),
            State::Plain | State::Unsure { .. } | State::Over => return,
        };
        let mut full = false;
        while (full || !bytes.is_empty()) && !meter.is_stopped() {
            let Step { consumed, written, fault } = format.step(bytes, output);
            if let Some(reason) = meter.count(if self.outer { consumed } else { 0 }, written) {
                return meter.stop(reason, sink);
            }
            if let Some(decoded) = output.get(..written).filter(|decoded| !decoded.is_empty()) {
                sink(meter, Event::Data(decoded));
            }
            match fault {
                None if consumed == 0 && written == 0 => return,
                None => {}
                Some(Fault::Odd(reason)) => sink(meter, Event::Odd(reason)),
                Some(Fault::Broken(reason)) => return meter.stop(reason, sink),
                Some(Fault::Trailing) => {
                    sink(meter, Event::Odd(reason::TRAILING));
                    self.state = State::Over;
                    return;
                }
            }
            bytes = bytes.get(consumed..).unwrap_or_default();
            full = written == output.len();
        }
    }
}
