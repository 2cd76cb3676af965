//! The `inferscope` binary: reads the command line and hands over.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    inferscope::commands::run(inferscope::cli::Cli::parse())
}
