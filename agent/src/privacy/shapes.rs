//! The shapes of credentials.

/// How a credential looks.
pub(super) struct Shape {
    /// Fixed beginning.
    pub(super) prefix: &'static str,
    /// What is written in its place: `[REDACTED:<kind>]`.
    pub(super) kind: &'static str,
    /// Characters that follow the prefix.
    pub(super) class: fn(u8) -> bool,
    /// Fewest characters after the prefix. Below the real length, so that a key which was cut off goes too.
    pub(super) min: usize,
    /// Whether the prefix must not continue a word: `task-…` ends in `sk-`.
    pub(super) edge: bool,
}

const fn shape(prefix: &'static str, kind: &'static str, class: fn(u8) -> bool, min: usize) -> Shape {
    Shape { prefix, kind, class, min, edge: false }
}

const fn edge(prefix: &'static str, kind: &'static str, class: fn(u8) -> bool, min: usize) -> Shape {
    Shape { prefix, kind, class, min, edge: true }
}

/// Most specific first: at one place in the text the first row whose prefix fits is taken.
pub(super) const SHAPES: &[Shape] = &[
    shape("sk-ant-", "anthropic", token, 16),
    shape("sk-proj-", "openai", token, 16),
    shape("sk-svcacct-", "openai", token, 16),
    shape("sk-admin-", "openai", token, 16),
    shape("sk-or-v1-", "openrouter", alnum, 16),
    shape("sk-lf-", "langfuse", token, 16),
    shape("pk-lf-", "langfuse", token, 16),
    // DeepSeek (32 hex digits), OpenAI's first format (48) and many that copied it.
    edge("sk-", "api_key", alnum, 32),
    shape("AIza", "google", token, 30),
    shape("AKIA", "aws", upper, 16),
    shape("ASIA", "aws", upper, 16),
    shape("ABSK", "bedrock", base64, 40),
    shape("bedrock-api-key-", "bedrock", base64, 16),
    edge("hf_", "huggingface", alnum, 30),
    shape("pplx-", "perplexity", alnum, 32),
    shape("github_pat_", "github", token, 20),
    shape("ghp_", "github", alnum, 30),
    shape("gho_", "github", alnum, 30),
    shape("ghu_", "github", alnum, 30),
    shape("ghs_", "github", alnum, 30),
    shape("ghr_", "github", alnum, 30),
    shape("gsk_", "groq", alnum, 30),
    edge("xai-", "xai", alnum, 30),
    shape("nvapi-", "nvidia", token, 30),
    edge("Bearer ", "bearer", bearer, 20),
    edge("bearer ", "bearer", bearer, 20),
];

/// In the middle of every OpenAI key of every format.
pub(super) const OPENAI_MARK: &str = "T3BlbkFJ";
/// In an Azure client secret, after three characters and a digit.
pub(super) const AZURE_MARK: &str = "Q~";
/// `{"` in base64: the header of a JSON web token.
pub(super) const JWT_START: &str = "eyJ";
pub(super) const PEM_START: &str = "-----BEGIN ";
pub(super) const PEM_END: &str = "-----END ";

/// URL parameters that carry credentials; the value goes, the name stays.
pub(super) const QUERY: &str = concat!(
    r"(?i-u)[?&](?:key|api[_-]?key|access_token|client_secret|sig|signature",
    r"|x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential))=",
);

/// Fewest characters of a URL parameter's value: shorter ones are examples in prose.
pub(super) const QUERY_MIN: usize = 6;

pub(super) fn alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

pub(super) fn token(b: u8) -> bool {
    alnum(b) || matches!(b, b'_' | b'-')
}

pub(super) fn upper(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit()
}

pub(super) fn base64(b: u8) -> bool {
    alnum(b) || matches!(b, b'+' | b'/' | b'=')
}

pub(super) fn azure(b: u8) -> bool {
    token(b) || matches!(b, b'~' | b'.')
}

pub(super) fn bearer(b: u8) -> bool {
    base64(b) || matches!(b, b'.' | b'_' | b'~' | b'-')
}

pub(super) fn query_value(b: u8) -> bool {
    b.is_ascii_graphic() && !matches!(b, b'&' | b'#' | b'"' | b'\'' | b'<' | b'>' | b')' | b'\\' | b'`')
}
