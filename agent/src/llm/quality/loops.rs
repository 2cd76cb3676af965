//! Text that goes round in circles.
//!
//! A model that has lost its way repeats a word, a sentence or a paragraph until it runs into its limit. So the last bytes
//! are looked for in what came shortly before; where they are found, the text repeats at that distance for as long as each
//! byte equals the one so far back. Looking happens every [`STEP`] bytes and at the end, whatever pieces the text comes in,
//! and memory is fixed; what repeats shortly between two looks and then goes on otherwise is missed. How much has repeated
//! is counted in units as a reader would: words, runs of punctuation, single characters of scripts without spaces.

use memchr::memmem;

/// Bytes between two looks, a prime: with a passage of such a length each look would see the same place of it.
const STEP: usize = 251;

/// Bytes before them that are kept: as long may a passage be.
const KEPT: usize = 640 - STEP;

/// Bytes that are looked for.
const NEEDLE: usize = 16;

/// How often a passage has to come again: lists and tables repeat a line two or three times.
const REPEATS: usize = 4;

/// Units that have to repeat whatever the passage: ten times "ha ha ha" is a laugh.
const MIN_UNITS: usize = 40;

/// The same byte so often in a row is no rule and no indentation.
const MAX_RUN: usize = 400;

/// So many bytes are no ornament either, whatever they are made of.
const MAX_ORNAMENT: usize = 4 * MAX_RUN;

/// What a unit is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Space,
    Word,
    /// A character that is a unit of its own.
    Single,
    Other,
    /// A byte that belongs to the character before it.
    Continued,
}

/// Watches a text.
#[derive(Clone, Debug)]
pub(crate) struct Loops {
    /// What came last: up to [`KEPT`] bytes that have been looked at, and less than [`STEP`] that have not.
    last: [u8; KEPT + STEP],
    seen: u16,
    new: u16,
    passage: Option<Passage>,
    found: bool,
}

/// What repeats at the end of what was looked at.
#[derive(Clone, Copy, Debug)]
struct Passage {
    /// Bytes.
    length: usize,
    /// Bytes that were equal to those one passage before.
    run: usize,
    /// Units begun in them.
    units: usize,
    class: Class,
}

impl Default for Loops {
    fn default() -> Self {
        Self { last: [0; KEPT + STEP], seen: 0, new: 0, passage: None, found: false }
    }
}

impl Loops {
    /// Takes the next piece of the text.
    pub fn push(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() && !self.found {
            let at = usize::from(self.seen + self.new);
            let (piece, later) = rest.split_at(rest.len().min(STEP - usize::from(self.new)));
            self.last[at..at + piece.len()].copy_from_slice(piece);
            self.new += piece.len() as u16;
            if usize::from(self.new) == STEP {
                self.look();
            }
            rest = later;
        }
    }

    /// Whether the text so far went round in circles.
    pub fn found(&self) -> bool {
        self.found
            || self.new > 0 && {
                let mut rest = self.clone();
                rest.look();
                rest.found
            }
    }

    fn look(&mut self) {
        let (seen, all) = (usize::from(self.seen), usize::from(self.seen + self.new));
        let text = &self.last[..all];
        let goes_on = self.passage.as_mut().is_some_and(|passage| passage.goes_on(text, seen));
        self.found = self.passage.is_some_and(|passage| passage.is_loop());
        if !goes_on {
            self.passage = Passage::find(text);
            self.found |= self.passage.is_some_and(|passage| passage.is_loop());
        }
        let beyond = all.saturating_sub(KEPT);
        self.last.copy_within(beyond..all, 0);
        (self.seen, self.new) = ((all - beyond) as u16, 0);
    }
}

impl Passage {
    /// The passage at whose distance the end of the text has come before, the shortest.
    fn find(text: &[u8]) -> Option<Self> {
        let (before, needle) = text.split_last_chunk::<NEEDLE>()?;
        let text_before = &text[before.len().saturating_sub(KEPT)..text.len() - 1];
        // Nearly always there is none, which the way forwards, being in vectors, finds out in a fraction of the time.
        memmem::find(text_before, needle)?;
        let length = text_before.len() + 1 - NEEDLE - memmem::rfind(text_before, needle)?;
        let equal = text.iter().rev().zip(text[..text.len() - length].iter().rev());
        let run = equal.take_while(|(byte, before)| byte == before).count();
        let mut passage = Self { length, run, units: 0, class: Class::Space };
        passage.count(&text[text.len() - run..]);
        Some(passage)
    }

