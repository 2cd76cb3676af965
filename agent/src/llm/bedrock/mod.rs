//! What the calls of Bedrock's runtime have in common: its errors, and token counts in headers.

pub(crate) mod converse;
pub(crate) mod invoke;
pub(crate) mod native;

use super::{
    api::{Draft, Failure},
    value,
};
use crate::protocol::json::{
    Step::{self, Key},
    Token,
};

/// Reads a response's header that names an error: `ValidationException:http://internal.amazon.com/...`.
pub(crate) fn error_header(name: &str, value: &str, draft: &mut Draft) {
    if name == "x-amzn-errortype" {
        fail(value.split(':').next().unwrap_or_default(), draft);
    }
}

/// Reads a value of a response that may be an error: `{"message": ...}` and nothing else.
pub(crate) fn error_value(path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
    if let ([Key("message" | "Message")], Token::String { .. }) = (path, token) {
        draft.failure.get_or_insert(Failure { kind: None, shaped: true });
    }
}

/// Notes an error that its name is known of.
pub(crate) fn fail(name: &str, draft: &mut Draft) {
    let kind = value::is_code(name).then(|| name.to_owned());
    draft.failure.get_or_insert(Failure { kind, shaped: true });
}
