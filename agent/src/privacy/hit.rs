//! Where something was found, and the text that the finding rests on.

use std::ops::Range;

use super::shapes::Class;

/// How far after the place where it begins to be suspected a value is looked at. Whatever is to be recognised shows
/// itself within this: the longest are e-mail addresses (254, RFC 5321 section 4.5.3.1) and what a pattern of the
/// configuration matches.
pub(super) const WINDOW: usize = 512;

/// How far before that place a value may begin: the longest is what stands before the mark in an OpenAI key.
pub(super) const LOOKBACK: usize = 128;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A credential, with what it is of.
    Credential(&'static str),
    /// An e-mail address.
    Email,
    /// A telephone number.
    Phone,
    /// The number of a payment card.
    Card,
    /// The number of a bank account.
    Iban,
    /// An address of the Internet protocol, of either version.
    Ip,
    /// What the configuration's pattern with this index matches.
    Pattern(usize),
}

/// Something found.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    /// What it is.
    pub(super) kind: Kind,
    /// The part that it was recognised by.
    pub(super) range: Range<usize>,
    /// What follows that part and belongs to it, however long.
    pub(super) rest: Option<Rest>,
}

impl Hit {
    /// Something that ends where it was recognised.
    pub(super) fn new(kind: Kind, range: Range<usize>) -> Self {
        Self { kind, range, rest: None }
    }

    /// Something that goes on as long as there are characters of `class`.
    pub(super) fn run(kind: &'static str, range: Range<usize>, class: Class) -> Self {
        Self { kind: Kind::Credential(kind), range, rest: Some(Rest::Run(class)) }
    }
}

/// The rest of something without a longest length.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rest {
    /// Characters of a class.
    Run(Class),
    /// A private key in PEM (RFC 7468) behind its first line.
    Pem {
        /// Inside the last line.
        end_line: bool,
        /// Dashes seen in a row.
        dashes: u8,
    },
}

impl Rest {
    /// A private key's body.
    pub(super) const PEM: Self = Self::Pem { end_line: false, dashes: 0 };

    /// How much of `text` belongs to it; absent when all of it does and more may follow.
    pub(super) fn take(&mut self, text: &str) -> Option<usize> {
        match self {
            Self::Run(class) => text.bytes().position(|b| !class(b)),
            Self::Pem { end_line, dashes } => text.bytes().enumerate().find_map(|(at, b)| {
                *dashes = if b == b'-' { *dashes + 1 } else { 0 };
                match (*dashes, *end_line) {
                    (5, true) => Some(at + 1),
                    (5, false) => {
                        (*end_line, *dashes) = (true, 0);
                        None
                    }
                    _ => (!is_pem(b)).then_some(at),
                }
            }),
        }
    }
}

/// What stands in a private key in PEM, its headers (RFC 1421) and its line breaks included, escaped or not.
fn is_pem(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b.is_ascii_whitespace() || b"+/=-\\:,".contains(&b)
}

/// The text that a decision is made on.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'t> {
    /// The text, with at least [`LOOKBACK`] bytes before the place in question and [`WINDOW`] after it, unless it
    /// begins or ends there.
    pub(super) text: &'t str,
    /// Where text begins that nothing found has taken.
    pub(super) free: usize,
    /// Whether nothing follows the text.
    pub(super) last: bool,
}

impl<'t> View<'t> {
    /// The byte at `at`.
    pub(super) fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// The byte before `at`.
    pub(super) fn before(&self, at: usize) -> Option<u8> {
        self.byte(at.checked_sub(1)?)
    }

    /// A part of the text; empty where it is none.
    pub(super) fn slice(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    /// End of the run of `class` that begins at `from`, at most `most` bytes further.
    pub(super) fn run(&self, from: usize, most: usize, class: impl Fn(u8) -> bool) -> usize {
        let bytes = self.text.as_bytes().get(from..).unwrap_or_default();
        from + bytes.iter().take(most).take_while(|&&b| class(b)).count()
    }

    /// Beginning of the run of `class` that ends at `to`, at most `most` bytes earlier and in text that is free.
    pub(super) fn run_back(&self, to: usize, most: usize, class: impl Fn(u8) -> bool) -> usize {
        let bytes = self.text.as_bytes().get(self.free..to).unwrap_or_default();
        to - bytes.iter().rev().take(most).take_while(|&&b| class(b)).count()
    }

    /// Whether the character before `at` belongs to the same word. An escape in quoted JSON (`\n`) or in a URL
    /// (`%3D`) ends in a letter too, but is no word.
    pub(super) fn continues_word(&self, at: usize) -> bool {
        match self.text.as_bytes().get(..at).unwrap_or_default() {
            [.., b'\\', b'n' | b'r' | b't'] => false,
            [.., b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => false,
            [.., last] => last.is_ascii_alphanumeric(),
            [] => false,
        }
    }
}
