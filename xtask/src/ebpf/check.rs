//! `cargo xtask check-ebpf`: whether the committed kernel object is the one that its sources give.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;

use super::{
    REMEDY, compile, debian, object,
    provenance::{Origin, Provenance, Tools},
    root, rustup,
    toolchain::Toolchain,
};
use crate::{digest, show::say};

/// Options of `cargo xtask check-ebpf`.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// Also build the object again and compare it bit for bit, where the tools it was built with are to be had
    #[arg(long)]
    rebuild: bool,
}

/// Checks the committed kernel object. Needs no toolchain, unless it is built again.
pub fn check(options: &CheckOptions) -> Result<ExitCode> {
    let CheckOptions { rebuild } = options;
    let root = root()?;
    let (provenance, bytes) = fresh(&root).map_err(|why| anyhow!("{why:#}\n{REMEDY}"))?;
    say(&format!("ok      kernel object belongs to its sources ({})", object::inspect(&bytes)?));
    if *rebuild {
        let _alone = super::alone()?;
        match recorded(&provenance.built_with)? {
            Err(reason) => say(&format!("SKIPPED rebuild: {reason}")),
            Ok(toolchain) => {
                compare(&toolchain, &root, &provenance, &bytes)?;
                say(&format!("ok      rebuild gives the same bytes ({})", provenance.built_with));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether digests agree: what the agent's build script checks too.
fn fresh(root: &Path) -> Result<(Provenance, Vec<u8>)> {
    let provenance = Provenance::read(root)?;
    if provenance.sources_sha256 != digest::of_sources(root).context("cannot read the kernel sources")? {
        bail!("the kernel sources have changed since the committed kernel object was built");
    }
    if provenance.object_sha256 != digest::of_file(&root.join(digest::OBJECT)).context(digest::OBJECT)? {
        bail!("{} is not the object that its provenance file describes", digest::OBJECT);
    }
    if !provenance.features.is_empty() {
        bail!("the committed kernel object was built with features: {}", provenance.features.join(", "));
    }
    let bytes = fs::read(root.join(digest::OBJECT))?;
    object::inspect(&bytes).context("the committed kernel object is not as it must be")?;
    Ok((provenance, bytes))
}

/// The toolchain that a provenance names, or why it is not to be had. That it cannot be set up is an error.
fn recorded(tools: &Tools) -> Result<Result<Toolchain, String>> {
    let toolchain = match tools.toolchain {
        Origin::Debian => match debian::unpacked(Some(&tools.packages)) {
            Ok(unpacked) => unpacked.toolchain()?,
            Err(reason) => return Ok(Err(format!("{reason:#}"))),
        },
        Origin::Rustup => match rustup::find() {
            Ok(toolchain) => toolchain,
            Err(reason) => return Ok(Err(format!("{reason:#}"))),
        },
    };
    let have = toolchain.tools()?;
    if tools.toolchain == Origin::Debian && tools.bpf_linker != have.bpf_linker {
        // Not the machine's fault, but this repository's: the version is in its sources.
        bail!("built with bpf-linker {}, but {} is to be used now\n{REMEDY}", tools.bpf_linker, have.bpf_linker);
    }
    Ok(if have == *tools {
        Ok(toolchain)
    } else {
        Err(format!("it was built with other tools ({tools}) than this machine has ({have})"))
    })
}

fn compare(toolchain: &Toolchain, root: &Path, provenance: &Provenance, committed: &[u8]) -> Result<()> {
    let rebuilt = compile::compile(toolchain, root, &provenance.features, "rebuilt.bpf.o")?;
    let bytes = fs::read(&rebuilt)?;
    if bytes != committed {
        let sections = object::differing_sections(committed, &bytes)?;
        bail!(
            "{} is not what its sources give with the recorded tools: {} differs in {}\n{REMEDY}",
            digest::OBJECT,
            rebuilt.display(),
            sections.join(", ")
        );
    }
    Ok(())
}
