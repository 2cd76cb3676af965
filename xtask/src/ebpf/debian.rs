//! Debian's Rust for the web browsers it builds, which has a prebuilt `core` for BPF: no nightly, no rust-src.
//!
//! Nothing is installed. Under `target/bpf-toolchain/`, which may be deleted at any time:
//! * `apt/`: package lists, only where the system's are not enough,
//! * `debs/`: the downloaded packages, 185 MB,
//! * `root/`: these unpacked, 1 GB, with their versions in `root/packages.json`,
//! * `linker/`: bpf-linker, built against that LLVM.
//!
//! A toolchain that stands there is used as it is: delete the folder to get newer packages.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use inferscope_tests::place;
use serde::{Deserialize, Serialize};

use super::{
    apt::{self, Apt},
    command,
    provenance::Origin,
    remove,
    toolchain::{Toolchain, host_cargo},
};

/// The version that is built. Another one may generate other code.
pub const LINKER: &str = "0.13.0";

/// Where Debian puts libraries on the only machines that this is for.
const LIBRARIES: &str = "lib/x86_64-linux-gnu";

/// Packages with versions, as recorded in a provenance.
pub type Packages = BTreeMap<String, String>;

/// The packages, unpacked.
#[derive(Serialize, Deserialize)]
pub struct Unpacked {
    /// LLVM's major version, which is part of the names of packages, of a folder and of a feature of the linker.
    llvm: u32,
    /// What was unpacked.
    packages: Packages,
}

/// The whole toolchain, from the packages that Debian has now or from those that are unpacked already.
pub fn prepare() -> Result<Toolchain> {
    unpacked(None)?.toolchain()
}

/// The unpacked packages, in the versions that are wanted, if any are. Errors mean that they are not to be had here.
pub fn unpacked(wanted: Option<&Packages>) -> Result<Unpacked> {
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        bail!("Debian's packages are used on x86-64 only");
    }
    let fits = |have: &Packages| wanted.is_none_or(|wanted| wanted == have);
    if let Some(unpacked) = Unpacked::read()
        && fits(&unpacked.packages)
    {
        return Ok(unpacked);
    }
    for program in ["apt-get", "apt-cache", "dpkg"] {
        if place::on_path(program).is_none() {
            bail!("no {program}: Debian's packages are downloaded on Debian and its derivatives only");
        }
    }
    // The system's lists may be absent, as in a fresh container, or name versions that are gone or not the wanted.
    let mut apt = Apt::new(folder().join("apt"));
    match offered(&apt) {
        Ok(offer) if fits(&offer.packages) && download(&apt, &offer).is_ok() => offer.unpack(),
        _ => {
            apt.update()?;
            let offer = offered(&apt)?;
            if let Some(wanted) = wanted.filter(|wanted| **wanted != offer.packages) {
                bail!("{}", moved_on(wanted, &offer.packages));
            }
            download(&apt, &offer)?;
            offer.unpack()
        }
    }
}

