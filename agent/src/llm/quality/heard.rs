//! A text of the answer, judged while it comes and not kept.
//!
//! Owns how the pieces of one document are added to those of the documents before: which choice or tool call a piece
//! belongs to is known only at the document's end, and what watches a text cannot be put together from two halves. So a
//! piece waits as text while it is short, as those of a stream are, and is watched at once when it is long.

use super::{Arguments, Loops, Verdict};
use crate::llm::estimate::{Counting, Tokens};
#[cfg(test)]
use crate::protocol::json::Token;

/// Text of one document that waits for its end. A stream's pieces are some tokens long; what is longer comes alone.
const MAX_PENDING: usize = 4096;

/// A text or a piece of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    any: bool,
    /// The text is counted too, with this.
    pub counts: Option<Counting>,
    /// The string that is being read has come in pieces.
    pieced: bool,
    pending: String,
    watch: Option<Box<Watch>>,
}

/// Both, because a text does not know which of the two it is.
#[derive(Clone, Debug, Default)]
struct Watch {
    loops: Loops,
    arguments: Arguments,
    /// Absent unless the text is counted.
    tokens: Option<Tokens>,
}

impl Heard {
    /// Takes a piece of a string that is longer than strings are handed out.
    pub fn piece(&mut self, text: &str) {
        self.pieced = true;
        self.feed(text);
    }

    /// Takes a string, of which `truncated` says that it is only the beginning of one. The rest may have come before,
    /// in pieces.
    pub fn string(&mut self, text: &str, truncated: bool) {
        if std::mem::take(&mut self.pieced) {
            return;
        }
        self.feed(text);
        if truncated {
            self.settle();
            self.watch().arguments.set_unknown();
        }
    }

    /// Takes a string value, or a piece of one.
    #[cfg(test)]
    pub fn token(&mut self, token: Token<'_>) {
        match token {
            Token::Piece(text) => self.piece(text),
            Token::String { text, truncated } => self.string(text, truncated),
            _ => {}
        }
    }

    /// Adds what followed in the same document.
    pub fn append(&mut self, piece: Self) {
        let Self { any, counts, pieced: _, pending, watch } = piece;
        self.any |= any;
        self.counts = counts.or(self.counts);
        match (&mut self.watch, watch) {
            (_, None) => self.feed(&pending),
            (None, Some(later)) if self.pending.is_empty() => self.watch = Some(later),
            (_, Some(later)) => {
                self.settle();
                self.watch().join(*later);
            }
        }
    }

    /// Adds what the next document had.
    pub fn absorb(&mut self, piece: Self) {
        self.append(piece);
        self.settle();
    }

    /// Whether any text came.
    pub fn is_any(&self) -> bool {
        self.any
    }

    /// Whether this is all that the document had.
    pub fn is(&self, text: &str) -> bool {
        self.pending == text
    }

    /// Whether the text went round in circles.
    pub fn is_loop(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.loops.found())
    }

    /// How much text there was, if it was counted.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.watch.as_ref().and_then(|watch| watch.tokens.as_ref())
    }

    /// What is to be said of the text as a tool's arguments.
    pub fn take_verdict(&mut self) -> Verdict {
        let watch = self.watch.as_mut();
        watch.map_or(Verdict::Unknown, |watch| std::mem::take(&mut watch.arguments).end())
    }

    fn feed(&mut self, text: &str) {
        self.any |= !text.is_empty();
        match &mut self.watch {
            Some(watch) => watch.push(text),
            None if self.pending.len() + text.len() <= MAX_PENDING => self.pending.push_str(text),
            None => {
                self.settle();
                self.watch().push(text);
            }
        }
    }

    fn watch(&mut self) -> &mut Watch {
        let tokens = self.counts.map(Tokens::new);
        self.watch.get_or_insert_with(|| Box::new(Watch { tokens, ..Watch::default() }))
    }

    /// Watches what waited.
    fn settle(&mut self) {
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            self.watch().push(&pending);
        }
    }
}

impl Watch {
    fn push(&mut self, text: &str) {
        self.loops.push(text);
        self.arguments.push(text);
        self.tokens.iter_mut().for_each(|tokens| tokens.push(text));
    }

    /// Goes on with another that took what followed, from a new beginning.
    fn join(&mut self, later: Self) {
        if !self.loops.found() {
            self.loops = later.loops;
        }
        if let (Some(own), Some(later)) = (&mut self.tokens, &later.tokens) {
            own.add(later);
        }
        if self.arguments.has_begun() {
            self.arguments.set_unknown();
        } else {
            self.arguments = later.arguments;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents with the pieces of one call's arguments; each piece may come as one token or in pieces.
    fn verdict(documents: &[&str], pieces: bool) -> Verdict {
        let mut sum = Heard::default();
        for document in documents {
            let mut piece = Heard::default();
            if pieces {
                document.split_inclusive(' ').for_each(|part| piece.token(Token::Piece(part)));
            }
            piece.token(Token::String { text: document, truncated: pieces && !document.is_empty() });
            sum.absorb(piece);
        }
        sum.take_verdict()
    }

    #[test]
    fn pieces_of_a_stream_and_one_long_piece_give_the_same() {
        let long = format!("{{\"a\": \"{}\"}}", "x ".repeat(10_000));
        for pieces in [false, true] {
            assert_eq!(verdict(&[&long], pieces), verdict(&["{\"a\": ", "\"x\"}"], pieces));
            assert_eq!(verdict(&["", &long], pieces), verdict(&[&long], pieces), "an empty piece first");
            assert_eq!(verdict(&["{\"a\": ", "1"], pieces), Verdict::Malformed);
        }
    }

    #[test]
    fn a_long_piece_in_the_middle_leaves_arguments_unknown() {
        let long = format!("\"{}\"}}", "x".repeat(10_000));
        assert_eq!(verdict(&["{\"a\": ", &long], false), Verdict::Unknown);
    }

    #[test]
    fn a_beginning_alone_is_unknown() {
        let mut heard = Heard::default();
        heard.string("{\"a\"", true);
        assert_eq!((heard.is_any(), heard.take_verdict()), (true, Verdict::Unknown));
    }

    #[test]
    fn circles_are_found_across_documents() {
        let mut sum = Heard::default();
        for _ in 0..50 {
            let mut piece = Heard::default();
            piece.string("again ", false);
            sum.absorb(piece);
        }
        assert!(sum.is_loop());
    }
}
