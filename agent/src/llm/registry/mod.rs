//! Which API a request's path belongs to.
//!
//! Paths are compared by their last segments, because any prefix may stand before them: `/api/v1/`, `//openai/`,
//! `/models/`, `/openai/deployments/{name}/`, or none. A match is a candidate only; the bodies prove it. Where two APIs
//! share a path, both read the call side by side until one is proven (`contest.rs`).

pub(crate) mod hosted;
pub(crate) mod local;
pub(crate) mod provider;
pub(crate) mod remote;
pub(crate) mod stores;

use std::{borrow::Cow, cmp::Reverse};

use super::{api::WireApi, session::RequestLine, value};

/// One row of a table.
pub(crate) struct Route {
    /// Last segments of the path. `*` stands for any one segment, which names the model; `*:word` for one that ends in
    /// `:word`, as Google's methods do.
    pub suffix: &'static [&'static str],
    /// The APIs that have such a path, each reading the call for itself.
    pub open: Apis,
}

/// Opens an API's reader of one call.
type Open = fn(&Matched) -> Box<dyn WireApi>;

/// How to open each of some APIs.
pub(crate) type Apis = &'static [Open];

/// What a path said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matched {
    /// Model that the path names.
    pub model: Option<String>,
    /// Collection of a vector store that the path names.
    pub collection: Option<String>,
    /// The path has the form of Azure's deployments.
    pub deployment: bool,
}

/// All rows; of those that fit the longest suffix is taken: `/chat/completions` ends in `/completions`. Says of each whether
/// its wildcard names a collection instead of a model.
fn routes() -> impl Iterator<Item = (&'static Route, bool)> {
    let models = hosted::ROUTES.iter().chain(local::ROUTES).chain(remote::ROUTES).map(|route| (route, false));
    models.chain(stores::ROUTES.iter().map(|route| (route, true)))
}

/// A path of each route, in the order of the tables: for tests that try every API.
pub fn paths() -> impl Iterator<Item = String> {
    let path = |route: &Route| route.suffix.iter().map(|part| part.replace('*', "m")).collect::<Vec<_>>().join("/");
    routes().map(move |(route, _)| format!("/{}", path(route)))
}

