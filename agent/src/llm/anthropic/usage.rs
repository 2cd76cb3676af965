//! Anthropic's `usage` object (docs.anthropic.com, "Messages" and "Streaming messages").
//!
//! `input_tokens` leaves out what came from or went into the cache, so the input is a sum. A stream reports twice, and the
//! second report holds field by field: it is never added to the first.

use crate::{
    llm::{api::Draft, value},
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};

/// What has been reported so far.
#[derive(Debug, Default)]
pub(crate) struct AnthropicUsage {
    uncached: Option<u64>,
}

impl AnthropicUsage {
    /// Takes a value below the usage object; `rest` is the path from there.
    pub fn value(&mut self, rest: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        if let [Key("service_tier")] = rest {
            draft.response.service_tier = value::name(token).or(draft.response.service_tier.take());
            return;
        }
        let usage = &mut draft.usage;
        let slot = match rest {
            [Key("input_tokens")] => &mut self.uncached,
            [Key("output_tokens")] => &mut usage.output,
            [Key("cache_read_input_tokens")] => &mut usage.cache_read,
            [Key("cache_creation_input_tokens")] => &mut usage.cache_write,
            [Key("cache_creation"), Key("ephemeral_5m_input_tokens")] => &mut usage.cache_write_5m,
            [Key("cache_creation"), Key("ephemeral_1h_input_tokens")] => &mut usage.cache_write_1h,
            [Key("output_tokens_details"), Key("thinking_tokens")] => &mut usage.reasoning,
            [Key("server_tool_use"), Key("web_search_requests")] => &mut usage.web_searches,
            _ => return,
        };
        *slot = value::count(token).or(*slot);
        let cached = [usage.cache_read, usage.cache_write].into_iter().flatten();
        usage.input = self.uncached.map(|uncached| cached.fold(uncached, u64::saturating_add));
    }
}
