//! Streaming JSON scanner.

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
