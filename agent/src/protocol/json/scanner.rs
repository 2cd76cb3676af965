//! The scanner's state machine.

use memchr::memchr2;

use super::{
    Status, Step, Token,
    path::{MAX_DEPTH, Path},
    text::{Text, is_number},
};

/// Longest key that is kept, in bytes. Keys that mean something to us are shorter than 40.
const MAX_KEY: usize = 128;

/// Numbers up to this long are taken whatever the cap on text is: the cap is for content, and a scanner that
/// keeps none still has to read the counts.
const MIN_NUMBER: usize = 64;

/// Bytes of a long string that are unescaped in one go, so that what does not fit under the cap is never held whole.
const WINDOW: usize = 4096;

/// What a document is broken by that is JSON, and beyond what is followed.
pub const BOUNDS: [&str; 2] = ["nested too deeply", "number too long"];

/// Streaming scanner of one JSON document. Holds one token at most, never the document.
#[derive(Clone, Debug)]
pub struct Scanner {
    max_text: usize,
    /// Hand out strings beyond the cap in pieces too.
    pieces: bool,
    /// The current string's beginning has been handed out as a piece.
    begun: bool,
    state: State,
    path: Path,
    text: Text,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Value,
    ValueOrArrayEnd,
    Key,
    KeyOrObjectEnd,
    Colon,
    AfterValue,
    String { key: bool, escape: Escape },
    Number,
    Literal { word: &'static [u8], seen: usize, token: Token<'static> },
    Complete,
    Broken(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Escape {
    None,
    Backslash,
    Hex { digits: u8, unit: u16 },
}

/// Where the scanner hands its values.
type Sink<'s> = &'s mut dyn FnMut(&[Step<'_>], Token<'_>);

impl Scanner {
    /// A scanner that hands out at most `max_text` bytes of a string. A number longer than that (and than 64
    /// bytes) is an error, since half a number is another number.
    pub fn new(max_text: usize) -> Self {
        Self { max_text, pieces: false, begun: false, state: State::Value, path: Path::new(), text: Text::default() }
    }

    /// The same scanner, which also hands out [`Token::Piece`].
    pub fn with_pieces(mut self) -> Self {
        self.pieces = true;
        self
    }

    /// Changes the cap for the tokens that begin after this call.
    pub fn set_max_text(&mut self, max_text: usize) {
        self.max_text = max_text;
    }

    /// Forgets the document and keeps the buffers.
    pub fn reset(&mut self) {
        self.state = State::Value;
        self.path.clear();
        self.text.start(0, false);
    }

    /// Forgets the document and begins another behind a member of its outermost object: with a comma or the object's end.
    pub fn reset_behind_member(&mut self) {
        self.reset();
        self.path.enter(false);
        self.state = State::AfterValue;
    }

    /// Where the scanner stands. After [`Self::finish`] never [`Status::Open`].
    pub fn status(&self) -> Status {
        match self.state {
            State::Value if self.path.depth() == 0 => Status::Empty,
            State::Complete => Status::Complete,
            State::Broken(reason) => Status::Broken(reason),
            _ => Status::Open,
        }
    }

    /// Takes the next bytes of the document.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[Step<'_>], Token<'_>)) {
        let behind = self.push_to_end(bytes, sink);
        if matches!(self.state, State::Complete) && behind.iter().any(|byte| !is_blank(*byte)) {
            self.state = State::Broken("trailing data");
        }
    }

    /// Takes the next bytes up to the document's end or the first fault, and gives back those behind it.
    pub fn push_to_end<'a>(&mut self, bytes: &'a [u8], sink: &mut dyn FnMut(&[Step<'_>], Token<'_>)) -> &'a [u8] {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = match (self.state, byte) {
                (State::Complete | State::Broken(_), _) => return rest,
                (State::String { key, escape: Escape::None }, _) => self.string(rest, key, sink),
                (State::String { key, escape }, _) => {
                    self.escape(byte, key, escape);
                    tail
                }
                (State::Number, _) => self.number(rest, sink),
                (State::Literal { word, seen, token }, _) => {
                    self.literal(byte, word, seen, token, sink);
                    tail
                }
                (_, blank) if is_blank(blank) => tail,
                (State::Value | State::ValueOrArrayEnd, b'"') => self.string_start(tail, false, sink),
                (State::Key | State::KeyOrObjectEnd, b'"') => self.string_start(tail, true, sink),
                (State::Colon, b':') => {
                    self.state = State::Value;
                    tail
                }
                (State::Value | State::ValueOrArrayEnd, b'n') if rest.starts_with(b"null") => {
                    self.emit(Token::Null, sink);
                    self.value_end();
                    &rest[b"null".len()..]
                }
                (State::Value | State::ValueOrArrayEnd, b'-' | b'0'..=b'9') => {
                    self.text.start(self.max_text.max(MIN_NUMBER), false);
                    self.state = State::Number;
                    rest
                }
                _ => {
                    self.punctuation(byte, sink);
                    tail
                }
            }
        }
        rest
    }

    /// Ends the document: a number at the top level is complete now, anything else that is open is broken.
    pub fn finish(&mut self, sink: &mut dyn FnMut(&[Step<'_>], Token<'_>)) {
        if matches!(self.state, State::Number) {
            self.number_end(None, sink);
        }
        if self.status() == Status::Open {
            self.state = State::Broken("unfinished document");
        }
    }

    fn punctuation(&mut self, byte: u8, sink: Sink<'_>) {
        match (self.state, byte) {
            (State::Value | State::ValueOrArrayEnd, b'{') => self.open(false, sink),
            (State::Value | State::ValueOrArrayEnd, b'[') => self.open(true, sink),
            (State::Value | State::ValueOrArrayEnd, b't') => self.word(b"true", Token::Bool(true)),
            (State::Value | State::ValueOrArrayEnd, b'f') => self.word(b"false", Token::Bool(false)),
            (State::Value | State::ValueOrArrayEnd, b'n') => self.word(b"null", Token::Null),
            (State::ValueOrArrayEnd, b']') => self.close(sink),
            (State::KeyOrObjectEnd, b'}') => self.close(sink),
            (State::AfterValue, b']') if self.path.in_array() => self.close(sink),
            (State::AfterValue, b'}') if !self.path.in_array() => self.close(sink),
            (State::AfterValue, b',') if self.path.in_array() => {
                self.path.next_element();
                self.state = State::Value;
            }
            (State::AfterValue, b',') => self.state = State::Key,
            (State::Value | State::ValueOrArrayEnd, _) => self.state = State::Broken("expected a value"),
            (State::Key | State::KeyOrObjectEnd, _) => self.state = State::Broken("expected a key"),
            (State::Colon, _) => self.state = State::Broken("expected a colon"),
            _ => self.state = State::Broken("expected a comma or an end"),
        }
    }

    fn open(&mut self, array: bool, sink: Sink<'_>) {
        if self.path.depth() == MAX_DEPTH {
            self.state = State::Broken(BOUNDS[0]);
            return;
        }
        self.emit(if array { Token::ArrayStart } else { Token::ObjectStart }, sink);
        self.path.enter(array);
        self.state = if array { State::ValueOrArrayEnd } else { State::KeyOrObjectEnd };
    }

    fn close(&mut self, sink: Sink<'_>) {
        let token = if self.path.in_array() { Token::ArrayEnd } else { Token::ObjectEnd };
        self.path.leave();
        self.emit(token, sink);
        self.value_end();
    }

    fn value_end(&mut self) {
        self.state = if self.path.depth() == 0 { State::Complete } else { State::AfterValue };
    }

    /// How much of a string is kept that begins here: nothing below the paths that are handed out.
    fn cap(&self, key: bool) -> usize {
        match (self.path.is_told(), key) {
            (false, _) => 0,
            (true, true) => MAX_KEY,
            (true, false) => self.max_text,
        }
    }

    /// A string's opening quote has been read. Most strings lie whole and without escapes in the push: those are
    /// handed out from there.
    fn string_start<'a>(&mut self, rest: &'a [u8], key: bool, sink: Sink<'_>) -> &'a [u8] {
        let cap = self.cap(key);
        let pieces = self.pieces && !key && self.path.is_told();
        if let Some(end) = string_end(rest)
            && rest[end] == b'"'
            && let Ok(text) = str::from_utf8(&rest[..end.min(cap)])
            && (!pieces || end <= cap || self.whole_piece(&rest[..end], sink))
        {
            let tail = &rest[end + 1..];
            if !key {
                self.emit(Token::String { text, truncated: end > cap }, sink);
                self.value_end();
                return tail;
            }
            self.path.set_key(text);
            let behind_colon = tail.strip_prefix(b":");
            self.state = if behind_colon.is_some() { State::Value } else { State::Colon };
            return behind_colon.unwrap_or(tail);
        }
        self.begun = false;
        self.text.start(cap, pieces);
        self.state = State::String { key, escape: Escape::None };
        rest
    }

    fn string<'a>(&mut self, rest: &'a [u8], key: bool, sink: Sink<'_>) -> &'a [u8] {
        let Some(end) = memchr2(b'"', b'\\', rest) else {
            self.text(rest, sink);
            return &[];
        };
        self.text(&rest[..end], sink);
        if rest[end] == b'\\' {
            self.state = State::String { key, escape: Escape::Backslash };
        } else {
            self.text.end();
            self.spill(sink);
            if key {
                self.path.set_key(self.text.as_str());
                self.state = State::Colon;
            } else {
                self.emit(Token::String { text: self.text.as_str(), truncated: self.text.truncated() }, sink);
                self.value_end();
            }
        }
        &rest[end + 1..]
    }

    /// Takes raw bytes of a string.
    fn text(&mut self, bytes: &[u8], sink: Sink<'_>) {
        if !self.text.is_spilling() {
            self.text.bytes(bytes);
            return;
        }
        self.spill(sink);
        for window in bytes.chunks(WINDOW) {
            self.text.bytes(window);
            self.spill(sink);
        }
    }

    /// Hands out what did not fit under the cap.
    fn spill(&mut self, sink: Sink<'_>) {
        if self.text.spilled().is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.emit(Token::Piece(self.text.as_str()), sink);
        }
        self.emit(Token::Piece(self.text.spilled()), sink);
        self.text.clear_spilled();
    }

    /// Hands out a string that lies whole in the push; false if it is not UTF-8 and must be repaired.
    fn whole_piece(&mut self, bytes: &[u8], sink: Sink<'_>) -> bool {
        let text = str::from_utf8(bytes);
        if let Ok(text) = text {
            self.emit(Token::Piece(text), sink);
        }
        text.is_ok()
    }

    fn escape(&mut self, byte: u8, key: bool, escape: Escape) {
        let next = match (escape, byte) {
            (Escape::Hex { digits, unit }, _) => {
                let Some(digit) = char::from(byte).to_digit(16) else {
                    self.state = State::Broken("bad escape");
                    return;
                };
                let unit = unit << 4 | digit as u16;
                if digits == 3 {
                    self.text.unit(unit);
                    Escape::None
                } else {
                    Escape::Hex { digits: digits + 1, unit }
                }
            }
            (_, b'u') => Escape::Hex { digits: 0, unit: 0 },
            (_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.text.char(match byte {
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    _ => char::from(byte),
                });
                Escape::None
            }
            _ => {
                self.state = State::Broken("bad escape");
                return;
            }
        };
        self.state = State::String { key, escape: next };
    }

    fn number<'a>(&mut self, rest: &'a [u8], sink: Sink<'_>) -> &'a [u8] {
        let end = rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let (number, rest) = rest.split_at(end.unwrap_or(rest.len()));
        if end.is_some() && self.text.as_str().is_empty() && number.len() <= self.max_text.max(MIN_NUMBER) {
            self.number_end(str::from_utf8(number).ok(), sink);
            return rest;
        }
        self.text.bytes(number);
        if self.text.truncated() {
            self.state = State::Broken(BOUNDS[1]);
        } else if end.is_some() {
            self.number_end(None, sink);
        }
        rest
    }

    /// Hands out `whole`, or else what has been gathered.
    fn number_end(&mut self, whole: Option<&str>, sink: Sink<'_>) {
        let number = whole.unwrap_or(self.text.as_str());
        if !is_number(number.as_bytes()) {
            self.state = State::Broken("bad number");
            return;
        }
        self.emit(Token::Number(number), sink);
        self.value_end();
    }

    fn word(&mut self, word: &'static [u8], token: Token<'static>) {
        self.state = State::Literal { word, seen: 1, token };
    }

    fn literal(&mut self, byte: u8, word: &'static [u8], seen: usize, token: Token<'static>, sink: Sink<'_>) {
        if word.get(seen) != Some(&byte) {
            self.state = State::Broken("expected a value");
        } else if seen + 1 < word.len() {
            self.state = State::Literal { word, seen: seen + 1, token };
        } else {
            self.emit(token, sink);
            self.value_end();
        }
    }

    fn emit(&self, token: Token<'_>, sink: Sink<'_>) {
        self.path.with_steps(|steps| sink(steps, token));
    }
}

/// Where the first quote or backslash is. Most strings are keys and short: for those a call of `memchr` is dear.
fn string_end(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The lowest bit that is set is that of the first byte which is zero.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let mut at = 0;
    for word in bytes.as_chunks().0.iter().take(4) {
        let word = u64::from_le_bytes(*word);
        let found = zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', bytes.get(at..)?).map(|end| at + end)
}

/// Whitespace of RFC 8259 section 2.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}
