//! JSON documents one a line, as a program writes them to its standard output.
//!
//! Owns where a document ends: with its line, whatever it holds. JSON has no raw line end in a string, so a line that is
//! no document (a banner, a message for the log that went the wrong way, half a document) costs itself and never the
//! next. Holds one token, as the [`Scanner`] does, never a line. Where documents may stand in any white space see
//! [`json::Documents`](super::json::Documents).

use super::json::{Scanner, Status, Step, Token};
use memchr::memchr;

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// A line that holds something begins.
    Begin,
    /// A value of its document.
    Value(&'a [Step<'a>], Token<'a>),
    /// The line is over; with the reason if it was no JSON document, or not all of one.
    End(Option<&'static str>),
}

/// Why a line is no document where it ends too early.
const UNFINISHED: &str = "unfinished line";

/// Parser of one direction of a stream.
pub struct Lines {
    scanner: Scanner,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the beginning of a line, or in white space behind it.
    Blank,
    Inside,
    /// Passing over what cannot be read, up to the line's end.
    Skip,
}

impl Lines {
    /// A parser that hands out at most `max_text` bytes of a string.
    pub fn new(max_text: usize) -> Self {
        Self { scanner: Scanner::new(max_text), state: State::Blank }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Item<'_>)) {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, behind) = rest.split_at(end);
            self.part(line, sink);
            self.end(sink);
            rest = behind.get(1..).unwrap_or_default();
        }
        self.part(rest, sink);
    }

    /// Bytes are missing here. What comes next belongs to a line that cannot be read.
    pub fn gap(&mut self, sink: &mut dyn FnMut(Item<'_>)) {
        if self.state == State::Inside {
            sink(Item::End(Some(UNFINISHED)));
        }
        self.state = State::Skip;
    }

    /// Takes part of a line.
    fn part(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Item<'_>)) {
        if self.state == State::Blank && bytes.iter().any(|byte| !byte.is_ascii_whitespace()) {
            self.scanner.reset();
            self.state = State::Inside;
            sink(Item::Begin);
        }
        if self.state == State::Inside {
            self.scanner.push(bytes, &mut |path, token| sink(Item::Value(path, token)));
        }
    }

    /// The line is over.
    fn end(&mut self, sink: &mut dyn FnMut(Item<'_>)) {
        if std::mem::replace(&mut self.state, State::Blank) == State::Inside {
            self.scanner.finish(&mut |path, token| sink(Item::Value(path, token)));
            sink(Item::End(match self.scanner.status() {
                Status::Complete => None,
                Status::Broken(reason) => Some(reason),
                Status::Empty | Status::Open => Some(UNFINISHED),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each line as the number of its values, or why it is no document.
    fn lines(pieces: &[&[u8]]) -> Vec<Result<usize, &'static str>> {
        let mut lines = Lines::new(64);
        let (mut values, mut out) = (0, Vec::new());
        for piece in pieces {
            lines.push(piece, &mut |item| match item {
                Item::Begin => values = 0,
                Item::Value(..) => values += 1,
                Item::End(reason) => out.push(reason.map_or(Ok(values), Err)),
            });
        }
        out
    }

    #[test]
    fn a_line_is_a_document_and_blank_ones_are_none() {
        assert_eq!(lines(&[b"{\"a\":1}\n\r\n  \n[]\r\n5\n"]), [Ok(3), Ok(2), Ok(1)]);
        assert_eq!(lines(&[b"{\"a\":1}"]), [], "it may go on");
    }

    #[test]
    fn stray_output_costs_its_own_line() {
        let seen = lines(&[b"Server running\n{\n{\"a\":1}\n\"open\n{\"a\":1} x\n{\"a\":1}\n"]);
        assert!(matches!(seen[..], [Err(_), Err(_), Ok(3), Err(_), Err("trailing data"), Ok(3)]), "{seen:?}");
    }

    #[test]
    fn a_gap_ends_the_line_and_the_next_is_read() {
        let (mut lines, mut ends) = (Lines::new(64), Vec::new());
        let mut sink = |item: Item<'_>| {
            if let Item::End(reason) = item {
                ends.push(reason);
            }
        };
        lines.push(b"{\"a\":", &mut sink);
        lines.gap(&mut sink);
        lines.push(b"1}\n{}\n", &mut sink);
        assert_eq!(ends, [Some(UNFINISHED), None]);
    }

    #[test]
    fn a_giant_line_keeps_one_token() {
        let mut lines = Lines::new(64);
        let mut ends = 0;
        lines.push(b"{\"a\":\"", &mut |_| ());
        for _ in 0..1000 {
            lines.push(&[b'x'; 4096], &mut |_| ());
        }
        lines.push(b"\"}\n", &mut |item| {
            if let Item::Value(_, Token::String { text, truncated }) = item {
                assert_eq!((text.len(), truncated), (64, true));
            }
            ends += usize::from(item == Item::End(None));
        });
        assert_eq!(ends, 1);
    }

    proptest! {
        #[test]
        fn the_cut_does_not_matter(
            text in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ 1ae\n\r".to_vec()), 0..80),
            at in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let whole = lines(&[&text]);
            let mut cuts: Vec<usize> = at.iter().map(|at| at.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&whole, &lines(&pieces));
            let single: Vec<&[u8]> = text.chunks(1).collect();
            prop_assert_eq!(&whole, &lines(&single));
        }
    }
}
