//! Redaction of JSON text: tool arguments, tool results, structured answers.
//!
//! Strings are looked at as they read, so that no escape hides what stands in them, and so is JSON inside of strings.
//! Values of fields whose name says that they are secret go whatever they look like. What nothing is found in is given
//! out byte for byte; text that is no JSON is redacted as text.

use std::{borrow::Cow, fmt::Write as _};

use serde::de::IgnoredAny;

use super::{Redactor, credential::secret_name, mark::FIELD, redact::Scope, stream::End};

/// How often a string may hold JSON that holds a string that holds JSON. Each level of escapes doubles the text, so
/// that nobody goes further.
const MAX_NESTING: u32 = 3;

impl Redactor {
    /// JSON text without credentials, without what the policy names, and without the values of secret fields.
    pub fn redact_json(&self, text: &str, end: End) -> String {
        Rewriter { redactor: self, nesting: 0, out: String::new(), rule: Rule::None, depth: 0 }
            .content(text, end)
            .into_owned()
    }
}

/// What happens to the value that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// It is looked at.
    None,
    /// It goes if it is a string or a number: the name of its field says that it is secret. An object under such a name
    /// is a schema more often than a secret.
    Secret,
    /// All of it goes: the configuration names its field.
    Named,
    /// It goes, as part of what goes, until the nesting is back at this depth.
    Inside(u32),
}

struct Rewriter<'r> {
    redactor: &'r Redactor,
    nesting: u32,
    out: String,
    rule: Rule,
    depth: u32,
}

impl Rewriter<'_> {
    fn document(&mut self, text: &str, end: End) {
        let mut rest = text;
        while let Some((outside, inside)) = rest.split_once('"') {
            self.outside(outside);
            let close = string_end(inside);
            let (raw, after) = inside.split_at(close.unwrap_or(inside.len()));
            let is_key = after.get(1..).is_some_and(|after| after.trim_ascii_start().starts_with(':'));
            self.out.push('"');
            self.string(raw, is_key, if close.is_some() { End::Whole } else { end });
            if close.is_none() {
                return;
            }
            self.out.push('"');
            rest = after.get(1..).unwrap_or_default();
        }
        match end {
            End::Whole => self.outside(rest),
            End::Cut => self.out.push_str(&self.redactor.redact_cut(rest)),
        }
    }

    /// What stands between strings: marks, numbers, words. In text that is no JSON, anything.
    fn outside(&mut self, text: &str) {
        if self.rule == Rule::None && !self.redactor.names_fields() {
            return self.plain(text);
        }
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let is_word = |c: char| !c.is_ascii_whitespace() && !"{}[],:".contains(c);
            let len = if is_word(c) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { c.len_utf8() };
            let (word, after) = rest.split_at(len);
            match (c, self.rule) {
                ('{' | '[', _) => {
                    self.rule = match self.rule {
                        Rule::Named => Rule::Inside(self.depth),
                        Rule::Secret => Rule::None,
                        rule => rule,
                    };
                    self.depth = self.depth.saturating_add(1);
                    self.out.push(c);
                }
                ('}' | ']', rule) => {
                    self.depth = self.depth.saturating_sub(1);
                    if matches!(rule, Rule::Inside(depth) if depth >= self.depth) {
                        self.rule = Rule::None;
                    }
                    self.out.push(c);
                }
                ('0'..='9' | '-', Rule::Secret | Rule::Named | Rule::Inside(_)) => {
                    let _ = write!(self.out, "\"{FIELD}\"");
                    self.value_over();
                }
                _ if is_word(c) => {
                    self.plain(word);
                    self.value_over();
                }
                _ => self.out.push(c),
            }
            rest = after;
        }
    }

    /// Text outside of strings. A mark is put into quotes, so that JSON stays JSON.
    fn plain(&mut self, text: &str) {
        let Self { redactor, out, .. } = self;
        let found = redactor.each(text, Scope::All, &mut |piece, is_mark| match is_mark {
            true => {
                // A number's sign goes with the number.
                out.truncate(out.trim_end_matches('-').len());
                let _ = write!(out, "\"{piece}\"");
            }
            false => out.push_str(piece),
        });
        if !found {
            out.push_str(text);
        }
    }

    fn value_over(&mut self) {
        if !matches!(self.rule, Rule::Inside(_)) {
            self.rule = Rule::None;
        }
    }

    /// The inside of a string.
    fn string(&mut self, raw: &str, is_key: bool, end: End) {
        let text = unescape(raw);
        if !is_key && self.rule != Rule::None && !text.is_empty() {
            self.value_over();
            return self.out.push_str(FIELD);
        }
        let redacted = self.content(&text, end);
        if is_key && !matches!(self.rule, Rule::Inside(_)) {
            self.rule = match () {
                () if self.redactor.is_named(&text) => Rule::Named,
                () if secret_name(&text).is_some() => Rule::Secret,
                () => Rule::None,
            };
        } else {
            self.value_over();
        }
        match redacted == text {
            true => self.out.push_str(raw),
            false => redacted.chars().for_each(|c| escape(c, &mut self.out)),
        }
    }

    /// What a string says, redacted: as JSON if it looks like it.
    fn content<'t>(&self, text: &'t str, end: End) -> Cow<'t, str> {
        if self.nesting < MAX_NESTING && text.trim_ascii_start().starts_with(['{', '[']) {
            let mut inner =
                Rewriter { out: String::new(), nesting: self.nesting + 1, rule: Rule::None, depth: 0, ..*self };
            inner.document(text, end);
            // What only began like JSON, such as a section of a configuration file, is text as well.
            return match end == End::Whole && is_json(text) {
                true => inner.out.into(),
                false => self.redactor.redact(&inner.out).into_owned().into(),
            };
        }
        match end {
            End::Whole => self.redactor.redact(text),
            End::Cut => self.redactor.redact_cut(text).into(),
        }
    }
}

