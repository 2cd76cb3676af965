//! The shapes of credentials that have a fixed beginning, and the classes of characters that they are made of.

/// A class of bytes. All classes are ASCII, so that the ends of a run are character boundaries.
pub(super) type Class = fn(u8) -> bool;

/// How a credential looks.
pub(super) struct Shape {
    /// Fixed beginning.
    pub(super) prefix: &'static str,
    /// What is written in its place: `[REDACTED:<kind>]`.
    pub(super) kind: &'static str,
    /// Characters that follow the prefix.
    pub(super) class: Class,
    /// Fewest characters after the prefix. Below the real length, so that a key which was cut off goes too.
    pub(super) min: usize,
    /// Whether the beginning is short enough to be a word's, or to end one: then it must not continue a word
    /// (`task-…` ends in `sk-`), and a digit must follow.
    pub(super) edge: bool,
}

const fn shape(prefix: &'static str, kind: &'static str, class: Class, min: usize) -> Shape {
    Shape { prefix, kind, class, min, edge: false }
}

const fn edge(prefix: &'static str, kind: &'static str, class: Class, min: usize) -> Shape {
    Shape { prefix, kind, class, min, edge: true }
}

/// Most specific first: at one place in the text the first row whose prefix fits is taken.
pub(super) const SHAPES: &[Shape] = &[
    // Model providers and what stands around them.
    shape("sk-ant-", "anthropic", token, 16),
    shape("sk-proj-", "openai", token, 16),
    shape("sk-svcacct-", "openai", token, 16),
    shape("sk-admin-", "openai", token, 16),
    shape("sk-or-v1-", "openrouter", alnum, 16),
    shape("sk-lf-", "langfuse", token, 16),
    shape("pk-lf-", "langfuse", token, 16),
    edge("sess-", "openai", alnum, 32),
    shape("AIza", "google", token, 30),
    shape("ya29.", "google", dotted, 20),
    shape("GOCSPX-", "google", token, 20),
    shape("ABSK", "bedrock", base64, 40),
    shape("bedrock-api-key-", "bedrock", base64, 16),
    edge("hf_", "huggingface", alnum, 30),
    shape("pplx-", "perplexity", alnum, 32),
    shape("gsk_", "groq", alnum, 30),
    edge("xai-", "xai", alnum, 30),
    shape("nvapi-", "nvidia", token, 30),
    edge("csk-", "cerebras", alnum, 40),
    edge("fw_", "fireworks", alnum, 20),
    shape("tgp_v1_", "together", token, 30),
    edge("r8_", "replicate", alnum, 30),
    edge("pa-", "voyage", token, 40),
    shape("jina_", "jina", alnum, 40),
    shape("tvly-", "tavily", token, 20),
    shape("lsv2_", "langsmith", token, 30),
    shape("pcsk_", "pinecone", token, 30),
    edge("e2b_", "e2b", hex, 40),
    // Clouds.
    shape("AKIA", "aws", upper, 16),
    shape("ASIA", "aws", upper, 16),
    edge("dapi", "databricks", hex, 32),
    shape("dop_v1_", "digitalocean", hex, 40),
    shape("hvs.", "vault", token, 20),
    // Repositories and registries.
    shape("github_pat_", "github", token, 20),
    shape("ghp_", "github", alnum, 30),
    shape("gho_", "github", alnum, 30),
    shape("ghu_", "github", alnum, 30),
    shape("ghs_", "github", alnum, 30),
    shape("ghr_", "github", alnum, 30),
    shape("glpat-", "gitlab", token, 16),
    edge("npm_", "npm", alnum, 30),
    shape("pypi-AgE", "pypi", token, 20),
    shape("dckr_pat_", "docker", token, 20),
    // Services that tools call.
    shape("xoxb-", "slack", token, 10),
    shape("xoxp-", "slack", token, 10),
    shape("xoxa-", "slack", token, 10),
    shape("xoxr-", "slack", token, 10),
    shape("xoxs-", "slack", token, 10),
    shape("xoxe-", "slack", token, 10),
    shape("xoxe.xox", "slack", token, 10),
    shape("xapp-", "slack", token, 10),
    shape("hooks.slack.com/services/", "slack", path, 20),
    shape("discord.com/api/webhooks/", "discord", path, 20),
    shape("sk_live_", "stripe", alnum, 10),
    shape("sk_test_", "stripe", alnum, 10),
    shape("rk_live_", "stripe", alnum, 10),
    shape("rk_test_", "stripe", alnum, 10),
    edge("sk_", "elevenlabs", hex, 40),
    shape("whsec_", "stripe", base64, 20),
    edge("SG.", "sendgrid", dotted, 40),
    shape("shpat_", "shopify", hex, 30),
    shape("shpss_", "shopify", hex, 30),
    shape("lin_api_", "linear", alnum, 30),
    edge("ntn_", "notion", alnum, 40),
    edge("secret_", "notion", alnum, 40),
    shape("sntrys_", "sentry", dotted, 30),
    shape("glsa_", "grafana", token, 30),
    shape("NRAK-", "newrelic", upper, 20),
    shape("AGE-SECRET-KEY-1", "age", upper, 20),
    // In headers that somebody pasted.
    edge("Bearer ", "bearer", bearer, 20),
    edge("bearer ", "bearer", bearer, 20),
    edge("Basic ", "basic", base64, 16),
];

