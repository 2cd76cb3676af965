//! inferscope: every LLM call on a Linux host, from prompt to GPU, without touching the programs.
//!
//! The library behind the `inferscope` binary. ARCHITECTURE.md at the repository's root is the map.

pub mod call;
pub mod host;
pub mod llm;
pub mod privacy;
pub mod protocol;
pub mod time;
