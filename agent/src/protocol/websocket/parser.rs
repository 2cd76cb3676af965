//! The state machine over frames.

use super::{
    End, Event, Extensions, Kind,
    header::{Header, Held, Opcode},
    inflater::Inflater,
    reason,
};

/// Bytes that are unmasked at a time.
const PIECE: usize = 4096;

/// Parser of one direction of one connection.
pub struct Parser {
    /// Whether the sender masks its frames.
    masked: bool,
    state: State,
    held: Held,
    /// The message at hand.
    message: Option<Message>,
    inflater: Option<Inflater>,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    Payload(Frame),
    /// Nothing is read any more.
    Over,
}

/// A frame whose payload is being read.
#[derive(Clone, Copy)]
struct Frame {
    header: Header,
    /// Bytes of the payload that have come.
    at: u64,
    /// The status code of a close frame.
    code: [u8; 2],
}

#[derive(Clone, Copy)]
struct Message {
    compressed: bool,
}

impl Parser {
    /// A parser of what the client sends.
    pub fn client(extensions: &Extensions) -> Self {
        let takeover = extensions.deflate.map(|deflate| !deflate.client_no_context_takeover);
        Self::new(true, takeover)
    }

    /// A parser of what the server sends.
    pub fn server(extensions: &Extensions) -> Self {
        let takeover = extensions.deflate.map(|deflate| !deflate.server_no_context_takeover);
        Self::new(false, takeover)
    }

    fn new(masked: bool, takeover: Option<bool>) -> Self {
        let inflater = takeover.map(Inflater::new);
        Self { masked, state: State::Header, held: Held::default(), message: None, inflater }
    }

    /// Takes the next bytes. Gives how many of them were not read, because nothing follows what came before.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> usize {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = match self.state {
                State::Header => {
                    match self.held.take(byte) {
                        Ok(Some(header)) => self.begin(header, sink),
                        Ok(None) => {}
                        Err(reason) => self.lose(reason, sink),
                    }
                    tail
                }
                State::Payload(frame) => self.payload(frame, rest, sink),
                State::Over => return rest.len(),
            };
        }
        0
    }

    /// `len` bytes are missing here.
    pub fn gap(&mut self, len: u64, sink: &mut dyn FnMut(Event<'_>)) {
        match self.state {
            _ if len == 0 => {}
            State::Over => {}
            State::Payload(frame) if len <= frame.left() => {
                if !frame.header.opcode.is_control() {
                    if let (Some(Message { compressed: true }), Some(inflater)) = (self.message, &mut self.inflater) {
                        inflater.gap(reason::CONTEXT);
                    }
                    sink(Event::Gap(len));
                }
                self.advance(Frame { at: frame.at + len, ..frame }, sink);
            }
            State::Payload(_) | State::Header => self.lose(reason::GAP, sink),
        }
    }

    /// The connection is closed in this direction.
    pub fn close(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if self.message.take().is_some() {
            sink(Event::End(End::Cut));
        }
        self.state = State::Over;
    }

    /// A frame's header has come.
    fn begin(&mut self, header: Header, sink: &mut dyn FnMut(Event<'_>)) {
        let Header { rsv1, opcode, mask, .. } = header;
        let compressed = rsv1 && matches!(opcode, Opcode::Text | Opcode::Binary) && self.inflater.is_some();
        let fault = match opcode {
            _ if mask.is_some() != self.masked => Some(reason::MASK),
            _ if rsv1 && !compressed => Some(reason::RESERVED),
            Opcode::Continuation => self.message.is_none().then_some(reason::FRAGMENT),
            Opcode::Text | Opcode::Binary => self.message.is_some().then_some(reason::FRAGMENT),
            Opcode::Close | Opcode::Ping | Opcode::Pong => None,
        };
        if let Some(reason) = fault {
            return self.lose(reason, sink);
        }
        let kind = match opcode {
            Opcode::Text => Some(Kind::Text),
            Opcode::Binary => Some(Kind::Binary),
            _ => None,
        };
        if let Some(kind) = kind {
            self.message = Some(Message { compressed });
            sink(Event::Begin(kind));
        }
        self.advance(Frame { header, at: 0, code: [0; 2] }, sink);
    }

    fn payload<'a>(&mut self, mut frame: Frame, rest: &'a [u8], sink: &mut dyn FnMut(Event<'_>)) -> &'a [u8] {
        let n = usize::try_from(frame.left()).unwrap_or(usize::MAX).min(rest.len());
        let (now, rest) = rest.split_at(n);
        match frame.header.mask {
            None => self.unmasked(&mut frame, now, sink),
            Some(mask) => {
                let mut piece = [0; PIECE];
                for masked in now.chunks(PIECE) {
                    let phase = (frame.at % 4) as usize;
                    let key = mask.iter().cycle().skip(phase);
                    piece.iter_mut().zip(masked).zip(key).for_each(|((out, byte), key)| *out = byte ^ key);
                    self.unmasked(&mut frame, piece.get(..masked.len()).unwrap_or_default(), sink);
                }
            }
        }
        self.advance(frame, sink);
        rest
    }

    /// Takes bytes of a payload.
    fn unmasked(&mut self, frame: &mut Frame, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        if frame.header.opcode.is_control() {
            let code = frame.code.iter_mut().skip(usize::try_from(frame.at).unwrap_or(usize::MAX));
            code.zip(bytes).for_each(|(slot, byte)| *slot = *byte);
        } else {
            match (self.message, &mut self.inflater) {
                (Some(Message { compressed: true }), Some(inflater)) => {
                    inflater.push(bytes, &mut |data| sink(Event::Data(data)));
                }
                _ => sink(Event::Data(bytes)),
            }
        }
        frame.at += bytes.len() as u64;
    }

    /// Goes on in a frame, or behind it if its payload has come.
    fn advance(&mut self, frame: Frame, sink: &mut dyn FnMut(Event<'_>)) {
        let Frame { header: Header { fin, opcode, length, .. }, code, .. } = frame;
        if frame.left() > 0 {
            self.state = State::Payload(frame);
            return;
        }
        self.state = State::Header;
        match opcode {
            Opcode::Ping => sink(Event::Ping),
            Opcode::Pong => sink(Event::Pong),
            Opcode::Close => {
                if self.message.take().is_some() {
                    sink(Event::End(End::Cut));
                }
                sink(Event::Close((length >= 2).then(|| u16::from_be_bytes(code))));
                self.state = State::Over;
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary if fin => {
                let fault = match (self.message.take(), &mut self.inflater) {
                    (Some(Message { compressed: true }), Some(inflater)) => {
                        inflater.end(&mut |data| sink(Event::Data(data)))
                    }
                    _ => None,
                };
                sink(Event::End(fault.map_or(End::Complete, End::Damaged)));
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
        }
    }

    /// Where frames begin is not known from here.
    fn lose(&mut self, reason: &'static str, sink: &mut dyn FnMut(Event<'_>)) {
        self.close(sink);
        sink(Event::Lost(reason));
    }
}

impl Frame {
    /// Bytes of the payload that are to come.
    fn left(&self) -> u64 {
        self.header.length.saturating_sub(self.at)
    }
}
