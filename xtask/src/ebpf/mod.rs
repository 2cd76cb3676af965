//! The kernel object: building it, and checking that the committed one is what its sources give.
//!
//! `agent-ebpf/prebuilt/` has the object and its provenance, so that whoever does not change kernel code needs no BPF
//! toolchain. Two toolchains build it, and the provenance says which did: rustup's ([`rustup`]) where it is there,
//! else Debian's packages ([`debian`], [`apt`]). [`compile`] makes the bytes independent of the machine.

mod apt;
mod check;
mod command;
mod compile;
mod debian;
mod names;
mod object;
mod provenance;
mod rustup;
mod toolchain;

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Args;
use inferscope_tests::place;

pub use self::{
    check::{CheckOptions, check},
    compile::as_rustc,
};
use self::{
    provenance::{Origin, Provenance},
    toolchain::Toolchain,
};
use crate::{digest, show::say};

/// What to do about a committed object that is not fresh.
const REMEDY: &str = "run `cargo xtask build-ebpf` and commit what it writes under agent-ebpf/prebuilt/";

/// Options of `cargo xtask build-ebpf`.
#[derive(Debug, Args)]
pub struct BuildOptions {
    /// Build the kernel programs with their log lines, for debugging; the committed object stays as it is
    #[arg(long)]
    log: bool,
    /// Where the compiler comes from [default: rustup if it has all that is needed, else Debian]
    #[arg(long)]
    toolchain: Option<Origin>,
}

/// Builds the kernel object and puts it where it is committed from.
pub fn build(options: &BuildOptions) -> Result<ExitCode> {
    let BuildOptions { log, toolchain } = options;
    let root = root()?;
    let _alone = alone()?;
    let toolchain = Toolchain::choose(*toolchain)?;
    let built_with = toolchain.tools()?;
    eprintln!("xtask: building with {built_with}");
    if *log {
        let object = compile::compile(&toolchain, &root, &["log".to_owned()], "log.bpf.o")?;
        say(&format!("{}\n{}", object.display(), object::inspect(&fs::read(&object)?)?));
        say("to use it:");
        let object = object.display();
        say(&format!("  INFERSCOPE_BPF_OBJECT='{object}' cargo build --package inferscope --features bpf-log"));
        return Ok(ExitCode::SUCCESS);
    }

    // Before the build: an edit during it makes the object stale, not fresh.
    let sources_sha256 = digest::of_sources(&root).context("cannot read the kernel sources")?;
    let object = compile::compile(&toolchain, &root, &[], "inferscope.bpf.o")?;
    let object_sha256 = digest::of_file(&object)?;
    let provenance = Provenance { sources_sha256, object_sha256, features: Vec::new(), built_with };
    let bytes = fs::read(&object)?;
    let same = fs::read(root.join(digest::OBJECT)).is_ok_and(|committed| committed == bytes);
    replace(&root.join(digest::OBJECT), &bytes)?;
    replace(&root.join(digest::PROVENANCE), provenance.to_text()?.as_bytes())?;
    say(&format!("{}{}", digest::OBJECT, if same { ", as it was" } else { "" }));
    say(&object::inspect(&bytes)?);
    Ok(ExitCode::SUCCESS)
}

/// The repository's root as the compiler will see it.
fn root() -> Result<PathBuf> {
    place::workspace().canonicalize().context("the repository is gone")
}

/// Waits until no other task builds a kernel object here; they would share folders.
fn alone() -> Result<File> {
    fs::create_dir_all(place::target())?;
    let file = File::create(place::target().join("bpf.lock"))?;
    file.lock().context("cannot wait for other builds of the kernel object")?;
    Ok(file)
}

/// Removes a folder, if it is there, and everything in it.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Replaces a file at once, so that nobody ever sees half of it.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    fs::create_dir_all(path.parent().context("no folder")?)?;
    fs::write(&unfinished, content)?;
    fs::rename(&unfinished, path).with_context(|| format!("cannot replace {}", path.display()))
}
