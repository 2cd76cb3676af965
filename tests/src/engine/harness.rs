//! An engine as a test has it: started, served by, told to fail, and stopped with the truth in hand.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open},
};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    timeline::bury,
    truth::{PIDS, Pids, Truth},
};
use crate::{
    gpu::timeline::{Device, ENV, Header, Timeline},
    place,
    process::{Program, Stream},
};

/// How long an engine may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How an engine is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address that it listens on. The port is a free one.
    pub host: IpAddr,
    /// Indices of its devices.
    pub devices: Vec<u32>,
    /// Worker processes; one for each device by default.
    pub workers: Option<usize>,
    /// Name of the served model.
    pub model: String,
    /// A file that each worker reads before the engine serves.
    pub weights: Option<PathBuf>,
    /// A stand-in for libcudart.
    pub cudart: Option<PathBuf>,
    /// How many times as fast as the model of the GPU.
    pub rate_scale: f64,
    /// Go on generating for clients that have gone.
    pub ignore_disconnect: bool,
    /// The fake GPU's time line that it appends to; by default one of its own, with as many devices as it names.
    pub timeline: Option<PathBuf>,
    /// A command that becomes the engine, with its arguments: `ip netns exec NAME`. It must exec.
    pub wrapper: Vec<OsString>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            devices: vec![0],
            workers: None,
            model: "inferscope/mock-8b".to_owned(),
            weights: None,
            cudart: None,
            rate_scale: 1.0,
            ignore_disconnect: false,
            timeline: None,
            wrapper: Vec::new(),
        }
    }
}

impl Options {
    fn command(&self, engine: &Path, dir: &Path) -> Command {
        let mut words = self.wrapper.clone();
        words.push(engine.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("serve").arg("--dir").arg(dir);
        command.args(["--port", "0", "--host", &self.host.to_string(), "--model", &self.model]);
        command.args(["--rate-scale", &self.rate_scale.to_string()]);
        let devices: Vec<String> = self.devices.iter().map(u32::to_string).collect();
        command.args(["--devices", &devices.join(",")]);
        if let Some(workers) = self.workers {
            command.args(["--workers", &workers.to_string()]);
        }
        for (name, path) in [("--weights", &self.weights), ("--cudart", &self.cudart)] {
            if let Some(path) = path {
                command.arg(name).arg(path);
            }
        }
        if self.ignore_disconnect {
            command.arg("--ignore-disconnect");
        }
        command
    }
}

/// An engine. One that goes out of scope is killed, and its files are gone with it.
#[derive(Debug)]
pub struct MockEngine {
    program: Program,
    dir: TempDir,
    timeline: PathBuf,
    host: IpAddr,
    pids: Pids,
}

impl MockEngine {
    /// Starts an engine and waits until it serves.
    pub fn start(options: &Options) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let timeline = match &options.timeline {
            Some(path) => path.clone(),
            None => {
                let path = dir.path().join("gpus.jsonl");
                let n = options.devices.iter().max().map_or(0, |last| *last + 1);
                Timeline::create(&path, &Header::new((0..n).map(Device::h100)))?;
                path
            }
        };
        let mut command = options.command(&place::mock_engine()?, dir.path());
        let program = Program::spawn("mock-engine", command.env(ENV, &timeline))?;
        program.wait_for_line(Stream::Stdout, "ready", PATIENCE, |line| line == "mock-engine: ready")?;
        let pids = serde_json::from_slice(&fs::read(dir.path().join(PIDS))?)?;
        Ok(Self { program, dir, timeline, host: options.host, pids })
    }

    /// The port that it serves on.
    pub fn port(&self) -> u16 {
        self.pids.port
    }

    /// The address that it serves on.
    pub fn address(&self) -> SocketAddr {
        (self.host, self.pids.port).into()
    }

    /// Its processes.
    pub fn pids(&self) -> &Pids {
        &self.pids
    }

    /// The fake GPU's time line that it appends to.
    pub fn timeline(&self) -> &Path {
        &self.timeline
    }

    /// Its front, with what it printed.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Injects a fault (`message::Fault`). It takes effect between two steps, some milliseconds later at most.
    pub fn control(&self, fault: &Value) -> Result<()> {
        let mut socket = TcpStream::connect(self.address()).context("cannot connect to the engine")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let body = fault.to_string();
        let head = format!("POST /control HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
        socket.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{fault}: {answer}");
        Ok(())
    }

    /// What it has written down so far.
    pub fn truth(&self) -> Result<Truth> {
        Truth::read(self.dir.path())
    }

    /// Stops it, and returns all that it has written down.
    pub fn stop(&self) -> Result<Truth> {
        self.program.signal(Signal::TERM)?;
        self.program.wait_success(PATIENCE)?;
        self.truth()
    }

    /// Kills the front with SIGKILL and waits until all its processes have ended.
    pub fn kill(&self) -> Result<Truth> {
        let others = Watch::new(&self.pids.all())?;
        self.program.signal(Signal::KILL)?;
        others.wait(PATIENCE)?;
        // Nobody of the engine is left to say it.
        bury(&self.timeline, &self.pids.on_devices())?;
        self.truth()
    }

    /// Waits until it has ended by itself with all its processes, and returns how and what it has written down.
    pub fn wait_end(&self) -> Result<(ExitStatus, Truth)> {
        let all = Watch::new(&self.pids.all())?;
        let status = self.program.wait_exit(PATIENCE)?;
        all.wait(PATIENCE)?;
        Ok((status, self.truth()?))
    }
}

/// Processes whose end is awaited, whoever's children they are.
struct Watch(Vec<(u32, OwnedFd)>);

impl Watch {
    fn new(pids: &[u32]) -> Result<Self> {
        let mut open = Vec::new();
        for pid in pids {
            let raw = Pid::from_raw(i32::try_from(*pid)?).context("no process has the number 0")?;
            match pidfd_open(raw, PidfdFlags::empty()) {
                Ok(fd) => open.push((*pid, fd)),
                // It has ended already.
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot watch process {pid}")),
            }
        }
        Ok(Self(open))
    }

    fn wait(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        for (pid, fd) in &self.0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&Timespec::try_from(left)?))? == 0 {
                bail!("process {pid} has not ended within {patience:?}");
            }
        }
        Ok(())
    }
}
