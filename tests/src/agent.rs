//! The agent as a process: started as people start it, read through its two streams only.

use std::{
    ffi::OsStr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    call::Call,
    place,
    process::{Program, State, Stream, exit_code},
};

/// What the agent says once its probes are attached and the processes of the machine were looked at.
pub const READY: &str = "inferscope: ready";

/// What its last line begins with.
pub const LEDGER: &str = "inferscope: ledger ";

/// How long attaching may take on a slow, busy machine. The target is one second, and the benchmark checks that.
const ATTACH: Duration = Duration::from_secs(60);

/// How long the agent may take from a signal to its end: part of its contract.
pub const EXIT: Duration = Duration::from_secs(5);

/// What is waited for an exit before it counts as a hang; an exit after more than [`EXIT`] is a failure of its own.
const HANG: Duration = Duration::from_secs(30);

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    program: Program,
}

impl Agent {
    /// Starts `inferscope ARGS` and waits until it is ready.
    pub fn start(args: &[impl AsRef<OsStr>]) -> Result<Self> {
        Self::ready(Command::new(place::agent()?).args(args))
    }

    /// Starts `inferscope trace --output jsonl ARGS` and waits until it is ready.
    pub fn trace(args: &[&str]) -> Result<Self> {
        Self::start(&[&["trace", "--output", "jsonl"], args].concat())
    }

    /// Starts `inferscope run --config FILE` and waits until it is ready.
    pub fn run(config: &Path) -> Result<Self> {
        Self::start(&["run".as_ref(), "--config".as_ref(), config.as_os_str()])
    }

    /// Starts any command line that ends up as an agent, and waits until it is ready.
    pub fn ready(command: &mut Command) -> Result<Self> {
        let agent = Self::launch(command)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Starts any command line that ends up as an agent, and returns at once.
    pub fn launch(command: &mut Command) -> Result<Self> {
        Ok(Self { program: Program::spawn("inferscope", command)? })
    }

    /// Waits until the probes are attached.
    pub fn wait_ready(&self) -> Result<()> {
        self.program.wait_for_line(Stream::Stderr, READY, ATTACH, |line| line.contains(READY))?;
        Ok(())
    }

    /// The process.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Waits until at least `n` calls that `matches` were printed, and returns those.
    pub fn wait_for_calls(&self, n: usize, timeout: Duration, matches: impl Fn(&Call) -> bool) -> Result<Vec<Call>> {
        let mut seen = 0;
        let mut found = Vec::new();
        let result = self.program.wait_for("calls", timeout, |state| {
            // Each line is parsed once: under load this runs for every line that comes.
            for call in state.stdout[seen..].iter().filter_map(|line| Call::parse(line).ok()) {
                if matches(&call) {
                    found.push(call);
                }
            }
            seen = state.stdout.len();
            (found.len() >= n).then_some(())
        });
        result.with_context(|| format!("{} of {n} calls were reported", found.len()))?;
        Ok(found)
    }

    /// Stops the agent with SIGINT, as Ctrl-C does.
    pub fn stop(self) -> Result<Stopped> {
        self.stop_with(Signal::INT)
    }

    /// Stops the agent with a signal and takes in what it leaves.
    pub fn stop_with(self, signal: Signal) -> Result<Stopped> {
        let asked = Instant::now();
        self.program.signal(signal)?;
        self.finish(asked)
    }

    /// Waits for the agent to end by itself.
    pub fn finish(self, since: Instant) -> Result<Stopped> {
        let status = self.program.wait_exit(HANG)?;
        let took = since.elapsed();
        self.program.wait_for("state", HANG, |state| Some(Stopped::new(exit_code(status), took, state)))
    }
}

/// An agent that has ended.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Exit code; 128 plus the signal for one that was killed.
    pub code: i32,
    /// From the request to stop to the end.
    pub took: Duration,
    /// Everything on standard output.
    pub stdout: Vec<String>,
    /// Everything on standard error.
    pub stderr: Vec<String>,
}

impl Stopped {
    fn new(code: i32, took: Duration, state: &State) -> Self {
        Self { code, took, stdout: state.stdout.clone(), stderr: state.stderr.clone() }
    }

    /// Every call that was printed. Fails when standard output holds anything else.
    pub fn calls(&self) -> Result<Vec<Call>> {
        self.stdout.iter().map(|line| Call::parse(line)).collect()
    }

    /// The ledger, if there was one.
    pub fn ledger(&self) -> Option<Value> {
        let line = self.stderr.iter().rev().find_map(|line| line.split_once(LEDGER))?;
        serde_json::from_str(line.1).ok()
    }

    /// Demands a clean end: exit code 0 in time, no panic, a ledger that balances.
    pub fn clean(self) -> Result<Self> {
        let problem = if self.code != 0 {
            format!("exit code {}", self.code)
        } else if self.took > EXIT {
            format!("took {:?} to exit", self.took)
        } else if let Some(line) = self.stderr.iter().find(|line| line.contains("panicked")) {
            line.clone()
        } else {
            match self.ledger() {
                None => "no ledger line on stderr".to_owned(),
                Some(ledger) if ledger["balanced"] != true => format!("the ledger does not balance: {ledger}"),
                Some(_) => return Ok(self),
            }
        };
        bail!("the agent did not end cleanly: {problem}\n  {}", self.stderr.join("\n  "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behaves like the agent as far as its streams go.
    fn stand_in(script: &str) -> Result<Agent> {
        Agent::ready(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn calls_are_collected_and_a_clean_end_is_recognised() {
        let agent = stand_in(
            r#"trap 'echo "inferscope: ledger {\"balanced\":true}" >&2; exit 0' INT
            echo '{"schema":1,"kind":"client","attributes":{}}'; echo "inferscope: ready" >&2
            echo '{"schema":1,"kind":"server","attributes":{}}'; while :; do read x; done"#,
        )
        .unwrap();
        let found = agent.wait_for_calls(1, HANG, |call| call.kind() == "server").unwrap();
        assert_eq!(found.len(), 1);
        let stopped = agent.stop().unwrap().clean().unwrap();
        assert_eq!(stopped.calls().unwrap().len(), 2);
        assert_eq!(stopped.ledger().unwrap()["balanced"], true);
    }

    #[test]
    fn an_agent_that_never_gets_ready_is_an_error_with_its_words() {
        let error = stand_in("echo 'inferscope: not permitted' >&2; exit 77").unwrap_err().to_string();
        assert!(error.contains("not permitted") && error.contains("77"), "{error}");
    }

    #[test]
    fn an_unbalanced_ledger_is_not_clean() {
        let agent = stand_in(
            r#"trap 'echo "inferscope: ledger {\"balanced\":false}" >&2; exit 0' INT
            echo "inferscope: ready" >&2; while :; do read x; done"#,
        );
        let error = agent.unwrap().stop().unwrap().clean().unwrap_err().to_string();
        assert!(error.contains("does not balance"), "{error}");
    }
}
