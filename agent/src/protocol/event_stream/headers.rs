//! The headers of a message: u8 length of the name, name, u8 type, value.

use super::{Kind, Message};

/// The headers that are looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Headers<'a> {
    message_type: Option<&'a str>,
    event_type: Option<&'a str>,
    exception_type: Option<&'a str>,
    error_code: Option<&'a str>,
}

impl<'a> Headers<'a> {
    /// Reads a header section; absent if it is malformed.
    pub(super) fn read(mut rest: &'a [u8]) -> Option<Self> {
        let mut headers = Self::default();
        while !rest.is_empty() {
            let name = take_with_length::<1>(&mut rest)?;
            let text = value(&mut rest)?;
            let slot = match name {
                b":message-type" => &mut headers.message_type,
                b":event-type" => &mut headers.event_type,
                b":exception-type" => &mut headers.exception_type,
                b":error-code" => &mut headers.error_code,
                _ => continue,
            };
            *slot = text.or(*slot);
        }
        Some(headers)
    }

    /// The message that has these headers.
    pub(super) fn message(self, payload: &'a [u8]) -> Message<'a> {
        let Self { message_type, event_type, exception_type, error_code } = self;
        let (kind, name) = match message_type {
            Some("exception") => (Kind::Exception, exception_type),
            Some("error") => (Kind::Exception, error_code),
            _ => (Kind::Event, event_type),
        };
        Message { kind, name, payload }
    }
}

/// Takes a value; the text of one that is a string.
fn value<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a str>> {
    let [kind] = *take_array::<1>(rest)?;
    let size = match kind {
        // True and false.
        0 | 1 => 0,
        // Numbers of 8, 16, 32 and 64 bits.
        2 => 1,
        3 => 2,
        4 => 4,
        5 => 8,
        // Bytes and text.
        6 => return take_with_length::<2>(rest).map(|_| None),
        7 => return take_with_length::<2>(rest).map(|bytes| str::from_utf8(bytes).ok()),
        // A timestamp.
        8 => 8,
        // A UUID.
        9 => 16,
        _ => return None,
    };
    take(rest, size).map(|_| None)
}

/// Takes `SIZE` bytes of a length and then so many bytes.
fn take_with_length<'a, const SIZE: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_array::<SIZE>(rest)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    take(rest, length)
}

fn take_array<'a, const SIZE: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; SIZE]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(taken)
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(size)?;
    *rest = behind;
    Some(taken)
}
