//! Which API a request's path belongs to.
//!
//! Paths are compared by their last segments, because any prefix may stand before them: `/api/v1/`, `//openai/`,
//! `/models/`, `/openai/deployments/{name}/`, or none. A match is a candidate only; the bodies prove it. Where two APIs
//! share a path, both read the call side by side until one is proven (`contest.rs`).

use std::borrow::Cow;

use super::{
    anthropic::{Messages, Task as AnthropicTask},
    anthropic_complete::AnthropicComplete,
    api::WireApi,
    audio::{Audio, Task as AudioTask},
    bedrock_invoke::BedrockInvoke,
    cohere::CohereChat,
    cohere_v1::{CohereV1, Task as CohereTask},
    converse::{Converse, Task as ConverseTask},
    embeddings::Embeddings,
    gemini::{Gemini, Task as GeminiTask},
    gemini_embed::GeminiEmbed,
    gemini_interactions::Interactions,
    images::Images,
    moderations::Moderations,
    openai_chat::OpenAiChat,
    openai_completions::OpenAiCompletions,
    rerank::Rerank,
    responses::{Responses, Task},
    session::RequestLine,
    value,
    watsonx::Watsonx,
};

/// One row of the table.
struct Route {
    /// Last segments of the path. `*` stands for any one segment, which names the model; `*:word` for one that ends in
    /// `:word`, as Google's methods do.
    suffix: &'static [&'static str],
    /// The APIs that have such a path, each reading the call for itself.
    open: &'static [fn(&Matched) -> Box<dyn WireApi>],
}

/// What a path said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matched {
    /// Model that the path names.
    pub model: Option<String>,
    /// The path has the form of Azure's deployments.
    pub deployment: bool,
}

