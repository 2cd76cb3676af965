//! Credentials in free text, by their shape.
//!
//! One pass finds the fixed prefixes that issuers put in front of their keys, and plain code decides how far each
//! key reaches. The regular expressions hold no open-ended repetition, so that the time taken grows with the
//! text's length only, whatever a hostile text repeats.

use std::{borrow::Cow, ops::Range, sync::LazyLock};

use regex::Regex;

use super::shapes::{
    AZURE_MARK, JWT_START, OPENAI_MARK, PEM_END, PEM_START, QUERY, QUERY_MIN, SHAPES, alnum, azure, base64,
    query_value, token, upper,
};

/// Replaces credentials by `[REDACTED:<kind>]`.
#[derive(Debug)]
pub struct Redactor {
    prefixes: Regex,
    query: Regex,
}

/// One found credential.
struct Hit {
    range: Range<usize>,
    kind: &'static str,
}

impl Redactor {
    /// How much of the end of a cut text may be the beginning of a credential that cannot be told yet: more than
    /// the longest run that a shape needs before it is recognised. Whoever cuts text keeps this much more of it
    /// and gives it to [`Self::redact_cut`].
    pub const MARGIN: usize = 1024;

    /// Compiles the shapes.
    pub fn new() -> Self {
        let fixed = [OPENAI_MARK, AZURE_MARK, JWT_START, PEM_START];
        let literals = SHAPES.iter().map(|shape| shape.prefix).chain(fixed).map(regex::escape).collect::<Vec<_>>();
        let compile =
            |pattern: &str| Regex::new(pattern).expect("the patterns are constants and compiled by the tests");
        Self { prefixes: compile(&literals.join("|")), query: compile(QUERY) }
    }

