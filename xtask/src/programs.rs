//! Installing what is too large for every run: programs (`inferscope_tests::programs`) and the providers' SDKs
//! (`inferscope_tests::sdks`).

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{place, programs::Large, sdks};

use crate::{prepare, show::say, venv};

/// Programs that Debian has, and their packages.
const PACKAGES: [(&str, &str); 1] = [("java", "default-jdk-headless")];

/// Installs what is missing.
pub fn install() -> Result<()> {
    for (program, package) in PACKAGES {
        if place::on_path(program).is_none() {
            prepare::install(&[package]).map_err(anyhow::Error::msg)?;
        }
    }
    for large in Large::ALL {
        if large.missing().is_some() {
            install_one(&large).with_context(|| format!("cannot install {} {}", large.name, large.version))?;
        }
    }
    Ok(())
}

/// Installs the SDKs, unless they are there.
pub fn install_sdks() -> Result<()> {
    let (name, list) = sdks::VENV;
    venv::make(name, list)?;
    if !sdks::modules().is_dir() {
        npm(&sdks::prefix(), &sdks::PACKAGES).context("cannot install the SDKs for Node")?;
    }
    sdks::missing().map_or(Ok(()), |why| Err(anyhow::Error::msg(why)))
}

fn install_one(large: &Large) -> Result<()> {
    npm(&large.prefix(), &[&format!("{}@{}", large.package, large.version)])?;
    large.missing().map_or(Ok(()), |why| Err(anyhow::Error::msg(why)))
}

/// Installs npm packages, each with its version, into a directory.
fn npm(prefix: &Path, packages: &[&str]) -> Result<()> {
    if place::on_path("npm").is_none() {
        prepare::install(&["npm"]).map_err(anyhow::Error::msg)?;
    }
    say(&format!("xtask: installing {} into {}", packages.join(", "), prefix.display()));
    fs::create_dir_all(prefix)?;
    let mut command = Command::new("npm");
    // A package's scripts are not needed for what is in it, and would run as root.
    command.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix"]).arg(prefix);
    let output = command.args(packages).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(())
}
