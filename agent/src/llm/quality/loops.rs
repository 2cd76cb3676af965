//! Text that goes round in circles.
//!
//! A model that has lost its way repeats a word, a sentence or a paragraph until it runs into its limit. The text is
//! cut into units (words, runs of punctuation, single characters of scripts without spaces) and each is compared with
//! the ones up to [`MAX_PERIOD`] before it. Memory is fixed, and the pieces that the text comes in make no difference.

/// Longest passage that is recognised when it repeats, in units: a paragraph.
const MAX_PERIOD: usize = 64;

/// How often a passage has to come again: lists and tables repeat a line two or three times.
const REPEATS: i32 = 4;

/// Units that have to repeat whatever the passage: ten times "ha ha ha" is a laugh.
const MIN_UNITS: i32 = 40;

/// The same character so often in a row is no rule and no indentation.
const MAX_RUN: u32 = 400;

/// For each period, from one unit on, how many units have to repeat.
const LIMITS: [i32; MAX_PERIOD] = {
    let mut limits = [MIN_UNITS; MAX_PERIOD];
    let mut at = 0;
    while at < MAX_PERIOD {
        let repeats = (REPEATS - 1) * (at as i32 + 1);
        if repeats > MIN_UNITS {
            limits[at] = repeats;
        }
        at += 1;
    }
    limits
};

/// What a unit is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Space,
    Word,
    /// A character that is a unit of its own.
    Single,
    Other,
}

/// Watches a text.
#[derive(Clone, Debug)]
pub(crate) struct Loops {
    /// The last units' hashes, the latest first.
    units: [u32; MAX_PERIOD],
    /// For each period, how many units in a row were equal to the one that far before.
    runs: [i32; MAX_PERIOD],
    class: Class,
    /// Hash of the unit at hand.
    unit: u32,
    last: char,
    run: u32,
    found: bool,
}

impl Default for Loops {
    fn default() -> Self {
        Self {
            units: [0; MAX_PERIOD],
            runs: [0; MAX_PERIOD],
            class: Class::Space,
            unit: 0,
            last: '\0',
            run: 0,
            found: false,
        }
    }
}

impl Loops {
    /// Takes the next piece of the text.
    pub fn push(&mut self, text: &str) {
        for c in text.chars() {
            if self.found {
                return;
            }
            self.char(c);
        }
    }

    /// Whether the text went round in circles.
    pub fn found(&self) -> bool {
        self.found
    }

    fn char(&mut self, c: char) {
        self.run = if c == self.last { self.run + 1 } else { 1 };
        self.last = c;
        self.found |= self.run >= MAX_RUN;
        let class = class(c);
        if class != self.class || class == Class::Single {
            self.end_unit();
        }
        self.class = class;
        if class != Class::Space {
            // What collides is taken for a repetition; a model cannot do that forty times in a row by chance.
            self.unit = (self.unit.rotate_left(5) ^ u32::from(c)).wrapping_mul(0x9e37_79b1);
        }
    }

    fn end_unit(&mut self) {
        if self.class == Class::Space {
            return;
        }
        // Zero is no unit's, so that nothing equals what has not come yet.
        let unit = std::mem::take(&mut self.unit) | 1;
        // One width and no branch, so that several are done at a time.
        let mut found = 0;
        for ((run, before), limit) in self.runs.iter_mut().zip(&self.units).zip(&LIMITS) {
            let same = if *before == unit { -1 } else { 0 };
            *run = run.wrapping_add(1) & same;
            found |= i32::from(*run >= *limit);
        }
        self.found |= found != 0;
        self.units.copy_within(..MAX_PERIOD - 1, 1);
        self.units[0] = unit;
    }
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => Class::Word,
        _ if c.is_whitespace() => Class::Space,
        // From the CJK radicals on: scripts that set no spaces between words.
        '\u{2e80}'.. if c.is_alphanumeric() => Class::Single,
        _ if c.is_alphanumeric() => Class::Word,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