    /// The one instance: compiling takes far longer than a use.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Redactor> = LazyLock::new(Redactor::new);
        &SHARED
    }

    /// `text` without credentials.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let hits = self.hits(text);
        match hits.is_empty() {
            true => Cow::Borrowed(text),
            false => Cow::Owned(replace(text, &hits, text.len())),
        }
    }

    /// The beginning of a longer text without credentials: nothing of the last [`Self::MARGIN`] bytes is given
    /// out, because a credential may begin there whose end is missing.
    pub fn redact_cut(&self, text: &str) -> String {
        let limit = text.floor_char_boundary(text.len().saturating_sub(Self::MARGIN));
        replace(text, &self.hits(text), limit)
    }

    fn hits(&self, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut seen = Seen::default();
        let mut at = 0;
        while let Some(found) = self.prefixes.find_at(text, at) {
            match seen.credential(text, found.range(), at) {
                Some(hit) => {
                    at = hit.range.end.max(found.end());
                    hits.push(hit);
                }
                // Prefixes may overlap (`sk-` and what follows), so go on one character further only.
                None => at = found.start() + 1,
            }
        }
        at = 0;
        while let Some(found) = self.query.find_at(text, at) {
            at = run(text, found.end(), query_value);
            if at - found.end() >= QUERY_MIN {
                hits.push(Hit { range: found.end()..at, kind: "url" });
            }
        }
        hits.sort_by_key(|hit| hit.range.start);
        hits
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

/// What was found out about the rest of the text, so that nothing is searched for twice.
#[derive(Default)]
struct Seen {
    /// No JSON web token begins before this offset.
    no_jwt_before: usize,
    /// No `-----END` comes any more.
    no_pem_end: bool,
}

impl Seen {
    /// The credential whose fixed part is at `found`, if it is one. `from` is where unclaimed text begins.
    fn credential(&mut self, text: &str, found: Range<usize>, from: usize) -> Option<Hit> {
        match &text[found.clone()] {
            OPENAI_MARK => {
                let start = run_back(text, found.start, from, token);
                let end = run(text, found.end, token);
                (end - start >= 24).then_some(Hit { range: start..end, kind: "openai" })
            }
            AZURE_MARK => {
                let start = found.start.checked_sub(4).filter(|&start| start >= from)?;
                let [a, b, c, digit] = *text.as_bytes().get(start..found.start)?.first_chunk()?;
                if !(azure(a) && azure(b) && azure(c) && digit.is_ascii_digit()) {
                    return None;
                }
                let end = run(text, found.end, azure);
                (end - found.end >= 16).then_some(Hit { range: start..end, kind: "azure" })
            }
            JWT_START => self.jwt(text, found),
            PEM_START => self.pem(text, found),
            prefix => {
                let shape = SHAPES.iter().find(|shape| shape.prefix == prefix)?;
                let end = run(text, found.end, shape.class);
                let fits = end - found.end >= shape.min && !(shape.edge && continues_word(text, found.start));
                let key = &text[found.end..end];
                let kind = match shape.kind {
                    "api_key" if key.contains(OPENAI_MARK) => "openai",
                    "api_key" if key.len() == 32 && key.bytes().all(|b| b.is_ascii_hexdigit()) => "deepseek",
                    kind => kind,
                };
                fits.then_some(Hit { range: found.start..end, kind })
            }
        }
    }

    /// Two to five parts with dots between; the signature may be missing where the text was cut.
    fn jwt(&mut self, text: &str, found: Range<usize>) -> Option<Hit> {
        if found.start < self.no_jwt_before {
            return None;
        }
        let header = run(text, found.end, token);
        let mut end = header;
        for _ in 0..4 {
            if text.as_bytes().get(end) != Some(&b'.') {
                break;
            }
            end = run(text, end + 1, token);
        }
        // A dot and a payload. Otherwise no token begins anywhere in this run of characters.
        if end - header > 10 && header - found.end >= 10 {
            return Some(Hit { range: found.start..end, kind: "jwt" });
        }
        self.no_jwt_before = header;
        None
    }

    /// A private key, to its end line; without one, as far as it can be key material.
    fn pem(&mut self, text: &str, found: Range<usize>) -> Option<Hit> {
        let label_end = run(text, found.end, |b| upper(b) || b == b' ');
        if !text[found.end..label_end].contains("PRIVATE KEY") {
            return None;
        }
        let body = run(text, label_end, |b| b == b'-');
        let end_line = if self.no_pem_end { None } else { text[body..].find(PEM_END) };
        let end = match end_line {
            Some(offset) => {
                let label = run(text, body + offset + PEM_END.len(), |b| upper(b) || b == b' ');
                run(text, label, |b| b == b'-')
            }
            None => {
                self.no_pem_end = true;
                run(text, body, |b| base64(b) || matches!(b, b'\\' | b'\n' | b'\r' | b' ' | b'\t'))
            }
        };
        Some(Hit { range: found.start..end, kind: "private_key" })
    }
}

/// `text` up to `limit` with the hits replaced; `hits` are sorted by where they begin and may overlap.
fn replace(text: &str, hits: &[Hit], limit: usize) -> String {
    let mut out = String::with_capacity(limit);
    let mut at = 0;
    for Hit { range, kind } in hits.iter().take_while(|hit| hit.range.start < limit) {
        if range.start >= at {
            out.push_str(&text[at..range.start]);
            out.push_str("[REDACTED:");
            out.push_str(kind);
            out.push(']');
        }
        at = at.max(range.end);
    }
    if at < limit {
        out.push_str(&text[at..limit]);
    }
    out
}

/// End of the run of `class` that begins at `from`. All classes are ASCII, so it is a character boundary.
fn run(text: &str, from: usize, class: impl Fn(u8) -> bool) -> usize {
    from + text.as_bytes()[from..].iter().take_while(|&&b| class(b)).count()
}

/// Beginning of the run of `class` that ends at `to`, not before `from`.
fn run_back(text: &str, to: usize, from: usize, class: impl Fn(u8) -> bool) -> usize {
    to - text.as_bytes()[from..to].iter().rev().take_while(|&&b| class(b)).count()
}

/// Whether the character before `at` belongs to the same word. An escape in quoted JSON (`\n`) or in a URL
/// (`%3D`) ends in a letter too, but is no word.
fn continues_word(text: &str, at: usize) -> bool {
    match &text.as_bytes()[..at] {
        [.., b'\\', b'n' | b'r' | b't'] => false,
        [.., b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => false,
        [.., last] => alnum(*last),
        [] => false,
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
