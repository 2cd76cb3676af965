//! What servers say of their own times, in the band of the response.
//!
//! Owns which member of a body and which header is which time, and their units. The values stand beside what the
//! kernel's stamps say, never in their place: a server's clock knows of its queue, and nothing of the network.
//!
//! To add a source: one row in [`HEADERS`], or one arm in the function of its bodies. A body's value holds over a
//! header's, because a header is written before the answer is whole.

use super::value;
use crate::protocol::json::{
    Step::{self, Key},
    Token,
};

/// Times that a server reported, in seconds, each absent unless reported. Servers disagree on where a time begins; the
/// differences are said at the field.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Waiting to be scheduled.
    pub queue: Option<f64>,
    /// Reading the prompt (prefill).
    pub prompt: Option<f64>,
    /// Time to the first token. vLLM counts from when the request was scheduled, others from when it came.
    pub first_token: Option<f64>,
    /// Making the answer (decode).
    pub generation: Option<f64>,
    /// Mean time between two output tokens. TGI's has the prompt's share in it.
    pub inter_token: Option<f64>,
    /// Loading the model.
    pub load: Option<f64>,
    /// The whole request.
    pub total: Option<f64>,
    /// What a gateway waited for the server behind it, or what OpenAI's edge says of the processing behind it.
    pub upstream: Option<f64>,
}

/// Where a time belongs.
type Slot = fn(&mut Timings) -> &mut Option<f64>;

const MILLISECONDS: f64 = 1e3;
const NANOSECONDS: f64 = 1e9;

/// Header, units in a second, place. Where two name the same time, the later row holds.
const HEADERS: &[(&str, f64, Slot)] = &[
    // TGI, Hugging Face's endpoints, Together.
    ("x-compute-time", 1.0, |t| &mut t.total),
    ("x-inference-time", MILLISECONDS, |t| &mut t.total),
    ("x-total-time", MILLISECONDS, |t| &mut t.total),
    ("x-queue-time", MILLISECONDS, |t| &mut t.queue),
    ("x-time-per-token", MILLISECONDS, |t| &mut t.inter_token),
    // xAI.
    ("x-metrics-ttft-ms", MILLISECONDS, |t| &mut t.first_token),
    ("x-metrics-mean-itl-ms", MILLISECONDS, |t| &mut t.inter_token),
    ("x-metrics-e2e-ms", MILLISECONDS, |t| &mut t.total),
    ("x-amzn-bedrock-invocation-latency", MILLISECONDS, |t| &mut t.total),
    ("x-kong-upstream-latency", MILLISECONDS, |t| &mut t.upstream),
    ("x-envoy-upstream-service-time", MILLISECONDS, |t| &mut t.upstream),
    ("openai-processing-ms", MILLISECONDS, |t| &mut t.upstream),
];

