//! `cargo xtask fuzz`: builds the fuzz targets for libFuzzer and runs them one after the other.
//!
//! Coverage is asked for by flags that stable Rust takes, so no nightly toolchain and no `cargo fuzz` is needed; `cargo fuzz`
//! takes the same folder (`agent/fuzz`). Inputs that were found to be of interest stay in `agent/fuzz/corpus`, those that
//! show a fault in `agent/fuzz/artifacts`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use inferscope_tests::place;

use crate::show::say;

/// What `cargo fuzz` passes to the compiler, less the sanitizer, which only nightly has: the parsers have no `unsafe`.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Seconds that one input may take. The slowest takes a hundredth of that.
const TIMEOUT: &str = "-timeout=10";

/// Megabytes that a fuzz program may have.
const MEMORY: &str = "-rss_limit_mb=1024";

/// Largest input in bytes: more show nothing else and take their time.
const LENGTH: &str = "-max_len=4096";

/// Options of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Run only this target
    target: Option<String>,
}

/// Runs the task.
pub fn run(options: &Options) -> Result<ExitCode> {
    let root = place::workspace().join("agent/fuzz");
    let programs = build(&root)?;
    let corpus = root.join("corpus");
    let status = Command::new(programs.join("seeds")).arg(&corpus).status().context("cannot run the seeds' program")?;
    ensure!(status.success(), "the seeds were not written: {status}");
    let targets = targets(&root, options.target.as_deref())?;
    let mut failed = Vec::new();
    for target in &targets {
        say(&format!("xtask: fuzzing {target} for {} min", options.minutes));
        let artifacts = root.join("artifacts").join(target);
        fs::create_dir_all(&artifacts)?;
        let mut command = Command::new(programs.join(target));
        command.args([TIMEOUT, MEMORY, LENGTH, "-print_final_stats=1", "-verbosity=0"]);
        command.arg(format!("-max_total_time={}", options.minutes * 60));
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        let status = command.arg(corpus.join(target)).status().with_context(|| format!("cannot run {target}"))?;
        if !status.success() {
            failed.push(target.as_str());
        }
    }
    say(&format!("xtask: {} targets, {} with a finding {failed:?}", targets.len(), failed.len()));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the programs and says where they are.
fn build(root: &Path) -> Result<PathBuf> {
    let output = root.join("target");
    let mut command = Command::new("cargo");
    // With a target named, build scripts and macros are built without coverage.
    command.args(["build", "--release", "--target", HOST, "--manifest-path"]).arg(root.join("Cargo.toml"));
    command.env("RUSTFLAGS", FLAGS.join(" ")).env("CARGO_TARGET_DIR", &output);
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "the fuzz targets were not built: {status}");
    Ok(output.join(HOST).join("release"))
}

/// The machine's own target.
const HOST: &str = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// The names of the targets, or the one that is asked for.
fn targets(root: &Path, only: Option<&str>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    if let Some(only) = only {
        ensure!(names.iter().any(|name| name == only), "there is no target {only}: {}", names.join(", "));
        names.retain(|name| name == only);
    }
    Ok(names)
}
