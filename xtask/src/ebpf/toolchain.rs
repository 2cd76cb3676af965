//! What a kernel object is built with, and the choice between the two ways to it.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    command::text,
    debian,
    provenance::{Origin, Rustc, Tools},
    rustup,
};

/// Programs and how to call them.
pub struct Toolchain {
    /// Runs the build. Any version gives the same object.
    pub cargo: OsString,
    /// Compiles for the BPF target, and for this machine the macros that the kernel side uses.
    pub rustc: PathBuf,
    /// Where `core`'s sources are, for a toolchain that builds it anew; a prebuilt one says nothing here.
    pub core_sources: Option<PathBuf>,
    /// Removes the debug information from the linked object.
    pub objcopy: PathBuf,
    /// The folder of `bpf-linker`.
    pub linker: PathBuf,
    /// `LD_LIBRARY_PATH` for all of them.
    pub libraries: OsString,
    /// Where they come from.
    pub origin: Origin,
    /// Debian's packages with their versions.
    pub packages: BTreeMap<String, String>,
}

impl Toolchain {
    /// The wanted one, or else rustup's where it is complete and Debian's packages otherwise.
    pub fn choose(wanted: Option<Origin>) -> Result<Self> {
        match wanted {
            Some(Origin::Rustup) => rustup::find(),
            Some(Origin::Debian) => debian::prepare(),
            None => rustup::find().or_else(|missing| {
                eprintln!("xtask: not with rustup: {missing:#}");
                eprintln!("xtask: with Debian's packages instead, unpacked under target/");
                debian::prepare().with_context(|| format!("rustup will not do ({missing:#}), and nor will Debian"))
            }),
        }
    }

    /// Prepares a command to run with this toolchain's libraries and linker.
    pub fn equip(&self, command: &mut Command) -> Result<()> {
        command.env("PATH", prepended(self.linker.clone(), env::var_os("PATH").as_deref())?);
        command.env("LD_LIBRARY_PATH", &self.libraries);
        Ok(())
    }

    /// Asks the programs for their versions.
    pub fn tools(&self) -> Result<Tools> {
        let ask = |program: &OsStr, question: &str| {
            let mut command = Command::new(program);
            self.equip(&mut command)?;
            text(command.arg(question))
        };
        let linker = ask(self.linker.join("bpf-linker").as_os_str(), "--version")?;
        let objcopy = ask(self.objcopy.as_os_str(), "--version")?;
        Ok(Tools {
            toolchain: self.origin,
            rustc: Rustc::parse(&ask(self.rustc.as_os_str(), "-vV")?)?,
            bpf_linker: after(&linker, "bpf-linker").context("`bpf-linker --version` names no version")?,
            llvm_objcopy: after(&objcopy, "LLVM version").context("`llvm-objcopy --version` names no version")?,
            packages: self.packages.clone(),
        })
    }
}

/// The cargo that runs this task, or the one on `PATH`.
pub fn host_cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// A search path with a folder put first.
pub fn prepended(first: PathBuf, rest: Option<&OsStr>) -> Result<OsString> {
    let rest = rest.map(env::split_paths).into_iter().flatten();
    env::join_paths(std::iter::once(first).chain(rest)).context("a folder's name contains a colon")
}

/// The word that follows `marker`.
fn after(text: &str, marker: &str) -> Option<String> {
    let (_, rest) = text.split_once(marker)?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(after("bpf-linker 0.13.0\n", "bpf-linker").as_deref(), Some("0.13.0"));
        let objcopy = "llvm-objcopy, compatible with GNU objcopy\nDebian LLVM version 22.1.8\n  Optimized build.\n";
        assert_eq!(after(objcopy, "LLVM version").as_deref(), Some("22.1.8"));
        assert_eq!(after("", "LLVM version"), None);
    }
}
