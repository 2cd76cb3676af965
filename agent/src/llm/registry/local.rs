//! The paths of what runs beside a program rather than at a provider: engines.
//!
//! Owns rows of the registry's table, nothing else.

use super::{Apis, Route};
use crate::llm::{
    engines::{
        llamacpp::LlamaCpp,
        lmstudio::LmStudio,
        ollama::{Kind, Ollama},
        sglang::Sglang,
        tgi::Tgi,
        triton::Triton,
        vllm::{Task, VllmGenerate, VllmTask},
    },
    grpc::tables,
    openai::{chat::OpenAiChat, completions::OpenAiCompletions},
};

const TRITON: Apis = &[|_| Box::new(Triton::default())];

pub(crate) const ROUTES: &[Route] = &[
    Route { suffix: &["api", "v0", "completions"], open: &[|_| Box::new(OpenAiCompletions::new(false))] },
    // llama.cpp has its own API without the version before it.
    Route {
        suffix: &["completions"],
        open: &[|_| Box::new(OpenAiCompletions::new(true)), |_| Box::new(LlamaCpp::default())],
    },
    Route { suffix: &["completion"], open: &[|_| Box::new(LlamaCpp::default())] },
    Route { suffix: &["infill"], open: &[|_| Box::new(LlamaCpp::default())] },
    Route { suffix: &["api", "v1", "chat"], open: &[|_| Box::new(LmStudio::default())] },
    Route { suffix: &["api", "chat"], open: &[|_| Box::new(Ollama::new(Kind::Chat))] },
    Route { suffix: &["api", "generate"], open: &[|_| Box::new(Ollama::new(Kind::Generate))] },
    Route { suffix: &["inference", "v1", "generate"], open: &[|_| Box::new(VllmGenerate::default())] },
    Route { suffix: &["v2", "models", "*", "versions", "*", "generate_stream"], open: TRITON },
    Route { suffix: &["v2", "models", "*", "versions", "*", "generate"], open: TRITON },
    Route { suffix: &["v2", "models", "*", "versions", "*", "infer"], open: TRITON },
    Route { suffix: &["v2", "models", "*", "generate_stream"], open: TRITON },
    Route { suffix: &["v2", "models", "*", "generate"], open: TRITON },
    Route { suffix: &["v2", "models", "*", "infer"], open: TRITON },
    Route {
        suffix: &["inference.GRPCInferenceService", "ModelInfer"],
        open: &[|_| Box::new(Triton::over_grpc(tables::TRITON_INFER))],
    },
    Route {
        suffix: &["inference.GRPCInferenceService", "ModelStreamInfer"],
        open: &[|_| Box::new(Triton::over_grpc(tables::TRITON_STREAM))],
    },
    Route { suffix: &["generate_stream"], open: &[|_| Box::new(Tgi::new(false))] },
    Route { suffix: &["generate"], open: &[|_| Box::new(Sglang::default()), |_| Box::new(Tgi::new(false))] },
    // What SageMaker calls: each engine takes what its own path would.
    Route {
        suffix: &["invocations"],
        open: &[
            |_| Box::new(OpenAiChat::new(false)),
            |_| Box::new(OpenAiCompletions::new(false)),
            |_| Box::new(Sglang::default()),
            |_| Box::new(Tgi::new(true)),
        ],
    },
    Route { suffix: &["pooling"], open: &[|_| Box::new(VllmTask::new(Task::Pooling))] },
    Route { suffix: &["classify"], open: &[|_| Box::new(VllmTask::new(Task::Classify))] },
    Route { suffix: &["tokenize"], open: &[|_| Box::new(VllmTask::new(Task::Tokenize))] },
];