impl Timings {
    /// What the response's headers say.
    pub(crate) fn of_headers(headers: &[(&'static str, String)]) -> Self {
        let mut timings = Self::default();
        for (name, per_second, slot) in HEADERS {
            let value =
                headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.trim().parse().ok());
            put(slot(&mut timings), value, *per_second);
        }
        timings
    }

    /// These, and where they say nothing `other`'s.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            queue: self.queue.or(other.queue),
            prompt: self.prompt.or(other.prompt),
            first_token: self.first_token.or(other.first_token),
            generation: self.generation.or(other.generation),
            inter_token: self.inter_token.or(other.inter_token),
            load: self.load.or(other.load),
            total: self.total.or(other.total),
            upstream: self.upstream.or(other.upstream),
        }
    }

    /// One value of a document in OpenAI's shape, with what engines and gateways add to it.
    pub(crate) fn openai_value(&mut self, path: &[Step<'_>], token: Token<'_>) {
        match path {
            // Groq, GPUStack.
            [Key("usage"), Key(key)] | [Key("x_groq"), Key("usage"), Key(key)] => self.named(key, token),
            // Cerebras, llama.cpp, vLLM, LM Studio.
            [Key("time_info" | "timings" | "metrics" | "stats"), Key(key)] => self.named(key, token),
            _ => {}
        }
    }

    /// A member whose name says time and unit, as all but Ollama's do.
    pub(crate) fn named(&mut self, key: &str, token: Token<'_>) {
        let (slot, per_second): (Slot, f64) = match key {
            // Groq, Cerebras.
            "queue_time" => (|t| &mut t.queue, 1.0),
            "prompt_time" => (|t| &mut t.prompt, 1.0),
            "completion_time" => (|t| &mut t.generation, 1.0),
            "total_time" => (|t| &mut t.total, 1.0),
            // vLLM; GPUStack's time to the first token.
            "queue_time_ms" => (|t| &mut t.queue, MILLISECONDS),
            "time_to_first_token_ms" => (|t| &mut t.first_token, MILLISECONDS),
            "generation_time_ms" => (|t| &mut t.generation, MILLISECONDS),
            "mean_itl_ms" | "time_per_output_token_ms" => (|t| &mut t.inter_token, MILLISECONDS),
            // llama.cpp.
            "prompt_ms" => (|t| &mut t.prompt, MILLISECONDS),
            "predicted_ms" => (|t| &mut t.generation, MILLISECONDS),
            "predicted_per_token_ms" => (|t| &mut t.inter_token, MILLISECONDS),
            // LM Studio.
            "time_to_first_token" | "time_to_first_token_seconds" => (|t| &mut t.first_token, 1.0),
            "generation_time" => (|t| &mut t.generation, 1.0),
            "model_load_time_seconds" => (|t| &mut t.load, 1.0),
            // SGLang.
            "e2e_latency" => (|t| &mut t.total, 1.0),
            // Bedrock.
            "latencyMs" | "invocationLatency" => (|t| &mut t.total, MILLISECONDS),
            "firstByteLatency" => (|t| &mut t.first_token, MILLISECONDS),
            // Ollama.
            "load_duration" => (|t| &mut t.load, NANOSECONDS),
            "prompt_eval_duration" => (|t| &mut t.prompt, NANOSECONDS),
            "eval_duration" => (|t| &mut t.generation, NANOSECONDS),
            "total_duration" => (|t| &mut t.total, NANOSECONDS),
            _ => return,
        };
        put(slot(self), value::float(token), per_second);
    }
}

/// A time that is not negative replaces what was there.
fn put(slot: &mut Option<f64>, value: Option<f64>, per_second: f64) {
    *slot = value.filter(|value| value.is_finite() && *value >= 0.0).map(|value| value / per_second).or(*slot);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_in_their_units() {
        let of = |headers: &[(&'static str, &str)]| {
            Timings::of_headers(&headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Vec<_>>())
        };
        let tgi = of(&[
            ("x-total-time", "1500"),
            ("x-compute-time", "1.49"),
            ("x-queue-time", "2"),
            ("x-inference-time", "1490"),
            ("x-time-per-token", "20"),
        ]);
        let expect = Timings { total: Some(1.5), queue: Some(0.002), inter_token: Some(0.02), ..Timings::default() };
        assert_eq!(tgi, expect);
        assert_eq!(of(&[("x-compute-time", "1.49")]).total, Some(1.49));
        assert_eq!(of(&[("x-metrics-ttft-ms", "250.5")]).first_token, Some(0.2505));
        assert_eq!(of(&[("openai-processing-ms", "7")]).upstream, Some(0.007));
        for bad in ["", "soon", "-1", "NaN", "inf", "1e999"] {
            assert_eq!(of(&[("x-total-time", bad)]), Timings::default(), "{bad}");
        }
    }

    #[test]
    fn a_time_that_is_none_leaves_what_was_there() {
        let mut timings = Timings::default();
        timings.named("total_duration", Token::Number("2500000000"));
        timings.named("total_duration", Token::Null);
        timings.named("total_duration", Token::Number("-3"));
        timings.named("something_else", Token::Number("3"));
        assert_eq!(timings, Timings { total: Some(2.5), ..Timings::default() });
    }

    #[test]
    fn the_body_holds_over_the_head() {
        let head = Timings { total: Some(1.0), queue: Some(2.0), ..Timings::default() };
        let body = Timings { total: Some(3.0), ..Timings::default() };
        assert_eq!(body.or(head), Timings { total: Some(3.0), queue: Some(2.0), ..Timings::default() });
    }
}
