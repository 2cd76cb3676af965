//! Redaction of a text that comes in pieces.
//!
//! Holds back as much of the text's end as a value may need to be recognised, and swallows what belongs to a value
//! without a longest length (a token, a private key) as it comes. What is given out is the same in any pieces.

use super::{
    Redactor,
    hit::{Hit, LOOKBACK, Rest, View, WINDOW},
    redact::{Scope, Walk},
};

/// How much is collected before it is looked at: the window is read again with every look.
const BATCH: usize = 4096;

/// How far before the beginning of a value what stands before it can matter: whether it continues a word, or whether
/// that word is `version`.
const CONTEXT: usize = 64;

/// How a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last character.
    Whole,
    /// In its middle. The last [`Redactor::MARGIN`] bytes are not given out: a value may begin there whose end is
    /// missing.
    Cut,
}

/// A text under redaction. Pieces of what is left of it go to the sink.
#[derive(Debug)]
pub struct Stream<'r> {
    redactor: &'r Redactor,
    /// What has not been given out, and the context before it.
    text: String,
    /// Where text begins that has not been given out.
    written: usize,
    /// Where text begins that nothing found has taken.
    free: usize,
    /// Where the search goes on.
    at: usize,
    /// The value that everything that comes belongs to.
    rest: Option<Rest>,
}

impl<'r> Stream<'r> {
    /// A text of which nothing has come.
    pub fn new(redactor: &'r Redactor) -> Self {
        Self { redactor, text: String::new(), written: 0, free: 0, at: 0, rest: None }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &str, sink: &mut dyn FnMut(&str)) {
        self.text.push_str(piece);
        if self.text.len() - self.at >= WINDOW + BATCH {
            self.advance(false, sink);
        }
    }

    /// The text is over.
    pub fn finish(mut self, end: End, sink: &mut dyn FnMut(&str)) {
        self.advance(end == End::Whole, sink);
    }

    /// Bytes held, for tests of the bound.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.text.capacity()
    }

    fn advance(&mut self, last: bool, sink: &mut dyn FnMut(&str)) {
        let Self { redactor, text, written, free, at, rest } = self;
        let limit = if last { text.len() } else { text.len().saturating_sub(WINDOW) };
        let mut walk = Walk::new(redactor, Scope::All, *at);
        let mut view = View { text, free: *free, last };
        loop {
            if let Some(value) = rest {
                let end = value.take(view.slice(*written..text.len())).map(|more| *written + more);
                *written = end.unwrap_or(text.len());
                (*free, *at, view.free) = (*written, *written, *written);
                walk.skip_to(*written);
                if end.is_none() {
                    break;
                }
                *rest = None;
            }
            let Some(Hit { kind, range, rest: more }) = walk.next(view, limit) else {
                *at = limit.max(*at);
                break;
            };
            sink(view.slice(*written..range.start));
            sink(&redactor.mark(kind, view.slice(range.clone())));
            *written = range.end;
            (*free, *at, view.free) = (*written, *written, *written);
            walk.skip_to(*written);
            *rest = more;
        }
        let sure = if last { text.len() } else { text.floor_char_boundary(at.saturating_sub(LOOKBACK)) };
        if sure > *written {
            sink(view.slice(*written..sure));
            *written = sure;
        }
        let gone = text.floor_char_boundary(written.saturating_sub(CONTEXT));
        text.drain(..gone);
        (*written, *free, *at) = (*written - gone, free.saturating_sub(gone), *at - gone);
    }
}
