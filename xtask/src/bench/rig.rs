//! The programs of a benchmark: those of the load generator, which run all the time, and the agent, which comes and
//! goes.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use inferscope_tests::{
    agent::{Agent, Stopped},
    load::order::{Driven, Load, Served},
    process::{Program, Stream},
    usage,
};
use serde::{Serialize, de::DeserializeOwned};
use tempfile::TempDir;

/// How long a program may take to start, and beyond its order's own time to carry it out.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program of the load generator.
pub struct Worker {
    program: Program,
    ready: String,
    answered: usize,
}

impl Worker {
    fn start(binary: &Path, args: &[&str]) -> Result<Self> {
        let program = Program::spawn(format!("inferscope-load {}", args[0]), Command::new(binary).args(args))?;
        let ready = program.wait_for_line(Stream::Stdout, "ready", PATIENCE, |line| line.starts_with("ready"))?;
        Ok(Self { program, ready, answered: 1 })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Gives an order and waits for the account of it.
    pub fn ask<Account: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<Account> {
        self.tell(order)?;
        self.hear()
    }

    /// Gives an order.
    pub fn tell(&mut self, order: &impl Serialize) -> Result<()> {
        self.program.write_line(&serde_json::to_string(order)?)
    }

    /// Waits for the account of the order that was given last.
    pub fn hear<Account: DeserializeOwned>(&mut self) -> Result<Account> {
        let line = self.program.wait_for("answer", PATIENCE, |state| state.stdout.get(self.answered).cloned())?;
        self.answered += 1;
        serde_json::from_str(&line).with_context(|| format!("not an account: {line:.200}"))
    }
}

/// All of them.
pub struct Rig {
    agent: PathBuf,
    /// Serves.
    pub server: Worker,
    /// Calls the server.
    pub driver: Worker,
    /// Is server and client in one thread.
    pub pair: Worker,
    /// Is server and client in several threads, as fast as it goes.
    pub flood: Worker,
    /// Has nothing to do with it.
    pub bystander: Worker,
    next_call: Cell<u64>,
    room: TempDir,
}

impl Rig {
    /// Starts everything but the agent.
    pub fn start(load: &Path, agent: &Path) -> Result<Self> {
        let room = tempfile::Builder::new().prefix("inferscope-bench-").tempdir()?;
        let at = |name: &str| room.path().join(name).display().to_string();
        let server = Worker::start(load, &["serve", "--pki", &at("server")])?;
        let port = |name: &str| {
            let field = server.ready.split(' ').find_map(|field| field.strip_prefix(name));
            field.with_context(|| format!("no {name} in {}", server.ready))
        };
        let ca = room.path().join("server/ca.pem").display().to_string();
        let driver = ["drive", "--http", port("http=")?, "--https", port("https=")?, "--ca", &ca];
        Ok(Self {
            agent: agent.to_owned(),
            driver: Worker::start(load, &driver)?,
            pair: Worker::start(load, &["pair", "--pki", &at("pair")])?,
            flood: Worker::start(load, &["flood", "--pki", &at("flood")])?,
            bystander: Worker::start(load, &["bystander"])?,
            server,
            next_call: Cell::new(1),
            room,
        })
    }

    /// A file of the benchmark's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// Takes so many numbers for calls; gives the first.
    pub fn calls(&self, n: u64) -> u64 {
        self.next_call.replace(self.next_call.get() + n)
    }

    /// Starts the agent and waits until it is ready.
    pub fn agent(&self, args: &[&str]) -> Result<Watcher> {
        let agent = self.launch(args)?;
        agent.0.wait_ready()?;
        Ok(agent)
    }

    /// Starts the agent and returns at once.
    pub fn launch(&self, args: &[&str]) -> Result<Watcher> {
        Ok(Watcher(Agent::launch(Command::new(&self.agent).args(args))?))
    }

    /// A command of the agent.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.agent);
        command.args(args);
        command
    }

    /// Carries out a run of calls, and says what both ends tell of it.
    pub fn drive(&mut self, load: &Load) -> Result<(Driven, Served)> {
        let _before: Served = self.server.ask(&"begin")?;
        let driven = self.driver.ask(load)?;
        Ok((driven, self.server.ask(&"end")?))
    }
}

/// An agent that is running.
pub struct Watcher(Agent);

/// How long calls that have ended may take to be told.
const TOLD: Duration = Duration::from_secs(10);

impl Watcher {
    /// Starts an agent by a command ([`Rig::command`]) and waits until it is ready.
    pub fn ready(command: &mut Command) -> Result<Self> {
        Ok(Self(Agent::ready(command)?))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.0.program().pid()
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Result<Duration> {
        usage::cpu_of(self.pid()).context("the agent's CPU clock cannot be read")
    }

    /// Lines on standard output so far: one a call.
    pub fn n_lines(&self) -> Result<usize> {
        self.0.program().wait_for("state", TOLD, |state| Some(state.stdout.len()))
    }

    /// Waits until so many calls were told; what is then missing shows when they are counted.
    pub fn wait_for_lines(&self, n: usize) {
        let _late = self.0.program().wait_for("calls", TOLD, |state| (state.stdout.len() >= n).then_some(()));
    }

    /// Stops it; demands a clean end.
    pub fn stop(self) -> Result<Stopped> {
        let stopped = self.0.stop()?;
        // On a machine with many libraries detaching takes long, and that is measured elsewhere.
        anyhow::ensure!(stopped.code == 0, "the agent ended with {}: {}", stopped.code, stopped.stderr.join("\n"));
        Ok(stopped)
    }
}
