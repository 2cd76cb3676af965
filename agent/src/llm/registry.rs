//! Which API a request's path belongs to.
//!
//! Paths are compared by their last segments, because any prefix may stand before them: `/api/v1/`, `//openai/`,
//! `/models/`, `/openai/deployments/{name}/`, or none. A match is a candidate only; the bodies prove it.

use super::{api::WireApi, openai_chat::OpenAiChat, openai_completions::OpenAiCompletions, session::RequestLine};

/// One row of the table.
struct Route {
    /// Last segments of the path.
    suffix: &'static [&'static str],
    open: fn(deployment: Option<&str>) -> Box<dyn WireApi>,
}

/// Longest suffix first: `/chat/completions` ends in `/completions`.
const ROUTES: &[Route] = &[
    Route { suffix: &["chat", "completions"], open: |deployment| Box::new(OpenAiChat::new(deployment.is_some())) },
    // Mistral's agents take and give chat messages.
    Route { suffix: &["agents", "completions"], open: |_| Box::new(OpenAiChat::new(false)) },
    Route { suffix: &["completions"], open: |_| Box::new(OpenAiCompletions::default()) },
];

/// Every API, for a call whose path is not known: in the order in which they are asked whether they know an answer.
pub(crate) fn all() -> impl Iterator<Item = Box<dyn WireApi>> {
    ROUTES.iter().map(|route| (route.open)(None))
}

/// A candidate.
pub(crate) struct Candidate {
    /// Reads the bodies.
    pub api: Box<dyn WireApi>,
    /// Model that the path names.
    pub model: Option<String>,
}

/// The API that `line` may be a call of.
pub(crate) fn find(line: &RequestLine<'_>) -> Option<Candidate> {
    // The same paths answer GET with stored completions, which are no calls.
    if line.method != "POST" {
        return None;
    }
    let path = line.path.split(['?', '#']).next().unwrap_or_default();
    let segments: Vec<&str> = path.rsplit('/').filter(|segment| !segment.is_empty()).take(MAX_SEGMENTS).collect();
    let route = ROUTES.iter().find(|route| {
        segments.len() >= route.suffix.len() && segments.iter().zip(route.suffix.iter().rev()).all(|(a, b)| a == b)
    })?;
    // Azure names the model in the path: /openai/deployments/{deployment}/chat/completions
    let deployment = match segments.get(route.suffix.len()..) {
        Some([name, "deployments", ..]) => Some(*name),
        _ => None,
    };
    let model = deployment.and_then(super::value::clean);
    Some(Candidate { api: (route.open)(deployment), model })
}

/// Whether no POST to `path` can be a model's, whatever its host, headers and body. The kernel side leaves requests for
/// such a path out without asking again, so a route that rests on anything but the path must be excepted here.
pub(crate) fn is_never_a_model(path: &str) -> bool {
    find(&RequestLine { method: "POST", path, host: None }).is_none()
}

/// Segments looked at, from the end: the longest suffix and what names a deployment before it.
const MAX_SEGMENTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, expect: Option<&str>) {
        let found = find(&RequestLine { method, path, host: None });
        assert_eq!(found.map(|candidate| candidate.api.name()), expect, "{method} {path}");
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
            check("POST", path, Some("openai.chat"));
        }
        check("POST", "/v1/agents/completions", Some("openai.chat"));
        check("POST", "/v1/completions", Some("openai.completions"));
        check("POST", "/v1/fim/completions", Some("openai.completions"));
    }

    #[test]
    fn other_paths_and_methods_are_no_candidates() {
        for path in ["/", "", "/v1/files", "/v1/models", "/v1/batches/b", "/v1/chat/completions/batch", "/xcompletions"]
        {
            check("POST", path, None);
        }
        check("GET", "/v1/chat/completions", None);
        check("OPTIONS", "/v1/chat/completions", None);
        check("POST", "/v1/chat/completions/chatcmpl-1", None);
    }

    #[test]
    fn azure_deployment_is_the_model() {
        let line = RequestLine { method: "POST", path: "/openai/deployments/my-gpt/chat/completions", host: None };
        assert_eq!(find(&line).and_then(|candidate| candidate.model).as_deref(), Some("my-gpt"));
    }
}
