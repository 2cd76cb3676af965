//! inferscope: every LLM call on a Linux host, from prompt to GPU, without touching the programs.
//!
//! The library behind the `inferscope` binary. ARCHITECTURE.md at the repository's root is the map.

pub mod call;
pub mod config;
pub mod export;
pub mod host;
pub mod kernel;
pub mod llm;
pub mod protocol;
pub mod record;
pub mod stream;
pub mod time;
