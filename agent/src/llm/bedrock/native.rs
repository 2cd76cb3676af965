//! Bodies of models under Bedrock's `/invoke` that take a prompt: Amazon Titan, Meta Llama and older ones of Mistral and
//! others (docs.aws.amazon.com, "Inference request parameters and response fields for foundation models").

use crate::{
    llm::{
        api::{Draft, WireApi},
        choice::Choice,
        openai::{embeddings::text, stop_sequence},
        value,
    },
    protocol::json::{
        Step::{self, Index, Key},
        Token,
    },
};

/// Reads one call. Only `bedrock.invoke` opens it.
#[derive(Debug, Default)]
pub(crate) struct Native {
    choice: Choice,
    /// Output tokens of the results so far in this document.
    output: Option<u64>,
}

impl WireApi for Native {
    fn name(&self) -> &'static str {
        "bedrock.native"
    }

    fn operation(&self) -> &'static str {
        "text_completion"
    }

    fn default_provider(&self) -> &'static str {
        "aws.bedrock"
    }

    fn request_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        if let [Key("prompt" | "inputText")] = path {
            draft.request_proof |= matches!(token, Token::String { .. });
            text(token, draft);
            return;
        }
        let request = &mut draft.request;
        let rest = match path {
            [Key("textGenerationConfig"), rest @ ..] => rest,
            path => path,
        };
        match rest {
            [Key("max_gen_len" | "max_tokens" | "maxTokenCount" | "maxTokens")] => {
                request.max_tokens = value::count(token);
            }
            [Key("temperature")] => request.temperature = value::float(token),
            [Key("top_p" | "topP")] => request.top_p = value::float(token),
            [Key("top_k" | "topK")] => request.top_k = value::float(token),
            [Key("stop" | "stopSequences" | "stop_sequences"), Index(_)] => stop_sequence(token, request),
            _ => {}
        }
    }

    fn response_value(&mut self, path: &[Step<'_>], token: Token<'_>, draft: &mut Draft) {
        let rest = match path {
            [Key("results" | "outputs" | "choices"), Index(0), rest @ ..] => rest,
            path => path,
        };
        match (rest, token) {
            ([Key("generation" | "outputText" | "text")], Token::String { .. } | Token::Piece(_)) => {
                draft.response_proof = true;
                self.choice.say(token, &mut draft.choices.budget.clone());
            }
            ([Key("stop_reason" | "completionReason" | "finish_reason")], _) => self.choice.finish = value::name(token),
            ([Key("prompt_token_count" | "inputTextTokenCount")], _) => {
                draft.usage.input = value::count(token).or(draft.usage.input);
            }
            ([Key("generation_token_count" | "totalOutputTextTokenCount" | "tokenCount")], _) => {
                self.output = value::count(token).or(self.output);
            }
            _ => {}
        }
    }

    fn response_document(&mut self, _streamed: bool, draft: &mut Draft) -> bool {
        draft.usage.output = self.output.take().or(draft.usage.output);
        let choice = std::mem::take(&mut self.choice);
        let carries = choice.carries;
        if carries || choice.finish.is_some() {
            draft.choices.absorb(0, choice);
        }
        carries
    }

    fn is_finished(&self, body_ended: bool, draft: &Draft) -> bool {
        body_ended && draft.choices.all_finished(1)
    }
}