/// Begins the keys of OpenAI's first format, of DeepSeek (32 hexadecimal digits), of LiteLLM and of many that copied
/// them; which, the rest decides.
pub(super) const GENERIC_PREFIX: &str = "sk-";
/// In the middle of every OpenAI key of every format.
pub(super) const OPENAI_MARK: &str = "T3BlbkFJ";
/// In an Azure client secret, after three characters and a digit.
pub(super) const AZURE_MARK: &str = "Q~";
/// In the token of a Telegram bot, after its id.
pub(super) const TELEGRAM_MARK: &str = ":AA";
/// `{"` in base64: the header of a JSON web token.
pub(super) const JWT_START: &str = "eyJ";
pub(super) const PEM_START: &str = "-----BEGIN ";
/// A character that was escaped in JSON without need, which hides the shape of what it stands in.
pub(super) const ESCAPED: &str = "\\u00";

/// What besides [`SHAPES`] has a fixed part that can be searched for, in the order of precedence.
pub(super) const MARKS: [&str; 7] =
    [GENERIC_PREFIX, OPENAI_MARK, AZURE_MARK, TELEGRAM_MARK, JWT_START, PEM_START, ESCAPED];

pub(super) fn alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

pub(super) fn token(b: u8) -> bool {
    alnum(b) || matches!(b, b'_' | b'-')
}

/// Of a JSON web token, and of what else has parts with dots between.
pub(super) fn dotted(b: u8) -> bool {
    token(b) || b == b'.'
}

pub(super) fn path(b: u8) -> bool {
    token(b) || b == b'/'
}

pub(super) fn upper(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit()
}

pub(super) fn hex(b: u8) -> bool {
    b.is_ascii_hexdigit()
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

/// The value of a URL's parameter.
pub(super) fn parameter(b: u8) -> bool {
    b.is_ascii_graphic() && !matches!(b, b'&' | b'#' | b'"' | b'\'' | b'<' | b'>' | b')' | b'\\' | b'`')
}

/// A password or key that something is set to, as far as it can be told from code.
pub(super) fn assigned(b: u8) -> bool {
    b.is_ascii_graphic() && !b"\"'`<>,;&|\\(){}[]".contains(&b)
}

/// User name and password in a URL.
pub(super) fn userinfo(b: u8) -> bool {
    b.is_ascii_graphic() && !b"/?#\"'`<>\\,".contains(&b)
}
