//! Sampling parameters as the engines' own APIs spell them.

use super::{facts::RequestFacts, value};
use crate::protocol::json::Token;

/// Takes one parameter. A value that is none leaves what was there.
pub(crate) fn parameter(key: &str, token: Token<'_>, request: &mut RequestFacts) {
    match key {
        // llama.cpp and Ollama; SGLang, TGI; vLLM, Triton; LM Studio. Negative numbers stand for "no limit".
        "n_predict" | "num_predict" | "max_new_tokens" | "max_tokens" | "max_output_tokens" => {
            request.max_tokens = value::count(token).or(request.max_tokens);
        }
        "temperature" => request.temperature = value::float(token).or(request.temperature),
        "top_p" => request.top_p = value::float(token).or(request.top_p),
        "frequency_penalty" => request.frequency_penalty = value::float(token).or(request.frequency_penalty),
        "presence_penalty" => request.presence_penalty = value::float(token).or(request.presence_penalty),
        "seed" | "random_seed" => request.seed = value::integer(token).or(request.seed),
        "n" => request.choice_count = value::count(token).or(request.choice_count),
        "stream" => {
            if let Token::Bool(stream) = token {
                request.stream = Some(stream);
            }
        }
        _ => {}
    }
}
