//! inferscope: every LLM call on a Linux host, from prompt to GPU, without touching the programs.
//!
//! The library behind the `inferscope` binary. ARCHITECTURE.md at the repository's root is the map.

pub mod call;
pub mod capture;
pub mod cli;
pub mod collector;
pub mod commands;
pub mod config;
pub mod cost;
pub mod delivery;
pub mod diagnosis;
pub mod discover;
pub mod export;
pub mod gpu;
pub mod host;
pub mod infer;
pub mod judge;
pub mod kernel;
pub mod llm;
pub mod metrics;
pub mod observe;
pub mod output;
pub mod pipeline;
pub mod privacy;
pub mod protocol;
pub mod record;
pub mod recording;
pub mod selfstat;
pub mod serving;
pub mod stream;
pub mod targets;
pub mod time;
pub mod vocabulary;
pub mod wal;