    /// Goes on with more text, whose first byte is at `new`, and says whether all of it repeats.
    fn goes_on(&mut self, text: &[u8], new: usize) -> bool {
        let before = &text[new - self.length..];
        let equal = text[new..].iter().zip(before).take_while(|(byte, before)| byte == before).count();
        self.run += equal;
        self.count(&text[new..new + equal]);
        new + equal == text.len()
    }

    fn is_loop(&self) -> bool {
        let again = self.run >= (REPEATS - 1) * self.length && self.units >= MIN_UNITS;
        again || self.run >= MAX_ORNAMENT || self.length == 1 && self.run >= MAX_RUN
    }

    fn count(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let class = class(byte);
            if class != Class::Continued {
                let begins = class == Class::Single || class != self.class && class != Class::Space;
                self.units += usize::from(begins);
                self.class = class;
            }
        }
    }
}

/// By UTF-8's bytes: from the CJK radicals on, scripts set no spaces between words.
fn class(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | 0xc3..=0xe1 => Class::Word,
        b'\t'..=b'\r' | b' ' => Class::Space,
        0x80..=0xbf => Class::Continued,
        0xe3..=0xef => Class::Single,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::llm::tests::text_pieces;

    fn check(text: &str, expect: bool) {
        for size in [1, 3, 1000] {
            let mut loops = Loops::default();
            let chars: Vec<char> = text.chars().collect();
            chars.chunks(size).for_each(|piece| loops.push(&piece.iter().collect::<String>()));
            assert_eq!(loops.found(), expect, "{text:.60} in pieces of {size}");
        }
    }

    #[test]
    fn a_word_a_sentence_and_a_paragraph_in_circles() {
        check(&"the ".repeat(45), true);
        check(&"I am sorry, but I cannot do that. ".repeat(8), true);
        let paragraph: String = (0..50).map(|i| format!("word{i} ")).collect();
        check(&paragraph.repeat(5), true);
        check(&format!("{}{}", paragraph, "and so on, and so on, ".repeat(20)), true);
        check(&"好的".repeat(60), true);
        check(&"!".repeat(500), true);
        check(&"\n".repeat(500), true);
    }

    #[test]
    fn text_that_repeats_as_text_does_is_none() {
        let words: String = (0..5_000).map(|i| format!("w{} ", (i * 7919) % 1009)).collect();
        check(&words, false);
        let paragraph: String = (0..60).map(|i| format!("word{i} ")).collect();
        check(&paragraph.repeat(3), false);
        check(&format!("| a | b |\n|{}|{}|\n| 1 | 2 |\n", "-".repeat(80), "-".repeat(80)), false);
        let list: String = (0..200).map(|i| format!("- item {i}: done\n")).collect();
        check(&list, false);
        check("ha ha ha ha ha ha ha ha ha ha", false);
        check("", false);
    }

    /// Text in which nothing repeats, whatever comes before it.
    fn filler(seed: u32, words: usize) -> String {
        (0..words as u32).map(|n| format!("{:x} ", (seed ^ n.rotate_left(16)).wrapping_mul(0x9e37_79b1))).collect()
    }

    proptest! {
        /// Whatever passage goes on for long enough is found, wherever it begins and whatever it is cut into.
        #[test]
        fn a_passage_that_goes_on_is_found(
            seed: u32,
            before in 0..80_usize,
            words in 1..30_usize,
            sizes in prop::collection::vec(1..700_usize, 1..8),
        ) {
            let passage = filler(!seed, words);
            prop_assume!(passage.len() <= KEPT - NEEDLE);
            let run = (REPEATS * passage.len()).max(MIN_UNITS * passage.len() / words) + STEP + NEEDLE;
            let text = filler(seed, before) + &passage.repeat(run / passage.len() + 2);
            let mut loops = Loops::default();
            text_pieces(&text, &sizes, |piece| loops.push(piece));
            prop_assert!(loops.found());
        }

        /// Nor is anything found in what a reader would not call a loop.
        #[test]
        fn a_passage_that_comes_three_times_is_none(
            seed: u32,
            before in 0..80_usize,
            words in 1..60_usize,
            behind in 0..80_usize,
        ) {
            let text = filler(seed, before) + &filler(!seed, words).repeat(3) + &filler(seed.rotate_left(7), behind);
            let mut loops = Loops::default();
            loops.push(&text);
            prop_assert!(!loops.found());
        }
    }
}
