//! What the committed kernel object was built from and with, in the file beside it.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::digest;

/// The file's content. The agent's build script reads the two digests.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Digest of what it was built from: see [`digest::of_sources`].
    pub sources_sha256: String,
    /// Digest of the object.
    pub object_sha256: String,
    /// Cargo features of the kernel side that are in the object: none, for one that is committed.
    pub features: Vec<String>,
    /// What it was built with.
    pub built_with: Tools,
}

impl Provenance {
    /// Reads the committed one.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(digest::PROVENANCE);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", digest::PROVENANCE))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not what this xtask writes", digest::PROVENANCE))
    }

    /// The file's text.
    pub fn to_text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Where the compiler comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A nightly of rustup with rust-src, and the machine's bpf-linker
    Rustup,
    /// Debian's packages, unpacked under target/
    Debian,
}

/// The versions of everything that decides the object's bytes. Cargo is not among them: see
/// [`compile`](super::compile).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// Where they come from.
    pub toolchain: Origin,
    /// The compiler.
    pub rustc: Rustc,
    /// The linker, which also generates the code and the BTF.
    pub bpf_linker: String,
    /// LLVM of the program that removes the debug information.
    pub llvm_objcopy: String,
    /// Debian's packages with their versions: the same release may be built again, with another `core`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, String>,
}

/// What `rustc -vV` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rustc {
    /// Such as `1.96.0` or `1.97.0-nightly`.
    pub release: String,
    /// Of the compiler's repository.
    pub commit: String,
    /// LLVM's version.
    pub llvm: String,
}

impl Rustc {
    /// Reads the output of `rustc -vV`.
    pub fn parse(verbose: &str) -> Result<Self> {
        let field = |name: &str| {
            let value = verbose.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.map(str::to_owned).with_context(|| format!("`rustc -vV` has no {name}"))
        };
        Ok(Self { release: field("release")?, commit: field("commit-hash")?, llvm: field("LLVM version")? })
    }
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { toolchain, rustc: Rustc { release, commit, llvm }, bpf_linker, llvm_objcopy, packages } = self;
        let origin = match toolchain {
            Origin::Rustup => "rustup",
            Origin::Debian => "Debian",
        };
        let commit = commit.get(..9).unwrap_or(commit);
        write!(f, "{origin}: rustc {release} ({commit}, LLVM {llvm})")?;
        if let Some(version) = packages.get("rustc-web") {
            write!(f, " of rustc-web {version}")?;
        }
        write!(f, ", bpf-linker {bpf_linker}, llvm-objcopy {llvm_objcopy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBOSE: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
        commit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96\ncommit-date: 2026-05-25\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn the_compiler_is_recorded_by_release_commit_and_llvm() {
        let rustc = Rustc::parse(VERBOSE).unwrap();
        assert_eq!((rustc.release.as_str(), rustc.llvm.as_str()), ("1.96.0", "22.1.8"));
        assert!(rustc.commit.starts_with("ac68faa20c58"));
        assert!(Rustc::parse("rustc 1.96.0").is_err());
    }

    #[test]
    fn a_provenance_survives_its_file() {
        let built_with = Tools {
            toolchain: Origin::Debian,
            rustc: Rustc::parse(VERBOSE).unwrap(),
            bpf_linker: "0.13.0".into(),
            llvm_objcopy: "22.1.8".into(),
            packages: [("rustc-web".to_owned(), "1.96.0-1".to_owned())].into(),
        };
        assert_eq!(
            built_with.to_string(),
            "Debian: rustc 1.96.0 (ac68faa20, LLVM 22.1.8) of rustc-web 1.96.0-1, bpf-linker 0.13.0, llvm-objcopy 22.1.8"
        );
        let before = Provenance {
            sources_sha256: "aa".into(),
            object_sha256: "bb".into(),
            features: Vec::new(),
            built_with: built_with.clone(),
        };
        let text = before.to_text().unwrap();
        let after: Provenance = serde_json::from_str(&text).unwrap();
        assert_eq!(after.built_with, built_with);
        // The agent's build script reads these by name.
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["sources_sha256"], &json["object_sha256"]), (&"aa".into(), &"bb".into()));
    }
}
