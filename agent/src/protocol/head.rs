//! Heads of messages, whatever version of HTTP carried them.
//!
//! Owns the allow-list: what of a head may be known outside. Credentials stand in heads, so nothing else is copied out
//! of one. Leaves to others: how heads are written (`http1`, `http2`) and what frames a body.
//!
//! To let one more header out: if the agent itself reads it, add a field to [`Headers`] and take it in
//! [`Headers::take`]; if only wire APIs do, add its name to [`SIGNALS`]. Make sure that its value cannot be a
//! credential.

/// Longest path that is kept, in bytes. The longest route of a supported API is about 300 (Bedrock with an ARN).
pub(crate) const MAX_PATH: usize = 1024;

/// Longest value that is kept of any other part, in bytes. Values come from the payload and end up in attributes.
pub(crate) const MAX_VALUE: usize = 256;

/// What is taken out of a request's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// As written.
    pub method: String,
    /// Path without the query, which may carry keys. The path of a full URL in absolute form; `*` for a server-wide
    /// `OPTIONS`; empty for `CONNECT`.
    pub path: String,
    /// `Host` or `:authority`, or the authority that the target itself names, which takes precedence (RFC 9112
    /// section 3.2.2).
    pub host: Option<String>,
    /// Other headers.
    pub headers: Headers,
    /// Whether the connection persists, as far as this message goes (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// `Expect: 100-continue`.
    pub expect_continue: bool,
    /// `Upgrade`, in lower case.
    pub upgrade: Option<String>,
    /// `model` or `deployment` of the query, as written: where a WebSocket is opened nothing else names it.
    pub model: Option<String>,
}

/// What is taken out of a response's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// Other headers.
    pub headers: Headers,
    /// Whether the connection persists, as far as this message goes.
    pub keep_alive: bool,
    /// Bytes were missing or not understood before this head: responses to earlier requests may have been among
    /// them, so this one answers the latest.
    pub after_loss: bool,
    /// `Upgrade`, in lower case.
    pub upgrade: Option<String>,
    /// `Sec-WebSocket-Extensions`; several lines as one list (RFC 6455 section 11.3.2).
    pub extensions: Option<String>,
}

impl ResponseHead {
    /// Whether the real response is still to come (1xx). Such a response has neither body nor end. `101` is not
    /// one: it is the last response that the connection carries.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// Headers that are let out, the same for both kinds of message. Values are cut at a few hundred bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// `Content-Type` in lower case, without parameters.
    pub content_type: Option<String>,
    /// `Content-Encoding` in lower case; absent for `identity`.
    pub content_encoding: Option<String>,
    /// `Content-Length`.
    pub content_length: Option<u64>,
    /// Whether `chunked` is the last transfer encoding.
    pub chunked: bool,
    /// `traceparent`.
    pub traceparent: Option<String>,
    /// `x-request-id` or `request-id`, whichever comes first.
    pub request_id: Option<String>,
    /// `x-stainless-retry-count`.
    pub retry_count: Option<u32>,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// Whether `Accept` names JSON and event streams, as MCP demands of every request and no other API does.
    pub accepts_both: bool,
    /// Those of [`SIGNALS`] that are there, each name once, in the order of the head.
    pub signals: Vec<(&'static str, String)>,
}

/// Headers that only some wire API reads: counts, times, models and versions, none of them secret. In lower case,
/// sorted.
pub const SIGNALS: &[&str] = &[
    "a2a-version",
    "anthropic-version",
    "apim-request-id",
    "grpc-encoding",
    "grpc-status",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "num-tokens",
    "openai-processing-ms",
    "server",
    "x-amzn-bedrock-cache-read-input-token-count",
    "x-amzn-bedrock-cache-write-input-token-count",
    "x-amzn-bedrock-input-token-count",
    "x-amzn-bedrock-invocation-latency",
    "x-amzn-bedrock-output-token-count",
    "x-amzn-errortype",
    "x-amzn-requestid",
    "x-compute-time",
    "x-envoy-upstream-service-time",
    "x-generated-tokens",
    "x-inference-time",
    "x-kong-upstream-latency",
    "x-metrics-e2e-ms",
    "x-metrics-mean-itl-ms",
    "x-metrics-ttft-ms",
    "x-ms-served-model",
    "x-prompt-tokens",
    "x-queue-time",
    "x-time-per-token",
    "x-total-time",
    "x-total-tokens",
    "x-validation-time",
];

impl Headers {
    /// Takes a header line if it is on the allow-list, whatever the case of its name. `Content-Length` and what frames
    /// a body are the business of the version of HTTP.
    pub fn take(&mut self, name: &str, bytes: &[u8]) {
        let is = |expect: &str| name.eq_ignore_ascii_case(expect);
        // By length first: most header lines are none of these.
        match name.len() {
            6 if is("accept") => {
                let types = lower(text(bytes));
                self.accepts_both |= types.contains("application/json") && types.contains("text/event-stream");
            }
            10 if is("user-agent") => first(&mut self.user_agent, value(bytes)),
            10 if is("request-id") => first(&mut self.request_id, value(bytes)),
            11 if is("traceparent") => first(&mut self.traceparent, value(bytes)),
            12 if is("x-request-id") => first(&mut self.request_id, value(bytes)),
            12 if is("content-type") => {
                let full = lower(text(bytes));
                let essence = full.split(';').next().unwrap_or_default().trim();
                first(&mut self.content_type, (!essence.is_empty()).then(|| essence.to_string()));
            }
            16 if is("content-encoding") => self.encoding(bytes),
            23 if is("x-stainless-retry-count") => {
                first(&mut self.retry_count, text(bytes).trim().parse().ok());
            }
            _ => self.signal(name, bytes),
        }
    }

