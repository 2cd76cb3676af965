//! What the kernel side is told before it is loaded.

use crate::targets::Targets;

/// What to load the programs with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What is captured.
    pub targets: Targets,
    /// Capture every HTTP exchange, not only POSTs.
    pub all_http: bool,
    /// What is found in files without symbols is kept on disk, for the next start.
    pub keeps_findings: bool,
    /// Tell the headers of TLS records whose plaintext nobody reads.
    pub infer: bool,
    /// Capture messages that pass pipes and UNIX sockets one a line.
    pub lines: bool,
    /// Probe CUDA's runtime library for an engine's steps.
    pub step_clock: bool,
    /// Size of the bulk ring in bytes, a power of two; `None` takes the object's default.
    pub ring_bytes: Option<u32>,
}