/// Whether `text` is one JSON document (RFC 8259).
pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Where the string ends whose inside `text` begins with.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|b| {
        let ends = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        ends
    })
}

/// What the inside of a string says. What is no escape stays as it is; half a surrogate pair becomes U+FFFD.
fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return raw.into();
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, escape)) = rest.split_once('\\') {
        out.push_str(before);
        let (c, len) = match escape.bytes().next() {
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b't') => ('\t', 1),
            Some(b'b') => ('\u{8}', 1),
            Some(b'f') => ('\u{c}', 1),
            Some(b @ (b'"' | b'\\' | b'/')) => (char::from(b), 1),
            Some(b'u') => utf16(escape).unwrap_or(('\\', 0)),
            _ => ('\\', 0),
        };
        out.push(c);
        rest = escape.get(len..).unwrap_or_default();
    }
    out.push_str(rest);
    out.into()
}

/// The character that `uXXXX` stands for, or `uXXXX\uXXXX`, and the length of that.
fn utf16(escape: &str) -> Option<(char, usize)> {
    let unit =
        |at: usize| u16::from_str_radix(escape.get(at..at + 4).filter(|digits| !digits.starts_with('+'))?, 16).ok();
    let first = unit(1)?;
    let second = (escape.get(5..7) == Some("\\u")).then(|| unit(7)).flatten();
    let mut pair = char::decode_utf16([first].into_iter().chain(second));
    match (pair.next()?, first) {
        (Ok(c), 0xD800..=0xDBFF) => Some((c, 11)),
        (Ok(c), _) => Some((c, 5)),
        (Err(_), _) => Some((char::REPLACEMENT_CHARACTER, 5)),
    }
}

/// Appends `c` as it stands in a JSON string.
pub(crate) fn escape(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c < ' ' => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::Policy;

    fn check(redactor: &Redactor, text: &str, expect: &str) {
        assert_eq!(redactor.redact_json(text, End::Whole), expect);
    }

    #[test]
    fn what_nothing_is_found_in_stays_byte_for_byte() {
        for text in [
            r#"{ "a" : "\u00e9\/é", "b":[1.50,-2e3 , true,null],"c":{"d":"\ud83d\ude80 \ud83d"}}"#,
            "[INST] it's 6\" long [/INST]",
            "{\"a\":\"C:\\new\\q\"",
            "no JSON",
            "",
        ] {
            check(Redactor::shared(), text, text);
        }
    }

    #[test]
    fn secret_fields_lose_strings_and_numbers() {
        check(
            Redactor::shared(),
            r#"{"Password":"x","x-api-key" : 12,"secret":{"type":"string"},"idToken":["a"],"secret":null,"n":-12}"#,
            r#"{"Password":"[REDACTED:field]","x-api-key" : "[REDACTED:field]","secret":{"type":"string"},"idToken":["a"],"secret":null,"n":-12}"#,
        );
    }

    #[test]
    fn named_fields_lose_all_that_they_hold() {
        let policy = Policy { fields: vec!["birth_date".into(), "patient".into()], ..Policy::default() };
        check(
            &Redactor::new(policy).unwrap(),
            r#"{"birthDate":"1970","a":[{"Patient":{"name":"ann","n":[1,{"x":true}]},"b":"c"}],"d":1}"#,
            r#"{"birthDate":"[REDACTED:field]","a":[{"Patient":{"name":"[REDACTED:field]","n":["[REDACTED:field]",{"x":true}]},"b":"c"}],"d":1}"#,
        );
    }

    #[test]
    fn numbers_that_go_leave_json() {
        check(
            Redactor::shared(),
            r#"{"a":4111111111111111,"b":[-4111111111111111]}"#,
            r#"{"a":"[CARD]","b":["[CARD]"]}"#,
        );
    }

    #[test]
    fn json_in_strings_is_looked_into() {
        let inner = r#"{"password":"hunter2","mail":"\u0061@b.org"}"#;
        let outer = serde_json::json!({"body": serde_json::json!([inner]).to_string()}).to_string();
        let out = Redactor::shared().redact_json(&outer, End::Whole);
        assert!(!out.contains("hunter2") && out.contains("[EMAIL]") && is_json(&out), "{out}");
    }

    #[test]
    fn what_only_begins_like_json_is_text() {
        check(Redactor::shared(), "[db]\npassword = \"hunter2x\"", "[db]\npassword = \"[REDACTED:secret]\"");
        check(Redactor::shared(), "{cards: 4111 1111 1111 1111}", "{cards: \"[CARD]\"}");
    }

    #[test]
    fn a_cut_document_holds_its_end_back() {
        let text = format!("{{\"a\":\"{}\",\"b\":\"ann@exam", "x".repeat(2_000));
        let out = Redactor::shared().redact_json(&text, End::Cut);
        assert!(out.starts_with("{\"a\":\"xxx") && !out.contains("ann"), "{out}");
    }
}
