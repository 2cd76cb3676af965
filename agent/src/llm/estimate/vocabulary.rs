//! Which vocabulary a call's texts are counted with.
//!
//! That of the model which the serving process runs, where somebody knows it, and otherwise OpenAI's `o200k_base`, from
//! which those of other families differ by a factor. Finding and reading a process's vocabulary is for whoever implements
//! [`Vocabularies`].

use std::fmt;

/// A tokenizer's vocabulary.
pub trait Vocabulary: Send + Sync {
    /// Tokens of a text which begins where a word does. Absent if it cannot be counted, now or ever.
    fn count(&self, text: &str) -> Option<u64>;
}

/// Knows the vocabularies of processes.
pub trait Vocabularies: Send + Sync {
    /// The vocabulary of the model that a process runs, by its thread group and start in ns since boot. Does not wait: what is
    /// not known yet is absent.
    fn of(&self, tgid: u32, start_ns: u64) -> Option<&'static dyn Vocabulary>;
}

/// Whom to ask for vocabularies.
#[derive(Clone, Copy)]
pub struct Estimator(&'static dyn Vocabularies);

impl Estimator {
    /// An estimator that asks `vocabularies`.
    pub fn new(vocabularies: &'static dyn Vocabularies) -> Self {
        Self(vocabularies)
    }

    /// An estimator that knows of no process's model.
    pub fn by_reference() -> Self {
        Self(&Nobodys)
    }

    /// Lays the reference out, so that no call has to wait for it.
    pub fn prepare(self) -> Self {
        reference("");
        self
    }

    /// What counts the texts of a call that a process answers, if it is known.
    pub(crate) fn counting(self, server: Option<(u32, u64)>) -> Counting {
        Counting(server.and_then(|(tgid, start_ns)| self.0.of(tgid, start_ns)))
    }
}

impl fmt::Debug for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Estimator")
    }
}

/// Tokens of a text under `o200k_base`. The first to ask waits a tenth of a second for it to be laid out.
fn reference(text: &str) -> u64 {
    tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len() as u64
}

struct Nobodys;

impl Vocabularies for Nobodys {
    fn of(&self, _tgid: u32, _start_ns: u64) -> Option<&'static dyn Vocabulary> {
        None
    }
}

/// What counts a call's texts: a model's own vocabulary or the reference.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counting(Option<&'static dyn Vocabulary>);

impl Counting {
    /// Whether it is a model's own vocabulary.
    pub fn is_own(self) -> bool {
        self.0.is_some()
    }

    /// Tokens of a text that begins where a word does.
    pub fn count(self, text: &str) -> u64 {
        let own = self.0.and_then(|vocabulary| vocabulary.count(text));
        own.unwrap_or_else(|| reference(text))
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_own() { "own" } else { "reference" })
    }
}