    /// The value of one of [`SIGNALS`].
    pub fn signal_of(&self, name: &str) -> Option<&str> {
        self.signals.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    fn signal(&mut self, name: &str, bytes: &[u8]) {
        let found = SIGNALS.iter().find(|known| known.eq_ignore_ascii_case(name));
        if let Some(known) = found
            && self.signal_of(known).is_none()
            && let Some(value) = value(bytes)
        {
            self.signals.push((known, value));
        }
    }

    fn encoding(&mut self, bytes: &[u8]) {
        for item in items(bytes).filter(|item| !item.eq_ignore_ascii_case(b"identity")) {
            let encoding = lower(text(item));
            match &mut self.content_encoding {
                None => self.content_encoding = Some(encoding),
                Some(before) if before.len() + encoding.len() < MAX_VALUE => *before += &format!(", {encoding}"),
                Some(_) => {}
            }
        }
    }
}

/// The names that [`Headers::take`] takes, besides [`SIGNALS`].
const TAKEN: [&str; 8] = [
    "accept",
    "content-encoding",
    "content-type",
    "request-id",
    "traceparent",
    "user-agent",
    "x-request-id",
    "x-stainless-retry-count",
];

/// The name on the allow-list that `name`, in lower case, is.
pub(crate) fn listed(name: &[u8]) -> Option<&'static str> {
    TAKEN.iter().chain(SIGNALS).find(|listed| listed.as_bytes() == name).copied()
}

/// An authority without user name and password, which are credentials.
pub(crate) fn host(authority: &str) -> Option<String> {
    let host = authority.rsplit('@').next().unwrap_or_default().trim();
    (!host.is_empty()).then(|| cut(host, MAX_VALUE))
}

/// A request target without query and fragment, which may carry keys.
pub(crate) fn path(target: &str) -> String {
    cut(target.split(['?', '#']).next().unwrap_or_default(), MAX_PATH)
}

/// Members of a query that name a model: OpenAI's and Azure's.
const MODELS: [&str; 2] = ["model", "deployment"];

/// The model that a request target's query names. Nothing else of a query is let out.
pub(crate) fn model(target: &str) -> Option<String> {
    let (_, query) = target.split('#').next()?.split_once('?')?;
    let mut members = query.split('&').filter_map(|member| member.split_once('='));
    let (_, model) = members.find(|(name, model)| MODELS.contains(name) && !model.is_empty())?;
    Some(cut(model, MAX_VALUE))
}

/// The elements of a comma-separated list (RFC 9110 section 5.6.1).
pub(crate) fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Keeps the first value of a header that comes twice.
pub(crate) fn first<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

/// A value within its bound; absent when empty.
pub(crate) fn value(bytes: &[u8]) -> Option<String> {
    let value = text(bytes);
    (!value.is_empty()).then_some(value)
}

/// A value within its bound, as text.
pub(crate) fn text(value: &[u8]) -> String {
    cut(&String::from_utf8_lossy(&value[..value.len().min(MAX_VALUE)]), MAX_VALUE)
}

/// In lower case.
pub(crate) fn lower(mut text: String) -> String {
    text.make_ascii_lowercase();
    text
}

/// At most `max` bytes, cut at a character's border.
pub(crate) fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_sorted_lower_case_and_no_credentials() {
        assert!(SIGNALS.is_sorted());
        for name in SIGNALS {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
            assert!(["auth", "key", "cookie", "secret"].iter().all(|word| !name.contains(word)), "{name}");
        }
    }

    #[test]
    fn what_is_listed_is_what_is_taken() {
        for name in TAKEN.iter().chain(SIGNALS) {
            let mut headers = Headers::default();
            headers.take(name, if *name == "accept" { b"application/json, text/event-stream" } else { b"1" });
            assert_ne!(headers, Headers::default(), "{name}");
            assert_eq!(listed(name.as_bytes()), Some(*name));
        }
        for name in ["authorization", "x-api-key", "cookie", "content-length", "host", "User-Agent", ""] {
            assert_eq!(listed(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn of_a_query_only_the_model_is_told() {
        for (target, expect) in [
            ("/v1/realtime?model=gpt-realtime", Some("gpt-realtime")),
            ("/openai/realtime?api-version=1&deployment=d%201&api-key=canary", Some("d%201")),
            ("/v1/realtime?key=canary", None),
            ("/v1/realtime?model=", None),
            ("/v1/realtime?modelx=a&xmodel=b", None),
            ("/v1/realtime#?model=canary", None),
            ("/v1/realtime", None),
        ] {
            assert_eq!(model(target).as_deref(), expect, "{target}");
        }
        assert_eq!(model(&format!("/?model={}", "x".repeat(1_000))).map(|model| model.len()), Some(MAX_VALUE));
    }

    #[test]
    fn of_accept_only_a_pair_is_told() {
        let of = |value: &[u8]| {
            let mut headers = Headers::default();
            headers.take("Accept", value);
            headers.accepts_both
        };
        assert!(of(b"application/json, text/event-stream") && of(b"text/event-stream;q=0.5,Application/JSON"));
        assert!(!of(b"application/json") && !of(b"*/*"));
    }

    #[test]
    fn a_signal_is_taken_once_whatever_its_case() {
        let mut headers = Headers::default();
        headers.take("X-AMZN-Bedrock-Input-Token-Count", b"7");
        headers.take("x-amzn-bedrock-input-token-count", b"8");
        headers.take("Authorization", b"Bearer canary");
        assert_eq!(headers.signals, [("x-amzn-bedrock-input-token-count", "7".to_owned())]);
    }
}
