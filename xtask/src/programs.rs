//! Installing the programs that are too large for every run (`inferscope_tests::programs`).

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{place, programs::Large};

use crate::{prepare, show::say};

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

fn install_one(large: &Large) -> Result<()> {
    if place::on_path("npm").is_none() {
        prepare::install(&["npm"]).map_err(anyhow::Error::msg)?;
    }
    let prefix = large.prefix();
    say(&format!("xtask: installing {} into {}", large.name, prefix.display()));
    fs::create_dir_all(&prefix)?;
    let mut command = Command::new("npm");
    // A package's scripts are not needed for its binary, and would run as root.
    command.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--prefix"]).arg(&prefix);
    let output = command.arg(format!("{}@{}", large.package, large.version)).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    large.missing().map_or(Ok(()), |why| Err(anyhow::Error::msg(why)))
}
