//! The toolchain of somebody who already builds BPF in Rust: a nightly with rust-src, and bpf-linker.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use inferscope_tests::place;

use super::{
    command::text,
    provenance::{Origin, Rustc},
    toolchain::{Toolchain, prepended},
};

/// Finds it, or says what is missing. Installs nothing.
pub fn find() -> Result<Toolchain> {
    // A newer rustup would download a nightly just because it is asked about it.
    let nightly = |arg: &[&str]| text(Command::new("rustc").arg("+nightly").args(arg).env("RUSTUP_AUTO_INSTALL", "0"));
    let sysroot = PathBuf::from(nightly(&["--print", "sysroot"]).context("no nightly")?.trim());
    let core_sources = sysroot.join("lib/rustlib/src/rust");
    if !core_sources.join("library/core/Cargo.toml").is_file() {
        bail!("the nightly has no rust-src");
    }
    let verbose = nightly(&["-vV"])?;
    let host = verbose.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` has no host")?;
    let objcopy = sysroot.join("lib/rustlib").join(host).join("bin/rust-objcopy");
    if !objcopy.is_file() {
        bail!("the nightly has no rust-objcopy");
    }

    let linker = place::on_path("bpf-linker").context("no bpf-linker")?;
    let reads = llvm_of(&linker)?.context("bpf-linker does not say which LLVM it has")?;
    let writes = Rustc::parse(&verbose)?.llvm;
    // Bitcode can be read by the LLVM that wrote it and by newer ones, down to the patch level.
    if Version::parse(writes.as_bytes()).is_none_or(|writes| reads < writes) {
        bail!("bpf-linker's LLVM is {reads}, older than the nightly's {writes}");
    }
    Ok(Toolchain {
        cargo: sysroot.join("bin/cargo").into_os_string(),
        rustc: sysroot.join("bin/rustc"),
        core_sources: Some(core_sources),
        objcopy,
        linker: linker.parent().context("bpf-linker has no folder")?.to_owned(),
        // Its own tools do not all find them by themselves.
        libraries: prepended(sysroot.join("lib"), env::var_os("LD_LIBRARY_PATH").as_deref())?,
        origin: Origin::Rustup,
        packages: Default::default(),
    })
}

/// The LLVM that a linker carries or loads. It has no option for this question, but every LLVM contains the name
/// that it signs bitcode with.
fn llvm_of(linker: &Path) -> Result<Option<Version>> {
    let mut places = vec![linker.to_owned()];
    // Fails for a static binary, which loads nothing.
    if let Ok(libraries) = text(Command::new("ldd").arg(linker)) {
        places.extend(libraries.lines().filter_map(loaded_llvm));
    }
    for place in places {
        let bytes = fs::read(&place).with_context(|| format!("cannot read {}", place.display()))?;
        if let Some(version) = signature(&bytes) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// The path in a line of `ldd`, if it is LLVM's.
fn loaded_llvm(line: &str) -> Option<PathBuf> {
    let (name, place) = line.split_once(" => ")?;
    let (path, _address) = place.rsplit_once(" (")?;
    name.trim_start().starts_with("libLLVM").then(|| PathBuf::from(path))
}

/// Finds `LLVM22.1.8` in a binary.
fn signature(bytes: &[u8]) -> Option<Version> {
    const NAME: &[u8] = b"LLVM";
    bytes.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).find_map(|(at, _)| {
        let rest = bytes.get(at + NAME.len()..)?;
        Version::parse(rest.get(..rest.len().min(16))?)
    })
}

/// Major, minor and patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u32; 3]);

impl Version {
    /// Reads one from the start of a text and ignores what follows.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut rest = text;
        let mut parts = [0; 3];
        for (index, part) in parts.iter_mut().enumerate() {
            if index > 0 {
                rest = rest.strip_prefix(b".")?;
            }
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            *part = str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
            rest = rest.get(digits..)?;
        }
        Some(Self(parts))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_signs_its_name() {
        assert_eq!(signature(b"\0LLVM IR\0LLVM22.1\0LLVM22.1.8\0"), Some(Version([22, 1, 8])));
        assert_eq!(signature(b"\0LLVM22.1.4-rust-1.97.0-nightly\0"), Some(Version([22, 1, 4])));
        assert_eq!(signature(b"LLVM version unknown, LLVM"), None);
    }

    #[test]
    fn the_llvm_that_a_linker_loads_is_found() {
        let line = "\tlibLLVM.so.22.1 => /with space/libLLVM.so.22.1 (0x00007f31)";
        assert_eq!(loaded_llvm(line), Some("/with space/libLLVM.so.22.1".into()));
        assert_eq!(loaded_llvm("\tlibLLVM.so.22.1 => not found"), None);
        assert_eq!(loaded_llvm("\tlibc.so.6 => /lib/libc.so.6 (0x00007f31)"), None);
    }

    #[test]
    fn patch_levels_count() {
        assert!(Version::parse(b"22.1.4") < Version::parse(b"22.1.10"));
        assert_eq!(Version::parse(b"22.1"), None);
        assert_eq!(Version::parse(b""), None);
    }
}
