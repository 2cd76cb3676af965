//! Sampling parameters as the engines' own APIs spell them.

use crate::{
    llm::{facts::RequestFacts, openai::stop_sequence, value},
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Takes one parameter; `rest` is the path from the object that holds them. A value that is none leaves what was there.
pub(crate) fn parameter(rest: &[Step<'_>], token: Token<'_>, request: &mut RequestFacts) {
    let key = match rest {
        [Key("stop")] | [Key("stop"), Index(_)] => return stop_sequence(token, request),
        [Key(key)] => *key,
        _ => return,
    };
    match key {
        // llama.cpp; Ollama; SGLang, TGI; vLLM, Triton; LM Studio. Negative numbers stand for "no limit".
        "n_predict" | "num_predict" | "max_new_tokens" | "max_tokens" | "max_output_tokens" => {
            request.max_tokens = value::count(token).or(request.max_tokens);
        }
        "temperature" => request.temperature = value::float(token).or(request.temperature),
        "top_p" => request.top_p = value::float(token).or(request.top_p),
        "top_k" => request.top_k = value::float(token).or(request.top_k),
        "frequency_penalty" => request.frequency_penalty = value::float(token).or(request.frequency_penalty),
        "presence_penalty" => request.presence_penalty = value::float(token).or(request.presence_penalty),
        "seed" => request.seed = value::integer(token).or(request.seed),
        "n" => request.choice_count = value::count(token).or(request.choice_count),
        "stream" => request.stream = value::boolean(token).or(request.stream),
        _ => {}
    }
}
