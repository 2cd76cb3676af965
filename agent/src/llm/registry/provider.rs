//! `gen_ai.provider.name` from the host that was called.
//!
//! The name says whose flavour of telemetry it is, not who owns the weights. A host that is not known (a local
//! engine, a proxy) leaves it to the API; it never speaks against a match.

/// Domains whose every host is one provider.
const DOMAINS: &[(&str, &str)] = &[
    ("api.openai.com", "openai"),
    ("openai.azure.com", "azure.ai.openai"),
    ("cognitiveservices.azure.com", "azure.ai.openai"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "x_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("chatgpt.com", "openai"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    // No standard value from here on.
    ("openrouter.ai", "openrouter"),
    ("api.together.xyz", "together_ai"),
    ("api.together.ai", "together_ai"),
    ("api.voyageai.com", "voyage_ai"),
    ("api.jina.ai", "jina_ai"),
    ("api.fireworks.ai", "fireworks_ai"),
    ("integrate.api.nvidia.com", "nvidia"),
    ("dashscope.aliyuncs.com", "alibaba_cloud"),
    ("dashscope-intl.aliyuncs.com", "alibaba_cloud"),
    ("api.githubcopilot.com", "github_copilot"),
    ("api.cerebras.ai", "cerebras"),
    ("router.huggingface.co", "hugging_face"),
    ("api.z.ai", "z_ai"),
    ("ollama.com", "ollama"),
];

/// The provider behind `host`; absent for a host that says nothing.
pub(crate) fn provider(host: Option<&str>, path: &str) -> Option<&'static str> {
    let host = host.map(name_of).filter(|host| !host.is_empty())?;
    if let Some((_, name)) = DOMAINS.iter().find(|(domain, _)| is_within(&host, domain)) {
        return Some(name);
    }
    let regional = |prefix: &str, suffix: &str| host.starts_with(prefix) && host.ends_with(suffix);
    Some(match host.as_str() {
        // One resource serves both: the OpenAI endpoints and, under /models/, the model catalogue.
        host if is_within(host, "services.ai.azure.com") => match path.split('/').any(|part| part == "models") {
            true => "azure.ai.inference",
            false => "azure.ai.openai",
        },
        host if host.ends_with("-aiplatform.googleapis.com") => "gcp.vertex_ai",
        _ if regional("aiplatform.", ".rep.googleapis.com") => "gcp.vertex_ai",
        _ if regional("bedrock-runtime", ".amazonaws.com") || regional("bedrock-runtime", ".amazonaws.com.cn") => {
            "aws.bedrock"
        }
        _ if regional("bedrock-mantle.", ".api.aws") => "aws.bedrock",
        _ => return None,
    })
}

/// Whether a host is a provider's.
pub(crate) fn is_provider(host: &str) -> bool {
    provider(Some(host), "/").is_some()
}

/// The name in a `Host` header: without port and final dot, in lower case.
fn name_of(host: &str) -> String {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    host.trim().trim_end_matches('.').to_ascii_lowercase()
}

fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, path: &str, expect: &str) {
        assert_eq!(provider(Some(host), path).unwrap_or("openai"), expect, "{host}{path}");
    }

    #[test]
    fn hosts_of_the_table() {
        check("api.openai.com", "/v1/chat/completions", "openai");
        check("eu.api.openai.com:443", "/v1/chat/completions", "openai");
        check("my.openai.azure.com", "/openai/deployments/x/chat/completions", "azure.ai.openai");
        check("my.services.ai.azure.com", "/models/chat/completions", "azure.ai.inference");
        check("my.services.ai.azure.com", "/openai/v1/chat/completions", "azure.ai.openai");
        check("API.Mistral.AI.", "/v1/chat/completions", "mistral_ai");
        check("bedrock-mantle.us-east-1.api.aws", "/v1/chat/completions", "aws.bedrock");
        check("us-central1-aiplatform.googleapis.com", "/x", "gcp.vertex_ai");
        check("openrouter.ai", "/api/v1/chat/completions", "openrouter");
    }

    #[test]
    fn unknown_hosts_get_the_api_s_name() {
        for host in ["localhost:8000", "127.0.0.1:8080", "[::1]:8000", "vllm.internal", "notapi.openai.com.evil", ""] {
            check(host, "/v1/chat/completions", "openai");
        }
        check("xapi.groq.com", "/v1/chat/completions", "openai");
        assert_eq!(provider(None, "/"), None);
        assert!(is_provider("api.anthropic.com") && !is_provider("vllm.internal"));
    }
}
