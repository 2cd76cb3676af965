//! Gemini's `usageMetadata` (ai.google.dev, "GenerateContentResponse").
//!
//! Thoughts stand beside the candidates and what tools added beside the prompt, so input and output are sums. Every chunk
//! of a stream reports all so far.

use crate::{
    llm::{
        api::Draft,
        facts::{Modality, Usage},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// What has been reported so far.
#[derive(Debug, Default)]
pub(crate) struct GeminiUsage {
    prompt: Option<u64>,
    tools: Option<u64>,
    candidates: Option<u64>,
    /// The entry at hand of a list by modality.
    modality: Option<String>,
    count: Option<u64>,
}

impl GeminiUsage {
    /// Takes a value below the usage object; `rest` is the path from there.
    pub fn value(&mut self, rest: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let usage = &mut draft.usage;
        let slot = match (rest, token) {
            ([Key("promptTokenCount")], _) => &mut self.prompt,
            ([Key("toolUsePromptTokenCount")], _) => &mut self.tools,
            // The second is the live API's.
            ([Key("candidatesTokenCount" | "responseTokenCount")], _) => &mut self.candidates,
            ([Key("thoughtsTokenCount")], _) => &mut usage.reasoning,
            ([Key("cachedContentTokenCount")], _) => &mut usage.cache_read,
            ([Key("totalTokenCount")], _) => &mut usage.total,
            ([Key("serviceTier")], _) => {
                draft.response.service_tier = value::name(token).or(draft.response.service_tier.take());
                return;
            }
            ([Key(list), Index(_), rest @ ..], _) => return self.detail(list, rest, token, usage),
            _ => return,
        };
        *slot = value::count(token).or(*slot);
        usage.input = sum(self.prompt, self.tools);
        usage.output = sum(self.candidates, usage.reasoning);
    }

    fn detail(&mut self, list: &str, rest: &[Step<'_>], token: Token<'_>, usage: &mut Usage) {
        match (rest, token) {
            ([Key("modality")], _) => self.modality = value::name(token),
            ([Key("tokenCount")], _) => self.count = value::count(token),
            ([], Token::ObjectEnd) => {
                let modality = match self.modality.take().as_deref() {
                    Some("TEXT") => &mut usage.text,
                    Some("IMAGE") => &mut usage.image,
                    Some("AUDIO") => &mut usage.audio,
                    _ => return self.count = None,
                };
                if let Some(slot) = part(modality, list) {
                    *slot = self.count.or(*slot);
                }
                self.count = None;
            }
            _ => {}
        }
    }
}

/// The count that a list by modality is about.
fn part<'m>(modality: &'m mut Modality, list: &str) -> Option<&'m mut Option<u64>> {
    match list {
        // The second is what embeddings have.
        "promptTokensDetails" | "promptTokenDetails" => Some(&mut modality.input),
        "candidatesTokensDetails" | "responseTokensDetails" => Some(&mut modality.output),
        "cacheTokensDetails" => Some(&mut modality.cache_read),
        _ => None,
    }
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    }
}
