//! The `usage` object of OpenAI's shape.

use super::{facts::Usage, value};
use crate::protocol::json::{
    Step::{self, Key},
    Token,
};

/// Spellings of the cached tokens. They are one number under several names: the first that is there is taken.
const CACHED: [&[&str]; 4] = [
    &["prompt_tokens_details", "cached_tokens"],
    &["cache_read_input_tokens"],
    &["prompt_cache_hit_tokens"],
    &["num_cached_tokens"],
];

/// Spellings of the tokens written to the cache.
const CACHE_WRITE: [&[&str]; 3] = [
    &["prompt_tokens_details", "cache_write_tokens"],
    &["prompt_tokens_details", "created_cache_tokens"],
    &["cache_creation_input_tokens"],
];

/// Spellings of the reasoning tokens.
const REASONING: [&[&str]; 2] = [&["completion_tokens_details", "reasoning_tokens"], &["reasoning_tokens"]];

/// Reads one usage object.
#[derive(Debug, Default)]
pub(crate) struct UsageReader {
    input: Option<u64>,
    output: Option<u64>,
    cached: [Option<u64>; CACHED.len()],
    cache_write: [Option<u64>; CACHE_WRITE.len()],
    reasoning: [Option<u64>; REASONING.len()],
    timings: Timed,
}

/// Counts of llama.cpp's `timings`. What was read of the prompt does not include what came from the cache.
#[derive(Debug, Default)]
struct Timed {
    read: Option<u64>,
    cached: Option<u64>,
    generated: Option<u64>,
}

impl UsageReader {
    /// Takes a value below the usage object; `rest` is the path from there.
    pub fn value(&mut self, rest: &[Step<'_>], token: Token<'_>) {
        let Some(n) = value::count(token) else { return };
        match rest {
            [Key("prompt_tokens")] => self.input = Some(n),
            [Key("completion_tokens")] => self.output = Some(n),
            _ => {
                take(&mut self.cached, &CACHED, rest, n);
                take(&mut self.cache_write, &CACHE_WRITE, rest, n);
                take(&mut self.reasoning, &REASONING, rest, n);
            }
        }
    }

    /// Takes a value below llama.cpp's `timings`.
    pub fn timings(&mut self, rest: &[Step<'_>], token: Token<'_>) {
        match rest {
            [Key("prompt_n")] => self.timings.read = value::count(token),
            [Key("cache_n")] => self.timings.cached = value::count(token),
            [Key("predicted_n")] => self.timings.generated = value::count(token),
            _ => {}
        }
    }

    /// Puts what was read over what earlier reports said. Reports are cumulative, so the last one holds; what it
    /// does not name stays.
    pub fn end(self, usage: &mut Usage) {
        let Self { input, output, cached, cache_write, reasoning, timings } = self;
        let first = |values: &[Option<u64>]| values.iter().copied().flatten().next();
        let timed = timings.read.zip(timings.cached).map(|(read, cached)| read.saturating_add(cached));
        usage.input = input.or(timed).or(usage.input);
        usage.output = output.or(timings.generated).or(usage.output);
        usage.cache_read = first(&cached).or(timings.cached).or(usage.cache_read);
        usage.cache_write = first(&cache_write).or(usage.cache_write);
        usage.reasoning = first(&reasoning).or(usage.reasoning);
    }
}

fn take(values: &mut [Option<u64>], names: &[&[&str]], rest: &[Step<'_>], n: u64) {
    let matches = |name: &&[&str]| name.len() == rest.len() && name.iter().zip(rest).all(|(a, b)| *b == Key(a));
    if let Some(slot) = names.iter().position(matches).and_then(|at| values.get_mut(at)) {
        *slot = Some(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_alias_not_summed() {
        let mut usage = Usage::default();
        let mut reader = UsageReader::default();
        reader.value(&[Key("prompt_cache_hit_tokens")], Token::Number("5"));
        reader.value(&[Key("num_cached_tokens")], Token::Number("5"));
        reader.value(&[Key("prompt_tokens_details"), Key("cached_tokens")], Token::Number("5"));
        reader.value(&[Key("reasoning_tokens")], Token::Number("7"));
        reader.value(&[Key("prompt_tokens")], Token::Null);
        reader.end(&mut usage);
        assert_eq!(usage, Usage { cache_read: Some(5), reasoning: Some(7), ..Usage::default() });
    }
}
