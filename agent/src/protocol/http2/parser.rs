//! The state machine over frames.

use super::{
    PREFACE,
    event::Event,
    fields::Fields,
    frame::{self, DEFAULT_SIZE, Frame, HEADER, LARGEST_SIZE, Look, flag, kind},
    hpack::Decoder,
    reason,
};
use crate::protocol::wiped::Wiped;

/// Largest header block, compressed: the limit of the most generous servers in use.
const MAX_BLOCK: usize = 64 * 1024;

/// Most frames of one header block. Encoders fill them: [`MAX_BLOCK`] takes four.
const MAX_FRAMES: u32 = 128;

/// `SETTINGS_MAX_FRAME_SIZE` (RFC 9113 section 6.5.2).
const MAX_FRAME_SIZE: u16 = 0x5;

/// Parser of one direction of one connection.
pub struct Parser {
    is_request: bool,
    state: State,
    /// The beginning of a frame's header, or of its payload.
    held: [u8; HEADER],
    n_held: usize,
    decoder: Decoder,
    block: Option<Block>,
    fragments: Wiped,
    /// Largest payload of this direction's frames. Absent while it is not known.
    limit: Option<u32>,
    /// What this direction's sender takes.
    announced: u32,
    skipped: u64,
}

#[derive(Clone, Copy)]
enum State {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// Looking for a frame. One that may have begun ends in so many bytes.
    Seek(Option<u64>),
    Header,
    Payload(Payload),
}

/// A frame's payload on its way.
#[derive(Clone, Copy)]
struct Payload {
    frame: Frame,
    /// Bytes that are to come.
    left: u32,
    /// How many of them, the last ones, are padding.
    padding: u32,
    /// Bytes that have to be held before it goes on.
    need: usize,
}

/// A header block on its way.
struct Block {
    stream: u32,
    ends_stream: bool,
    is_promise: bool,
    is_broken: bool,
    frames: u32,
}

impl Parser {
    /// A parser of the client's direction, from its preface on.
    pub fn requests() -> Self {
        Self::new(true, State::Preface(0))
    }

    /// A parser of the server's direction, from its first byte on.
    pub fn responses() -> Self {
        Self::new(false, State::Header)
    }

    /// A parser of the client's direction or of the server's, from anywhere.
    pub fn join(is_request: bool) -> Self {
        let mut parser = Self::new(is_request, State::Seek(None));
        parser.decoder.forget();
        parser
    }

    fn new(is_request: bool, state: State) -> Self {
        Self {
            is_request,
            state,
            held: [0; HEADER],
            n_held: 0,
            decoder: Decoder::new(),
            block: None,
            fragments: Wiped::default(),
            limit: None,
            announced: DEFAULT_SIZE,
            skipped: 0,
        }
    }

    /// Tells what the other direction says of this one's frames ([`Event::Allows`]). A limit that was lowered is not
    /// enforced: what had been sent before is still on its way.
    pub fn allow(&mut self, frame: u32) {
        self.limit = self.limit.max(Some(frame));
    }

    /// Whether the last bytes may be the beginning of a message whose head is still to come.
    pub fn holds_beginning(&self) -> bool {
        self.block.is_some() || (matches!(self.state, State::Header) && self.n_held > 0)
    }

