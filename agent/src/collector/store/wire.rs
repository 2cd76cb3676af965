//! A second look at encoded messages: fields in place, nothing copied.
//!
//! Owns two things. [`Fields`] walks over one message's fields. [`check`] says whether a whole message, with all that is
//! nested in it, is what its table says: what passes here also decodes with the generated types, so a span that is stored
//! can be read again. Groups, which no message of ours has, do not pass.
//!
//! To read one more message: write its [`Message`] table with the numbers of its `.proto` file.

use std::ops::Range;

/// Deepest nesting that passes. The generated types follow a hundred.
const MAX_DEPTH: u32 = 64;

/// The bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Value<'a> {
    pub(super) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(WRONG_TYPE),
        }
    }

    pub(super) fn fixed64(self) -> Result<u64, Malformed> {
        match self {
            Self::Fixed64(number) => Ok(number),
            _ => Err(WRONG_TYPE),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WRONG_TYPE),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }
}

const WRONG_TYPE: Malformed = Malformed("a field has another type");
const CUT: Malformed = Malformed("the message is cut");

/// A field: its number, its value, and where in the message it is, its tag included.
pub(super) type Field<'a> = (u32, Value<'a>, Range<usize>);

/// Walks over the fields of a message.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let rest = &self.bytes[self.at..];
        match rest.first() {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                return Ok(u64::from(byte));
            }
            Some(_) => {}
            None => return Err(CUT),
        }
        let mut number = 0_u64;
        for (n, &byte) in rest.iter().take(10).enumerate() {
            // Of the tenth byte there is room for one bit.
            if n == 9 && byte > 1 {
                return Err(Malformed("a number is too long"));
            }
            number |= u64::from(byte & 0x7f) << (7 * n);
            if byte < 0x80 {
                self.at += n + 1;
                return Ok(number);
            }
        }
        Err(CUT)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| CUT)?;
        let end = self.at.checked_add(length).ok_or(CUT)?;
        let taken = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(taken)
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let begin = self.at;
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed("a tag is too large"))?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Malformed("a field has no number"));
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| CUT)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.take(4)?.try_into().map(u32::from_le_bytes).map_err(|_| CUT)?),
            _ => return Err(Malformed("a field has a type that is not used")),
        };
        Ok((number, value, begin..self.at))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.bytes.len();
        }
        Some(field)
    }
}

/// What a field of a message must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Varint,
    Fixed64,
    Fixed32,
    Bytes,
    Text,
    Message(&'static Message),
}

/// The fields of a message. Others pass, whatever they hold.
#[derive(Debug)]
pub(super) struct Message(&'static [(u32, Kind)]);

/// Whether `bytes` are a message with this table.
pub(super) fn check(bytes: &[u8], message: &Message) -> Result<(), Malformed> {
    nested(bytes, message, MAX_DEPTH)
}

fn nested(bytes: &[u8], message: &Message, depth: u32) -> Result<(), Malformed> {
    for field in Fields::new(bytes) {
        let (number, value, _) = field?;
        let Some((_, kind)) = message.0.iter().find(|(known, _)| *known == number) else { continue };
        match (kind, value) {
            (Kind::Varint, Value::Varint(_)) | (Kind::Fixed64, Value::Fixed64(_)) => {}
            (Kind::Fixed32, Value::Fixed32(_)) | (Kind::Bytes, Value::Bytes(_)) => {}
            (Kind::Text, value @ Value::Bytes(_)) => {
                value.text()?;
            }
            (Kind::Message(inner), Value::Bytes(bytes)) => match depth.checked_sub(1) {
                Some(depth) => nested(bytes, inner, depth)?,
                None => return Err(Malformed("it is nested too deeply")),
            },
            _ => return Err(WRONG_TYPE),
        }
    }
    Ok(())
}

/// `opentelemetry.proto.common.v1.AnyValue`.
pub(super) static ANY_VALUE: Message = Message(&[
    (1, Kind::Text),
    (2, Kind::Varint),
    (3, Kind::Varint),
    (4, Kind::Fixed64),
    (5, Kind::Message(&ARRAY_VALUE)),
    (6, Kind::Message(&KEY_VALUES)),
    (7, Kind::Bytes),
    (8, Kind::Varint),
]);
/// `opentelemetry.proto.common.v1.ArrayValue`.
pub(super) static ARRAY_VALUE: Message = Message(&[(1, Kind::Message(&ANY_VALUE))]);
static KEY_VALUES: Message = Message(&[(1, Kind::Message(&KEY_VALUE))]);
/// `opentelemetry.proto.common.v1.KeyValue`.
pub(super) static KEY_VALUE: Message = Message(&[(1, Kind::Text), (2, Kind::Message(&ANY_VALUE)), (3, Kind::Varint)]);
/// `opentelemetry.proto.trace.v1.Span.Event`.
pub(super) static EVENT: Message =
    Message(&[(1, Kind::Fixed64), (2, Kind::Text), (3, Kind::Message(&KEY_VALUE)), (4, Kind::Varint)]);
/// `opentelemetry.proto.trace.v1.Span.Link`.
pub(super) static LINK: Message = Message(&[
    (1, Kind::Bytes),
    (2, Kind::Bytes),
    (3, Kind::Text),
    (4, Kind::Message(&KEY_VALUE)),
    (5, Kind::Varint),
    (6, Kind::Fixed32),
]);
/// `opentelemetry.proto.trace.v1.Status`.
pub(super) static STATUS: Message = Message(&[(2, Kind::Text), (3, Kind::Varint)]);
