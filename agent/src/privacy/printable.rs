//! Text of unknown origin, made safe for a terminal and for a log.

use std::borrow::Cow;

/// Escapes what a terminal would act on instead of showing: control characters (a model's answer may hold escape
/// sequences that rewrite the screen) and the invisible characters that reorder or hide text.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_unsafe(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out.into()
}

fn is_unsafe(c: char) -> bool {
    // Zero-width characters, bidirectional marks, embeddings, overrides and isolates, line and paragraph separators,
    // and the tag characters that render as nothing.
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(printable(text), expect);
    }

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(printable("plain, größer ünïcode ✓, 模型"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_a_terminal_would_act_on_is_spelled_out() {
        check("a\nb\tc\r", r"a\nb\tc\r");
        check("a\nb\x1b[31m\u{9b}\u{202e}\u{7f}", r"a\nb\u{1b}[31m\u{9b}\u{202e}\u{7f}");
        check("\u{1b}[2Jcleared\u{7}", r"\u{1b}[2Jcleared\u{7}");
        check("a\u{61c}b\u{2028}\u{200d}\u{e0041}", r"a\u{61c}b\u{2028}\u{200d}\u{e0041}");
    }
}