/// Longest suffix first: `/chat/completions` ends in `/completions`.
const ROUTES: &[Route] = &[
    Route { suffix: &["chat", "completions"], open: &[|matched| Box::new(OpenAiChat::new(matched.deployment))] },
    // Mistral's agents take and give chat messages.
    Route { suffix: &["agents", "completions"], open: &[|_| Box::new(OpenAiChat::new(false))] },
    Route { suffix: &["completions"], open: &[|_| Box::new(OpenAiCompletions::default())] },
    Route { suffix: &["responses"], open: &[|_| Box::new(Responses::new(Task::Answer))] },
    Route { suffix: &["responses", "compact"], open: &[|_| Box::new(Responses::new(Task::Compact))] },
    Route { suffix: &["responses", "input_tokens"], open: &[|_| Box::new(Responses::new(Task::Count))] },
    Route { suffix: &["v1", "messages"], open: &[|_| Box::new(Messages::new(AnthropicTask::Answer, false))] },
    Route {
        suffix: &["v1", "messages", "count_tokens"],
        open: &[|_| Box::new(Messages::new(AnthropicTask::Count, false))],
    },
    // Models of Anthropic and of Mistral on Vertex.
    Route {
        suffix: &["anthropic", "models", "*:rawPredict"],
        open: &[|_| Box::new(Messages::new(AnthropicTask::Answer, true))],
    },
    Route {
        suffix: &["anthropic", "models", "*:streamRawPredict"],
        open: &[|_| Box::new(Messages::new(AnthropicTask::Answer, true))],
    },
    Route { suffix: &["model", "*", "converse"], open: &[|_| Box::new(Converse::new(ConverseTask::Answer))] },
    Route { suffix: &["model", "*", "converse-stream"], open: &[|_| Box::new(Converse::new(ConverseTask::Stream))] },
    Route { suffix: &["model", "*", "count-tokens"], open: &[|_| Box::new(Converse::new(ConverseTask::Count))] },
    Route { suffix: &["model", "*", "invoke"], open: &[|_| Box::new(BedrockInvoke::new(false))] },
    Route { suffix: &["model", "*", "invoke-with-response-stream"], open: &[|_| Box::new(BedrockInvoke::new(true))] },
    Route { suffix: &["v1", "chat"], open: &[|_| Box::new(CohereV1::new(CohereTask::Chat))] },
    Route { suffix: &["v1", "generate"], open: &[|_| Box::new(CohereV1::new(CohereTask::Generate))] },
    Route { suffix: &["interactions"], open: &[|_| Box::new(Interactions::default())] },
    // watsonx.
    Route { suffix: &["text", "chat"], open: &[|matched| Box::new(OpenAiChat::new(matched.deployment))] },
    Route { suffix: &["text", "chat_stream"], open: &[|matched| Box::new(OpenAiChat::new(matched.deployment))] },
    Route { suffix: &["text", "generation"], open: &[|_| Box::new(Watsonx::new(false))] },
    Route { suffix: &["text", "generation_stream"], open: &[|_| Box::new(Watsonx::new(true))] },
    Route { suffix: &["v2", "chat"], open: &[|_| Box::new(CohereChat::default())] },
    Route { suffix: &["mistralai", "models", "*:rawPredict"], open: &[|_| Box::new(OpenAiChat::new(true))] },
    Route { suffix: &["mistralai", "models", "*:streamRawPredict"], open: &[|_| Box::new(OpenAiChat::new(true))] },
    Route { suffix: &["*:generateContent"], open: &[|_| Box::new(Gemini::new(GeminiTask::Generate))] },
    Route { suffix: &["*:streamGenerateContent"], open: &[|_| Box::new(Gemini::new(GeminiTask::Stream))] },
    Route { suffix: &["*:countTokens"], open: &[|_| Box::new(Gemini::new(GeminiTask::Count))] },
    Route { suffix: &["*:embedContent"], open: &[|_| Box::new(GeminiEmbed::default())] },
    Route { suffix: &["*:batchEmbedContents"], open: &[|_| Box::new(GeminiEmbed::default())] },
    Route { suffix: &["*:predict"], open: &[|_| Box::new(GeminiEmbed::default())] },
    Route { suffix: &["embeddings"], open: &[|_| Box::new(Embeddings::default())] },
    Route { suffix: &["embed"], open: &[|_| Box::new(Embeddings::default())] },
    Route { suffix: &["rerank"], open: &[|_| Box::new(Rerank::default())] },
    Route { suffix: &["reranking"], open: &[|_| Box::new(Rerank::default())] },
    Route { suffix: &["score"], open: &[|_| Box::new(Rerank::default())] },
    Route { suffix: &["moderations"], open: &[|_| Box::new(Moderations::default())] },
    Route { suffix: &["images", "generations"], open: &[|_| Box::new(Images::default())] },
    Route { suffix: &["images", "edits"], open: &[|_| Box::new(Images::default())] },
    Route { suffix: &["images", "variations"], open: &[|_| Box::new(Images::default())] },
    Route { suffix: &["audio", "transcriptions"], open: &[|_| Box::new(Audio::new(AudioTask::Transcription))] },
    Route { suffix: &["audio", "translations"], open: &[|_| Box::new(Audio::new(AudioTask::Translation))] },
    Route { suffix: &["audio", "speech"], open: &[|_| Box::new(Audio::new(AudioTask::Speech))] },
    Route { suffix: &["v1", "complete"], open: &[|_| Box::new(AnthropicComplete::default())] },
];

/// Every API, for a call whose path is not known: in the order in which they are asked whether they know an answer.
pub(crate) fn all() -> Vec<Box<dyn WireApi>> {
    let matched = Matched::default();
    let mut all: Vec<Box<dyn WireApi>> = Vec::new();
    for open in ROUTES.iter().flat_map(|route| route.open) {
        let api = open(&matched);
        // An API with several paths is asked once.
        if all.iter().all(|known| known.name() != api.name()) {
            all.push(api);
        }
    }
    all
}

/// What a request may be.
pub(crate) struct Candidate {
    /// Each reads the bodies; never empty.
    pub apis: Vec<Box<dyn WireApi>>,
    /// Model that the path names.
    pub model: Option<String>,
}

/// The APIs that `line` may be a call of.
pub(crate) fn find(line: &RequestLine<'_>) -> Option<Candidate> {
    // The same paths answer GET with stored completions, which are no calls.
    if line.method != "POST" {
        return None;
    }
    let path = line.path.split(['?', '#']).next().unwrap_or_default();
    let segments: Vec<&str> = path.rsplit('/').filter(|segment| !segment.is_empty()).take(MAX_SEGMENTS).collect();
    let (route, model) = ROUTES.iter().find_map(|route| Some((route, fits(route.suffix, &segments)?)))?;
    // Azure names the model in the path: /openai/deployments/{deployment}/chat/completions
    let deployment = match segments.get(route.suffix.len()..) {
        Some([name, "deployments", ..]) => Some(*name),
        _ => None,
    };
    let model = model.or(deployment).and_then(|model| value::clean(&percent_decoded(model)));
    let matched = Matched { model: model.clone(), deployment: deployment.is_some() };
    Some(Candidate { apis: route.open.iter().map(|open| open(&matched)).collect(), model })
}

