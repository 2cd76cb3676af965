//! `cargo xtask build-proto`: the code of the messages, from their `.proto` files.
//!
//! The test that compares the committed code with a fresh one writes it too: there is one way to generate it.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

/// Generates the code and leaves it in the working tree.
pub fn build() -> anyhow::Result<ExitCode> {
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--package", "inferscope-proto", "--test", "generated"])
        .env("INFERSCOPE_GENERATE", "1")
        .status()
        .context("cargo cannot be run")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
