//! Reading a `tokenizer.json` and counting with it.
//!
//! The file is a stranger's: its size is bounded, and a vocabulary that panics, fails or takes more of the processor than
//! one should is asked no more. (A regular expression that backtracks without end is ended by its engine after a million steps,
//! each time.)

use std::{
    fs::File,
    io::Read as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustix::time::{ClockId, clock_gettime};
use tokenizers::Tokenizer;

use crate::llm::Vocabulary;

/// Largest file that is read. Those of the largest vocabularies (262,144 tokens) take 33 MiB.
const MAX_BYTES: u64 = 40 << 20;

/// Processor time that counting a byte may take over time, and what may be taken beyond it, in ns. Usual is a tenth of it.
const NS_PER_BYTE: u64 = 2_000;
const NS_BEYOND: u64 = 100_000_000;

/// Why a vocabulary cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("reading failed: {0}")]
    Read(#[from] std::io::Error),
    #[error("it is larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    #[error("it is no tokenizer: {0}")]
    Parse(String),
}

/// A vocabulary that was read.
pub(super) struct Loaded {
    tokenizer: Tokenizer,
    /// A blank is put in front of every text: the one that is there must go.
    adds_blank: bool,
    given_up: AtomicBool,
    /// Processor time taken for counting, in ns, and what was to be taken at most.
    taken: AtomicU64,
    granted: AtomicU64,
}

impl Loaded {
    /// Reads a `tokenizer.json`.
    pub fn read(file: &File) -> Result<Self, LoadError> {
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(LoadError::TooLarge);
        }
        let parsed = catch_unwind(|| Tokenizer::from_bytes(&bytes))
            .map_err(|_| LoadError::Parse("reading it panics".to_owned()))?;
        let mut tokenizer = parsed.map_err(|error| LoadError::Parse(error.to_string()))?;
        tokenizer.with_truncation(None).map_err(|error| LoadError::Parse(error.to_string()))?;
        tokenizer.with_padding(None);
        let (taken, granted) = (AtomicU64::new(0), AtomicU64::new(NS_BEYOND));
        let mut loaded = Self { tokenizer, adds_blank: false, given_up: AtomicBool::new(false), taken, granted };
        loaded.adds_blank = loaded.count(" a") > loaded.count("a");
        Ok(loaded)
    }

    /// Whether it has not been given up.
    pub fn is_in_use(&self) -> bool {
        !self.given_up.load(Ordering::Relaxed)
    }
}

impl Vocabulary for Loaded {
    fn count(&self, text: &str) -> Option<u64> {
        if !self.is_in_use() {
            return None;
        }
        let text = if self.adds_blank { text.strip_prefix(' ').unwrap_or(text) } else { text };
        let began = thread_time();
        // Nothing that it may leave half done is read again.
        let counted = catch_unwind(AssertUnwindSafe(|| self.tokenizer.encode_fast(text, false)));
        let counted = counted.ok().and_then(Result::ok);
        let took = thread_time().saturating_sub(began);
        let taken = self.taken.fetch_add(took, Ordering::Relaxed).saturating_add(took);
        let grant = NS_PER_BYTE.saturating_mul(text.len() as u64);
        let granted = self.granted.fetch_add(grant, Ordering::Relaxed).saturating_add(grant);
        if counted.is_none() || taken > granted {
            tracing::warn!("a served model's tokenizer fails or takes too long; its tokens are estimated");
            self.given_up.store(true, Ordering::Relaxed);
        }
        counted.map(|encoding| encoding.len() as u64)
    }
}

/// Processor time of this thread, in ns.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec.cast_unsigned() * 1_000_000_000).saturating_add(time.tv_nsec.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use serde_json::{Value, json};

    use super::*;

    fn read(tokenizer: &Value) -> Result<Loaded, LoadError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(tokenizer.to_string().as_bytes()).unwrap();
        file.rewind().unwrap();
        Loaded::read(&file)
    }

    /// A vocabulary of letters, blanks and two longer tokens.
    fn pairs(pre_tokenizer: Value, normalizer: Value, blank: char) -> Value {
        let letters = ('a'..='z').chain([blank]).map(String::from);
        let tokens = letters.chain(["ab".into(), "abc".into(), format!("{blank}a")]);
        let vocab: Value =
            tokens.enumerate().map(|(id, token)| (token, json!(id))).collect::<serde_json::Map<_, _>>().into();
        json!({"version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
            "padding": null, "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
            "post_processor": null, "decoder": null, "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocab, "merges": [["a", "b"], ["ab", "c"], [blank.to_string(), "a"]]}})
    }

    #[test]
    fn a_vocabulary_counts_as_it_is_written_and_whatever_it_would_cut() {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let loaded = read(&pairs(bytes, Value::Null, 'Ġ')).unwrap();
        let counts = ["abc", "abcabc", " abc", "xyz", " abcdefgh", ""].map(|text| loaded.count(text).unwrap());
        assert_eq!((counts, loaded.adds_blank), ([1, 2, 2, 3, 7, 0], false));
    }

    #[test]
    fn a_blank_that_is_put_in_front_is_not_counted_twice() {
        let normalizer = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
        let loaded = read(&pairs(Value::Null, normalizer, '▁')).unwrap();
        let counts = ["xyz", " xyz", "xyz xyz"].map(|text| loaded.count(text).unwrap());
        assert_eq!((counts, loaded.adds_blank), ([4, 4, 8], true));
    }

    #[test]
    fn what_is_no_tokenizer_is_refused() {
        for wrong in [json!({}), json!([]), json!("x"), json!({"version": "1.0", "model": {"type": "BPE"}})] {
            assert!(matches!(read(&wrong), Err(LoadError::Parse(_))), "{wrong}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(deep.as_bytes()).unwrap();
        file.rewind().unwrap();
        assert!(matches!(Loaded::read(&file), Err(LoadError::Parse(_))));
        file.set_len(MAX_BYTES + 1).unwrap();
        file.rewind().unwrap();
        assert!(matches!(Loaded::read(&file), Err(LoadError::TooLarge)));
    }

    #[test]
    fn one_that_takes_too_long_is_asked_no_more() {
        // Backtracks without end: the engine gives up, and so do we.
        let split =
            json!({"type": "Split", "pattern": {"Regex": r"(a+)+(?=z)"}, "behavior": "Isolated", "invert": false});
        let loaded = read(&pairs(split, Value::Null, 'Ġ')).unwrap();
        assert!(loaded.is_in_use());
        let text = "a".repeat(4096);
        let texts = std::iter::repeat_n(&text, 1_000);
        assert!(texts.map(|text| loaded.count(text)).any(|count| count.is_none()));
        assert_eq!(loaded.count("a"), None);
    }
}
