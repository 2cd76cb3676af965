//! Cohere's counts, `usage` in the newer API and `meta` in the older (docs.cohere.com, "Chat").
//!
//! What is billed is not what the model read: a prompt's fixed part is free. The billed counts are the usage and the others
//! stand beside them, together with the cached ones, which belong to the others and exceed what is billed.

use crate::{
    llm::{api::Draft, value},
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};

/// Takes a value below the usage object; `rest` is the path from there.
pub(crate) fn usage_value(rest: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
    let usage = &mut draft.usage;
    let slot = match rest {
        [Key("billed_units"), Key("input_tokens")] => &mut usage.input,
        [Key("billed_units"), Key("output_tokens")] => &mut usage.output,
        [Key("billed_units"), Key("search_units")] => &mut usage.search_units,
        [Key("billed_units"), Key("image_tokens")] => &mut usage.image.input,
        [Key("tokens"), Key("input_tokens")] => &mut usage.processed_input,
        [Key("tokens"), Key("output_tokens")] => &mut usage.processed_output,
        [Key("tokens"), Key("reasoning_tokens")] => &mut usage.reasoning,
        [Key("cached_tokens")] => &mut usage.cache_read,
        _ => return,
    };
    *slot = value::count(token).or(*slot);
}
