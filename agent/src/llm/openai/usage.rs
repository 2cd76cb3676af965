//! The `usage` object of OpenAI's shape, in the spellings of everyone who has one.

use crate::{
    llm::{api::Draft, facts::Usage, value},
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};

/// Where in the usage object a count stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the object itself.
    Own,
    /// In the details of the input.
    Input,
    /// In the details of the output.
    Output,
    /// In the details of what came from the cache, which are among those of the input (Realtime API).
    Cached,
}

/// A count that a name stands for.
type Count = fn(&mut Usage) -> &mut Option<u64>;

/// The names. Several for one count are one number under several names: the first that is there is taken.
const NAMES: &[(Place, &str, Count)] = &[
    (Place::Own, "prompt_tokens", |usage| &mut usage.input),
    (Place::Own, "input_tokens", |usage| &mut usage.input),
    (Place::Own, "completion_tokens", |usage| &mut usage.output),
    (Place::Own, "output_tokens", |usage| &mut usage.output),
    (Place::Own, "total_tokens", |usage| &mut usage.total),
    (Place::Input, "cached_tokens", |usage| &mut usage.cache_read),
    (Place::Own, "cache_read_input_tokens", |usage| &mut usage.cache_read),
    (Place::Own, "prompt_cache_hit_tokens", |usage| &mut usage.cache_read),
    (Place::Own, "num_cached_tokens", |usage| &mut usage.cache_read),
    (Place::Own, "cached_tokens", |usage| &mut usage.cache_read),
    (Place::Input, "cache_write_tokens", |usage| &mut usage.cache_write),
    (Place::Input, "created_cache_tokens", |usage| &mut usage.cache_write),
    (Place::Own, "cache_creation_input_tokens", |usage| &mut usage.cache_write),
    (Place::Output, "reasoning_tokens", |usage| &mut usage.reasoning),
    (Place::Own, "reasoning_tokens", |usage| &mut usage.reasoning),
    (Place::Input, "text_tokens", |usage| &mut usage.text.input),
    (Place::Input, "image_tokens", |usage| &mut usage.image.input),
    (Place::Input, "audio_tokens", |usage| &mut usage.audio.input),
    (Place::Output, "text_tokens", |usage| &mut usage.text.output),
    (Place::Output, "image_tokens", |usage| &mut usage.image.output),
    (Place::Output, "audio_tokens", |usage| &mut usage.audio.output),
    (Place::Cached, "text_tokens", |usage| &mut usage.text.cache_read),
    (Place::Cached, "image_tokens", |usage| &mut usage.image.cache_read),
    (Place::Cached, "audio_tokens", |usage| &mut usage.audio.cache_read),
    // Perplexity's.
    (Place::Own, "num_search_queries", |usage| &mut usage.web_searches),
];

/// xAI states costs in ticks (docs.x.ai, "Cost Tracking").
const TICKS_PER_DOLLAR: f64 = 1e10;

/// Reads one usage object.
#[derive(Debug, Default)]
pub(crate) struct UsageReader {
    counts: [Option<u64>; NAMES.len()],
    cost: Option<f64>,
    seconds: Option<f64>,
    service_tier: Option<String>,
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
        let (place, name) = match rest {
            [Key("service_tier")] => return self.service_tier = value::name(token),
            [Key("cost_in_usd_ticks")] => return self.cost = value::float(token).map(|ticks| ticks / TICKS_PER_DOLLAR),
            // OpenRouter's and Perplexity's, both in dollars.
            [Key("cost")] | [Key("cost"), Key("total_cost")] => {
                return self.cost = value::float(token).or(self.cost);
            }
            // Whisper's and Mistral's.
            [Key("seconds" | "prompt_audio_seconds")] => return self.seconds = value::float(token),
            [Key(name)] => (Place::Own, name),
            [
                Key("prompt_tokens_details" | "input_tokens_details" | "input_token_details" | "prompt_token_details"),
                Key(name),
            ] => (Place::Input, name),
            [Key("completion_tokens_details" | "output_tokens_details" | "output_token_details"), Key(name)] => {
                (Place::Output, name)
            }
            [Key("input_token_details"), Key("cached_tokens_details"), Key(name)] => (Place::Cached, name),
            _ => return,
        };
        let Some(n) = value::count(token) else { return };
        let known = NAMES.iter().position(|(at, known, _)| *at == place && known == name);
        if let Some(count) = known.and_then(|at| self.counts.get_mut(at)) {
            *count = Some(n);
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
    pub fn end(self, draft: &mut Draft) {
        let Self { counts, cost, seconds, service_tier, timings } = self;
        let usage = &mut draft.usage;
        usage.input =
            timings.read.zip(timings.cached).map(|(read, cached)| read.saturating_add(cached)).or(usage.input);
        usage.output = timings.generated.or(usage.output);
        usage.cache_read = timings.cached.or(usage.cache_read);
        // Backwards, so that the first name of a count has the last word.
        for ((_, _, count), n) in NAMES.iter().zip(counts).rev() {
            if n.is_some() {
                *count(usage) = n;
            }
        }
        let response = &mut draft.response;
        response.reported_cost = cost.or(response.reported_cost);
        response.audio_seconds = seconds.or(response.audio_seconds);
        response.service_tier = service_tier.or(response.service_tier.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&[Step<'_>], &str)]) -> Draft {
        let mut reader = UsageReader::default();
        values.iter().for_each(|(path, number)| reader.value(path, Token::Number(number)));
        let mut draft = Draft::new(None);
        reader.end(&mut draft);
        draft
    }

    #[test]
    fn cached_alias_not_summed() {
        let draft = read(&[
            (&[Key("prompt_cache_hit_tokens")], "4"),
            (&[Key("num_cached_tokens")], "3"),
            (&[Key("prompt_tokens_details"), Key("cached_tokens")], "5"),
            (&[Key("reasoning_tokens")], "7"),
        ]);
        assert_eq!(draft.usage, Usage { cache_read: Some(5), reasoning: Some(7), ..Usage::default() });
    }

    #[test]
    fn null_is_no_count_and_keeps_the_earlier_one() {
        let mut draft = read(&[(&[Key("prompt_tokens")], "9")]);
        let mut reader = UsageReader::default();
        reader.value(&[Key("prompt_tokens")], Token::Null);
        reader.value(&[Key("completion_tokens")], Token::Number("2"));
        reader.end(&mut draft);
        assert_eq!((draft.usage.input, draft.usage.output), (Some(9), Some(2)));
    }

    #[test]
    fn costs_are_dollars() {
        assert_eq!(read(&[(&[Key("cost")], "0.25")]).response.reported_cost, Some(0.25));
        assert_eq!(read(&[(&[Key("cost"), Key("total_cost")], "0.5")]).response.reported_cost, Some(0.5));
        assert_eq!(read(&[(&[Key("cost_in_usd_ticks")], "200000000")]).response.reported_cost, Some(0.02));
    }

    #[test]
    fn a_surplus_is_told() {
        let of = |input, output, total| Usage { input, output, total, ..Usage::default() }.unattributed();
        assert_eq!(of(Some(3), Some(4), Some(9)), Some(2));
        assert_eq!(of(Some(3), None, Some(3)), None);
        assert_eq!(of(Some(3), Some(4), Some(5)), None);
        assert_eq!(of(None, None, Some(5)), None);
    }
}
