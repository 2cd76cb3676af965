//! The test programs in Go (`tests/programs/go/`), and the ways to build them. They need nothing but Go's own library.
//!
//! `cargo xtask test` builds them under `target/go/`: with the Go that is on `PATH`, and for `--suite capture-full` with old
//! releases too, which that Go downloads. A binary's name begins with [`PREFIX`], which is how a test knows what a
//! process is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::place;

/// What the names of the binaries begin with.
pub const PREFIX: &str = "go-";

/// The programs: their folders.
const PROGRAMS: [&str; 3] = ["client", "server", "growth"];

/// How a binary is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As `go build` does.
    Plain,
    /// Without symbols and debug information.
    Stripped,
    /// Position-independent, and without symbols.
    Pie,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Stripped, Self::Pie];

    /// For names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Stripped => "stripped",
            Self::Pie => "pie",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Stripped => &["-ldflags=-s -w"],
            Self::Pie => &["-ldflags=-s -w", "-buildmode=pie"],
        }
    }
}

/// One way of building the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// The release; the Go that is on `PATH` if absent.
    pub release: Option<&'static str>,
    /// How it is linked.
    pub mode: Mode,
}

impl Build {
    /// With the Go that is there.
    pub fn current(mode: Mode) -> Self {
        Self { release: None, mode }
    }

    /// With an old release.
    pub fn old(release: &'static str, mode: Mode) -> Self {
        Self { release: Some(release), mode }
    }

    /// For names of tests.
    pub fn name(&self) -> String {
        let release = self.release.map_or("current".to_owned(), |release| release.replace('.', "_"));
        format!("{release}::{}", self.mode.name())
    }

    /// A binary.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{PREFIX}{name}"))
    }

    /// Why the binaries are not there, if so.
    pub fn missing(&self) -> Option<String> {
        let all = PROGRAMS.iter().all(|name| self.program(name).is_file());
        (!all).then(|| format!("no Go programs in {}: `cargo xtask test` builds them", self.folder().display()))
    }

    fn folder(&self) -> PathBuf {
        target().join(self.release.unwrap_or("current")).join(self.mode.name())
    }

    fn build(&self) -> Result<()> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/go");
        fs::create_dir_all(self.folder())?;
        for name in PROGRAMS {
            let mut command = Command::new("go");
            command.arg("build").args(self.mode.flags()).arg("-o").arg(self.program(name)).arg(format!("./{name}"));
            // Go's network is for fetching an old release only, and a compiler of C is not needed.
            command.current_dir(&sources).env("GOFLAGS", "-mod=mod").env("CGO_ENABLED", "0");
            command.env("GOCACHE", target().join("cache"));
            match self.release {
                None => command.env("GOTOOLCHAIN", "local").env("GOPROXY", "off"),
                Some(release) => command.env("GOTOOLCHAIN", format!("go{release}")),
            };
            let output = command.output().context("cannot run go")?;
            if !output.status.success() {
                bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
            }
        }
        Ok(())
    }
}

/// Releases that the large suite builds with: the first that is supported, the one that Debian 12 has, and the last of those that
/// keep their text's start in the table.
pub const OLD: [&str; 3] = ["1.17.13", "1.19.13", "1.21.13"];

/// Builds all programs; with `old` those of old releases too.
pub fn build(old: bool) -> Result<()> {
    if place::on_path("go").is_none() {
        bail!("go is not installed");
    }
    Mode::ALL.iter().try_for_each(|mode| Build::current(*mode).build())?;
    if old {
        for release in OLD {
            Mode::ALL.iter().try_for_each(|mode| Build::old(release, *mode).build())?;
        }
    }
    Ok(())
}

fn target() -> PathBuf {
    place::target().join("go")
}
