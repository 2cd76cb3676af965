//! Which engine serves an API that many serve, where the bytes give it away.
//!
//! Owns the marks: members of a body and a header that one engine writes and no other. A host that is known says more
//! and is asked first; an engine that shows no mark goes by the name of the API.
//!
//! To add an engine: an arm in [`of_member`] for each mark, and a test that shows a body of it.

pub(crate) mod llamacpp;
pub(crate) mod lmstudio;
pub(crate) mod ollama;
pub(crate) mod ollama_request;
pub(crate) mod sampling;
pub(crate) mod sglang;
pub(crate) mod single;
pub(crate) mod tgi;
pub(crate) mod triton;
pub(crate) mod vllm;

use crate::protocol::json::{
    Step::{self, Index, Key},
    Token,
};

/// `gen_ai.provider.name` of the engines; the conventions have no values for them.
pub(crate) const VLLM: &str = "vllm";
pub(crate) const SGLANG: &str = "sglang";
pub(crate) const OLLAMA: &str = "ollama";
pub(crate) const LLAMA_CPP: &str = "llama_cpp";
pub(crate) const TGI: &str = "tgi";
pub(crate) const TRITON: &str = "triton";
pub(crate) const LM_STUDIO: &str = "lm_studio";

/// The engine that `Server` names. Most say only which HTTP library they use.
pub(crate) fn of_server(server: &str) -> Option<&'static str> {
    server.eq_ignore_ascii_case("llama.cpp").then_some(LLAMA_CPP)
}

/// The engine that a member of an OpenAI-shaped response is the mark of.
pub(crate) fn of_member(path: &[Step<'_>], token: Token<'_>) -> Option<&'static str> {
    match (path, token) {
        ([Key("system_fingerprint")], Token::String { text, .. }) => of_fingerprint(text),
        ([Key("timings")], Token::ObjectStart) => Some(LLAMA_CPP),
        ([Key("prompt_logprobs" | "kv_transfer_params")], _)
        | ([Key("metrics"), Key("mean_itl_ms")], _)
        | ([Key("choices"), Index(_), Key("stop_reason" | "token_ids")], _) => Some(VLLM),
        ([Key("choices"), Index(_), Key("matched_stop")], _) | ([Key("metadata"), Key("weight_version")], _) => {
            Some(SGLANG)
        }
        ([Key("stats"), Key("time_to_first_token")], _) | ([Key("model_info"), Key("quant")], _) => Some(LM_STUDIO),
        _ => None,
    }
}

/// The engine whose way it is to write its version like this.
fn of_fingerprint(text: &str) -> Option<&'static str> {
    let is_hex = |text: &str| text.len() >= 7 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if text == "fp_ollama" {
        return Some(OLLAMA);
    }
    if text.starts_with("vllm-") {
        return Some(VLLM);
    }
    // b5432-1a2b3c4d: number and commit of the build.
    if let Some((build, commit)) = text.strip_prefix('b').and_then(|rest| rest.split_once('-'))
        && is_number(build)
        && is_hex(commit)
    {
        return Some(LLAMA_CPP);
    }
    // 3.3.4-sha-1a2b3c4, 3.3.4-dev0-native: version and label of the image.
    let (version, label) = text.split_once('-')?;
    let is_version = version.contains('.') && version.split('.').all(is_number);
    (is_version && (label.starts_with("sha-") || label.ends_with("native"))).then_some(TGI)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints() {
        for (text, expect) in [
            ("fp_ollama", Some(OLLAMA)),
            ("b5432-1a2b3c4d", Some(LLAMA_CPP)),
            ("3.3.4-sha-1a2b3c4", Some(TGI)),
            ("3.3.4-dev0-native", Some(TGI)),
            ("vllm-0.33.0-tp1-1a2b3c4d", Some(VLLM)),
            ("fp_44709d6fcb", None),
            ("b1-", None),
            ("bad-cafe123", None),
            ("2024-native", None),
            ("", None),
        ] {
            assert_eq!(of_fingerprint(text), expect, "{text}");
        }
        assert_eq!((of_server("llama.cpp"), of_server("uvicorn")), (Some(LLAMA_CPP), None));
    }
}
