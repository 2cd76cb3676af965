//! What the end-to-end tests and the demo are made of: processes with captured output, the agent as a process,
//! servers and clients that know nothing of it, and a look at what the kernel has loaded.
//!
//! Nothing here waits by sleeping: every wait is on a condition variable that a reader thread signals. The one
//! exception is [`bpf`], because the kernel announces no event when it has freed a program.
//!
//! To add a client: a variant of [`client::Kind`] and its command line there; it must print one line per call as
//! `python/client_openai.py` documents. To add a server: follow the rules in `python/canned.py`, print `ready PORT`
//! and start it in [`server`]. Scenarios themselves are in `e2e/`, one file per topic.

pub mod agent;
pub mod bpf;
pub mod call;
pub mod client;
pub mod corpus;
pub mod engine;
pub mod go;
pub mod gpu;
pub mod load;
#[cfg(feature = "server")]
pub mod model;
pub mod pki;
pub mod place;
pub mod process;
pub mod programs;
pub mod sdks;
pub mod server;
pub mod usage;
pub mod vllm;
