//! `cargo xtask test`: prepares the machine, runs every suite, and ends with a line for each step.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use inferscope_tests::{go, place};

use crate::{
    prepare::{self, Root},
    programs,
    show::say,
    venv, vllm,
};

/// Variables that reach the end-to-end tests when they run through sudo, which clears the environment.
const KEPT: [&str; 9] = [
    "INFERSCOPE_REQUIRE_E2E",
    "INFERSCOPE_WRITE_DOCS",
    "INFERSCOPE_BIN",
    "INFERSCOPE_MODEL_SERVER",
    "INFERSCOPE_VENV",
    "INFERSCOPE_CORPUS",
    "CARGO_TARGET_DIR",
    "PATH",
    "HOME",
];

/// What `--suite` can be. All but the first two are topics: the first part of scenarios' names in `tests/e2e/`, with
/// `-` for `_`.
const SUITES: [&str; 31] = [
    "unit",
    "e2e",
    "clients",
    "http2",
    "grpc",
    "websocket",
    "servers",
    "binding",
    "doctor",
    "targets",
    "load",
    "privacy",
    "otlp",
    "replay",
    "failures",
    "joining",
    "mcp",
    "go",
    "capture",
    "sockets",
    "discovery",
    "churn",
    "infer",
    "stripped",
    "rustls",
    "corpus-sample",
    "delivery",
    FULL,
    CORPUS,
    SDKS,
    VLLM,
];

/// Scenarios that need large downloads or a long time.
const FULL: &str = "capture-full";

/// Scenarios that need recordings which are no part of the repository.
const CORPUS: &str = "corpus";

/// Scenarios that need the providers' SDKs, or MCP's.
const SDKS: &str = "sdks";

/// Scenarios against a real vLLM.
const VLLM: &str = "vllm";

/// What runs only where it is asked for by name, and why.
const ON_DEMAND: [(&str, &str); 4] =
    [(FULL, "large downloads"), (CORPUS, "recordings"), (SDKS, "downloads"), (VLLM, "6 GB of disk")];

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub struct Options {
    /// Run only this: the unit tests, the end-to-end tests, or one topic of the latter
    #[arg(long, value_parser = SUITES)]
    suite: Option<String>,
}

/// How a step ended.
enum Outcome {
    Ok,
    Failed(String),
    Skipped(String),
}