    /// Whether it is not known where a frame begins.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Seek(_))
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        let mut rest = bytes;
        let mut is_start = true;
        loop {
            match self.state {
                State::Payload(Payload { frame, left: 0, need: 0, .. }) => {
                    self.state = State::Header;
                    self.finish(&frame, sink);
                    continue;
                }
                _ if rest.is_empty() => return,
                State::Preface(matched) => rest = self.preface(matched, rest, sink),
                State::Seek(left) => rest = self.seek(left, rest, is_start, sink),
                State::Header => rest = self.header(rest, sink),
                State::Payload(payload) if payload.need > 0 => rest = self.prefix(payload, rest, sink),
                State::Payload(payload) => rest = self.content(payload, rest, sink),
            }
            is_start = false;
        }
    }

    /// `missing` bytes are missing here.
    pub fn gap(&mut self, missing: u64, sink: &mut dyn FnMut(Event<'_>)) {
        if missing == 0 {
            return;
        }
        let survives = match &mut self.state {
            State::Payload(payload) if payload.need == 0 => u32::try_from(missing).ok().and_then(|missing| {
                let content = missing.min(payload.left.saturating_sub(payload.padding));
                payload.left = payload.left.checked_sub(missing)?;
                payload.padding = payload.padding.min(payload.left);
                Some((payload.frame, content))
            }),
            _ => None,
        };
        let Some((frame, content)) = survives else {
            self.lose(missing, sink);
            return;
        };
        let is_body = frame.kind == kind::DATA && content > 0;
        let is_head = self.break_block();
        if is_body || is_head {
            sink(Event::Gap { stream: frame.stream, missing: content.into() });
        }
        // The missing bytes may have been the last ones.
        self.push(&[], sink);
    }

    /// The connection is closed in this direction.
    pub fn close(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if let State::Seek(_) = self.state {
            self.skipped += std::mem::take(&mut self.n_held) as u64;
        }
        self.report_skipped(sink);
    }

    fn preface<'a>(&mut self, matched: usize, rest: &'a [u8], sink: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        let expect = PREFACE.get(matched..).unwrap_or_default();
        let n = expect.len().min(rest.len());
        let (found, next) = rest.split_at(n);
        if !expect.starts_with(found) {
            sink(Event::Malformed { stream: 0, reason: reason::PREFACE });
            self.lose(0, sink);
            return rest;
        }
        self.state = if n == expect.len() { State::Header } else { State::Preface(matched + n) };
        next
    }

    /// Looks for a frame at the start of a push, or where the last one must have ended.
    fn seek<'a>(
        &mut self,
        left: Option<u64>,
        rest: &'a [u8],
        is_start: bool,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> &'a [u8] {
        if is_start {
            if self.n_held > 0 && left == Some(rest.len() as u64) {
                return self.found(rest, sink);
            }
            self.skipped += std::mem::take(&mut self.n_held) as u64;
            match frame::look(rest) {
                _ if self.is_request && rest.starts_with(PREFACE) => {
                    self.report_skipped(sink);
                    self.state = State::Preface(0);
                    return rest;
                }
                Look::Frames => return self.found(rest, sink),
                Look::Perhaps(_) | Look::Alone(_) if left == Some(0) => return self.found(rest, sink),
                Look::Alone(left) => {
                    // Go's server reads header and payload apart. A payload that comes alone proves both.
                    self.state = State::Seek(Some(left));
                    return self.hold(HEADER, rest);
                }
                Look::Perhaps(left) => {
                    self.skipped += rest.len() as u64;
                    self.state = State::Seek(Some(left));
                    return &[];
                }
                Look::Nothing => {}
            }
        }
        let here = rest.len() as u64;
        self.state = State::Seek(left.and_then(|left| left.checked_sub(here)));
        if let Some(left) = left.and_then(|left| usize::try_from(left).ok())
            && let Some((passed, next)) = rest.split_at_checked(left)
            && frame::look(next) != Look::Nothing
        {
            self.skipped += passed.len() as u64;
            return self.found(next, sink);
        }
        self.skipped += here;
        &[]
    }

    fn found<'a>(&mut self, rest: &'a [u8], sink: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        self.report_skipped(sink);
        self.state = State::Header;
        rest
    }

    fn header<'a>(&mut self, rest: &'a [u8], sink: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        let rest = self.hold(HEADER, rest);
        if self.n_held < HEADER {
            return rest;
        }
        let frame = Frame::parse(self.held);
        let too_large = frame.len > self.limit.unwrap_or(LARGEST_SIZE);
        if too_large || !frame.is_legal() {
            let reason = if too_large { reason::FRAME_SIZE } else { reason::FRAME };
            sink(Event::Malformed { stream: frame.stream, reason });
            self.lose(0, sink);
            return rest;
        }
        self.n_held = 0;
        self.begin(frame, sink);
        self.state = State::Payload(Payload { frame, left: frame.len, padding: 0, need: frame.prefix() });
        rest
    }

    /// Begins a frame, or goes on with a header block.
    fn begin(&mut self, frame: Frame, sink: &mut dyn FnMut(Event<'_>)) {
        let goes_on = |block: &Block| frame.kind == kind::CONTINUATION && block.stream == frame.stream;
        match &mut self.block {
            Some(block) if goes_on(block) => {
                block.frames += 1;
                if block.frames > MAX_FRAMES && !block.is_broken {
                    sink(Event::Malformed { stream: block.stream, reason: reason::BLOCK_SIZE });
                    self.break_block();
                }
                return;
            }
            Some(block) => {
                sink(Event::Malformed { stream: block.stream, reason: reason::INTERRUPTED });
                self.break_block();
                self.block = None;
            }
            None => {}
        }
        match frame.kind {
            kind::HEADERS | kind::PUSH_PROMISE => {
                let is_promise = frame.kind == kind::PUSH_PROMISE;
                let ends_stream = !is_promise && frame.has(flag::END_STREAM);
                self.block = Some(Block { stream: frame.stream, ends_stream, is_promise, is_broken: false, frames: 1 });
            }
            // Its beginning was not seen.
            kind::CONTINUATION => self.decoder.forget(),
            _ => {}
        }
    }

    /// Holds what has to be whole at the start of a payload, and reads it.
    fn prefix<'a>(&mut self, mut payload: Payload, rest: &'a [u8], sink: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        let after = self.hold(payload.need, rest);
        payload.left = payload.left.saturating_sub((rest.len() - after.len()) as u32);
        if self.n_held == payload.need {
            payload.need = 0;
            self.n_held = 0;
            self.read_prefix(&mut payload, sink);
        }
        self.state = State::Payload(payload);
        after
    }

    fn read_prefix(&mut self, payload: &mut Payload, sink: &mut dyn FnMut(Event<'_>)) {
        let frame = payload.frame;
        let [a, b, c, d, e, f, ..] = self.held;
        let first = u32::from_be_bytes([a, b, c, d]);
        match frame.kind {
            kind::RST_STREAM => sink(Event::Reset { stream: frame.stream, code: first }),
            kind::GOAWAY => sink(Event::GoAway { last: first & 0x7fff_ffff }),
            kind::SETTINGS => {
                if u16::from_be_bytes([a, b]) == MAX_FRAME_SIZE {
                    self.announced = u32::from_be_bytes([c, d, e, f]).clamp(DEFAULT_SIZE, LARGEST_SIZE);
                }
                payload.need = if payload.left > 0 { frame.prefix() } else { 0 };
            }
            _ if frame.has(flag::PADDED) => {
                payload.padding = a.into();
                if payload.padding > payload.left {
                    payload.padding = payload.left;
                    sink(Event::Malformed { stream: frame.stream, reason: reason::PADDING });
                    self.break_block();
                }
            }
            _ => {}
        }
    }

    /// Takes content or padding off `rest`.
    fn content<'a>(&mut self, mut payload: Payload, rest: &'a [u8], sink: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        let frame = payload.frame;
        let content = payload.left.saturating_sub(payload.padding);
        let up_to = if content > 0 { content } else { payload.left };
        let (piece, after) = rest.split_at_checked(up_to as usize).unwrap_or((rest, &[]));
        payload.left = payload.left.saturating_sub(piece.len() as u32);
        self.state = State::Payload(payload);
        match frame.kind {
            _ if content == 0 => {}
            kind::DATA => sink(Event::Data { stream: frame.stream, bytes: piece }),
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => {
                // Its padding is not waited for, however the block came.
                let is_whole = piece.len() == content as usize && frame.has(flag::END_HEADERS);
                if is_whole && self.fragments.bytes().is_empty() {
                    self.end_block(Some(piece), sink);
                } else {
                    self.add_fragment(piece, sink);
                    if is_whole {
                        self.end_block(None, sink);
                    }
                }
            }
            _ => {}
        }
        after
    }

    fn add_fragment(&mut self, piece: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        let Some(block) = self.block.as_ref().filter(|block| !block.is_broken) else { return };
        if self.fragments.bytes().len() + piece.len() > MAX_BLOCK {
            sink(Event::Malformed { stream: block.stream, reason: reason::BLOCK_SIZE });
            self.break_block();
        } else {
            self.fragments.extend(piece);
        }
    }

    /// A frame is over.
    fn finish(&mut self, frame: &Frame, sink: &mut dyn FnMut(Event<'_>)) {
        match frame.kind {
            kind::DATA if frame.has(flag::END_STREAM) => sink(Event::End { stream: frame.stream }),
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION if frame.has(flag::END_HEADERS) => {
                self.end_block(None, sink);
            }
            kind::SETTINGS if !frame.has(flag::ACK) => sink(Event::Allows { frame: self.announced }),
            _ => {}
        }
    }

    /// A header block has come to its end. It is `whole`, or what was held.
    fn end_block(&mut self, whole: Option<&[u8]>, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(block) = self.block.take() else { return };
        let stream = block.stream;
        if !block.is_broken {
            let mut fields = Fields::default();
            let bytes = whole.unwrap_or(self.fragments.bytes());
            match self.decoder.decode(bytes, &mut |field| fields.take(&field)) {
                Err(reason) => sink(Event::Malformed { stream, reason }),
                Ok(()) if block.is_promise => {}
                Ok(()) => {
                    if fields.is_too_large() {
                        sink(Event::Malformed { stream, reason: reason::TOO_MANY_FIELDS });
                    }
                    sink(Event::Head { stream, head: Box::new(fields.into_head(self.is_request)) });
                }
            }
        }
        self.fragments.wipe();
        if block.ends_stream {
            sink(Event::End { stream });
        }
    }

    /// Something of the header block at hand is lost; false if there is none that anybody waits for.
    fn break_block(&mut self) -> bool {
        self.fragments.wipe();
        let Some(block) = &mut self.block else { return false };
        block.is_broken = true;
        self.decoder.forget();
        !block.is_promise
    }

    /// Where a frame begins is unknown from here.
    fn lose(&mut self, missing: u64, sink: &mut dyn FnMut(Event<'_>)) {
        self.break_block();
        self.block = None;
        self.decoder.forget();
        self.skipped += std::mem::take(&mut self.n_held) as u64;
        self.state = State::Seek(None);
        sink(Event::Lost { missing });
    }

    /// Holds bytes until there are `need` of them, and gives what is left.
    fn hold<'a>(&mut self, need: usize, rest: &'a [u8]) -> &'a [u8] {
        let room = self.held.get_mut(self.n_held..need).unwrap_or_default();
        let (taken, after) = rest.split_at_checked(room.len()).unwrap_or((rest, &[]));
        room.iter_mut().zip(taken).for_each(|(slot, byte)| *slot = *byte);
        self.n_held += taken.len();
        after
    }

    /// Bytes that grow with what is sent, for tests of the bound.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.fragments.bytes().len()
    }

    fn report_skipped(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let skipped = std::mem::take(&mut self.skipped);
        if skipped > 0 {
            sink(Event::Skipped(skipped));
        }
    }
}

/// The content of a frame that is whole, or the beginning of it that is here; nothing if it is no such thing.
pub(super) fn unpadded<'a>(frame: &Frame, payload: &'a [u8]) -> Option<&'a [u8]> {
    let padding = if frame.has(flag::PADDED) { usize::from(*payload.first()?) } else { 0 };
    let end = (frame.len as usize).checked_sub(padding)?.min(payload.len());
    payload.get(frame.prefix()..end)
}
