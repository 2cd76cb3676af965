//! How many tokens a text has.
//!
//! Byte-pair tokenizers cut a text before the blanks in front of a word, and no token spans such a cut; so a text is counted
//! a few words at a time and never held. One without blanks is cut where [`MOST`] is reached, which may cost it a token.
//! The pieces that a text comes in make no difference.

use memchr::memrchr2_iter;

use super::Counting;

/// Bytes that are worth counting.
const ENOUGH: usize = 256;

/// Most bytes that are held.
const MOST: usize = 4096;

/// Counts texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    counting: Counting,
    thousandths: u64,
    /// The text's last words.
    rest: String,
}

impl Tokens {
    /// Counts with a vocabulary.
    pub fn new(counting: Counting) -> Self {
        Self { counting, ..Self::default() }
    }

    /// What it counts with.
    pub fn counting(&self) -> Counting {
        self.counting
    }

    /// Takes the next piece of a text.
    pub fn push(&mut self, text: &str) {
        let mut text = text;
        while !text.is_empty() {
            let (piece, later) = text.split_at(text.floor_char_boundary(MOST - self.rest.len()));
            self.rest.push_str(piece);
            text = later;
            // Nothing fits, be it for one byte of a character.
            let is_full = piece.is_empty() || self.rest.len() == MOST;
            let cut = if self.rest.len() < ENOUGH { None } else { last_word(&self.rest) };
            if let Some(end) = cut.or_else(|| is_full.then_some(self.rest.len())) {
                self.thousandths = self.thousandths.saturating_add(self.cost(&self.rest[..end]));
                self.rest.drain(..end);
            }
        }
    }

    /// Adds what is no text.
    pub fn add_thousandths(&mut self, thousandths: u64) {
        self.thousandths = self.thousandths.saturating_add(thousandths);
    }

    /// Another text begins.
    pub fn end(&mut self) {
        self.thousandths = self.thousandths.saturating_add(self.cost(&self.rest));
        self.rest.clear();
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.thousandths = self.thousandths.saturating_add(other.thousandths).saturating_add(other.cost(&other.rest));
    }

    /// Tokens, where the model takes so many for a thousand of the vocabulary's.
    pub fn count(&self, per_mille: u64) -> u64 {
        let thousandths = self.thousandths.saturating_add(self.cost(&self.rest));
        (thousandths / 1_000).saturating_mul(per_mille).div_ceil(1_000)
    }

    /// Whether there was any text.
    pub fn is_any(&self) -> bool {
        self.thousandths > 0 || !self.rest.is_empty()
    }

    fn cost(&self, text: &str) -> u64 {
        if text.is_empty() { 0 } else { self.counting.count(text).saturating_mul(1_000) }
    }
}

/// Where the last word begins, with the blanks in front of it; none if that is the text's beginning. Line ends may belong to
/// the punctuation before them.
fn last_word(text: &str) -> Option<usize> {
    let is_word = |&at: &usize| text[..at].chars().next_back().is_some_and(|before| !before.is_whitespace());
    memrchr2_iter(b' ', b'\t', text.as_bytes()).find(is_word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::llm::tests::text_pieces;

    fn count(text: &str) -> u64 {
        let mut tokens = Tokens::default();
        tokens.push(text);
        tokens.count(1_000)
    }

    #[test]
    fn texts_count_what_o200k_counts() {
        for (text, expect) in [
            ("The quick brown fox jumps over the lazy dog.", 10),
            ("fn main() {\n    println!(\"Hello, world!\");\n}\n", 12),
            ("The year 1234567 and 42", 9),
            ("", 0),
        ] {
            assert_eq!(count(text), expect, "{text}");
        }
    }

    fn whole(text: &str) -> u64 {
        tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len() as u64
    }

    /// Texts of every kind, some of them longer than what is held.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-zA-Z ]{0,60}",
            "[a-z'.,0-9 \n\t]{0,40}",
            "\\PC{0,40}",
            "[\u{4e00}-\u{9fa5}\u{3002} ]{0,40}",
            " {0,30}",
            "[\r\n]{0,9}",
        ];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_pieces_count_what_the_whole_counts(text in texts(), sizes in prop::collection::vec(1..900_usize, 1..6)) {
            let mut tokens = Tokens::default();
            text_pieces(&text, &sizes, |piece| tokens.push(piece));
            prop_assert_eq!(tokens.count(1_000), whole(&text));
        }
    }

    #[test]
    fn a_text_without_blanks_is_cut_now_and_then() {
        let text = "没有空格的文本。".repeat(2_000);
        for size in [1, 10, 5_000, text.len()] {
            let mut tokens = Tokens::default();
            text.as_bytes().chunks(size * 3).for_each(|piece| tokens.push(str::from_utf8(piece).unwrap()));
            let (found, expect) = (tokens.count(1_000), whole(&text));
            assert!(found.abs_diff(expect) <= 1 + (text.len() / MOST) as u64, "{found}, and not {expect}");
            assert!(tokens.rest.capacity() <= 2 * MOST);
        }
    }
}
