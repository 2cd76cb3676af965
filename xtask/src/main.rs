//! `cargo xtask`: everything that is done to this repository more than once.
//!
//! To add a task: a variant of [`Task`] and a module with its `run`. Tasks prepare what they need by themselves and
//! say what they skipped.

mod bench;
mod check;
mod demo;
mod digest;
mod ebpf;
mod fuzz;
mod gpu_check;
mod prepare;
mod programs;
mod proto;
mod show;
mod test;
mod venv;
mod vllm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "inferscope's development tasks")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build everything, start a server and clients, and show the calls as they happen
    Demo(demo::Options),
    /// Prepare what the tests need and run them: unit and property tests, then end to end
    Test(test::Options),
    /// Measure what the agent costs, loses and takes, and compare it with the design's targets
    Bench(bench::Options),
    /// Run the fuzz targets: parsers, wire APIs, records and the whole pipeline
    Fuzz(fuzz::Options),
    /// Ask a real NVIDIA GPU everything that the agent asks, and measure it
    GpuCheck(gpu_check::Options),
    /// Build the kernel object from its sources
    BuildEbpf(ebpf::BuildOptions),
    /// Generate the code of the messages in proto/
    BuildProto,
    /// Check that the committed kernel object belongs to its sources
    CheckEbpf(ebpf::CheckOptions),
}

fn main() -> ExitCode {
    // The kernel object's build calls this program as its compiler.
    if let Some(code) = ebpf::as_rustc() {
        return code;
    }
    let result = match Options::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::GpuCheck(options) => gpu_check::run(&options),
        Task::BuildEbpf(options) => ebpf::build(&options),
        Task::BuildProto => proto::build(),
        Task::CheckEbpf(options) => ebpf::check(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
