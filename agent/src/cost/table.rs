//! The table of list prices that comes with the program: the crate `genai-prices`, of which only the prices are used.
//!
//! Loading it takes a tenth of a second and nine megabytes for good, so a host that calls no provider never pays for
//! it.

use std::{sync::Once, time::SystemTime};

use genai_prices::{Calculator, ErrorKind, PriceRequest, Usage, UsageKey};

use crate::{kernel, llm::Facts};

/// Day of the latest price in the table.
pub(super) const PRICE_DATE: &str = "2026-10-30";

/// The table's names of providers.
const PROVIDERS: [(&str, &str); 19] = [
    ("openai", "openai"),
    ("azure.ai.openai", "azure"),
    ("azure.ai.inference", "azure"),
    ("anthropic", "anthropic"),
    ("gcp.gemini", "google"),
    ("gcp.gen_ai", "google"),
    ("gcp.vertex_ai", "google"),
    ("aws.bedrock", "aws"),
    ("cohere", "cohere"),
    ("mistral_ai", "mistral"),
    ("groq", "groq"),
    ("deepseek", "deepseek"),
    ("x_ai", "x-ai"),
    ("perplexity", "perplexity"),
    ("moonshot_ai", "moonshotai"),
    ("openrouter", "openrouter"),
    ("together_ai", "together"),
    ("cerebras", "cerebras"),
    ("z_ai", "zai"),
];

/// What a call cost at `at`; absent if the table does not know its model.
pub(super) fn cost(facts: &Facts, at: SystemTime) -> Option<f64> {
    let (_, provider) = PROVIDERS.iter().find(|(name, _)| *name == facts.provider)?;
    let table = loaded();
    let full = usage(facts);
    let plain = plain(facts);
    // What answered is billed. Where it has a name of its own (a deployment, a snapshot) what was asked for may be
    // known.
    let models = [&facts.response.model, &facts.request.model];
    models.into_iter().flatten().find_map(|model| {
        let price = |usage| {
            let mut request = PriceRequest::new(model, usage).with_provider_id(provider).with_timestamp(at);
            if let Some(tier) = &facts.response.service_tier {
                request = request.with_price_context("service_tier", tier);
            }
            table.calculate(&request)
        };
        let price = match price(&full) {
            // Parts that are larger than the whole: counts of things that are not billed.
            Err(error) if error.kind() == ErrorKind::InvalidUsage => price(&plain),
            price => price,
        };
        price.ok().map(|price| price.total_price)
    })
}

/// The table, loaded on first use.
fn loaded() -> &'static Calculator {
    static LOADED: Once = Once::new();
    let table = Calculator::bundled();
    // Reading it took twice of what it needs.
    LOADED.call_once(kernel::trim_heap);
    table
}

fn plain(facts: &Facts) -> Usage {
    let mut usage = Usage::new();
    let mut add = |key: UsageKey, value: Option<f64>| value.map(|value| usage.insert(key, value));
    add(UsageKey::INPUT_TOKENS, facts.usage.input.map(|n| n as f64));
    add(UsageKey::OUTPUT_TOKENS, facts.usage.output.map(|n| n as f64));
    usage
}

fn usage(facts: &Facts) -> Usage {
    let crate::llm::Usage {
        input,
        output,
        cache_read,
        cache_write,
        reasoning,
        total: _,
        cache_write_5m,
        cache_write_1h,
        text: _,
        image,
        audio,
        processed_input: _,
        processed_output: _,
        web_searches,
        search_units,
    } = facts.usage;
    let mut usage = Usage::new();
    for (key, count) in [
        (UsageKey::INPUT_TOKENS, input),
        (UsageKey::OUTPUT_TOKENS, output),
        (UsageKey::CACHE_READ_TOKENS, cache_read),
        (UsageKey::CACHE_WRITE_TOKENS, cache_write),
        (UsageKey::CACHE_WRITE_5M_TOKENS, cache_write_5m),
        (UsageKey::CACHE_WRITE_1H_TOKENS, cache_write_1h),
        (UsageKey::OUTPUT_REASONING_TOKENS, reasoning),
        (UsageKey::INPUT_AUDIO_TOKENS, audio.input),
        (UsageKey::OUTPUT_AUDIO_TOKENS, audio.output),
        (UsageKey::CACHE_AUDIO_READ_TOKENS, audio.cache_read),
        (UsageKey::INPUT_IMAGE_TOKENS, image.input),
        (UsageKey::OUTPUT_IMAGE_TOKENS, image.output),
        (UsageKey::CACHE_IMAGE_READ_TOKENS, image.cache_read),
        (UsageKey::WEB_SEARCHES, web_searches),
        (UsageKey::RERANK_SEARCHES, search_units),
    ] {
        if let Some(count) = count {
            usage.insert(key, count as f64);
        }
    }
    if let Some(seconds) = facts.response.audio_seconds {
        usage.insert(UsageKey::AUDIO_SECONDS, seconds);
        usage.insert(UsageKey::INPUT_AUDIO_SECONDS, seconds);
    }
    usage
}
