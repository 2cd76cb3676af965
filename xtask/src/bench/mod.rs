//! `cargo xtask bench`: what the agent costs those whom it watches, what it loses, what it takes itself.
//!
//! Times are measured and never asserted: they are the machine's as much as ours. What is captured is asserted, and a
//! call that is missing, doubled or wrong fails the task. The load comes from `inferscope-load` (`tests/src/load/`),
//! which knows nothing of the agent; [`rig`] runs both, [`measure`] orders the runs, [`scenario`], [`extra`] and [`engines`] say
//! what is run, [`target`] what it should come to.

mod complete;
mod engines;
mod extra;
mod machine;
mod measure;
mod plot;
mod report;
mod results;
mod rig;
mod scenario;
mod stats;
mod target;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args;
use inferscope_tests::place;

pub use self::machine::Machine;
use self::{measure::Effort, results::Results, rig::Rig};
use crate::{prepare, show::say};

/// What the agent exits with when it lacks a right, and so does this.
const NO_PRIVILEGE: u8 = 77;

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct Options {
    /// Two minutes instead of twelve: to see that it works, not for figures
    #[arg(long)]
    quick: bool,
    /// Only scenarios whose name holds this; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Also write the results here, for readers of the repository
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "docs/bench")]
    publish: Option<PathBuf>,
}

/// How much of what is measured.
pub struct Plan {
    only: Vec<String>,
    /// Blocks of scenarios whose phases take less than a second.
    short: Effort,
    /// Blocks of the others.
    long: Effort,
    /// How long calls are started in one phase.
    phase_ns: u64,
    /// How long a step of a ramp takes.
    ramp_ms: u64,
    /// Part of the usual repetitions, in percent.
    percent: u64,
}

impl Plan {
    fn new(options: &Options) -> Self {
        let only = options.only.clone();
        let effort = |blocks, controls| Effort { blocks, controls };
        if options.quick {
            let (short, long) = (effort(1, 1), effort(1, 0));
            Self { only, short, long, phase_ns: 700_000_000, ramp_ms: 500, percent: 30 }
        } else {
            let (short, long) = (effort(4, 4), effort(3, 1));
            Self { only, short, long, phase_ns: 1_500_000_000, ramp_ms: 1500, percent: 100 }
        }
    }

    /// Whether a scenario is to be run. Says that it begins.
    fn wants(&self, name: &str) -> bool {
        let wanted = self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()));
        if wanted {
            say(&format!("xtask: {name}"));
        }
        wanted
    }

    /// The repetitions to make of `n` usual ones.
    fn scale(&self, n: u64) -> u64 {
        (n * self.percent / 100).max(1)
    }
}

/// Runs the task.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !prepare::is_root() {
        say("The benchmark starts the agent dozens of times and reads its clocks: run it as root.");
        return Ok(ExitCode::from(NO_PRIVILEGE));
    }
    let machine = Machine::here();
    let (load, agent) = build()?;
    let (began, plan) = (Instant::now(), Plan::new(options));
    let mut results = Results::default();
    {
        let mut rig = Rig::start(&load, &agent)?;
        scenario::run(&mut rig, &plan, &mut results);
        extra::run(&mut rig, &plan, &mut results);
        engines::run(&rig, &plan, &mut results);
    }
    let targets = target::verdicts(&results);
    let published = options.publish.as_deref().map(|dir| place::workspace().join(dir));
    for dir in [place::target().join("bench")].iter().chain(&published) {
        write(
            dir,
            &[
                ("bench.md", report::markdown(&machine, options.quick, &targets, &results)),
                ("bench.json", report::json(&machine, options.quick, &targets, &results)? + "\n"),
                ("bench.svg", plot::svg(&results)),
            ],
        )?;
    }
    for target in &targets {
        let value = report::number(target.value);
        say(&format!("{:<60} {:>12} {:<9} {:<16} {}", target.title, value, target.unit, target.target, target.verdict));
    }
    let problems = results.problems();
    for problem in &problems {
        say(&format!("xtask: {problem}"));
    }
    let where_to = place::target().join("bench");
    say(&format!(
        "xtask: {} problems, {:.0} s, see {}",
        problems.len(),
        began.elapsed().as_secs_f64(),
        where_to.display()
    ));
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the load generator, and the agent as it is released; gives their places.
fn build() -> Result<(PathBuf, PathBuf)> {
    let missing: Vec<_> = ["libssl-dev", "pkg-config"].into_iter().filter(|package| !is_installed(package)).collect();
    prepare::install(&missing).map_err(|why| anyhow::anyhow!("the load generator links libssl: {why}"))?;
    say("xtask: building for release (the first time takes some minutes)");
    let built = |name: &str| place::target().join("release").join(name);
    // Another agent can be measured: one that was built from other sources, say.
    let agent = match std::env::var_os("INFERSCOPE_BIN") {
        Some(agent) => agent.into(),
        None => {
            prepare::build(&["--release", "--package", "inferscope"])?;
            built("inferscope")
        }
    };
    prepare::build(&[
        "--release",
        "--package",
        "inferscope-tests",
        "--no-default-features",
        "--features",
        "load",
        "--bin",
        "inferscope-load",
    ])?;
    Ok((built("inferscope-load"), agent))
}

/// Whether what a package is wanted for is here, whoever brought it.
fn is_installed(package: &str) -> bool {
    match package {
        "libssl-dev" => Path::new("/usr/include/openssl/ssl.h").exists(),
        program => place::on_path(program).is_some(),
    }
}

fn write(dir: &Path, files: &[(&str, String)]) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, content) in files {
        let path = dir.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
