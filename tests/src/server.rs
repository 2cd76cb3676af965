//! The servers that are traced, as processes.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    pki::Pki,
    place,
    process::{Program, Stream},
};

/// How long a server may take to start: importing FastAPI on a busy machine is what takes longest.
const START: Duration = Duration::from_secs(60);

/// Event loop and HTTP parser that uvicorn runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// uvloop and httptools.
    Fast,
    /// asyncio and h11.
    Pure,
    /// hypercorn instead, which speaks HTTP/2 too.
    Http2,
}

impl Stack {
    /// Those of uvicorn.
    pub const ALL: [Self; 2] = [Self::Fast, Self::Pure];

    /// For names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "uvloop_httptools",
            Self::Pure => "asyncio_h11",
            Self::Http2 => "hypercorn",
        }
    }

    /// The server's options for it.
    pub fn options(self) -> [&'static str; 4] {
        match self {
            Self::Fast => ["--loop", "uvloop", "--http", "httptools"],
            Self::Pure => ["--loop", "asyncio", "--http", "h11"],
            Self::Http2 => ["--loop", "asyncio", "--http", "h2"],
        }
    }
}

/// How fast a server answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Content chunks of an answer.
    pub chunks: u32,
    /// Between two of them, in milliseconds.
    pub interval_ms: f64,
    /// Before the first of them, in milliseconds.
    pub first_token_ms: f64,
}

impl Pace {
    /// For tests that look at facts, not at time.
    pub const QUICK: Self = Self { chunks: 12, interval_ms: 2.0, first_token_ms: 5.0 };
    /// Ten seconds: a stream that is still under way when the test does something to it.
    pub const SLOW: Self = Self { chunks: 500, interval_ms: 20.0, first_token_ms: 5.0 };

    fn options(self) -> [String; 6] {
        let Self { chunks, interval_ms, first_token_ms } = self;
        [
            "--chunks".into(),
            chunks.to_string(),
            "--interval-ms".into(),
            interval_ms.to_string(),
            "--first-token-ms".into(),
            first_token_ms.to_string(),
        ]
    }
}

/// A running uvicorn with the test application.
#[derive(Debug)]
pub struct Uvicorn {
    program: Program,
    port: u16,
    log: PathBuf,
    pki: Option<Pki>,
}

impl Uvicorn {
    /// Starts one that keeps its log in `dir`; with `pki` it speaks TLS.
    pub fn start(stack: Stack, pki: Option<&Pki>, pace: Pace, dir: &Path) -> Result<Self> {
        Self::start_with(stack, pki, pace, dir, &[])
    }

    /// The same with more options.
    pub fn start_with(stack: Stack, pki: Option<&Pki>, pace: Pace, dir: &Path, options: &[&OsStr]) -> Result<Self> {
        let log = dir.join("server.log");
        // The log is this server's alone, also where a test starts a second one in the same place.
        fs::write(&log, "")?;
        let mut command = Command::new(place::python()?);
        command.arg(place::script("model_server.py")).args(stack.options()).args(pace.options());
        command.arg("--log").arg(&log).args(options);
        if let Some(pki) = pki {
            command.args([OsStr::new("--cert"), pki.cert.as_ref(), "--key".as_ref(), pki.key.as_ref()]);
        }
        let program = Program::spawn("uvicorn", &mut command)?;
        let line = program.wait_for_line(Stream::Stdout, "ready", START, |line| line.starts_with("ready "))?;
        let port = line.trim_start_matches("ready ").parse().context("no port after ready")?;
        Ok(Self { program, port, log, pki: pki.cloned() })
    }

    /// The process.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What clients call.
    pub fn base_url(&self) -> String {
        let scheme = if self.pki.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/v1", self.port)
    }

    /// The authority that clients trust.
    pub fn ca(&self) -> Option<&Path> {
        self.pki.as_ref().map(|pki| pki.ca.as_path())
    }

    /// Whether it speaks TLS.
    pub fn tls(&self) -> bool {
        self.pki.is_some()
    }

    /// What it logged so far, one entry per request that is over.
    pub fn log(&self) -> Result<Vec<Entry>> {
        fs::read_to_string(&self.log)?.lines().map(Entry::parse).collect()
    }
}

/// What the server says of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The response's id; absent for a refused request.
    pub id: Option<String>,
    /// The client's port.
    pub peer_port: u64,
    /// From the application's start to the first content chunk, in nanoseconds.
    pub ttft_ns: Option<u64>,
    /// Content chunks yielded.
    pub chunks: u64,
    /// `done`, `cancelled` or `refused`.
    pub end: String,
}

impl Entry {
    fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line)?;
        let start = value["start_ns"].as_u64().context("no start_ns")?;
        Ok(Self {
            id: value["id"].as_str().map(str::to_owned),
            peer_port: value["peer_port"].as_u64().context("no peer_port")?,
            ttft_ns: value["first_ns"].as_u64().map(|first| first - start),
            chunks: value["chunks"].as_u64().context("no chunks")?,
            end: value["end"].as_str().unwrap_or("").to_owned(),
        })
    }
}

/// A running `inferscope-model-server`.
#[derive(Debug)]
pub struct ModelServer {
    program: Program,
    http: u16,
    https: u16,
    ca: PathBuf,
}

impl ModelServer {
    /// Starts one on ports of its own choice, with its certificates in `dir`.
    pub fn start(binary: &Path, pace: Pace, dir: &Path) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["--port", "0", "--tls-port", "0", "--cert-dir"]).arg(dir).args(pace.options());
        let program = Program::spawn("inferscope-model-server", &mut command)?;
        let line = program.wait_for_line(Stream::Stdout, "ready", START, |line| line.starts_with("ready "))?;
        let port = |name: &str| -> Result<u16> {
            let field = line.split(' ').find_map(|field| field.strip_prefix(name));
            Ok(field.with_context(|| format!("no {name} in {line}"))?.parse()?)
        };
        Ok(Self { http: port("http=")?, https: port("https=")?, ca: dir.join("ca.pem"), program })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// What clients call without TLS.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.http)
    }

    /// What clients call with TLS.
    pub fn https_url(&self) -> String {
        format!("https://127.0.0.1:{}/v1", self.https)
    }

    /// The authority that clients trust.
    pub fn ca(&self) -> &Path {
        &self.ca
    }
}
