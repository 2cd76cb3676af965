//! `bedrock.invoke`: `/model/{id}/invoke` and `/model/{id}/invoke-with-response-stream` of Bedrock.
//!
//! The bodies are those of the model's maker, so this reads them with the maker's API, which follows from the model's
//! name. An id that says nothing (a profile, an imported model) leaves it to the bodies. What the headers or the last
//! chunk count is taken where the bodies do not count: where both do they may differ, and the maker's own are right.

use super::{
    converse::{Converse, Task as ConverseTask},
    native::Native,
};
use crate::{
    llm::{
        anthropic::{Messages, Task as MessagesTask},
        api::{Draft, Part, WireApi},
        bedrock,
        cohere::v1::{CohereV1, Task as CohereTask},
        contest::Contest,
        facts::Usage,
        openai::{chat::OpenAiChat, embeddings::Embeddings},
        rerank::Rerank,
        value,
    },
    protocol::json::{
        Step::{self, Key},
        Token,
    },
};

/// Reads one call.
#[derive(Default)]
pub(crate) struct BedrockInvoke {
    streams: bool,
    /// The maker's API, from the first that is seen.
    maker: Option<Box<dyn WireApi>>,
    /// What headers and the last chunk count.
    counted: Usage,
}

impl BedrockInvoke {
    /// A call of which nothing has been read.
    pub fn new(streams: bool) -> Self {
        Self { streams, ..Self::default() }
    }

    fn maker(&mut self, draft: &Draft) -> &mut dyn WireApi {
        let open = || {
            let mut apis = apis_of(draft.request.model.as_deref().unwrap_or_default());
            match apis.len() {
                1 => apis.swap_remove(0),
                _ => Box::new(Contest::between(apis, draft)),
            }
        };
        self.maker.get_or_insert_with(open).as_mut()
    }
}

/// The APIs that a model may speak, by its id: `us.anthropic.claude-x`, an ARN that ends in one, or an ARN that does not.
fn apis_of(model: &str) -> Vec<Box<dyn WireApi>> {
    let name = model.rsplit('/').next().unwrap_or_default();
    let mut parts = name.split('.');
    // A region or `global` may stand before the maker.
    let maker = parts.find(|part| MAKERS.contains(part));
    let model = parts.next().unwrap_or_default();
    let is = |part: &str| model.contains(part);
    match maker {
        Some("anthropic") => vec![Box::new(Messages::new(MessagesTask::Answer, true))],
        Some(_) if is("embed") => vec![Box::new(Embeddings::default())],
        Some(_) if is("rerank") => vec![Box::new(Rerank::default())],
        Some("amazon") if is("nova") => vec![Box::new(Converse::new(ConverseTask::Answer))],
        Some("cohere") if is("command-r") => vec![Box::new(CohereV1::new(CohereTask::Chat))],
        Some("cohere") => vec![Box::new(CohereV1::new(CohereTask::Generate))],
        Some("amazon" | "meta") => vec![Box::new(Native::default())],
        // Old models of these have a prompt and new ones have messages.
        Some(_) => vec![Box::new(OpenAiChat::new(true)), Box::new(Native::default())],
        None => vec![
            Box::new(Messages::new(MessagesTask::Answer, false)),
            // Only its answers prove this one here: its requests look like the others'.
            Box::new(OpenAiChat::new(false)),
            Box::new(Native::default()),
            Box::new(Converse::new(ConverseTask::Answer)),
            Box::new(Embeddings::default()),
        ],
    }
}

/// Makers as model ids spell them.
const MAKERS: [&str; 14] = [
    "ai21",
    "amazon",
    "anthropic",
    "cohere",
    "deepseek",
    "google",
    "meta",
    "minimax",
    "mistral",
    "moonshot",
    "nvidia",
    "openai",
    "qwen",
    "zai",
];

