//! Several JSON documents in one body: lines of NDJSON, or the elements of an array that is sent element by element.
//!
//! Owns where one document ends and the next begins. Holds one token, as the [`Scanner`] does, never a line. Any
//! whitespace separates documents, and none need, so documents that are only strung together are read as well.

use super::{Scanner, Status, Step, Token, scanner::is_blank};

/// What stands around the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing but whitespace. Behind a damaged document the next line is taken up.
    Lines,
    /// An array. Behind a damaged element the next line that holds nothing but a comma is taken up, by which Gemini
    /// separates its elements; inside a document no such line stands.
    Array,
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// A value of the document at hand.
    Value(&'a [Step<'a>], Token<'a>),
    /// The document at hand is over; with the reason if that is because it is not JSON.
    End(Option<&'static str>),
    /// What stands around the documents is not JSON.
    Broken(&'static str),
}

/// Where values go.
type Sink<'s> = &'s mut dyn FnMut(Item<'_>);

/// Parser of one body.
pub struct Documents {
    form: Form,
    scanner: Scanner,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// Before the array.
    Outside,
    /// Where a document may begin.
    Between,
    Inside,
    /// Passing over damage, up to a line end.
    Skip(Line),
    /// Behind the array.
    Over,
    /// Behind what follows the array.
    Broken,
}

/// What a line that is passed over has held so far.
#[derive(Clone, Copy)]
enum Line {
    Nothing,
    Comma,
    Other,
}

impl Documents {
    /// A parser that hands out at most `max_text` bytes of a string.
    pub fn new(form: Form, max_text: usize) -> Self {
        let state = match form {
            Form::Lines => State::Between,
            Form::Array => State::Outside,
        };
        Self { form, scanner: Scanner::new(max_text), state }
    }

    /// The same parser, which also hands out [`Token::Piece`].
    pub fn with_pieces(mut self) -> Self {
        self.scanner = self.scanner.with_pieces();
        self
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Item<'_>)) {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            let next = match (self.state, byte) {
                (State::Inside, _) => {
                    rest = self.inside(rest, sink);
                    continue;
                }
                (State::Broken, _) => return,
                (State::Skip(line), _) => self.skip(line, byte),
                (state, byte) if is_blank(byte) => state,
                (State::Outside, b'[') => State::Between,
                (State::Between, b',') if self.form == Form::Array => State::Between,
                (State::Between, b']') if self.form == Form::Array => State::Over,
                (State::Between, _) => {
                    self.scanner.reset();
                    self.state = State::Inside;
                    continue;
                }
                (State::Outside | State::Over, _) => {
                    sink(Item::Broken(if matches!(self.state, State::Over) {
                        "trailing data"
                    } else {
                        "not an array"
                    }));
                    State::Broken
                }
            };
            self.state = next;
            rest = tail;
        }
    }

    /// Whether the array is over.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Bytes are missing here. What comes next is never half a document. Says whether a document was begun, which has
    /// no [`Item::End`] then.
    pub fn gap(&mut self) -> bool {
        let inside = matches!(self.state, State::Inside);
        if !matches!(self.state, State::Broken) {
            self.state = State::Skip(Line::Other);
        }
        inside
    }

    /// The body is over.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Item<'_>)) {
        if let State::Inside = self.state {
            self.scanner.finish(&mut |path, token| sink(Item::Value(path, token)));
            self.settle(sink);
        }
        if self.form == Form::Array && matches!(self.state, State::Between) {
            sink(Item::Broken("unfinished array"));
        }
    }

    fn inside<'a>(&mut self, bytes: &'a [u8], sink: Sink<'_>) -> &'a [u8] {
        let rest = self.scanner.push_to_end(bytes, &mut |path, token| sink(Item::Value(path, token)));
        self.settle(sink);
        // The fault may be the line's end itself.
        if let State::Skip(line) = self.state
            && let Some(&last) = bytes.get(..bytes.len() - rest.len()).and_then(<[u8]>::last)
        {
            self.state = self.skip(line, last);
        }
        rest
    }

    /// Says if the document at hand is over.
    fn settle(&mut self, sink: Sink<'_>) {
        let (state, reason) = match self.scanner.status() {
            Status::Complete => (State::Between, None),
            Status::Broken(reason) => (State::Skip(Line::Other), Some(reason)),
            Status::Empty | Status::Open => return,
        };
        self.state = state;
        sink(Item::End(reason));
    }

    /// Passes over one byte of damage.
    fn skip(&self, line: Line, byte: u8) -> State {
        match (self.form, line, byte) {
            (Form::Lines, _, b'\n') | (Form::Array, Line::Comma, b'\n') => State::Between,
            (Form::Array, _, b'\n') => State::Skip(Line::Nothing),
            (_, line, b' ' | b'\t' | b'\r') => State::Skip(line),
            (_, Line::Nothing, b',') => State::Skip(Line::Comma),
            _ => State::Skip(Line::Other),
        }
    }
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
