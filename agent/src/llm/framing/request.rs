//! A request's body: one JSON document, a form where files are sent along, or gRPC messages.

use crate::{
    llm::grpc::{Messages, Read},
    protocol::{
        json::{Scanner, Status, Step, Token},
        multipart::{Field, Parser},
        protobuf,
    },
};

/// Reads one body.
pub(crate) enum RequestBody {
    /// Nothing has come but white space; the cap on text.
    Undecided(usize),
    /// One document.
    Document(Box<Reader>),
    /// A form.
    Form {
        /// Reads it.
        parser: Box<Parser>,
        /// Bytes are missing.
        lost: bool,
    },
    /// gRPC messages.
    Messages(Box<Messages>),
    /// It was read before: on a WebSocket it is no body.
    Read,
}

impl RequestBody {
    /// A reader that takes at most `max_text` bytes of a string.
    pub fn new(max_text: usize) -> Self {
        Self::Undecided(max_text)
    }

    /// A reader of gRPC messages with these fields, compressed as `coding` says.
    pub fn messages(fields: &'static [protobuf::Field], coding: Option<&str>, max_text: usize) -> Self {
        Self::Messages(Box::new(Messages::new(fields, coding, max_text)))
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8], sink: &mut dyn FnMut(&[Step<'_>], Token<'_>)) {
        if let Self::Undecided(max_text) = *self {
            // A form has no blanks before it.
            bytes = bytes.trim_ascii_start();
            // No document of an API is a negative number.
            *self = match bytes.first() {
                None => return,
                Some(b'-') => Self::Form { parser: Box::new(Parser::new(max_text)), lost: false },
                Some(_) => Self::Document(Box::new(Reader::new(max_text))),
            };
        }
        match self {
            Self::Document(reader) => reader.push(bytes, sink),
            Self::Form { parser, lost: false } => parser.push(bytes, &mut |field| tell(field, sink)),
            Self::Messages(messages) => messages.push(bytes, &mut |read| {
                if let Read::Value(path, token) = read {
                    sink(path, token);
                }
            }),
            Self::Form { .. } | Self::Undecided(_) | Self::Read => {}
        }
    }

    /// Bytes are missing: what the next ones belong to cannot be told.
    pub fn gap(&mut self) {
        match self {
            Self::Undecided(max_text) => {
                let mut reader = Reader::new(*max_text);
                reader.gap();
                *self = Self::Document(Box::new(reader));
            }
            Self::Document(reader) => reader.gap(),
            Self::Form { lost, .. } => *lost = true,
            Self::Messages(messages) => messages.gap(),
            Self::Read => {}
        }
    }

    /// The body is over.
    pub fn end(&mut self, sink: &mut dyn FnMut(&[Step<'_>], Token<'_>)) {
        match self {
            Self::Undecided(max_text) => {
                let mut reader = Reader::new(*max_text);
                reader.end(sink);
                *self = Self::Document(Box::new(reader));
            }
            Self::Document(reader) => reader.end(sink),
            Self::Messages(messages) => messages.end(),
            Self::Read => {}
            Self::Form { parser, lost } => {
                if !*lost {
                    parser.finish();
                }
            }
        }
    }

    /// Whether all of the body has been seen.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Undecided(_) => false,
            Self::Document(reader) => reader.is_whole(),
            Self::Form { parser, lost } => !lost && parser.is_complete(),
            Self::Messages(messages) => messages.is_whole(),
            Self::Read => true,
        }
    }

    /// Why the body could not be read to its end.
    pub fn malformed(&self) -> Option<&'static str> {
        match self {
            Self::Undecided(_) | Self::Read => None,
            Self::Document(reader) => reader.malformed(),
            Self::Form { parser, .. } => parser.malformed(),
            Self::Messages(messages) => messages.malformed(),
        }
    }
}

/// A body that is one document.
pub(crate) struct Reader {
    scanner: Scanner,
    lost: bool,
    malformed: Option<&'static str>,
}

impl Reader {
    /// A reader that takes at most `max_text` bytes of a string.
    fn new(max_text: usize) -> Self {
        Self { scanner: Scanner::new(max_text).with_pieces(), lost: false, malformed: None }
    }

    /// Takes the next bytes.
    fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[Step<'_>], Token<'_>)) {
        if !self.lost {
            self.scanner.push(bytes, sink);
            self.note();
        }
    }

    /// Bytes are missing: where in the document the next ones belong cannot be told.
    fn gap(&mut self) {
        self.lost = true;
    }

    /// The body is over.
    fn end(&mut self, sink: &mut dyn FnMut(&[Step<'_>], Token<'_>)) {
        if !self.lost {
            self.scanner.finish(sink);
            self.note();
        }
    }

    /// Whether every value of the document has been seen.
    fn is_whole(&self) -> bool {
        !self.lost && self.scanner.status() == Status::Complete
    }

    /// Why the document is not JSON, or not all of it.
    fn malformed(&self) -> Option<&'static str> {
        self.malformed
    }

    fn note(&mut self) {
        if let Status::Broken(reason) = self.scanner.status() {
            self.malformed.get_or_insert(reason);
        }
    }
}

/// A field is told as a member of one document is; a file is an object of which nothing is known.
fn tell(field: Field<'_>, sink: &mut dyn FnMut(&[Step<'_>], Token<'_>)) {
    match field {
        Field::Text { name, text, truncated } => sink(&[Step::Key(member(name))], Token::String { text, truncated }),
        Field::File { name } => {
            let path = [Step::Key(member(name))];
            sink(&path, Token::ObjectStart);
            sink(&path, Token::ObjectEnd);
        }
    }
}

/// Lists are written as `name[]`.
fn member(name: &str) -> &str {
    name.strip_suffix("[]").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_before_a_body_make_no_difference_in_any_pieces() {
        let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n";
        for text in [format!(" \r\n{form}"), "\n {\"model\":\"m\"}".to_owned(), format!("{}-", " ".repeat(100))] {
            let read = |size: usize| {
                let (mut body, mut said) = (RequestBody::new(100), Vec::new());
                let mut take = |path: &[Step<'_>], token: Token<'_>| said.push(format!("{path:?} {token:?}"));
                text.as_bytes().chunks(size).for_each(|piece| body.push(piece, &mut take));
                body.end(&mut take);
                (body.is_whole(), body.malformed(), said)
            };
            assert_eq!(read(text.len()), read(1), "{text}");
            assert_eq!(read(1).0, !text.ends_with('-'), "{text}");
        }
    }
}
