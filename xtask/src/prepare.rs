//! Getting a machine ready: Debian packages when root, cargo builds, and the way to root.

use std::{
    env,
    ffi::OsString,
    io::IsTerminal as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use inferscope_tests::place;
use rustix::process::geteuid;

use crate::show::say;

/// A program that tests need, and the package that has it.
const PACKAGES: [(&str, &str); 13] = [
    ("cc", "gcc"),
    ("curl", "curl"),
    ("wget", "wget"),
    ("node", "nodejs"),
    ("setpriv", "util-linux"),
    ("python3", "python3"),
    ("nginx", "nginx-light"),
    ("gnutls-cli", "gnutls-bin"),
    ("openssl", "openssl"),
    ("go", "golang-go"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("taskset", "util-linux"),
];

/// Whether this process is root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Installs what is missing of the programs that tests use, when root; else returns what is missing.
pub fn packages() -> Result<(), String> {
    let mut missing: Vec<_> =
        PACKAGES.iter().filter(|(program, _)| place::on_path(program).is_none()).map(|(_, package)| *package).collect();
    if !has_python_venv() {
        missing.push("python3-venv");
    }
    // Linked statically by a test's client.
    if !Path::new("/usr/lib/x86_64-linux-gnu/libssl.a").exists() {
        missing.push("libssl-dev");
    }
    install(&missing)
}

/// Whether Python can make virtual environments: Debian packs that apart.
pub fn has_python_venv() -> bool {
    let probe = Command::new("python3").args(["-c", "import ensurepip, venv"]).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

/// Installs Debian packages when root; else says what to do.
pub fn install(packages: &[&str]) -> Result<(), String> {
    if packages.is_empty() {
        return Ok(());
    }
    let wish = format!("apt-get install {}", packages.join(" "));
    if !is_root() || place::on_path("apt-get").is_none() {
        return Err(format!("missing {}: run `{wish}` as root", packages.join(", ")));
    }
    say(&format!("xtask: {wish}"));
    let apt = |args: &[&str]| {
        let status =
            Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    // The lists may be old or absent, as in a fresh container; where they are good, updating them is not needed.
    let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    if apt(&install) || (apt(&["update"]) && apt(&install)) { Ok(()) } else { Err(format!("`{wish}` failed")) }
}

/// `cargo`, as the one that runs this task.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(place::workspace());
    command
}

/// Builds packages.
pub fn build(args: &[&str]) -> Result<()> {
    let status = cargo().arg("build").args(args).status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo build {} failed", args.join(" "));
    }
    Ok(())
}

/// How to run something as root from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// This is root.
    Already,
    /// Through sudo, which asks for nothing.
    Sudo,
    /// Through sudo, which may ask for a password.
    SudoAsks,
    /// Not at all.
    No,
}

impl Root {
    /// Finds out; `may_ask` allows a password prompt where there is a terminal for it.
    pub fn find(may_ask: bool) -> Self {
        if is_root() {
            return Self::Already;
        }
        if place::on_path("sudo").is_none() {
            return Self::No;
        }
        let quiet = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
        match quiet {
            Ok(status) if status.success() => Self::Sudo,
            _ if may_ask && std::io::stdin().is_terminal() => Self::SudoAsks,
            _ => Self::No,
        }
    }

    /// A command that runs `program` as root, with the named variables of this environment.
    pub fn command(self, program: impl Into<OsString>, keep: &[(&str, OsString)]) -> Option<Command> {
        let program = program.into();
        let mut command = match self {
            Self::Already => {
                let mut command = Command::new(program);
                command.envs(keep.iter().map(|(name, value)| (name, value)));
                return Some(command);
            }
            Self::Sudo | Self::SudoAsks => Command::new("sudo"),
            Self::No => return None,
        };
        if self == Self::Sudo {
            command.arg("-n");
        }
        command.arg("env");
        for (name, value) in keep {
            let mut pair = OsString::from(format!("{name}="));
            pair.push(value);
            command.arg(pair);
        }
        command.arg(program);
        Some(command)
    }
}
