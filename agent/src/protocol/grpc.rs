//! gRPC's framing of a body: messages behind a prefix of five bytes each (gRPC over HTTP/2, `Length-Prefixed-Message`).
//!
//! Owns where messages begin and end, and their compression. Leaves to others: what a message says, and the status,
//! which comes behind the body (`grpc-status`, one of `head::SIGNALS`). The bytes of a message are given out as they come,
//! so that one of any size costs nothing.
//!
//! To add a compression: see `encoding`, whose names are gRPC's too.

use super::encoding::{self, Decoder};

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The body ends where no message does.
pub const CUT: &str = "the body ends inside a message";

/// A message is compressed in a way that is not known, or its bytes are not what they are said to be.
pub const COMPRESSED: &str = "a compressed message cannot be read";

/// A prefix is none.
pub const PREFIX_FLAG: &str = "a message is neither compressed nor not";

/// What comes out of a [`Parser`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes of a message, decompressed. Never empty.
    Data(&'a [u8]),
    /// A message is over; whether all of it was given out.
    End {
        /// Nothing is missing and all could be decompressed.
        is_whole: bool,
    },
}

/// Parser of one direction's body.
pub struct Parser {
    /// `grpc-encoding`.
    coding: Option<String>,
    state: State,
    malformed: Option<&'static str>,
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
    /// A parser. `coding` is what the head says under `grpc-encoding`.
    pub fn new(coding: Option<&str>) -> Self {
        Self { coding: coding.map(str::to_owned), state: START, malformed: None }
    }

    /// Why something of the body could not be read.
    pub fn malformed(&self) -> Option<&'static str> {
        self.malformed
    }

    /// Whether nothing is missing and no message is under way.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Prefix { n: 0, .. })
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
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
                    match decoder {
                        _ if !*is_whole => {}
                        None => sink(Event::Data(piece)),
                        Some(decoder) => decoder.push(piece, &mut |event| *is_whole &= decoded(event, sink)),
                    }
                }
            }
        }
    }

    /// Bytes are missing here: where the next message begins cannot be told.
    pub fn gap(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if let State::Message { .. } = std::mem::replace(&mut self.state, State::Lost) {
            sink(Event::End { is_whole: false });
        }
    }

    /// The body is over.
    pub fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        match self.state {
            State::Message { .. } => {
                self.malformed.get_or_insert(CUT);
                self.gap(sink);
            }
            State::Prefix { n, .. } if n > 0 => self.malformed = self.malformed.or(Some(CUT)),
            State::Prefix { .. } | State::Lost => {}
        }
    }

    fn begin(&mut self, prefix: [u8; PREFIX]) {
        let [flag, len @ ..] = prefix;
        let decoder = match (flag, &self.coding) {
            (1, Some(coding)) => Decoder::new(coding).ok().map(Box::new),
            (0 | 1, _) => None,
            _ => {
                self.malformed.get_or_insert(PREFIX_FLAG);
                self.state = State::Lost;
                return;
            }
        };
        // What is compressed nobody knows how cannot be read.
        let is_whole = flag == 0 || decoder.is_some();
        self.state = State::Message { left: u32::from_be_bytes(len).into(), decoder, is_whole };
    }

    fn finish(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let State::Message { decoder, mut is_whole, .. } = std::mem::replace(&mut self.state, START) else { return };
        if let Some(mut decoder) = decoder.filter(|_| is_whole) {
            decoder.end(&mut |event| is_whole &= decoded(event, sink));
        }
        if !is_whole {
            self.malformed.get_or_insert(COMPRESSED);
        }
        sink(Event::End { is_whole });
    }
}

