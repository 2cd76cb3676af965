//! The paths of what providers serve, and of what copies them.
//!
//! Owns rows of the registry's table, nothing else.

use super::{Apis, Route};
use crate::llm::{
    anthropic::{Messages, Task as AnthropicTask, complete::AnthropicComplete},
    bedrock::{
        converse::{Converse, Task as ConverseTask},
        invoke::BedrockInvoke,
    },
    cohere::{
        CohereChat,
        v1::{CohereV1, Task as CohereTask},
    },
    gemini::{Gemini, Task as GeminiTask, embed::GeminiEmbed, interactions::Interactions},
    openai::{
        audio::{Audio, Task as AudioTask},
        chat::OpenAiChat,
        completions::OpenAiCompletions,
        embeddings::Embeddings,
        images::Images,
        moderations::Moderations,
        responses::{Responses, Task as ResponsesTask},
    },
    rerank::Rerank,
    watsonx::Watsonx,
};

const CHAT: Apis = &[|matched| Box::new(OpenAiChat::new(matched.deployment))];
const COMPLETIONS: Apis = &[|_| Box::new(OpenAiCompletions::new(false))];
const CLAUDE_ON_VERTEX: Apis = &[|_| Box::new(Messages::new(AnthropicTask::Answer, true))];
const MISTRAL_ON_VERTEX: Apis = &[|_| Box::new(OpenAiChat::new(true))];
const GEMINI_EMBED: Apis = &[|_| Box::new(GeminiEmbed::default())];
const EMBEDDINGS: Apis = &[|_| Box::new(Embeddings::default())];
const RERANK: Apis = &[|_| Box::new(Rerank::default())];
const IMAGES: Apis = &[|_| Box::new(Images::default())];

/// Rows of the table.
pub(crate) const ROUTES: &[Route] = &[
    Route { suffix: &["chat", "completions"], open: CHAT },
    // Mistral's agents take and give chat messages.
    Route { suffix: &["agents", "completions"], open: CHAT },
    Route { suffix: &["v1", "completions"], open: COMPLETIONS },
    Route { suffix: &["fim", "completions"], open: COMPLETIONS },
    Route { suffix: &["responses"], open: &[|_| Box::new(Responses::new(ResponsesTask::Answer))] },
    Route { suffix: &["responses", "compact"], open: &[|_| Box::new(Responses::new(ResponsesTask::Compact))] },
    Route { suffix: &["responses", "input_tokens"], open: &[|_| Box::new(Responses::new(ResponsesTask::Count))] },
    Route { suffix: &["v1", "messages"], open: &[|_| Box::new(Messages::new(AnthropicTask::Answer, false))] },
    Route {
        suffix: &["v1", "messages", "count_tokens"],
        open: &[|_| Box::new(Messages::new(AnthropicTask::Count, false))],
    },
    Route { suffix: &["v1", "complete"], open: &[|_| Box::new(AnthropicComplete::default())] },
    Route { suffix: &["anthropic", "models", "*:rawPredict"], open: CLAUDE_ON_VERTEX },
    Route { suffix: &["anthropic", "models", "*:streamRawPredict"], open: CLAUDE_ON_VERTEX },
    Route { suffix: &["mistralai", "models", "*:rawPredict"], open: MISTRAL_ON_VERTEX },
    Route { suffix: &["mistralai", "models", "*:streamRawPredict"], open: MISTRAL_ON_VERTEX },
    Route { suffix: &["*:generateContent"], open: &[|_| Box::new(Gemini::new(GeminiTask::Generate))] },
    Route { suffix: &["*:streamGenerateContent"], open: &[|_| Box::new(Gemini::new(GeminiTask::Stream))] },
    Route { suffix: &["*:countTokens"], open: &[|_| Box::new(Gemini::new(GeminiTask::Count))] },
    // Before Gemini's: of an answer alone only the first that is called so is asked.
    Route { suffix: &["embeddings"], open: EMBEDDINGS },
    Route { suffix: &["embed"], open: EMBEDDINGS },
    Route { suffix: &["*:embedContent"], open: GEMINI_EMBED },
    Route { suffix: &["*:batchEmbedContents"], open: GEMINI_EMBED },
    Route { suffix: &["*:predict"], open: GEMINI_EMBED },
    Route { suffix: &["interactions"], open: &[|_| Box::new(Interactions::default())] },
    Route { suffix: &["model", "*", "converse"], open: &[|_| Box::new(Converse::new(ConverseTask::Answer))] },
    Route { suffix: &["model", "*", "converse-stream"], open: &[|_| Box::new(Converse::new(ConverseTask::Stream))] },
    Route { suffix: &["model", "*", "count-tokens"], open: &[|_| Box::new(Converse::new(ConverseTask::Count))] },
    Route { suffix: &["v2", "chat"], open: &[|_| Box::new(CohereChat::default())] },
    Route { suffix: &["v1", "chat"], open: &[|_| Box::new(CohereV1::new(CohereTask::Chat))] },
    Route { suffix: &["v1", "generate"], open: &[|_| Box::new(CohereV1::new(CohereTask::Generate))] },
    Route { suffix: &["rerank"], open: RERANK },
    Route { suffix: &["reranking"], open: RERANK },
    Route { suffix: &["score"], open: RERANK },
    Route { suffix: &["moderations"], open: &[|_| Box::new(Moderations::default())] },
    Route { suffix: &["images", "generations"], open: IMAGES },
    Route { suffix: &["images", "edits"], open: IMAGES },
    Route { suffix: &["images", "variations"], open: IMAGES },
    Route { suffix: &["audio", "transcriptions"], open: &[|_| Box::new(Audio::new(AudioTask::Transcription))] },
    Route { suffix: &["audio", "translations"], open: &[|_| Box::new(Audio::new(AudioTask::Translation))] },
    Route { suffix: &["audio", "speech"], open: &[|_| Box::new(Audio::new(AudioTask::Speech))] },
    // watsonx.
    Route { suffix: &["text", "chat"], open: CHAT },
    Route { suffix: &["text", "chat_stream"], open: CHAT },
    Route { suffix: &["text", "generation"], open: &[|_| Box::new(Watsonx::new(false))] },
    Route { suffix: &["text", "generation_stream"], open: &[|_| Box::new(Watsonx::new(true))] },
    // Last: what it invokes may answer as any of the others.
    Route { suffix: &["model", "*", "invoke"], open: &[|_| Box::new(BedrockInvoke::new(false))] },
    Route { suffix: &["model", "*", "invoke-with-response-stream"], open: &[|_| Box::new(BedrockInvoke::new(true))] },
];
