//! Token log-probabilities that came with an answer.
//!
//! Owns where they stand: the places are told by their names, which no two APIs use differently. A place that repeats
//! what came before (the last event of a stream holds the whole answer) changes neither mean nor minimum.
//!
//! To add an API: its path to [`place`].

use crate::{
    llm::value,
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// What a value is.
enum Place {
    /// Natural logarithm of one token's probability.
    Token,
    /// The mean over the answer, which the server computed.
    Mean,
}

fn place(path: &[Step<'_>]) -> Option<Place> {
    Some(match path {
        // OpenAI chat, and completions.
        [Key("choices"), Index(_), Key("logprobs"), Key("content" | "refusal"), Index(_), Key("logprob")]
        | [Key("choices"), Index(_), Key("logprobs"), Key("token_logprobs"), Index(_)]
        // Responses: the events of a stream, and the answer; Ollama.
        | [Key("logprobs"), Index(_), Key("logprob")]
        | [Key("output"), Index(_), Key("content"), Index(_), Key("logprobs"), Index(_), Key("logprob")]
        // llama.cpp; TGI's stream and answer.
        | [Key("completion_probabilities"), Index(_), Key("logprob")]
        | [Key("token"), Key("logprob")]
        | [Key("details"), Key("tokens"), Index(_), Key("logprob")] => Place::Token,
        [Key("candidates"), Index(_), Key("avgLogprobs")] => Place::Mean,
        _ => return None,
    })
}

/// Log-probabilities of one answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Logprobs {
    count: u64,
    sum: f64,
    min: Option<f64>,
    mean: Option<f64>,
}

impl Logprobs {
    /// Takes a value of the response.
    pub fn take(&mut self, path: &[Step<'_>], token: Token<'_>) {
        if !matches!(token, Token::Number(_)) {
            return;
        }
        // The logarithm of a probability is never positive; some servers write -9999 for one that was not computed.
        let Some(place) = place(path) else { return };
        let Some(value) = value::float(token).filter(|value| (-1000.0..=0.0).contains(value)) else { return };
        match place {
            Place::Token => {
                self.count = self.count.saturating_add(1);
                self.sum += value;
                self.min = Some(self.min.map_or(value, |min| min.min(value)));
            }
            Place::Mean => self.mean = Some(value),
        }
    }

    /// Mean over the answer's tokens.
    pub fn mean(&self) -> Option<f64> {
        let own = (self.count > 0).then(|| self.sum / self.count as f64);
        own.or(self.mean)
    }

    /// The least likely token's.
    pub fn min(&self) -> Option<f64> {
        self.min
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::json::Scanner;

    fn of(documents: &[Value]) -> (Option<f64>, Option<f64>) {
        let mut logprobs = Logprobs::default();
        for document in documents {
            Scanner::new(9).push(document.to_string().as_bytes(), &mut |path, token| logprobs.take(path, token));
        }
        (logprobs.mean(), logprobs.min())
    }

    #[test]
    fn every_api_s_place() {
        let list = json!([{"token": "a", "logprob": -1.0, "top_logprobs": [{"logprob": -9.0}]}, {"logprob": -3}]);
        for document in [
            json!({"choices": [{"logprobs": {"content": list, "refusal": null}}]}),
            json!({"choices": [{"logprobs": {"token_logprobs": [null, -1.0, -3.0]}}]}),
            json!({"output": [{"content": [{"logprobs": list}]}]}),
            json!({"type": "response.output_text.delta", "logprobs": list}),
            json!({"completion_probabilities": list}),
            json!({"details": {"tokens": list}}),
        ] {
            assert_eq!(of(std::slice::from_ref(&document)), (Some(-2.0), Some(-3.0)), "{document}");
        }
        assert_eq!(of(&[json!({"candidates": [{"avgLogprobs": -0.5}]})]), (Some(-0.5), None));
        assert_eq!(of(&[json!({"choices": [{"logprobs": null}]})]), (None, None));
    }

    #[test]
    fn what_is_no_logarithm_of_a_probability_is_left_out() {
        let document = json!({"logprobs": [{"logprob": -9999.0}, {"logprob": 0.3}, {"logprob": -1.0}]});
        assert_eq!(of(&[document]), (Some(-1.0), Some(-1.0)));
    }
}
