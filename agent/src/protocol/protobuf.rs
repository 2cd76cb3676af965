//! Streaming reader of Protocol Buffers messages (protobuf.dev, "Encoding"): bytes in, values with their paths out.
//!
//! A message does not name its fields, so it is read by a table of those that are wanted: [`Field`]. What comes out has the
//! form of the same value in JSON (`json::Step`, `json::Token`), so that one reader serves both. Fields that the table
//! does not have are passed over, whatever their size; a message of any size costs one value's memory.
//!
//! To read a message: write its table with the numbers of its `.proto` file.

use super::json::{Step, Token};

/// Most fields that a table may have, because each has a count of its elements in every open message.
pub const MAX_FIELDS: usize = 12;

/// Deepest nesting of wanted messages that is followed. The deepest table has four.
const MAX_DEPTH: usize = 6;

/// Bytes of the length before a raw text.
const RAW_PREFIX: usize = 4;

/// A field that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its number.
    pub number: u32,
    /// The key that it gets.
    pub name: &'static str,
    /// Whether it is a list.
    pub repeated: bool,
    /// What it holds.
    pub kind: Kind,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text, or bytes that may be text.
    Text,
    /// Bytes that begin with the length of the text that follows, as a tensor of texts does: that text is given.
    RawText,
    /// A whole number, also in a packed list.
    Int,
    /// True or false.
    Bool,
    /// `float` or `double`.
    Float,
    /// Anything; only that it is there is told, as null.
    Presence,
    /// A message.
    Message(&'static [Field]),
    /// A message whose fields are told as if they were those of the message around it.
    Inline(&'static [Field]),
}

/// Reads one message after the other.
#[derive(Debug)]
pub struct Scanner {
    max_text: usize,
    root: &'static [Field],
    stack: Vec<Frame>,
    state: State,
    /// The number that is being read, and how many bits of it there are.
    varint: (u64, u32),
    text: Vec<u8>,
    malformed: Option<&'static str>,
}

/// An open message.
#[derive(Clone, Copy, Debug)]
struct Frame {
    fields: &'static [Field],
    /// How it is reached from the message around it; absent of one that is told as part of that.
    step: Option<(&'static str, Option<u32>)>,
    /// Bytes of it that are still to come; absent of the root, which ends with its bytes.
    left: Option<u64>,
    counts: [u32; MAX_FIELDS],
}

#[derive(Clone, Copy, Debug)]
enum State {
    Tag,
    Varint(Option<Field>),
    /// So many bytes of a number with fixed size are missing.
    Fixed(Option<Field>, u8),
    Length(Option<Field>),
    /// So many bytes are passed over.
    Skip(u64),
    /// So many bytes are text that is still to come; whether some of it was left out.
    Text(Field, u64, bool),
    /// So many bytes are a list of numbers.
    Packed(Field, u64),
    /// Nothing more is read.
    Broken,
}

/// Where values go.
type Sink<'s> = &'s mut dyn FnMut(&[Step<'_>], Token<'_>);

impl Scanner {
    /// A reader of messages with these fields, that hands out at most `max_text` bytes of a text.
    pub fn new(root: &'static [Field], max_text: usize) -> Self {
        let mut scanner = Self {
            max_text,
            root,
            stack: Vec::new(),
            state: State::Tag,
            varint: (0, 0),
            text: Vec::new(),
            malformed: None,
        };
        scanner.reset();
        scanner
    }

    /// Begins the next message.
    pub fn reset(&mut self) {
        self.stack.clear();
        self.stack.push(Frame { fields: self.root, step: None, left: None, counts: [0; MAX_FIELDS] });
        (self.state, self.varint) = (State::Tag, (0, 0));
        self.text.clear();
        self.malformed = None;
    }

    /// Why the message could not be read to its end.
    pub fn malformed(&self) -> Option<&'static str> {
        self.malformed
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], sink: Sink<'_>) {
        let mut rest = bytes;
        while !rest.is_empty() && !matches!(self.state, State::Broken) {
            let wanted = match self.state {
                State::Skip(left) | State::Text(_, left, _) => left,
                State::Fixed(_, left) => u64::from(left),
                _ => 1,
            };
            let (taken, tail) = rest.split_at(usize::try_from(wanted).unwrap_or(usize::MAX).clamp(1, rest.len()));
            if self.take(taken.len() as u64) {
                self.step(taken, sink);
                self.close_whole(sink);
            }
            rest = tail;
        }
    }

    /// The message is over; false if it ends inside a field.
    pub fn finish(&mut self, sink: Sink<'_>) -> bool {
        let whole = self.stack.len() == 1 && matches!(self.state, State::Tag) && self.varint.1 == 0;
        match whole {
            true => self.tell(None, Token::ObjectEnd, sink),
            false => self.fault("the message ends inside a field"),
        }
        whole
    }

    /// Takes bytes off every open message; false when one has not as many.
    fn take(&mut self, taken: u64) -> bool {
        for frame in &mut self.stack {
            let Some(left) = &mut frame.left else { continue };
            match left.checked_sub(taken) {
                Some(rest) => *left = rest,
                None => {
                    self.fault("a field is longer than its message");
                    return false;
                }
            }
        }
        true
    }

    /// Reads bytes that all belong to what is being read.
    fn step(&mut self, bytes: &[u8], sink: Sink<'_>) {
        let taken = bytes.len() as u64;
        match self.state {
            State::Skip(left) if left <= taken => self.state = State::Tag,
            State::Skip(left) => self.state = State::Skip(left - taken),
            State::Text(field, left, truncated) => self.text(field, left, truncated, bytes, sink),
            State::Fixed(field, left) => {
                self.text.extend_from_slice(bytes);
                let left = u64::from(left).saturating_sub(taken) as u8;
                self.state = State::Fixed(field, left);
                if left == 0 {
                    self.fixed(field, sink);
                }
            }
            State::Packed(field, left) => {
                let number = bytes.first().and_then(|byte| self.varint(*byte));
                if matches!(self.state, State::Broken) {
                    return;
                }
                if let Some(number) = number {
                    self.scalar(field, number, sink);
                }
                self.state = match left.saturating_sub(1) {
                    0 if self.varint.1 != 0 => return self.fault("a list ends inside a number"),
                    0 => State::Tag,
                    left => State::Packed(field, left),
                };
            }
            _ => {
                if let Some(value) = bytes.first().and_then(|byte| self.varint(*byte)) {
                    self.number(value, sink);
                }
            }
        }
    }

    /// Takes one byte of a number; the number when that was its last.
    fn varint(&mut self, byte: u8) -> Option<u64> {
        let (value, bits) = self.varint;
        if bits >= 64 {
            self.fault("a number is too long");
            return None;
        }
        let value = value | u64::from(byte & 0x7f) << bits;
        self.varint = (value, bits + 7);
        (byte & 0x80 == 0).then(|| {
            self.varint = (0, 0);
            value
        })
    }

    fn number(&mut self, value: u64, sink: Sink<'_>) {
        match self.state {
            State::Tag => {
                let field = u32::try_from(value >> 3).ok().and_then(|number| self.field(number));
                self.state = match value & 7 {
                    0 => State::Varint(field),
                    1 | 5 => {
                        self.text.clear();
                        State::Fixed(field, if value & 7 == 1 { 8 } else { 4 })
                    }
                    2 => State::Length(field),
                    _ => return self.fault("a kind of field that is not in use"),
                };
            }
            State::Varint(field) => {
                self.state = State::Tag;
                if let Some(field) = field {
                    self.scalar(field, value, sink);
                }
            }
            State::Length(field) => self.length(field, value, sink),
            _ => {}
        }
    }

    /// A field with a length begins.
    fn length(&mut self, field: Option<Field>, length: u64, sink: Sink<'_>) {
        if self.stack.last().and_then(|frame| frame.left).is_some_and(|left| length > left) {
            return self.fault("a field is longer than its message");
        }
        self.state = if length == 0 { State::Tag } else { State::Skip(length) };
        let Some(field) = field else { return };
        match field.kind {
            Kind::Message(fields) | Kind::Inline(fields) if self.stack.len() <= MAX_DEPTH => {
                let is_inline = matches!(field.kind, Kind::Inline(_));
                let step = (!is_inline).then(|| (field.name, self.next_index(field)));
                self.stack.push(Frame { fields, step, left: Some(length), counts: [0; MAX_FIELDS] });
                if !is_inline {
                    self.tell(None, Token::ObjectStart, sink);
                }
                self.state = State::Tag;
            }
            Kind::Text | Kind::RawText => {
                self.text.clear();
                self.state = State::Text(field, length, false);
                if length == 0 {
                    self.text_end(field, false, sink);
                }
            }
            Kind::Int | Kind::Bool if length > 0 => self.state = State::Packed(field, length),
            Kind::Presence => self.value(field, Token::Null, sink),
            // Of packed numbers with fixed size only that they are there could be of use, and is of none.
            _ => {}
        }
    }

    fn text(&mut self, field: Field, left: u64, truncated: bool, bytes: &[u8], sink: Sink<'_>) {
        // The length that stands before a raw text comes on top.
        let room = self.max_text.saturating_add(RAW_PREFIX).saturating_sub(self.text.len());
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.text.extend_from_slice(kept);
        let truncated = truncated || kept.len() < bytes.len();
        let left = left.saturating_sub(bytes.len() as u64);
        self.state = State::Text(field, left, truncated);
        if left == 0 {
            self.text_end(field, truncated, sink);
        }
    }

    fn text_end(&mut self, field: Field, truncated: bool, sink: Sink<'_>) {
        self.state = State::Tag;
        let bytes = std::mem::take(&mut self.text);
        let (text, mut cut) = match field.kind {
            Kind::RawText => match bytes.split_first_chunk() {
                Some((length, rest)) => {
                    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
                    (rest.get(..length).unwrap_or(rest), truncated && length > rest.len())
                }
                None => (&[][..], truncated),
            },
            _ => (bytes.as_slice(), truncated),
        };
        cut |= text.len() > self.max_text;
        let text = text.get(..self.max_text).unwrap_or(text);
        let text = match str::from_utf8(text) {
            Ok(text) => text.into(),
            // The cut may have split a character.
            Err(error) if cut && error.error_len().is_none() => {
                String::from_utf8_lossy(text.get(..error.valid_up_to()).unwrap_or_default())
            }
            Err(_) => String::from_utf8_lossy(text),
        };
        self.value(field, Token::String { text: &text, truncated: cut }, sink);
        self.text = bytes;
    }

    fn scalar(&mut self, field: Field, value: u64, sink: Sink<'_>) {
        match field.kind {
            Kind::Int => self.value(field, Token::Number(&value.cast_signed().to_string()), sink),
            Kind::Bool => self.value(field, Token::Bool(value != 0), sink),
            Kind::Presence => self.value(field, Token::Null, sink),
            _ => {}
        }
    }

    fn fixed(&mut self, field: Option<Field>, sink: Sink<'_>) {
        self.state = State::Tag;
        let number = match self.text.as_slice() {
            [a, b, c, d] => f64::from(f32::from_le_bytes([*a, *b, *c, *d])),
            [a, b, c, d, e, f, g, h] => f64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
            _ => return,
        };
        match field {
            Some(field @ Field { kind: Kind::Float, .. }) if number.is_finite() => {
                self.value(field, Token::Number(&number.to_string()), sink);
            }
            Some(field @ Field { kind: Kind::Presence, .. }) => self.value(field, Token::Null, sink),
            _ => {}
        }
    }

    /// Ends the messages that have no more bytes.
    fn close_whole(&mut self, sink: Sink<'_>) {
        while matches!(self.state, State::Tag) && self.stack.last().is_some_and(|frame| frame.left == Some(0)) {
            if self.varint.1 != 0 {
                return self.fault("a message ends inside a number");
            }
            self.close(sink);
        }
    }

    fn close(&mut self, sink: Sink<'_>) {
        if self.stack.last().is_some_and(|frame| frame.step.is_some()) {
            self.tell(None, Token::ObjectEnd, sink);
        }
        self.stack.pop();
    }

    fn field(&self, number: u32) -> Option<Field> {
        self.stack.last()?.fields.iter().find(|field| field.number == number).copied()
    }

    /// The place of the next element of a list, in the message that is told.
    fn next_index(&mut self, field: Field) -> Option<u32> {
        if !field.repeated {
            return None;
        }
        let frame = self.stack.last_mut()?;
        let at = frame.fields.iter().position(|known| known.number == field.number)?;
        let count = frame.counts.get_mut(at)?;
        let index = *count;
        *count = count.saturating_add(1);
        Some(index)
    }

    fn value(&mut self, field: Field, token: Token<'_>, sink: Sink<'_>) {
        let step = (field.name, self.next_index(field));
        self.tell(Some(step), token, sink);
    }

    fn tell(&self, last: Option<(&'static str, Option<u32>)>, token: Token<'_>, sink: Sink<'_>) {
        let mut path = [Step::Index(0); 2 * (MAX_DEPTH + 2)];
        let mut length = 0;
        for (name, index) in self.stack.iter().filter_map(|frame| frame.step).chain(last) {
            for step in [Some(Step::Key(name)), index.map(Step::Index)].into_iter().flatten() {
                if let Some(slot) = path.get_mut(length) {
                    *slot = step;
                    length += 1;
                }
            }
        }
        sink(path.get(..length).unwrap_or_default(), token);
    }

    fn fault(&mut self, reason: &'static str) {
        self.state = State::Broken;
        self.malformed.get_or_insert(reason);
    }
}

#[cfg(test)]
#[path = "protobuf_tests.rs"]
mod tests;
