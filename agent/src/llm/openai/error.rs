//! Errors in OpenAI's shape, and in the shapes of those who nearly copied it.
//!
//! Only a code or type is kept. The message is not: it may repeat parts of a key or of the prompt.

use crate::{
    llm::{api::Failure, value},
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};

/// Reads the error that a document may hold.
#[derive(Debug, Default)]
pub(crate) struct ErrorReader {
    present: bool,
    shaped: bool,
    code: Option<String>,
    number: Option<String>,
    kind: Option<String>,
    /// Google's name for the number.
    status: Option<String>,
    /// `object` is `error`: Mistral and older vLLM have the error's members in the document itself.
    is_root: bool,
    root: Option<Box<ErrorReader>>,
}

impl ErrorReader {
    /// A value below `error`.
    pub fn value(&mut self, rest: &[Step<'_>], token: Token<'_>) {
        match (rest, token) {
            ([], Token::ObjectStart) => self.present = true,
            ([], Token::String { text, .. }) => self.present |= !text.is_empty(),
            ([Key(key)], _) => self.member(key, token),
            _ => {}
        }
    }

    fn member(&mut self, key: &str, token: Token<'_>) {
        match (key, token) {
            ("message", Token::String { .. }) => self.shaped = true,
            ("code", Token::String { .. }) => {
                self.shaped = true;
                self.code = value::code(token);
            }
            ("code", Token::Number(digits)) => {
                self.shaped = true;
                self.number =
                    digits.parse::<i64>().is_ok().then(|| digits.to_owned()).filter(|text| value::is_code(text));
            }
            ("type", Token::String { .. }) => {
                self.shaped = true;
                self.kind = value::code(token);
            }
            ("status", Token::String { .. }) => self.status = value::code(token),
            _ => {}
        }
    }

    /// Something other than `object` says that the document is an error.
    pub fn is_document(&mut self) {
        self.is_root = true;
    }

    /// Whether [`Self::root`] makes anything of a member.
    pub fn is_member(path: &[Step<'_>], token: Token<'_>) -> bool {
        match (path, token) {
            ([Key("object")], Token::String { text, .. }) => text == "error",
            ([Key("message" | "code" | "type")], _) => true,
            _ => false,
        }
    }

    /// A member of the document that nothing else reads.
    pub fn root(&mut self, path: &[Step<'_>], token: Token<'_>) {
        match (path, token) {
            ([Key("object")], Token::String { text, .. }) => self.is_root = text == "error",
            ([Key(key @ ("message" | "code" | "type"))], _) => {
                self.root.get_or_insert_default().member(key, token);
            }
            _ => {}
        }
    }

    /// The document is over: the error that it held.
    pub fn end(self) -> Option<Failure> {
        let Self { present, shaped, code, number, kind, status, is_root, root } = self;
        let own = code.or(kind).or(status).or(number);
        match (present, root) {
            (true, None) => Some(Failure { kind: own, shaped }),
            // xAI gives the code beside the error.
            (true, Some(root)) => Some(Failure { kind: own.or(root.code).or(root.kind).or(root.number), shaped }),
            (false, Some(root)) if is_root => {
                Some(Failure { kind: root.code.or(root.kind).or(root.number), shaped: root.shaped })
            }
            (false, _) => is_root.then(Failure::default),
        }
    }
}
