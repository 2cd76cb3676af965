//! `cargo xtask gpu-check`: the real NVML on a machine with an NVIDIA GPU, by the agent's own code.
//!
//! What every call returns and how long it takes, what the sampler costs, whether polling disturbs a loop like decoding, and
//! what `doctor` says. Writes JSON, which is meant to become a fixture of the stand-in. Changes no device's state. Takes some
//! four minutes; what is not there (PyTorch, the right to load kernel programs) is left out with the reason.
//!
//! Without a GPU it exits with 77. With `INFERSCOPE_NVML_LIBRARY` it takes that library for the driver's, as the agent does.

mod decode;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use inferscope_tests::place;
use serde_json::{Value, json};

use crate::{bench::Machine, prepare, show::say};

/// There is no GPU.
const NO_GPU: u8 = 77;

/// Names a library in place of the driver's.
const LIBRARY: &str = "INFERSCOPE_NVML_LIBRARY";

/// The driver's way in.
const DEVICE: &str = "/dev/nvidiactl";

/// How often each call is made on each device.
const ROUNDS: &str = "50";

/// How long the sampler runs.
const SAMPLE_SECONDS: &str = "20";

/// Options of `cargo xtask gpu-check`.
#[derive(Debug, Args)]
pub struct Options {
    /// Where the results go
    #[arg(long, value_name = "FILE", default_value = "target/gpu-check.json")]
    out: PathBuf,
}

/// Runs the task.
pub fn run(options: &Options) -> Result<ExitCode> {
    if env::var_os(LIBRARY).is_none() && !Path::new(DEVICE).exists() {
        say(&format!(
            "xtask: no NVIDIA GPU here: there is no {DEVICE}, and {LIBRARY} names no library in place of the driver's"
        ));
        return Ok(ExitCode::from(NO_GPU));
    }
    say("xtask: building (the first time takes some minutes)");
    prepare::build(&["--package", "inferscope", "--bin", "inferscope", "--example", "gpu_probe"])?;
    let probe = place::target().join("debug/examples/gpu_probe");
    say("xtask: every call");
    let output = Command::new(&probe).args(["survey", ROUNDS]).output()?;
    if output.status.code() == Some(NO_GPU.into()) {
        say(&format!("xtask: no NVIDIA GPU here: {}", String::from_utf8_lossy(&output.stderr).trim()));
        return Ok(ExitCode::from(NO_GPU));
    }
    ensure!(output.status.success(), "the survey failed: {}", String::from_utf8_lossy(&output.stderr));
    let survey: Value = serde_json::from_slice(&output.stdout)?;
    show(&survey);
    say("xtask: the sampler");
    let sampler = json_of(Command::new(&probe).args(["sample", SAMPLE_SECONDS]))?;
    let decoding = decode::measure(&probe)?;
    if let Some(reason) = decoding["skipped"].as_str() {
        say(&format!("xtask: no loop like decoding: {reason}"));
    }
    say("xtask: the agent");
    let results = json!({
        "schema": 1,
        "machine": Machine::here(),
        "survey": survey,
        "sampler": sampler,
        "decoding": decoding,
        "agent": agent()?,
    });
    fs::write(&options.out, format!("{results:#}\n"))
        .with_context(|| format!("{} cannot be written", options.out.display()))?;
    say(&format!("xtask: the results are in {}", options.out.display()));
    Ok(ExitCode::SUCCESS)
}

/// What `doctor` says, where it can load the kernel programs; else why not.
fn agent() -> Result<Value> {
    let mut command = Command::new(place::target().join("debug/inferscope"));
    let output = command.args(["doctor", "--output", "json"]).output()?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        say(&format!("xtask: no agent: {reason}"));
        return Ok(json!({"skipped": reason, "exit_code": output.status.code()}));
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    Ok(json!({"checks": report["checks"]}))
}

fn json_of(command: &mut Command) -> Result<Value> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The table of calls.
fn show(survey: &Value) {
    let none = Vec::new();
    for call in survey["calls"].as_array().unwrap_or(&none) {
        let number = |member: &str| call[member].as_f64().unwrap_or(f64::NAN);
        say(&format!(
            "{:45} {:5} calls, median {:9.1} us, p99 {:9.1} us  {}",
            call["name"].as_str().unwrap_or_default(),
            number("count"),
            number("median_us"),
            number("p99_us"),
            call["errors"]
                .as_object()
                .filter(|errors| !errors.is_empty())
                .map(|errors| json!(errors).to_string())
                .unwrap_or_default(),
        ));
    }
}
