//! The truth: what the other end of a subject's connections read and wrote, byte by byte, from `python/truth.py`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use inferscope_tests::{
    pki::Pki,
    place,
    process::{Program, Stream},
};
use serde_json::Value;

use crate::scenario::SOON;

/// An exchange that is over.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Its number among all exchanges of this end.
    pub n: u64,
    /// `gen_ai.response.id`.
    pub id: String,
    /// Content chunks, where it was streamed.
    pub chunks: Option<u64>,
    read: usize,
    written: usize,
}

/// A connection as its other end saw it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// What the subject read: what its other end wrote.
    pub read: Vec<u8>,
    /// What the subject wrote.
    pub written: Vec<u8>,
    /// Its exchanges.
    pub marks: Vec<Mark>,
}

impl Connection {
    /// How many bytes the subject read and wrote in exchanges with numbers from `n` on, and after them.
    pub fn rest(&self, n: u64) -> (usize, usize) {
        let last = self.marks.iter().rfind(|mark| mark.n < n);
        let (written, read) = last.map_or((0, 0), |mark| (mark.read, mark.written));
        (self.read.len() - read, self.written.len() - written)
    }

    fn parse(folder: &Path, number: usize) -> Result<Self> {
        let file = |name: &str| folder.join(format!("{number}.{name}"));
        let marks = fs::read_to_string(file("marks"))?;
        Ok(Self {
            read: fs::read(file("written"))?,
            written: fs::read(file("read"))?,
            marks: marks.lines().map(Mark::parse).collect::<Result<_>>()?,
        })
    }
}

impl Mark {
    fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line)?;
        let number = |name: &str| value[name].as_u64().with_context(|| format!("no {name} in {line}"));
        let streamed = value["stream"] == true;
        Ok(Self {
            n: number("n")?,
            id: value["id"].as_str().context("a call was refused")?.to_owned(),
            chunks: if streamed { Some(number("chunks")?) } else { None },
            read: number("read")? as usize,
            written: number("written")? as usize,
        })
    }
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1, plain or over TLS.
    Http1,
    /// HTTP/2 with whoever agrees to it over TLS.
    Http2,
    /// HTTP/3, of which it keeps no record.
    Http3,
}

/// One of the programs.
pub struct Truth {
    program: Program,
    folder: PathBuf,
    port: u16,
}

impl Truth {
    /// Starts a server that keeps its files in `folder`; with `hold` it holds back the end of that answer.
    pub fn server(folder: &Path, pki: Option<&Pki>, speaks: Speaks, hold: Option<u64>) -> Result<Self> {
        fs::create_dir(folder)?;
        let script = if speaks == Speaks::Http3 { "truth_quic.py" } else { "truth_server.py" };
        let mut command = Command::new(place::python()?);
        command.arg(place::script(script)).arg(folder);
        if let Some(pki) = pki {
            command.arg("--cert").arg(&pki.cert).arg("--key").arg(&pki.key);
        }
        if speaks == Speaks::Http2 {
            command.arg("--http2");
        }
        if let Some(hold) = hold {
            command.args(["--hold", &hold.to_string()]);
        }
        let program = Program::spawn("truth server", &mut command)?;
        let line = program.wait_for_line(Stream::Stdout, "ready", SOON, |line| line.starts_with("ready "))?;
        let port = line.trim_start_matches("ready ").parse()?;
        Ok(Self { program, folder: folder.to_owned(), port })
    }

    /// Starts a client of a server at `port`; with `gate` it waits after so many exchanges, with `close` each has a
    /// connection of its own.
    pub fn client(folder: &Path, port: u16, ca: Option<&Path>, gate: Option<u64>, close: bool) -> Result<Self> {
        fs::create_dir(folder)?;
        let mut command = Command::new(place::python()?);
        command.arg(place::script("truth_client.py")).arg(folder).arg(port.to_string());
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        if let Some(gate) = gate {
            command.args(["--gate", &gate.to_string()]);
        }
        if close {
            command.arg("--close");
        }
        let program = Program::spawn("truth client", &mut command)?;
        Ok(Self { program, folder: folder.to_owned(), port })
    }

    /// Where it listens, or calls.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Waits until it holds.
    pub fn wait_held(&self) -> Result<()> {
        self.program.wait_for_line(Stream::Stdout, "held", SOON, |line| line == "held").map(drop)
    }

    /// Lets it go on.
    pub fn release(&mut self) -> Result<()> {
        self.program.write_line("go on")
    }

    /// Waits until a server has answered `n` times.
    pub fn wait_answered(&self, n: usize) -> Result<()> {
        self.program.wait_for("answers", SOON, |state| {
            (state.stdout.iter().filter(|line| *line == "answered").count() >= n).then_some(())
        })
    }

    /// Waits until every connection of a server is closed.
    pub fn wait_closed(&self) -> Result<()> {
        self.program.wait_for("end of all connections", SOON, |state| {
            let count = |word: &str| state.stdout.iter().filter(|line| *line == word).count();
            (count("opened") > 0 && count("opened") == count("closed")).then_some(())
        })
    }

    /// What it saw.
    pub fn connections(&self) -> Result<Vec<Connection>> {
        let count =
            fs::read_dir(&self.folder)?.flatten().filter(|entry| entry.path().extension() == Some("marks".as_ref()));
        (0..count.count()).map(|number| Connection::parse(&self.folder, number)).collect()
    }
}