/// Every API, for a call whose path is not known: in the order in which they are asked whether they know an answer.
pub(crate) fn all() -> Vec<Box<dyn WireApi>> {
    let matched = Matched::default();
    let mut all: Vec<Box<dyn WireApi>> = Vec::new();
    for open in routes().flat_map(|(route, _)| route.open) {
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
    if let Some(apis) = remote::named(line.headers) {
        return Some(opened(apis, Matched::default()));
    }
    let fitting = routes().filter_map(|(route, is_store)| Some((route, is_store, fits(route.suffix, &segments)?)));
    let Some((route, is_store, name)) = fitting.min_by_key(|(route, ..)| Reverse(route.suffix.len())) else {
        let apis = remote::elsewhere(segments.is_empty(), line.headers)?;
        return Some(opened(apis, Matched::default()));
    };
    // Azure names the model in the path: /openai/deployments/{deployment}/chat/completions
    let deployment = match segments.get(route.suffix.len()..) {
        Some([name, "deployments", ..]) => Some(*name),
        _ => None,
    };
    let name = name.or(deployment).and_then(|name| value::clean(&percent_decoded(name)));
    let (model, collection) = if is_store { (None, name) } else { (name, None) };
    Some(opened(route.open, Matched { model, collection, deployment: deployment.is_some() }))
}

fn opened(apis: Apis, matched: Matched) -> Candidate {
    Candidate { apis: apis.iter().map(|open| open(&matched)).collect(), model: matched.model }
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
pub(crate) fn percent_decoded(segment: &str) -> Cow<'_, str> {
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
    use crate::protocol::head::Headers;

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
        for path in ["/v1/files", "/v1/models", "/v1/batches/b", "/v1/chat/completions/batch", "/xcompletions"] {
            check("POST", path, &[]);
        }
        check("GET", "/v1/chat/completions", &[]);
        check("OPTIONS", "/v1/chat/completions", &[]);
        check("POST", "/v1/chat/completions/chatcmpl-1", &[]);
    }

    #[test]
    fn the_longest_suffix_holds() {
        check("POST", "/v1/completions", &["openai.completions"]);
        check("POST", "/completions", &["openai.completions", "llamacpp.completion"]);
        check("POST", "/api/generate", &["ollama.generate"]);
        check("POST", "/generate", &["sglang.generate", "tgi.generate"]);
        check("POST", "/v2/models/m/generate", &["triton.infer"]);
        check("POST", "/v1/messages", &["anthropic.messages"]);
        check("POST", "/messages", &["mcp"]);
        check("POST", "/collections/docs/points/query", &["retrieval"]);
    }

    #[test]
    fn a_collection_is_no_model() {
        let of = |path| {
            let line = RequestLine { method: "POST", path, host: None, headers: None };
            find(&line).map(|candidate| candidate.model)
        };
        assert_eq!(of("/collections/docs/points/query"), Some(None));
        assert_eq!(of("/v2/models/llama/versions/1/generate"), Some(Some("llama".to_owned())));
    }

    #[test]
    fn headers_name_what_no_path_does() {
        let of = |path, headers: &[(&str, &str)]| {
            let mut head = Headers::default();
            headers.iter().for_each(|(name, value)| head.take(name, value.as_bytes()));
            let found = find(&RequestLine { method: "POST", path, host: None, headers: Some(&head) });
            found.map(|candidate| candidate.apis.iter().map(|api| api.name()).collect::<Vec<_>>()).unwrap_or_default()
        };
        let json = ("content-type", "application/json");
        assert_eq!(of("/tools", &[("mcp-protocol-version", "2025-06-18")]), ["mcp"]);
        assert_eq!(of("/v1/completions", &[("mcp-method", "tools/list")]), ["mcp"]);
        assert_eq!(of("/tools", &[json, ("accept", "application/json, text/event-stream")]), ["mcp"]);
        assert_eq!(of("/agent", &[("a2a-version", "1.0")]), ["a2a"]);
        assert_eq!(of("/tools", &[json, ("accept", "*/*")]), [""; 0]);
        assert_eq!(of("/", &[json]), ["a2a", "mcp", "tgi.generate"]);
        assert_eq!(of("/", &[("content-type", "application/x-amz-json-1.0")]), [""; 0]);
        assert!(!is_never_a_model("/") && is_never_a_model("/tools"));
    }

    #[test]
    fn providers_have_paths_of_their_own() {
        for (path, expect) in [
            ("/v1/responses", "openai.responses"),
            ("/backend-api/codex/responses", "openai.responses"),
            ("/openai/deployments/gpt/embeddings", "embeddings"),
            ("/anthropic/v1/messages?beta=true", "anthropic.messages"),
            ("/v1/messages/count_tokens", "anthropic.count_tokens"),
            ("/v1beta/models/gemini-x:generateContent", "gemini.generate"),
            ("/v1/projects/p/locations/l/endpoints/7:streamGenerateContent", "gemini.generate"),
            ("/v1/projects/p/locations/l/publishers/anthropic/models/c:rawPredict", "anthropic.messages"),
            ("/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict", "openai.chat"),
            ("/model/us.anthropic.claude-x-v1%3A0/converse-stream", "bedrock.converse"),
            ("/model/us.anthropic.claude-x-v1%3A0/invoke", "bedrock.invoke"),
            ("/cohere/v2/chat", "cohere.chat"),
            ("/api/v1/rerank", "rerank"),
            ("/ml/v1/deployments/d/text/chat_stream", "openai.chat"),
        ] {
            check("POST", path, &[expect]);
        }
        for path in [
            "/v1/messages/batches",
            "/v1/messages/batches/msgbatch_1/cancel",
            "/v1beta/models/gemini-x:batchGenerateContent",
            "/v1beta/models/veo:predictLongRunning",
            "/v1beta/cachedContents",
            "/v1/responses/resp_1/cancel",
            "/v1/audio/voices",
        ] {
            check("POST", path, &[]);
        }
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
