//! Building the kernel object, and checking that the committed one is fresh.
//!
//! The place for both tasks; neither is implemented yet.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

/// Options of `cargo xtask build-ebpf`.
#[derive(Debug, Args)]
pub struct BuildOptions {
    /// Build the kernel programs with their log lines, for debugging
    #[arg(long)]
    log: bool,
}

/// Builds the kernel object.
pub fn build(options: &BuildOptions) -> Result<ExitCode> {
    let BuildOptions { log: _ } = options;
    bail!("build-ebpf is not implemented yet")
}

/// Checks the committed kernel object.
pub fn check() -> Result<ExitCode> {
    bail!("check-ebpf is not implemented yet")
}
