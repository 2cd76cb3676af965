//! Streaming JSON scanner (RFC 8259): bytes in, values with their paths out.
//!
//! Owns JSON's syntax, string decoding and the bounds on both. Knows no API: what a path means is `llm`'s
//! business. Never builds the document; a body of any size costs one token's memory.
//!
//! More lenient than the RFC where a client's own parser may be: control characters may stand raw in strings,
//! invalid UTF-8 and lone surrogates become U+FFFD.
//!
//! To hand out one more kind of thing: add the variant to [`Token`], emit it where the state machine in
//! `scanner.rs` recognises it, and teach `flatten` in `tests.rs` to expect it from `serde_json`.

mod documents;
mod path;
mod scanner;
#[cfg(test)]
mod tests;
mod text;

pub use documents::{Documents, Form, Item};
pub(crate) use path::MAX_PATH;
pub use scanner::{BOUNDS, Scanner};

/// One step of the way from the document's root to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Member of an object. Keys longer than the scanner's cap never match a real key: they are cut.
    Key(&'a str),
    /// Element of an array.
    Index(u32),
}

/// A value, or the beginning or end of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// `{`
    ObjectStart,
    /// `}`
    ObjectEnd,
    /// `[`
    ArrayStart,
    /// `]`
    ArrayEnd,
    /// Text of a string that is longer than the scanner's cap, unescaped: all of it, in pieces of any size, before the
    /// string's own [`Token::String`]. Only from a scanner that was asked for pieces.
    Piece(&'a str),
    /// A string, unescaped. `text` holds at most the scanner's cap; `truncated` says that there was more.
    String {
        /// The beginning of the string, cut at a character boundary.
        text: &'a str,
        /// Whether the string was longer than `text`.
        truncated: bool,
    },
    /// A number as written.
    Number(&'a str),
    /// `true` or `false`
    Bool(bool),
    /// `null`
    Null,
}

/// Where a [`Scanner`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing but whitespace so far.
    Empty,
    /// Inside the document.
    Open,
    /// The document is whole.
    Complete,
    /// Not JSON, or beyond a bound; the reason is from a closed set. Nothing after the fault is looked at.
    Broken(&'static str),
}
