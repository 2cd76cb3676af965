//! `python/client_libssl.py` as a process: a client that is told call by call what to do with libssl.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{agent::Agent, call::Call, place, process::Program};
use serde_json::Value;

use crate::{expect, scenario::SOON};

/// The system's library, which the first of these paths that exists names.
const LIBRARIES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/libssl.so.3", "/usr/lib64/libssl.so.3"];

/// Where the system's library is.
pub fn library() -> Result<PathBuf> {
    LIBRARIES.map(PathBuf::from).into_iter().find(|path| path.exists()).context("no libssl.so.3 on this machine")
}

/// An agent that says what it probes.
pub fn talkative() -> Result<Agent> {
    Agent::start(&["trace", "-v", "--output", "jsonl"])
}

/// Waits until the file at a path was probed `n` times: a call in the milliseconds between the first mapping of a file and its
/// probes is seen from its middle on.
pub fn wait_probed(agent: &Agent, path: &Path, n: usize) -> Result<()> {
    let path = path.display().to_string();
    agent.program().wait_for("probes", SOON, |state| {
        let said = |line: &&String| line.contains("TLS library probed") && line.contains(&path);
        (state.stderr.iter().filter(said).count() >= n).then_some(())
    })
}

/// A call as the client itself tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The response's id.
    pub id: String,
    /// Who made it.
    pub pid: u64,
    /// The client's port.
    pub port: u64,
    /// The server's port.
    pub server: u64,
    /// The descriptor of its socket.
    pub fd: u64,
    /// Address of its TLS object.
    pub object: u64,
}

impl Said {
    fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line)?;
        let number = |name: &str| value[name].as_u64().with_context(|| format!("no {name} in {line}"));
        Ok(Self {
            id: value["id"].as_str().context("no id")?.to_owned(),
            pid: number("pid")?,
            port: number("port")?,
            server: number("server")?,
            fd: number("fd")?,
            object: number("object")?,
        })
    }

    /// Demands one span on each side, with the process and the ports that the client told.
    pub fn check(&self, calls: &[Call]) -> Result<()> {
        let (client, server) = expect::pair(calls, &self.id)?;
        ensure!(client.pid() == Some(self.pid), "of process {}: {}", self.pid, client.json());
        ensure!(client.number("network.peer.port") == Some(self.server), "to {}: {}", self.server, client.json());
        ensure!(server.number("network.peer.port") == Some(self.port), "from {}: {}", self.port, server.json());
        ensure!(client.capture() == Some("complete"), "all of it: {}", client.json());
        let parent = server.member("parent_span_id");
        ensure!(parent.is_none() || parent == client.member("span_id"), "another's: {}", server.json());
        Ok(())
    }
}

/// A running client.
pub struct Libssl {
    program: Program,
    /// Lines that were dealt with.
    done: usize,
}

impl Libssl {
    /// Starts one without the library.
    pub fn start() -> Result<Self> {
        let mut command = Command::new(place::python()?);
        command.arg(place::script("client_libssl.py"));
        Ok(Self { program: Program::spawn("client_libssl", &mut command)?, done: 0 })
    }

    /// Starts one with the library at `path`.
    pub fn with(path: &Path) -> Result<Self> {
        let mut client = Self::start()?;
        client.load(path)?;
        Ok(client)
    }

    /// Loads the library at `path`.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        self.tell(&format!("load {}", path.display())).map(drop)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Tells it to do something and waits until that is done; gives the calls that were made.
    pub fn tell(&mut self, line: &str) -> Result<Vec<Said>> {
        self.send(line)?;
        self.wait()
    }

    /// Tells it to do something.
    pub fn send(&mut self, line: &str) -> Result<()> {
        self.program.write_line(line)
    }

    /// Waits until what was told last is done; gives the calls that were made.
    pub fn wait(&mut self) -> Result<Vec<Said>> {
        let earlier = self.done;
        let (calls, done) = self.program.wait_for("end of the work", SOON, |state| {
            let mut lines = state.stdout.iter().enumerate().skip(earlier);
            let end = lines.find(|(_, line)| *line == "done")?.0;
            Some((state.stdout[earlier..end].to_vec(), end + 1))
        })?;
        self.done = done;
        calls.iter().map(|line| Said::parse(line)).collect()
    }
}
