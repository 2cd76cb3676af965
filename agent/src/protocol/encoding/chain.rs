//! All codings of one body.

use super::{Coding, Event, meter::Meter, stage::Stage};

/// The content codings are unknown or more than two. A proxy that compresses what its server has compressed makes
/// two; more are no accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported;

/// Decoder of one body.
pub struct Decoder {
    /// The coding that was applied last.
    outer: Stage,
    /// The one before it.
    inner: Stage,
    meter: Meter,
}

impl Default for Decoder {
    /// The decoder of a body without a `Content-Encoding`.
    fn default() -> Self {
        Self::of(None, None)
    }
}

impl Decoder {
    /// The decoder of a body with this `Content-Encoding`, which is in lower case and without `identity`.
    pub fn new(content_encoding: &str) -> Result<Self, Unsupported> {
        // They stand in the order in which they were applied (RFC 9110 section 8.4).
        let mut names = content_encoding.rsplit(',').map(str::trim);
        let mut next = || names.next().map(|name| Coding::from_name(name).ok_or(Unsupported)).transpose();
        let (outer, inner, more) = (next()?, next()?, next()?);
        if more.is_some() { Err(Unsupported) } else { Ok(Self::of(outer, inner)) }
    }

    fn of(outer: Option<Coding>, inner: Option<Coding>) -> Self {
        Self { outer: Stage::outer(outer), inner: Stage::inner(inner), meter: Meter::new() }
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        let Self { outer, inner, meter } = self;
        if meter.is_stopped() {
            return;
        }
        outer.push(bytes, meter, &mut |meter, event| forward(inner, meter, event, sink));
        if meter.is_stopped() {
            // A window of megabytes is no use any more.
            (*outer, *inner) = (Stage::inner(None), Stage::inner(None));
        }
    }

    /// Bytes of the body are missing here. A body that is not encoded goes on behind them.
    pub fn gap(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let Self { outer, inner, meter } = self;
        outer.gap(meter, &mut |meter, event| forward(inner, meter, event, sink));
        inner.gap(meter, &mut |_, event| sink(event));
    }

    /// The body is over. Hands out the few bytes that may be held, and says if the encoded data was not whole.
    pub fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let Self { outer, inner, meter } = self;
        outer.end(meter, &mut |meter, event| forward(inner, meter, event, sink));
        inner.end(meter, &mut |_, event| sink(event));
    }
}

/// Gives what the outer stage says to the inner one, or to the sink what is not for it.
fn forward(inner: &mut Stage, meter: &mut Meter, event: Event<'_>, sink: &mut dyn FnMut(Event<'_>)) {
    match event {
        Event::Data(bytes) if !meter.is_stopped() => inner.push(bytes, meter, &mut |_, event| sink(event)),
        Event::Data(_) => {}
        Event::Odd(_) | Event::Stopped(_) => sink(event),
    }
}
