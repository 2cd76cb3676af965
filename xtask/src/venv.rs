//! Virtual environments under target/, made from a pinned list and kept until that list changes.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::place;
use sha2::{Digest as _, Sha256};

use crate::show::say;

/// File in the environment that says from which list it was made.
const STAMP: &str = "made-from";

/// Makes `target/NAME` from `tests/python/LIST` unless it is there already; returns its directory.
pub fn make(name: &str, list: &str) -> Result<PathBuf> {
    make_in(&place::target().join(name), &place::script(list))
}

fn make_in(dir: &Path, list: &Path) -> Result<PathBuf> {
    let stamp = stamp_of(&[list])?;
    let python = dir.join("bin/python");
    if python.exists() && fs::read_to_string(dir.join(STAMP)).is_ok_and(|made_from| made_from == stamp) {
        return Ok(dir.to_owned());
    }
    say(&format!("xtask: making the virtualenv {}", dir.display()));
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot replace {}", dir.display()))?;
    }
    let result = quietly(Command::new("python3").args(["-m", "venv"]).arg(dir)).and_then(|()| {
        let pip = ["-m", "pip", "--disable-pip-version-check", "install", "--requirement"];
        quietly(Command::new(&python).args(pip).arg(list))
    });
    // Without a stamp the next run starts again, so a broken download does not stay.
    result.with_context(|| format!("cannot make {}", dir.display()))?;
    fs::write(dir.join(STAMP), stamp)?;
    Ok(dir.to_owned())
}

/// The digest of the files that say what is made, and the interpreter's version: an environment of another Python does
/// not work.
pub fn stamp_of(files: &[&Path]) -> Result<String> {
    let mut digest = Sha256::new();
    for file in files {
        digest.update(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let output = Command::new("python3").arg("--version").output().context("python3 is not installed")?;
    let mut stamp = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    stamp.push(' ');
    for byte in digest.finalize() {
        write!(stamp, "{byte:02x}")?;
    }
    Ok(stamp)
}

/// Runs a command; its output is only shown when it fails.
pub fn quietly(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
