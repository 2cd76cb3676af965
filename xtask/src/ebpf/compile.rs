//! Compiling and linking the kernel object, so that every machine with the same tools gives the same bytes.
//!
//! Two things would make it differ:
//! * Folders, which are in debug information and so in BTF: all are mapped to fixed names, see [`names`](super::names).
//! * Crate identities, which are in the names of functions that were not inlined. Cargo derives them from its own
//!   version and the versions of every crate that takes part, down to the macros' parsers, so an unrelated
//!   `cargo update` would change the object. This program therefore stands between cargo and the compiler and gives
//!   every kernel-side crate the same identity but its name: see [`as_rustc`].

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use inferscope_tests::place;

use super::{
    command::{self, run, text},
    debian, names, object,
    provenance::Origin,
    remove,
    toolchain::Toolchain,
};

const TARGET: &str = "bpfel-unknown-none";

/// Set where this program is called as the compiler.
const AS_RUSTC: &str = "INFERSCOPE_XTASK_AS_RUSTC";

/// Builds the object into a file under `target/` and returns its path.
pub fn compile(toolchain: &Toolchain, root: &Path, features: &[String], name: &str) -> Result<PathBuf> {
    if toolchain.origin == Origin::Debian
        && let Some(sources) = debian::core_sources_installed(&toolchain.tools()?.rustc.release)
    {
        bail!("{} would leak into the object: build where it is not installed, or rename it", sources.display());
    }
    let folder = place::target().join("bpf");
    let mut question = cargo(toolchain, root)?;
    let metadata = text(question.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]))?;
    let names = names::of_folders(&metadata, root, toolchain.core_sources.as_deref())?;
    // Cargo does not notice another linker. The macros, which take most of the time, are kept.
    remove(&folder.join(TARGET))?;

    let mut cargo = cargo(toolchain, root)?;
    cargo.args(["build", "--locked", "--package", "inferscope-ebpf", "--profile", "bpf", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&folder).args(features.iter().flat_map(|feature| ["--features", feature]));
    if toolchain.core_sources.is_some() {
        cargo.args(["-Z", "build-std=core"]);
    }
    run(cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(&names)))?;

    let linked = folder.join(TARGET).join("bpf/inferscope-ebpf");
    let object = folder.join(name);
    let mut objcopy = Command::new(&toolchain.objcopy);
    toolchain.equip(&mut objcopy)?;
    run(objcopy.arg("--strip-debug").args([&linked, &object]))?;

    let bytes = fs::read(&object)?;
    if let Some((folder, _)) = names.iter().find(|(folder, _)| contains(&bytes, folder.as_os_str().as_bytes())) {
        bail!("the object names {}, a folder of this machine", folder.display());
    }
    object::inspect(&bytes).with_context(|| format!("{} is not as it must be", object.display()))?;
    Ok(object)
}

/// Cargo, with the toolchain's compiler called through this program.
fn cargo(toolchain: &Toolchain, root: &Path) -> Result<Command> {
    let mut cargo = command::cargo(&toolchain.cargo);
    toolchain.equip(&mut cargo)?;
    cargo.current_dir(root).env("RUSTC", &toolchain.rustc);
    // For `asm_experimental_arch` of aya-ebpf and the intrinsics of the kernel side; a nightly allows them anyway.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo.env("RUSTC_WRAPPER", env::current_exe()?).env("RUSTC_WORKSPACE_WRAPPER", "").env(AS_RUSTC, "1");
    Ok(cargo)
}

/// The compiler's flags, as cargo wants them in a variable: folders may have spaces in their names.
fn flags(names: &[(PathBuf, String)]) -> OsString {
    // The debug information is where the linker takes the BTF from.
    let mut flags: Vec<OsString> =
        ["-C", "debuginfo=2", "-C", "linker=bpf-linker", "-C", "link-arg=--btf"].map(OsString::from).into();
    for (folder, name) in names {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(folder);
        flag.push(format!("={name}"));
        flags.push(flag);
    }
    flags.join(std::ffi::OsStr::new("\x1f"))
}

/// Runs the real compiler if this program was called in its place; returns only if that is not so or it failed.
pub fn as_rustc() -> Option<ExitCode> {
    env::var_os(AS_RUSTC)?;
    let mut args = env::args_os().skip(1);
    let rustc = args.next()?;
    let error = Command::new(&rustc).args(identified_by_name(args.collect())).exec();
    eprintln!("xtask: cannot run {}: {error}", rustc.display());
    Some(ExitCode::FAILURE)
}

/// Replaces what cargo adds to a kernel-side crate's name to tell it from others of that name: there are none.
fn identified_by_name(mut args: Vec<OsString>) -> Vec<OsString> {
    // Macros and build scripts are built for this machine.
    if args.iter().any(|arg| arg == TARGET) {
        for arg in &mut args {
            if arg.as_bytes().starts_with(b"metadata=") {
                *arg = OsString::from("metadata=inferscope");
            }
        }
    }
    args
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kernel_side_crates_get_the_fixed_identity() {
        let args = |target: &str| {
            ["--crate-name", "aya_ebpf", "-C", "metadata=0123", "-C", "extra-filename=-0123", "--target", target]
                .map(OsString::from)
                .to_vec()
        };
        let host = "x86_64-unknown-linux-gnu";
        assert_eq!(identified_by_name(args(host)), args(host));
        let mut expect = args(TARGET);
        expect[3] = "metadata=inferscope".into();
        assert_eq!(identified_by_name(args(TARGET)), expect);
    }

    #[test]
    fn flags_survive_spaces_in_folders() {
        let flags = flags(&[("/a b".into(), ".".into())]).into_string().unwrap();
        assert_eq!(flags.split('\x1f').next_back(), Some("--remap-path-prefix=/a b=."));
    }
}