/// What Debian has. The names follow from dependencies, so that a newer compiler needs no change here.
fn offered(apt: &Apt) -> Result<Unpacked> {
    let depends = |package: &str, prefix: &str| {
        let found = apt.depends(package)?.into_iter().find(|name| name.starts_with(prefix));
        found.with_context(|| format!("{package} depends on no {prefix}*"))
    };
    let std = depends("libstd-rust-web-dev", "libstd-rust-web-")?;
    let libllvm = depends(&std, "libllvm")?;
    let llvm = libllvm.trim_start_matches("libllvm").parse().with_context(|| format!("a version in {libllvm}"))?;
    let names = ["rustc-web", "libstd-rust-web-dev", "libstd-rust-web-dev-bpf", &std, &libllvm].map(str::to_owned);
    let of_llvm = [format!("llvm-{llvm}"), format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    Ok(Unpacked { llvm, packages: apt.versions(&[&names[..], &of_llvm[..]].concat())? })
}

/// Downloads them, and the libraries that LLVM needs and this machine lacks.
fn download(apt: &Apt, offer: &Unpacked) -> Result<()> {
    let (debs, unfinished) = (folder().join("debs"), folder().join("debs.new"));
    remove(&unfinished)?;
    fs::create_dir_all(&unfinished)?;
    let mut packages: Vec<_> = offer.packages.keys().cloned().collect();
    // Fails where the system's own packages are broken: then these libraries are simply hoped for.
    packages.extend(apt.absent(&format!("libllvm{}", offer.llvm)).unwrap_or_default());
    packages.sort();
    packages.dedup();
    eprintln!("xtask: downloading {} packages of Debian, about 185 MB", packages.len());
    apt.download(&packages, &unfinished)?;
    remove(&debs)?;
    Ok(fs::rename(unfinished, debs)?)
}

impl Unpacked {
    fn read() -> Option<Self> {
        serde_json::from_slice(&fs::read(folder().join("root/packages.json")).ok()?).ok()
    }

    fn unpack(self) -> Result<Self> {
        let (root, unfinished) = (folder().join("root"), folder().join("root.new"));
        for old in [&unfinished, &root, &folder().join("linker")] {
            remove(old)?;
        }
        eprintln!("xtask: unpacking them");
        apt::unpack(&folder().join("debs"), &unfinished)?;
        fs::write(unfinished.join("packages.json"), serde_json::to_vec_pretty(&self)?)?;
        fs::rename(unfinished, root)?;
        Ok(self)
    }

    /// The toolchain of these packages; builds the linker that goes with them where it has not been built.
    pub fn toolchain(self) -> Result<Toolchain> {
        let Self { llvm, packages } = self;
        let root = folder().join("root");
        let prefix = root.join(format!("usr/lib/llvm-{llvm}"));
        let libraries = [root.join("usr").join(LIBRARIES), root.join(LIBRARIES), prefix.join("lib")];
        let toolchain = Toolchain {
            cargo: host_cargo(),
            rustc: root.join("usr/bin/rustc"),
            core_sources: None,
            objcopy: prefix.join("bin/llvm-objcopy"),
            linker: folder().join("linker/bin"),
            libraries: env::join_paths(libraries).context("a folder's name contains a colon")?,
            origin: Origin::Debian,
            packages,
        };
        if !toolchain.tools().is_ok_and(|tools| tools.bpf_linker == LINKER) {
            build_linker(&toolchain, llvm, &prefix)?;
        }
        Ok(toolchain)
    }
}

/// Builds the linker with the machine's own compiler: only the LLVM inside it matters to the object.
fn build_linker(toolchain: &Toolchain, llvm: u32, prefix: &Path) -> Result<()> {
    eprintln!("xtask: building bpf-linker {LINKER} against LLVM {llvm}");
    let build = folder().join("linker-build");
    let mut cargo = command::cargo(&toolchain.cargo);
    toolchain.equip(&mut cargo)?;
    cargo.args(["install", "bpf-linker", "--version", LINKER, "--locked", "--force", "--no-default-features"]);
    cargo.args(["--features", &format!("llvm-{llvm}")]).arg("--target-dir").arg(&build);
    // From outside the workspace: what its configuration asks for is not for this program.
    cargo.arg("--root").arg(folder().join("linker")).current_dir(folder()).env("LLVM_PREFIX", prefix);
    command::run(&mut cargo)?;
    remove(&build)
}

/// How the packages on offer differ from the recorded ones.
fn moved_on(wanted: &Packages, offered: &Packages) -> String {
    let changes = wanted.iter().filter(|(name, version)| offered.get(*name) != Some(version)).map(|(name, version)| {
        let now = offered.get(name).map_or("nothing by this name", String::as_str);
        format!("{name} was {version} and is {now}")
    });
    format!("Debian has moved on: {}", changes.collect::<Vec<_>>().join(", "))
}

fn folder() -> PathBuf {
    place::target().join("bpf-toolchain")
}

/// Whether sources of this compiler's `core` are installed where Debian's prebuilt `core` says that they are.
///
/// The linker puts the text of source lines into the object's BTF where it finds the file, which helps whoever reads
/// a verifier's log; with these, the object would depend on what else is installed.
pub fn core_sources_installed(release: &str) -> Option<PathBuf> {
    Some(Path::new("/usr/src").join(format!("rustc-{release}"))).filter(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_in_debian_is_named() {
        let packages = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let wanted: Packages = packages(&[("libllvm22", "1"), ("libstd-rust-web-1.96", "2"), ("rustc-web", "2")]);
        let offered: Packages = packages(&[("libllvm22", "1"), ("libstd-rust-web-1.97", "3"), ("rustc-web", "3")]);
        assert_eq!(
            moved_on(&wanted, &offered),
            "Debian has moved on: libstd-rust-web-1.96 was 2 and is nothing by this name, rustc-web was 2 and is 3"
        );
    }
}
