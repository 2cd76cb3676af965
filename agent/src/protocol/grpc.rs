//! gRPC's framing of a body: messages behind a prefix of five bytes each (gRPC over HTTP/2, `Length-Prefixed-Message`).
//!
//! Owns where messages begin and end, and their compression. Leaves to others: what a message says, and the status,
//! which comes behind the body (`grpc-status`, one of `head::SIGNALS`). A message is given out when it is over, its
//! first bytes up to a cap that the caller names; of a longer one the rest is passed over.
//!
//! To add a compression: see `encoding`, whose names are gRPC's too.

use super::encoding::{Decoder, Event};

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A message, or the beginning of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its bytes, decompressed.
    pub bytes: &'a [u8],
    /// Whether that is all of it: nothing was cut off, is missing or could not be decompressed.
    pub is_whole: bool,
}

/// Parser of one direction's body.
pub struct Parser {
    cap: usize,
    /// `grpc-encoding`.
    coding: Option<String>,
    state: State,
    kept: Vec<u8>,
}

enum State {
    /// In a prefix.
    Prefix { held: [u8; PREFIX], n: usize },
    /// So many bytes of a message are to come.
    Message { left: u64, decoder: Option<Box<Decoder>>, is_whole: bool },
    /// Where messages begin is not known any more.
    Lost,
}

const START: State = State::Prefix { held: [0; PREFIX], n: 0 };

impl Parser {
    /// A parser that gives at most `cap` bytes of a message. `coding` is what the head says under `grpc-encoding`.
    pub fn new(coding: Option<&str>, cap: usize) -> Self {
        Self { cap, coding: coding.map(str::to_owned), state: START, kept: Vec::new() }
    }

