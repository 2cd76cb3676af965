//! A call as data: the span that every exporter encodes.
//!
//! Owns the shape of the contract: ids, times, status, attributes in a stable order, events. How a call fills it
//! is in `from_call`; how it is written down is each exporter's business, which is why nothing here is
//! `Serialize`.

/// A finished call in the terms of the data contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// W3C trace id.
    pub trace_id: [u8; 16],
    /// W3C span id.
    pub span_id: [u8; 8],
    /// The span that caused this one.
    pub parent_span_id: Option<[u8; 8]>,
    /// `{operation} {model}`, or the method of a plain HTTP call.
    pub name: String,
    /// Which end of the connection the process was, or neither.
    pub kind: SpanKind,
    /// First request byte, nanoseconds since the Unix epoch.
    pub start_time_unix_nano: u64,
    /// Last byte seen, nanoseconds since the Unix epoch.
    pub end_time_unix_nano: u64,
    /// Outcome.
    pub status: SpanStatus,
    /// Attributes; no name occurs twice, absent means not known.
    pub attributes: Vec<(&'static str, Value)>,
    /// What was noteworthy inside the call, in the order in which it was seen.
    pub events: Vec<SpanEvent>,
}

impl Span {
    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// What a span describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// The process sent the request.
    Client,
    /// The process answered it.
    Server,
    /// Something inside the process: a tool that ran.
    Internal,
}

impl SpanKind {
    /// The contract's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Internal => "internal",
        }
    }
}

/// Outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanStatus {
    /// It was seen to end well.
    Ok,
    /// It failed, was cancelled or was given up.
    Error,
    /// How it ended was not seen.
    Unset,
}

impl SpanStatus {
    /// The contract's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Unset => "unset",
        }
    }
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Str(String),
    /// Whole number.
    Int(i64),
    /// Real number, always finite.
    Double(f64),
    /// Truth value.
    Bool(bool),
    /// List of texts.
    StrArray(Vec<String>),
}

impl Value {
    /// The text of a [`Value::Str`].
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The number of a [`Value::Int`].
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The number of a [`Value::Double`].
    pub fn as_double(&self) -> Option<f64> {
        match self {
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }
}

/// Something noteworthy inside a call.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// One of the `EVENT_*` names of [`super::attributes`].
    pub name: &'static str,
    /// Nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// Attributes of the event.
    pub attributes: Vec<(&'static str, Value)>,
}

/// Lower-case hexadecimal, as the contract writes ids.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_and_keep_leading_zeros() {
        assert_eq!(hex(&[0x00, 0x0a, 0xff]), "000aff");
    }
}
