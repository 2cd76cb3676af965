//! Text of unknown origin, made safe for a terminal.

use std::{borrow::Cow, fmt::Write as _};

/// Escapes what a terminal would act on instead of showing: control characters (a model's answer may hold escape
/// sequences that rewrite the screen) and the invisible characters that reorder or hide text.
pub fn printable(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_unsafe) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    let (clean, rest) = text.split_at(first);
    out.push_str(clean);
    for c in rest.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                // Writing into a String cannot fail.
                let _ = match u32::from(c) {
                    code @ 0..=0xff => write!(out, "\\x{code:02x}"),
                    code => write!(out, "\\u{{{code:x}}}"),
                };
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn is_unsafe(c: char) -> bool {
    // Bidirectional marks, embeddings, overrides and isolates, line and paragraph separators, zero-width
    // characters except the joiner that emoji need, and the tag characters that render as nothing.
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(printable(text), expect);
    }

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(printable("plain, größer, 模型 👩‍💻"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_a_terminal_would_act_on_is_spelled_out() {
        check("a\nb\tc\r", "a\\nb\\tc\\r");
        check("\u{1b}[2Jcleared\u{7}", "\\x1b[2Jcleared\\x07");
        check("\u{9b}31m \u{7f}", "\\x9b31m \\x7f");
        check("a\u{202e}b\u{2028}", "a\\u{202e}b\\u{2028}");
    }
}
