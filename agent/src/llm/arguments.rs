//! A JSON value that stands inside a body, written down again as JSON text.
//!
//! Some APIs give a tool's arguments as an object instead of a string. The text that comes out is compact and
//! otherwise as the wire has it: members stay in order, numbers stay as they are spelt.

use super::content::{Budget, Clipped};
use crate::protocol::json::{
    MAX_PATH,
    Step::{self, Key},
    Token,
};

/// Writes one value.
#[derive(Clone, Debug, Default)]
pub(crate) struct ValueWriter {
    /// Something stands before in the current container.
    needs_comma: bool,
}

impl ValueWriter {
    /// Takes one token of the value. `above` is the number of steps to the value, `path` the whole path of the token.
    pub fn push(&mut self, above: usize, path: &[Step<'_>], token: Token<'_>, out: &mut Clipped, budget: &mut Budget) {
        let Some(rest) = path.get(above..).filter(|_| budget.takes()) else { return };
        // The string itself follows, as long as strings are handed out.
        if let Token::Piece(_) = token {
            return;
        }
        let mut text = String::new();
        let closes = matches!(token, Token::ObjectEnd | Token::ArrayEnd);
        if !closes && !rest.is_empty() {
            if self.needs_comma {
                text.push(',');
            }
            if let Some(Key(key)) = rest.last() {
                quoted(key, &mut text);
                text.push(':');
            }
        }
        // What lies deeper is not handed out.
        let mut cut = path.len() >= MAX_PATH && matches!(token, Token::ObjectStart | Token::ArrayStart);
        match token {
            Token::ObjectStart => text.push('{'),
            Token::ObjectEnd => text.push('}'),
            Token::ArrayStart => text.push('['),
            Token::ArrayEnd => text.push(']'),
            Token::String { text: string, truncated } => {
                quoted(string, &mut text);
                cut |= truncated;
            }
            Token::Number(digits) => text.push_str(digits),
            Token::Bool(true) => text.push_str("true"),
            Token::Bool(false) => text.push_str("false"),
            Token::Null => text.push_str("null"),
            Token::Piece(_) => {}
        }
        self.needs_comma = !matches!(token, Token::ObjectStart | Token::ArrayStart);
        out.push_json(&text, cut, budget);
    }
}

fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::protocol::json::Scanner;

    /// What comes out of `{"a":[VALUE]}` for the value, and whether it was cut.
    fn rewrite(value: &str, content: Option<usize>) -> (String, bool) {
        let (mut writer, mut out, mut budget) = (ValueWriter::default(), Clipped::default(), Budget::new(content));
        let mut scanner = Scanner::new(1_000);
        scanner.push(format!("{{\"a\":[{value}]}}").as_bytes(), &mut |path, token| {
            if path.len() >= 2 {
                writer.push(2, path, token, &mut out, &mut budget);
            }
        });
        (out.text, out.cut)
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}|[\\x00-\\x20\"\\\\]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\]{0,3}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn what_is_too_deep_or_too_long_is_cut() {
        let deep = format!("{}{}", "[".repeat(20), "]".repeat(20));
        assert_eq!(rewrite(&deep, Some(1_000)), ("[".repeat(MAX_PATH - 1), true));
        let (text, cut) = rewrite(&format!("\"{}\"", "x".repeat(2_000)), Some(3_000));
        assert!(cut && text.len() == 1_002);
        assert_eq!(rewrite("{\"a\":1}", None), (String::new(), false));
    }

    proptest! {
        #[test]
        fn any_value_comes_out_as_it_went_in(value in any_value()) {
            let (text, cut) = rewrite(&value.to_string(), Some(100_000));
            prop_assert!(!cut);
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