/// Whether the path ends in `suffix`, and the model that its wildcard stands for. `segments` are the path's last ones,
/// the last first.
fn fits<'a>(suffix: &[&str], segments: &[&'a str]) -> Option<Option<&'a str>> {
    if segments.len() < suffix.len() {
        return None;
    }
    let mut model = None;
    for (segment, pattern) in segments.iter().zip(suffix.iter().rev()) {
        match pattern.strip_prefix('*') {
            None if segment == pattern => {}
            None => return None,
            Some(ending) => model = Some(segment.strip_suffix(ending).filter(|model| !model.is_empty())?),
        }
    }
    Some(model)
}

/// A path segment as the program meant it (RFC 3986 section 2.1); what is not an escape stays.
fn percent_decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8);
    let bytes = segment.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Whether no POST to `path` can be a model's, whatever its host, headers and body. The kernel side leaves requests for
/// such a path out without asking again, so a route that rests on anything but the path must be excepted here.
pub(crate) fn is_never_a_model(path: &str) -> bool {
    find(&RequestLine { method: "POST", path, host: None, headers: None }).is_none()
}

/// Segments looked at, from the end: the longest suffix and what names a deployment before it.
const MAX_SEGMENTS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, expect: &[&str]) {
        let found = find(&RequestLine { method, path, host: None, headers: None });
        let names = found.map(|candidate| candidate.apis.iter().map(|api| api.name()).collect::<Vec<_>>());
        assert_eq!(names.unwrap_or_default(), expect, "{method} {path}");
    }

    #[test]
    fn prefixes_do_not_matter() {
        for path in [
            "/v1/chat/completions",
            "/chat/completions",
            "/api/v1/chat/completions/",
            "//openai//v1/chat/completions",
            "/models/chat/completions",
            "/api/paas/v4/chat/completions",
            "/openai/deployments/gpt/chat/completions?api-version=1",
            "http://proxy/v1/chat/completions",
        ] {
            check("POST", path, &["openai.chat"]);
        }
        check("POST", "/v1/agents/completions", &["openai.chat"]);
        check("POST", "/v1/completions", &["openai.completions"]);
        check("POST", "/v1/fim/completions", &["openai.completions"]);
    }

    #[test]
    fn other_paths_and_methods_are_no_candidates() {
        for path in ["/", "", "/v1/files", "/v1/models", "/v1/batches/b", "/v1/chat/completions/batch", "/xcompletions"]
        {
            check("POST", path, &[]);
        }
        check("GET", "/v1/chat/completions", &[]);
        check("OPTIONS", "/v1/chat/completions", &[]);
        check("POST", "/v1/chat/completions/chatcmpl-1", &[]);
    }

    #[test]
    fn azure_deployment_is_the_model() {
        let path = "/openai/deployments/my%20gpt/chat/completions";
        let line = RequestLine { method: "POST", path, host: None, headers: None };
        assert_eq!(find(&line).and_then(|candidate| candidate.model).as_deref(), Some("my gpt"));
    }

    #[test]
    fn a_wildcard_stands_for_one_segment() {
        let bedrock: &[&str] = &["model", "*", "converse"];
        assert_eq!(fits(bedrock, &["converse", "us.x:0", "model"]), Some(Some("us.x:0")));
        assert_eq!(fits(bedrock, &["converse", "us.x:0"]), None);
        let gemini: &[&str] = &["models", "*:generateContent"];
        assert_eq!(fits(gemini, &["gemini-2:generateContent", "models", "v1beta"]), Some(Some("gemini-2")));
        assert_eq!(fits(gemini, &[":generateContent", "models"]), None);
        assert_eq!(fits(gemini, &["gemini-2:countTokens", "models"]), None);
    }

    #[test]
    fn escapes_are_decoded_and_what_is_none_stays() {
        assert_eq!(percent_decoded("arn%3Aaws%3a1%2Fx"), "arn:aws:1/x");
        assert_eq!(percent_decoded("100%"), "100%");
        assert_eq!(percent_decoded("%zz%4"), "%zz%4");
        assert_eq!(percent_decoded("%ff"), "\u{fffd}");
    }
}
