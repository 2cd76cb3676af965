//! The operator's prices.

use std::collections::BTreeMap;

use crate::llm::{Facts, Usage};

/// Prices of one model, in US dollars for a million tokens. What has none of its own costs what contains it.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Price {
    /// Input tokens.
    pub input_per_mtok: f64,
    /// Output tokens, reasoning included.
    pub output_per_mtok: f64,
    /// Input tokens read from the cache.
    pub cache_read_per_mtok: Option<f64>,
    /// Input tokens written to the cache.
    pub cache_write_per_mtok: Option<f64>,
    /// Of these, the ones that are kept for an hour.
    pub cache_write_1h_per_mtok: Option<f64>,
    /// Input tokens that are audio.
    pub input_audio_per_mtok: Option<f64>,
    /// Output tokens that are audio.
    pub output_audio_per_mtok: Option<f64>,
    /// The call itself, in US dollars.
    pub per_call: f64,
}

impl Price {
    /// What is wrong with it: the setting's name, and why.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let Self {
            input_per_mtok,
            output_per_mtok,
            cache_read_per_mtok,
            cache_write_per_mtok,
            cache_write_1h_per_mtok,
            input_audio_per_mtok,
            output_audio_per_mtok,
            per_call,
        } = *self;
        for (name, price) in [
            ("input_per_mtok", Some(input_per_mtok)),
            ("output_per_mtok", Some(output_per_mtok)),
            ("cache_read_per_mtok", cache_read_per_mtok),
            ("cache_write_per_mtok", cache_write_per_mtok),
            ("cache_write_1h_per_mtok", cache_write_1h_per_mtok),
            ("input_audio_per_mtok", input_audio_per_mtok),
            ("output_audio_per_mtok", output_audio_per_mtok),
            ("per_call", Some(per_call)),
        ] {
            if price.is_some_and(|price| !price.is_finite() || price < 0.0) {
                return Err((name, "must be a price, and not less than zero"));
            }
        }
        Ok(())
    }

    /// What a call with this usage costs, in US dollars.
    fn of(&self, usage: &Usage) -> f64 {
        let read = self.cache_read_per_mtok.unwrap_or(self.input_per_mtok);
        let write = self.cache_write_per_mtok.unwrap_or(self.input_per_mtok);
        let kept = self.cache_write_1h_per_mtok.unwrap_or(write);
        let mut input = Split::new(usage.input, self.input_per_mtok);
        let written_1h = usage.cache_write_1h.unwrap_or(0).min(usage.cache_write.unwrap_or(u64::MAX));
        input.take(usage.cache_read, read);
        input.take(usage.cache_write.map(|all| all.saturating_sub(written_1h)), write);
        input.take(usage.cache_write_1h, kept);
        // Cached audio is rare, and counted with what is cached.
        input.take(usage.audio.input, self.input_audio_per_mtok.unwrap_or(self.input_per_mtok));
        let mut output = Split::new(usage.output, self.output_per_mtok);
        output.take(usage.audio.output, self.output_audio_per_mtok.unwrap_or(self.output_per_mtok));
        self.per_call + (input.total() + output.total()) / 1e6
    }
}

/// Tokens of which parts have prices of their own. A part that is larger than what is left is not one.
struct Split {
    left: u64,
    price: f64,
    sum: f64,
}

impl Split {
    fn new(tokens: Option<u64>, price: f64) -> Self {
        Self { left: tokens.unwrap_or(0), price, sum: 0.0 }
    }

    fn take(&mut self, part: Option<u64>, price: f64) {
        if let Some((part, left)) = part.and_then(|part| Some((part, self.left.checked_sub(part)?))) {
            self.left = left;
            self.sum += part as f64 * price;
        }
    }

    fn total(self) -> f64 {
        self.sum + self.left as f64 * self.price
    }
}

/// Prices by provider and model.
#[derive(Debug, Default)]
pub(super) struct OwnPrices(Vec<(String, String, Price)>);

impl OwnPrices {
    pub fn new(prices: &BTreeMap<String, Price>) -> Self {
        let named = prices.iter().filter_map(|(name, price)| {
            let (provider, model) = name.split_once('/')?;
            Some((provider.to_owned(), model.to_owned(), *price))
        });
        let mut list: Vec<_> = named.collect();
        // The most exact name first.
        list.sort_by_key(|(provider, model, _)| {
            (model.ends_with('*'), provider == "*", std::cmp::Reverse(model.len()))
        });
        Self(list)
    }

    /// What a call cost; absent if there is no price for its model.
    pub fn cost(&self, facts: &Facts) -> Option<f64> {
        let models = [&facts.response.model, &facts.request.model];
        models.into_iter().flatten().find_map(|called| {
            let (_, _, price) = self.0.iter().find(|(provider, model, _)| {
                (provider == "*" || provider == facts.provider)
                    && match model.strip_suffix('*') {
                        Some(beginning) => called.starts_with(beginning),
                        None => called == model,
                    }
            })?;
            Some(price.of(&facts.usage))
        })
    }
}
