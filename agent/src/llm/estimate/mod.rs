//! Token counts of calls that reported none, where the operator asks for them.
//!
//! Owns what is counted, with which vocabulary and for which family of models. An estimate is never written where a
//! reported count stands, and says what it is in its name and by which method it was made. A direction that was not seen
//! whole, or that holds pictures, sound or files, has none: what those cost no text tells.

mod input;
mod tokens;
mod vocabulary;

use super::{
    choice::Choices,
    facts::{RequestFacts, ResponseFacts, Usage},
};

pub(crate) use input::InputTokens;
pub(crate) use tokens::Tokens;
pub(crate) use vocabulary::Counting;
pub use vocabulary::{Estimator, Vocabularies, Vocabulary};

/// Estimated token counts; each absent where one was reported or nothing can be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimated {
    /// `inferscope.usage.estimated.input_tokens`.
    pub input: Option<u64>,
    /// `inferscope.usage.estimated.output_tokens`.
    pub output: Option<u64>,
    /// How the texts were counted, or what stands for them.
    pub method: Option<Method>,
}

/// `inferscope.usage.estimated.method`: how much an estimate is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the vocabulary of the model itself.
    Tokenizer,
    /// By OpenAI's vocabulary `o200k_base`, times what the model's family takes more.
    O200kBase,
    /// Each chunk of the stream was taken for a token.
    Chunks,
}

impl Method {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tokenizer => "tokenizer",
            Self::O200kBase => "o200k_base",
            Self::Chunks => "chunks",
        }
    }
}

impl Estimated {
    /// Of what was counted.
    pub(crate) fn of(
        counting: Counting,
        input: Option<Tokens>,
        choices: &mut Choices,
        usage: &Usage,
        request: &RequestFacts,
        response: &ResponseFacts,
    ) -> Self {
        let (per_mille, method) = match counting.is_own() {
            true => (1_000, Method::Tokenizer),
            false => (per_mille(request, response), Method::O200kBase),
        };
        let output = output(choices, counting).filter(|_| usage.output.is_none());
        let output = output.map(|tokens| tokens.count(per_mille));
        let input = input.filter(|_| usage.input.is_none()).map(|tokens| tokens.count(per_mille));
        Self { input, output, method: input.or(output).map(|_| method) }
    }

    /// Takes a stream's chunks for tokens, where its text was not looked at and its server sends each by itself.
    pub fn from_chunks(&mut self, usage: &Usage, provider: &str, chunks: u64) {
        if usage.output.is_none() && self.output.is_none() && chunks > 0 && ONE_A_CHUNK.contains(&provider) {
            self.output = Some(chunks);
            self.method = Some(Method::Chunks);
        }
    }
}

/// Providers whose streams have a token in each chunk.
const ONE_A_CHUNK: [&str; 5] = ["sglang", "vllm", "llama_cpp", "ollama", "tgi"];

/// What the answer says, in every choice.
fn output(choices: &mut Choices, counting: Counting) -> Option<Tokens> {
    if choices.is_cut() {
        return None;
    }
    let mut sum = Tokens::new(counting);
    for choice in choices.iter_mut() {
        let arguments = choice.tools.iter().map(|tool| &tool.arguments);
        for text in [&choice.text, &choice.reasoning].into_iter().chain(arguments) {
            text.heard.tokens().iter().for_each(|tokens| sum.add(tokens));
        }
        for tool in &choice.tools {
            sum.push(tool.name.as_deref().unwrap_or_default());
            sum.end();
        }
    }
    sum.is_any().then_some(sum)
}

/// Families of models by a part of their names, and how many tokens they take for a thousand of the reference's: the
/// median over recorded answers.
const FAMILIES: [(&str, u64); 12] = [
    ("claude", 1_250),
    ("mixtral", 1_220),
    ("mistral", 1_220),
    ("codestral", 1_220),
    ("devstral", 1_220),
    ("magistral", 1_220),
    ("ministral", 1_220),
    ("gemini", 1_110),
    ("gemma", 1_110),
    ("qwen", 1_075),
    ("llama", 1_050),
    ("deepseek", 1_040),
];

/// Tokens of the model's family for a thousand of the reference's.
fn per_mille(request: &RequestFacts, response: &ResponseFacts) -> u64 {
    let name = response.model.as_deref().or(request.model.as_deref()).unwrap_or_default().to_ascii_lowercase();
    FAMILIES.iter().find(|(part, _)| name.contains(part)).map_or(1_000, |(_, per_mille)| *per_mille)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_more() {
        let of = |model: &str| {
            let request = RequestFacts { model: Some(model.to_owned()), ..RequestFacts::default() };
            per_mille(&request, &ResponseFacts::default())
        };
        assert_eq!((of("us.anthropic.claude-x"), of("Qwen/Qwen3-8B"), of("gpt-5")), (1_250, 1_075, 1_000));
        let mut tokens = Tokens::default();
        tokens.push(&"word ".repeat(1_000));
        assert_eq!((tokens.count(1_000), tokens.count(1_250)), (1_001, 1_252));
    }

    #[test]
    fn chunks_stand_for_tokens_only_where_they_are() {
        let of = |provider, usage: Usage| {
            let mut estimated = Estimated::default();
            estimated.from_chunks(&usage, provider, 7);
            estimated.output
        };
        assert_eq!((of("vllm", Usage::default()), of("anthropic", Usage::default())), (Some(7), None));
        assert_eq!(of("vllm", Usage { output: Some(3), ..Usage::default() }), None);
    }
}