/// Runs the task.
pub fn run(options: &Options) -> Result<ExitCode> {
    let suite = options.suite.as_deref();
    let (unit, e2e) = match suite {
        None => (true, true),
        Some("unit") => (true, false),
        Some(_) => (false, true),
    };
    let filter = suite.filter(|suite| *suite != "unit" && *suite != "e2e");
    let mut steps = Steps::default();
    if unit {
        steps.take("unit, property and doc tests", || cargo(&["test", "--workspace", "--exclude", "inferscope-ebpf"]));
    }
    if e2e {
        steps.take("packages", || match prepare::packages() {
            Ok(()) => Outcome::Ok,
            Err(why) => Outcome::Skipped(why),
        });
        steps.take("virtualenv", || match env::var_os("INFERSCOPE_VENV") {
            Some(dir) => Outcome::Skipped(format!("INFERSCOPE_VENV is {}", PathBuf::from(dir).display())),
            None => match venv::make("venv", "requirements.txt") {
                Ok(_) => Outcome::Ok,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
        });
        if matches!(suite, None | Some("e2e" | "go" | "http2" | FULL)) {
            steps.take("Go programs", || match go::build(suite == Some(FULL)) {
                Ok(()) => Outcome::Ok,
                Err(error) => Outcome::Skipped(format!("{error:#}")),
            });
        }
        if suite == Some(FULL) {
            steps.take("large programs", || match programs::install() {
                Ok(()) => Outcome::Ok,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            });
        }
        if suite == Some(SDKS) {
            steps.take("SDKs", || match programs::install_sdks() {
                Ok(()) => Outcome::Ok,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            });
        }
        if suite == Some(VLLM) {
            steps.take("vLLM", || match vllm::install() {
                Ok(()) => Outcome::Ok,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            });
        }
        steps.take("build", || cargo(&["build", "--package", "inferscope", "--package", "inferscope-tests", "--bins"]));
        let required = env::var_os("INFERSCOPE_REQUIRE_E2E").is_some_and(|value| value == "1");
        steps.take("end-to-end tests", || match (end_to_end(filter), required) {
            (Ok(Outcome::Skipped(why)), true) => Outcome::Failed(format!("cannot run here: {why}")),
            (Ok(outcome), _) => outcome,
            (Err(error), _) => Outcome::Failed(format!("{error:#}")),
        });
        if filter.is_none() {
            for (topic, needs) in ON_DEMAND {
                let why = format!("{needs}: run `cargo xtask test --suite {topic}`");
                steps.take(topic, || Outcome::Skipped(why));
            }
        }
    }
    Ok(steps.finish())
}

/// Runs the end-to-end tests as root.
fn end_to_end(filter: Option<&str>) -> Result<Outcome> {
    let binary = built_tests()?;
    let mut keep: Vec<(&str, OsString)> = KEPT.iter().filter_map(|name| Some((*name, env::var_os(name)?))).collect();
    // Root must not leave files in the tree that its owner cannot remove.
    keep.push(("PYTHONDONTWRITEBYTECODE", "1".into()));
    let Some(mut command) = Root::find(false).command(binary, &keep) else {
        return Ok(Outcome::Skipped("needs root, and sudo is not there or asks for a password".to_owned()));
    };
    command.args(filter.map(topic));
    // A topic of the large suite may end in the name of another one.
    for (other, _) in ON_DEMAND.iter().filter(|(other, _)| filter != Some(other)) {
        command.args(["--skip", &topic(other)]);
    }
    Ok(outcome(&mut command))
}

/// What the names of a suite's scenarios begin with.
fn topic(suite: &str) -> String {
    format!("{}::", suite.replace('-', "_"))
}

/// Builds the end-to-end tests and asks cargo where they are.
fn built_tests() -> Result<PathBuf> {
    let args = ["test", "--package", "inferscope-tests", "--test", "e2e", "--no-run", "--message-format", "json"];
    let output = prepare::cargo().args(args).stderr(std::process::Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "the end-to-end tests do not build");
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut tests = messages.filter(|message| message["target"]["name"] == "e2e");
    let path = tests.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    path.with_context(|| format!("cargo built no end-to-end tests in {}", place::target().display()))
}

fn cargo(args: &[&str]) -> Outcome {
    outcome(prepare::cargo().args(args))
}

fn outcome(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Outcome::Ok,
        Ok(status) => Outcome::Failed(status.to_string()),
        Err(error) => Outcome::Failed(format!("cannot run {command:?}: {error}")),
    }
}

/// The steps so far.
#[derive(Default)]
struct Steps(Vec<(&'static str, Outcome, Duration)>);

impl Steps {
    fn take(&mut self, name: &'static str, step: impl FnOnce() -> Outcome) {
        say(&format!("xtask: {name}"));
        let began = Instant::now();
        let outcome = step();
        self.0.push((name, outcome, began.elapsed()));
    }

    fn finish(self) -> ExitCode {
        let mut code = ExitCode::SUCCESS;
        say("");
        for (name, outcome, took) in self.0 {
            let word = match outcome {
                Outcome::Ok => "ok".to_owned(),
                Outcome::Skipped(why) => format!("SKIPPED: {why}"),
                Outcome::Failed(why) => {
                    code = ExitCode::FAILURE;
                    format!("FAILED: {why}")
                }
            };
            say(&format!("{name:<30} {:>6.1} s  {word}", took.as_secs_f64()));
        }
        code
    }
}