impl WireApi for BedrockInvoke {
    fn name(&self) -> &'static str {
        "bedrock.invoke"
    }

    fn operation(&self) -> &'static str {
        self.maker.as_ref().map_or("chat", |maker| maker.operation())
    }

    fn default_provider(&self) -> &'static str {
        "aws.bedrock"
    }

    fn header(&mut self, part: Part, name: &'static str, value: &str, draft: &mut Draft) {
        if part == Part::Response {
            bedrock::error_header(name, value, draft);
        }
        let counted = &mut self.counted;
        match name {
            "x-amzn-bedrock-input-token-count" => counted.input = value.parse().ok(),
            "x-amzn-bedrock-output-token-count" => counted.output = value.parse().ok(),
            "x-amzn-bedrock-cache-read-input-token-count" => counted.cache_read = value.parse().ok(),
            "x-amzn-bedrock-cache-write-input-token-count" => counted.cache_write = value.parse().ok(),
            _ => {}
        }
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        self.maker(draft).request_value(path, token, draft);
        draft.request.stream = Some(self.streams);
    }

    fn request_cut(&mut self, draft: &mut Draft) {
        self.maker(draft).request_cut(draft);
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        bedrock::error_value(path, token, draft);
        if let [Key("amazon-bedrock-invocationMetrics"), Key(key)] = path {
            let counted = &mut self.counted;
            let slot = match *key {
                "inputTokenCount" => &mut counted.input,
                "outputTokenCount" => &mut counted.output,
                "cacheReadInputTokenCount" => &mut counted.cache_read,
                "cacheWriteInputTokenCount" => &mut counted.cache_write,
                _ => return draft.timings.named(key, token),
            };
            *slot = value::count(token);
            draft.response_proof = true;
            return;
        }
        self.maker(draft).response_value(path, token, draft);
    }

    fn response_document(&mut self, streamed: bool, draft: &mut Draft) -> bool {
        self.maker(draft).response_document(streamed, draft)
    }

    fn response_cut(&mut self, draft: &mut Draft) {
        self.maker(draft).response_cut(draft);
    }

    fn concluded(&mut self, draft: &mut Draft) {
        self.maker(draft).concluded(draft);
        let Usage { input, output, cache_read, cache_write, .. } = self.counted;
        let usage = &mut draft.usage;
        if usage.input.is_none() {
            // The count leaves out what came from the cache or went there.
            let cached = [cache_read, cache_write].into_iter().flatten();
            usage.input = input.map(|input| cached.fold(input, u64::saturating_add));
            usage.cache_read = usage.cache_read.or(cache_read);
            usage.cache_write = usage.cache_write.or(cache_write);
        }
        usage.output = usage.output.or(output);
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        self.maker.as_ref().is_some_and(|maker| maker.is_finished(body_ended, draft))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(model: &str, expect: &[&str]) {
        let names: Vec<_> = apis_of(model).iter().map(|api| api.name()).collect();
        assert_eq!(names, expect, "{model}");
    }

    #[test]
    fn the_model_tells_the_maker() {
        check("anthropic.claude-3-haiku-20240307-v1:0", &["anthropic.messages"]);
        check("us.anthropic.claude-haiku-4-5-20251001-v1:0", &["anthropic.messages"]);
        check("arn:aws:bedrock:us-east-1:1:inference-profile/global.anthropic.claude-x", &["anthropic.messages"]);
        check("amazon.titan-embed-text-v2:0", &["embeddings"]);
        check("us.cohere.embed-v4:0", &["embeddings"]);
        check("cohere.rerank-v3-5:0", &["rerank"]);
        check("eu.amazon.nova-lite-v1:0", &["bedrock.converse"]);
        check("cohere.command-r-plus-v1:0", &["cohere.chat"]);
        check("meta.llama3-70b-instruct-v1:0", &["bedrock.native"]);
        check("mistral.mistral-7b-instruct-v0:2", &["openai.chat", "bedrock.native"]);
        let all = ["anthropic.messages", "openai.chat", "bedrock.native", "bedrock.converse", "embeddings"];
        check("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", &all);
    }
}
