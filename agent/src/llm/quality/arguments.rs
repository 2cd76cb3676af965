//! Arguments of a tool call, judged while they come and not kept.
//!
//! They are JSON in a string, in pieces that are cut anywhere. Noted are whether they are JSON and which members of the
//! outermost object have which type.

use super::schema::{Keys, Types};
use crate::protocol::json::{BOUNDS, Scanner, Status, Step, Token};

/// Arguments while they come.
#[derive(Clone, Debug, Default)]
pub(crate) enum Arguments {
    /// Not a byte yet.
    #[default]
    Nothing,
    /// JSON so far.
    Open(Box<Reader>),
    /// No JSON.
    Malformed,
    /// A piece is missing, came in an order that cannot be followed, or is beyond the bounds.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Reader {
    scanner: Scanner,
    keys: Keys,
    is_object: bool,
}

/// What is to be said of arguments that are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: there are none, not all of them were seen, or they are beyond what is followed.
    Unknown,
    /// They are not JSON.
    Malformed,
    /// They are JSON; if an object, these are its members.
    Json(Option<Keys>),
}

impl Arguments {
    /// Takes the next piece.
    pub fn push(&mut self, text: &str) {
        if let Self::Nothing = self {
            if text.trim_ascii().is_empty() {
                return;
            }
            let scanner = Scanner::new(0);
            *self = Self::Open(Box::new(Reader { scanner, keys: Keys::default(), is_object: false }));
        }
        let Self::Open(reader) = self else { return };
        let Reader { scanner, keys, is_object } = reader.as_mut();
        scanner.push(text.as_bytes(), &mut |path, token| match (path, token) {
            ([], Token::ObjectStart) => *is_object = true,
            ([Step::Key(key)], token) => {
                if let Some(types) = Types::of(token) {
                    keys.add(key, types);
                }
            }
            _ => {}
        });
        if let Status::Broken(reason) = scanner.status() {
            *self = if BOUNDS.contains(&reason) { Self::Unknown } else { Self::Malformed };
        }
    }

    /// Nothing can be said of them any more.
    pub fn set_unknown(&mut self) {
        *self = Self::Unknown;
    }

    /// Whether a piece has come, whatever became of it.
    pub fn has_begun(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// The arguments are over.
    pub fn end(mut self) -> Verdict {
        if let Self::Open(reader) = &mut self {
            // A number has no end of its own.
            reader.scanner.finish(&mut |_, _| ());
        }
        match self {
            Self::Nothing | Self::Unknown => Verdict::Unknown,
            Self::Open(reader) if reader.scanner.status() == Status::Complete => {
                Verdict::Json(reader.is_object.then_some(reader.keys))
            }
            Self::Open(_) | Self::Malformed => Verdict::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str, size: usize) -> Verdict {
        let mut arguments = Arguments::default();
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(size).for_each(|piece| arguments.push(&piece.iter().collect::<String>()));
        arguments.end()
    }

    #[test]
    fn what_is_no_json_is_malformed_in_any_pieces() {
        for text in ["{\"a\":1", "{'a':1}", "None", "{\"a\":1}}", "```json\n{}\n```", "{\"a\":\"\\q\"}"] {
            assert_eq!((verdict(text, 1), verdict(text, 100)), (Verdict::Malformed, Verdict::Malformed), "{text}");
        }
        for text in ["{}", " {\"a\":[1,{\"b\":\"ü\"}]} ", "{\"a\":\"x\\u00e9\\n\"}"] {
            assert!(matches!(verdict(text, 1), Verdict::Json(Some(_))), "{text}");
            assert_eq!(verdict(text, 1), verdict(text, 100));
        }
        assert_eq!(verdict("12", 1), Verdict::Json(None));
    }

    #[test]
    fn what_was_not_seen_or_is_beyond_the_bounds_is_unknown() {
        assert_eq!(verdict("", 1), Verdict::Unknown);
        assert_eq!(verdict(" ", 1), Verdict::Unknown);
        assert_eq!(verdict(&"[".repeat(1000), 7), Verdict::Unknown);
        let mut arguments = Arguments::default();
        arguments.push("{");
        arguments.set_unknown();
        arguments.push("}");
        assert_eq!((arguments.has_begun(), arguments.end()), (true, Verdict::Unknown));
    }

    #[test]
    fn megabytes_are_judged_and_not_held() {
        let text = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
        assert!(matches!(verdict(&text, 1000), Verdict::Json(Some(_))));
        assert_eq!(verdict(&text[..text.len() - 1], 1000), Verdict::Malformed);
    }
}
