//! Made-up credentials of every shape for tests, with the kind that each must get. They are put together at run time,
//! so that scanners for leaked keys do not take this file for a leak.

/// One made-up credential.
pub(crate) struct Canary {
    /// The whole of it.
    pub(crate) text: String,
    /// What it must be called.
    pub(crate) kind: &'static str,
    /// How much of its beginning is public: every key of this kind begins so.
    pub(crate) public: usize,
}

impl Canary {
    /// A part of the secret that is long enough to be of use to somebody and that is in `text`, if one is.
    pub(crate) fn leak<'t>(&'t self, text: &str) -> Option<&'t str> {
        const LEN: usize = 8;
        let secret = self.text.get(self.public..).unwrap_or_default();
        (0..secret.len().saturating_sub(LEN - 1)).map(|at| &secret[at..at + LEN]).find(|part| text.contains(part))
    }
}

fn fill(n: usize) -> String {
    "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0z".chars().cycle().take(n).collect()
}

fn hex(n: usize) -> String {
    "0123456789abcdef".chars().cycle().take(n).collect()
}

fn capitals(n: usize) -> String {
    "ABCDEFGHIJKLMNOP2345".chars().cycle().take(n).collect()
}

/// One of each shape.
pub(crate) fn canaries() -> Vec<Canary> {
    let of =
        |prefix: &str, secret: String, kind| Canary { text: format!("{prefix}{secret}"), kind, public: prefix.len() };
    let mut all = vec![
        of("sk-", format!("{}T3BlbkFJ{}", fill(20), fill(20)), "openai"),
        of("sk-", format!("team-{}T3BlbkFJ{}", fill(20), fill(20)), "openai"),
        of("sk-proj-", format!("{}_-{}T3BlbkFJ{}", fill(30), fill(30), fill(60)), "openai"),
        of("sk-svcacct-", fill(100), "openai"),
        of("sk-admin-", fill(100), "openai"),
        of("sess-", fill(40), "openai"),
        of("sk-ant-api03-", format!("{}-{}AA", fill(60), fill(32)), "anthropic"),
        of("sk-ant-admin01-", format!("{}AA", fill(93)), "anthropic"),
        of("AIza", fill(35), "google"),
        of("ya29.", format!("a0{}.{}", fill(60), fill(40)), "google"),
        of("GOCSPX-", fill(28), "google"),
        of("AKIA", capitals(16), "aws"),
        of("ASIA", capitals(16), "aws"),
        of("ABSK", format!("{}=", fill(120)), "bedrock"),
        of("bedrock-api-key-", format!("{}==", fill(1_500)), "bedrock"),
        of("", format!("{}7Q~{}", fill(3), fill(34)), "azure"),
        of("hf_", fill(34), "huggingface"),
        of("pplx-", fill(48), "perplexity"),
        of("ghp_", fill(36), "github"),
        of("github_pat_", format!("{}_{}", fill(22), fill(59)), "github"),
        of("glpat-", fill(20), "gitlab"),
        of("eyJ", format!("{}.eyJ{}.{}", fill(33), fill(80), fill(43)), "jwt"),
        of("eyJ", format!("{}.eyJ{}.{}", fill(4_000), fill(80), fill(43)), "jwt"),
        of("gsk_", fill(52), "groq"),
        of("xai-", fill(80), "xai"),
        of("sk-or-v1-", hex(64), "openrouter"),
        of("nvapi-", format!("{}-{}", fill(30), fill(30)), "nvidia"),
        of("csk-", fill(48), "cerebras"),
        of("fw_", fill(24), "fireworks"),
        of("tgp_v1_", fill(43), "together"),
        of("r8_", fill(37), "replicate"),
        of("pa-", fill(43), "voyage"),
        of("jina_", fill(60), "jina"),
        of("tvly-", fill(32), "tavily"),
        of("lsv2_pt_", format!("{}_{}", hex(32), hex(10)), "langsmith"),
        of("pcsk_", format!("{}_{}", fill(6), fill(60)), "pinecone"),
        of("sk_", hex(48), "elevenlabs"),
        of("sk-", hex(32), "deepseek"),
        of("sk-", fill(48), "api_key"),
        of("sk-", format!("{}-{}", fill(10), fill(11)), "api_key"),
        of("sk-lf-", format!("{0}-{0}", hex(12)), "langfuse"),
        of("pk-lf-", format!("{0}-{0}", hex(12)), "langfuse"),
        of("dapi", hex(32), "databricks"),
        of("dop_v1_", hex(64), "digitalocean"),
        of("hvs.", fill(90), "vault"),
        of("npm_", fill(36), "npm"),
        of("pypi-AgE", fill(150), "pypi"),
        of("dckr_pat_", fill(27), "docker"),
        of("xoxb-", format!("{}-{}", "123456789012", fill(24)), "slack"),
        of("xoxe.xox", format!("b-1-{}", fill(100)), "slack"),
        of("hooks.slack.com/services/", format!("T{}/B{}/{}", capitals(8), capitals(8), fill(24)), "slack"),
        of("discord.com/api/webhooks/", format!("123456789012345678/{}", fill(68)), "discord"),
        of("sk_live_", fill(24), "stripe"),
        of("rk_test_", fill(24), "stripe"),
        of("whsec_", fill(32), "stripe"),
        of("SG.", format!("{}.{}", fill(22), fill(43)), "sendgrid"),
        of("shpat_", hex(32), "shopify"),
        of("lin_api_", fill(40), "linear"),
        of("ntn_", fill(46), "notion"),
        of("sntrys_", fill(60), "sentry"),
        of("glsa_", format!("{}_{}", fill(32), hex(8)), "grafana"),
        of("NRAK-", capitals(27), "newrelic"),
        of("AGE-SECRET-KEY-1", capitals(58), "age"),
        of("123456789:AA", fill(33), "telegram"),
        of("Bearer ", fill(40), "bearer"),
        of("Basic ", format!("{}==", fill(30)), "basic"),
    ];
    all.push(of("e2b_", hex(40), "e2b"));
    all.push(of("secret_", fill(43), "notion"));
    all.push(of("shpss_", hex(32), "shopify"));
    all.extend(["gho_", "ghu_", "ghs_", "ghr_"].map(|prefix| of(prefix, fill(36), "github")));
    all.extend(["xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe-", "xapp-"].map(|prefix| of(prefix, fill(40), "slack")));
    all.extend(["sk_test_", "rk_live_"].map(|prefix| of(prefix, fill(24), "stripe")));
    all.push(of("bearer ", fill(40), "bearer"));
    for (label, newline) in [("RSA PRIVATE KEY", "\n"), ("PRIVATE KEY", "\\n"), ("OPENSSH PRIVATE KEY", "\r\n")] {
        let body = vec![fill(64); 30].join(newline);
        let head = format!("-----BEGIN {label}-----");
        all.push(of(&head, format!("{newline}{body}{newline}-----END {label}-----"), "private_key"));
    }
    all
}