    /// Whether the framing is lost, so that nothing more comes.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Message<'_>)) {
        let mut rest = bytes;
        loop {
            match &mut self.state {
                State::Message { left: 0, .. } => self.finish(sink),
                _ if rest.is_empty() => return,
                State::Lost => return,
                State::Prefix { held, n } => {
                    let room = held.get_mut(*n..).unwrap_or_default();
                    let (taken, after) = rest.split_at_checked(room.len()).unwrap_or((rest, &[]));
                    room.iter_mut().zip(taken).for_each(|(slot, byte)| *slot = *byte);
                    *n += taken.len();
                    rest = after;
                    if *n == PREFIX {
                        let prefix = *held;
                        self.begin(prefix);
                    }
                }
                State::Message { left, decoder, is_whole } => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX);
                    let (piece, after) = rest.split_at_checked(n).unwrap_or((rest, &[]));
                    *left -= piece.len() as u64;
                    rest = after;
                    let is_all = *left == 0 && self.kept.is_empty() && *is_whole && decoder.is_none();
                    if is_all && piece.len() <= self.cap {
                        self.state = START;
                        sink(Message { bytes: piece, is_whole: true });
                    } else if let Some(decoder) = decoder.as_mut().filter(|_| *is_whole) {
                        let Self { kept, cap, .. } = self;
                        decoder.push(piece, &mut |event| *is_whole &= keep_event(kept, *cap, event));
                    } else if *is_whole {
                        *is_whole = keep(&mut self.kept, self.cap, piece);
                    }
                }
            }
        }
    }

    /// `missing` bytes are missing here.
    pub fn gap(&mut self, missing: u64, sink: &mut dyn FnMut(Message<'_>)) {
        match &mut self.state {
            _ if missing == 0 => {}
            State::Message { left, is_whole, .. } if missing <= *left => {
                *left -= missing;
                *is_whole = false;
                self.push(&[], sink);
            }
            _ => {
                self.end(sink);
                self.state = State::Lost;
            }
        }
    }

    /// The body is over. A message that is not gets out as far as it came.
    pub fn end(&mut self, sink: &mut dyn FnMut(Message<'_>)) {
        if let State::Message { left, is_whole, .. } = &mut self.state {
            *is_whole &= *left == 0;
            self.finish(sink);
        }
    }

    fn begin(&mut self, prefix: [u8; PREFIX]) {
        let [flag, len @ ..] = prefix;
        let decoder = match (flag, &self.coding) {
            (0, _) => None,
            (1, Some(coding)) => Decoder::new(coding).ok().map(Box::new),
            (1, None) => None,
            _ => {
                self.state = State::Lost;
                return;
            }
        };
        // What is compressed nobody knows how cannot be read.
        let is_whole = flag == 0 || decoder.is_some();
        self.state = State::Message { left: u32::from_be_bytes(len).into(), decoder, is_whole };
    }

    fn finish(&mut self, sink: &mut dyn FnMut(Message<'_>)) {
        let Self { cap, state, kept, .. } = self;
        let State::Message { decoder, mut is_whole, .. } = std::mem::replace(state, START) else { return };
        if let Some(mut decoder) = decoder.filter(|_| is_whole) {
            decoder.end(&mut |event| is_whole &= keep_event(kept, *cap, event));
        }
        sink(Message { bytes: kept, is_whole });
        kept.clear();
    }
}

/// Keeps bytes up to the cap; false if there was no room for all of them.
fn keep(kept: &mut Vec<u8>, cap: usize, bytes: &[u8]) -> bool {
    let room = cap.saturating_sub(kept.len());
    kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    bytes.len() <= room
}

fn keep_event(kept: &mut Vec<u8>, cap: usize, event: Event<'_>) -> bool {
    match event {
        Event::Data(bytes) => keep(kept, cap, bytes),
        Event::Odd(_) => true,
        Event::Stopped(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn message(flag: u8, bytes: &[u8]) -> Vec<u8> {
        [&[flag], &(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn parse(coding: Option<&str>, cap: usize, pushes: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let (mut parser, mut out) = (Parser::new(coding, cap), Vec::new());
        let mut add = |message: Message<'_>| out.push((message.bytes.to_vec(), message.is_whole));
        pushes.iter().for_each(|bytes| parser.push(bytes, &mut add));
        parser.end(&mut add);
        assert!(parser.kept.capacity() <= 2 * cap.max(64));
        out
    }

    /// Checks what comes out of a body whole, byte by byte and split in two everywhere.
    fn check(coding: Option<&str>, cap: usize, body: &[u8], expect: &[(&[u8], bool)]) {
        let expect: Vec<_> = expect.iter().map(|(bytes, is_whole)| (bytes.to_vec(), *is_whole)).collect();
        assert_eq!(parse(coding, cap, &[body]), expect);
        assert_eq!(parse(coding, cap, &body.chunks(1).collect::<Vec<_>>()), expect, "byte by byte");
        for at in 0..body.len() {
            assert_eq!(parse(coding, cap, &[&body[..at], &body[at..]]), expect, "split at {at}");
        }
    }

    #[test]
    fn messages_come_out_whole_in_any_cut() {
        let body = [message(0, b"one"), message(0, b""), message(0, b"three")].concat();
        check(None, 100, &body, &[(b"one", true), (b"", true), (b"three", true)]);
        check(Some("identity"), 100, &body, &[(b"one", true), (b"", true), (b"three", true)]);
    }

    #[test]
    fn compressed_messages_are_decompressed_each_by_itself() {
        let body = [message(1, &gzip(b"one")), message(0, b"two"), message(1, &gzip(b"three"))].concat();
        check(Some("gzip"), 100, &body, &[(b"one", true), (b"two", true), (b"three", true)]);
        // How is not known.
        check(Some("snappy"), 100, &body, &[(b"", false), (b"two", true), (b"", false)]);
        check(None, 100, &body, &[(b"", false), (b"two", true), (b"", false)]);
    }

    #[test]
    fn a_long_message_is_cut_and_the_next_one_is_found() {
        let body = [message(0, b"0123456789"), message(1, &gzip(&[b'x'; 100_000])), message(0, b"b")].concat();
        check(Some("gzip"), 4, &body, &[(b"0123", false), (b"xxxx", false), (b"b", true)]);
    }

    #[test]
    fn a_length_that_lies_ends_with_the_body() {
        let mut body = message(0, b"abc");
        body[1] = 0xff;
        check(None, 2, &body, &[(b"ab", false)]);
        check(None, 100, &body, &[(b"abc", false)]);
        check(None, 100, &body[..4], &[]);
    }

    #[test]
    fn a_prefix_that_is_none_ends_the_framing() {
        let body = [message(0, b"one"), message(2, b"two"), message(0, b"three")].concat();
        check(None, 100, &body, &[(b"one", true)]);
    }

    #[test]
    fn a_gap_costs_its_message_or_the_framing() {
        let body = [message(0, b"0123456789"), message(0, b"two")].concat();
        for at in 0..body.len() {
            for missing in 1..=body.len() - at {
                let (mut parser, mut out) = (Parser::new(None, 100), Vec::new());
                let mut add = |message: Message<'_>| out.push((message.bytes.to_vec(), message.is_whole));
                parser.push(&body[..at], &mut add);
                parser.gap(missing as u64, &mut add);
                parser.push(&body[at + missing..], &mut add);
                parser.end(&mut add);
                let is_inside = (5..15).contains(&at) && at + missing <= 15;
                assert_eq!(parser.is_lost(), !(is_inside || (at >= 20 && at + missing <= 23)), "{missing} at {at}");
                for (bytes, is_whole) in &out {
                    assert!(!is_whole || bytes == b"0123456789" || bytes == b"two", "{missing} at {at}: {bytes:?}");
                }
                assert!(!is_inside || out.last() == Some(&(b"two".to_vec(), true)), "{missing} at {at}: {out:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_cut_give_the_same(body in prop::collection::vec(0u8..4, 0..200), cut in 1usize..20) {
            let cuts: Vec<&[u8]> = body.chunks(cut).collect();
            prop_assert_eq!(parse(Some("gzip"), 16, &cuts), parse(Some("gzip"), 16, &[&body]));
        }
    }
}
