//! JSON text of a value whose tokens pass by one after the other.
//!
//! Needed where an API gives as a value what the conventions want as text: the arguments of a tool call.

use super::content::{Budget, Clipped};
use crate::protocol::json::{
    MAX_PATH,
    Step::{self, Index, Key},
    Token,
};

/// Appends a token of the value whose own path is the first `from` steps of `path`. What lies deeper than paths are
/// handed out is left out, and `out` marked as cut.
pub(crate) fn push(path: &[Step<'_>], from: usize, token: Token<'_>, out: &mut Clipped, budget: &mut Budget) {
    if !budget.is_on() {
        return;
    }
    let is_end = matches!(token, Token::ObjectEnd | Token::ArrayEnd);
    if let Some(step) = path.get(from..).and_then(<[_]>::last)
        && !is_end
    {
        if !out.text.ends_with(['{', '[']) {
            out.push(",", false, budget);
        }
        match step {
            Key(key) => out.push(&(quoted(key) + ":"), false, budget),
            Index(_) => {}
        }
    }
    match token {
        Token::ObjectStart => out.push("{", false, budget),
        Token::ArrayStart => out.push("[", false, budget),
        Token::ObjectEnd => out.push("}", false, budget),
        Token::ArrayEnd => out.push("]", false, budget),
        Token::String { text, truncated } => out.push(&quoted(text), truncated, budget),
        Token::Number(digits) => out.push(digits, false, budget),
        Token::Bool(value) => out.push(if value { "true" } else { "false" }, false, budget),
        Token::Null => out.push("null", false, budget),
    }
    if matches!(token, Token::ObjectStart | Token::ArrayStart) && path.len() >= MAX_PATH {
        out.push("", true, budget);
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Scanner;

    /// The value of `a` in `document`, written again.
    fn rewritten(document: &str) -> (String, bool) {
        let (mut out, mut budget) = (Clipped::default(), Budget::new(Some(1_000)));
        Scanner::new(100).push(document.as_bytes(), &mut |path, token| {
            if path.first() == Some(&Key("a")) {
                push(path, 1, token, &mut out, &mut budget);
            }
        });
        (out.text, out.cut)
    }

    #[test]
    fn values_are_written_as_they_were() {
        for value in [
            r#"{"k":"v","l":[1,2.5,{"m":null},[]],"n":{},"o":true}"#,
            r#"{"quote\"d":"lin\ne ü","brace":"{","next":[""]}"#,
            "[]",
            "7",
        ] {
            assert_eq!(rewritten(&format!(r#"{{"z":1,"a":{value},"b":{{}}}}"#)), (value.to_owned(), false));
        }
    }

    #[test]
    fn what_lies_too_deep_is_marked() {
        assert!(!rewritten(r#"{"a":{"1":{"2":{"3":{"4":{"5":{"6":7}}}}}}}"#).1);
        assert!(rewritten(r#"{"a":{"1":{"2":{"3":{"4":{"5":{"6":{"7":{"8":1}}}}}}}}}"#).1);
        assert!(rewritten(&format!(r#"{{"a":"{}"}}"#, "x".repeat(200))).1);
    }
}