/// Passes on what was decompressed; false if that failed.
fn decoded(event: encoding::Event<'_>, sink: &mut dyn FnMut(Event<'_>)) -> bool {
    match event {
        encoding::Event::Data(bytes) => sink(Event::Data(bytes)),
        encoding::Event::Odd(_) => {}
        encoding::Event::Stopped(_) => return false,
    }
    true
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

    /// Messages with whether they are whole, bytes of one that is not over, and why something could not be read.
    type Parsed = (Vec<(Vec<u8>, bool)>, Vec<u8>, Option<&'static str>);

    fn parse(coding: Option<&str>, pushes: &[&[u8]]) -> Parsed {
        let (mut parser, mut out, mut open) = (Parser::new(coding), Vec::new(), Vec::new());
        let mut add = |event: Event<'_>| match event {
            Event::Data(bytes) => open.extend_from_slice(bytes),
            Event::End { is_whole } => out.push((std::mem::take(&mut open), is_whole)),
        };
        pushes.iter().for_each(|bytes| parser.push(bytes, &mut add));
        parser.end(&mut add);
        (out, open, parser.malformed())
    }

    /// Checks what comes out of a body whole, byte by byte and split in two everywhere.
    fn check(coding: Option<&str>, body: &[u8], expect: &[(&[u8], bool)], reason: Option<&'static str>) {
        let expect: Vec<_> = expect.iter().map(|(bytes, is_whole)| (bytes.to_vec(), *is_whole)).collect();
        let expect = (expect, Vec::new(), reason);
        assert_eq!(parse(coding, &[body]), expect);
        assert_eq!(parse(coding, &body.chunks(1).collect::<Vec<_>>()), expect, "byte by byte");
        for at in 0..body.len() {
            assert_eq!(parse(coding, &[&body[..at], &body[at..]]), expect, "split at {at}");
        }
    }

    #[test]
    fn messages_come_out_whole_in_any_cut() {
        let body = [message(0, b"one"), message(0, b""), message(0, b"three")].concat();
        check(None, &body, &[(b"one", true), (b"", true), (b"three", true)], None);
        check(Some("identity"), &body, &[(b"one", true), (b"", true), (b"three", true)], None);
    }

    #[test]
    fn compressed_messages_are_decompressed_each_by_itself() {
        let body = [message(1, &gzip(b"one")), message(0, b"two"), message(1, &gzip(b"three"))].concat();
        check(Some("gzip"), &body, &[(b"one", true), (b"two", true), (b"three", true)], None);
        // How is not known.
        check(Some("snappy"), &body, &[(b"", false), (b"two", true), (b"", false)], Some(COMPRESSED));
        check(None, &body, &[(b"", false), (b"two", true), (b"", false)], Some(COMPRESSED));
    }

    #[test]
    fn a_length_that_lies_ends_with_the_body() {
        let mut body = message(0, b"abc");
        body[1] = 0xff;
        check(None, &body, &[(b"abc", false)], Some(CUT));
        check(None, &body[..4], &[], Some(CUT));
    }

    #[test]
    fn a_prefix_that_is_none_ends_the_framing() {
        let body = [message(0, b"one"), message(2, b"two"), message(0, b"three")].concat();
        check(None, &body, &[(b"one", true)], Some(PREFIX_FLAG));
    }

    #[test]
    fn after_a_gap_nothing_is_told() {
        let body = [message(0, b"0123456789"), message(0, b"two")].concat();
        for at in 0..body.len() {
            let (mut parser, mut out, mut open) = (Parser::new(None), Vec::new(), Vec::new());
            let mut add = |event: Event<'_>| match event {
                Event::Data(bytes) => open.extend_from_slice(bytes),
                Event::End { is_whole } => out.push((std::mem::take(&mut open), is_whole)),
            };
            parser.push(&body[..at], &mut add);
            parser.gap(&mut add);
            parser.push(&body[at..], &mut add);
            parser.end(&mut add);
            assert!(!parser.is_between_messages());
            let whole = out.iter().filter(|(_, is_whole)| *is_whole).count();
            assert_eq!(whole, usize::from(at >= 15), "{at}: {out:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_cut_give_the_same(body in prop::collection::vec(0u8..4, 0..200), cut in 1usize..20) {
            let cuts: Vec<&[u8]> = body.chunks(cut).collect();
            prop_assert_eq!(parse(Some("gzip"), &cuts), parse(Some("gzip"), &[&body]));
        }
    }
}
