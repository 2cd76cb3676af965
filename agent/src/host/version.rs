//! The version of an engine, from a file of it.
//!
//! Owns where engines leave their version: Python's package metadata beside the module, a directory's name, the
//! environment of NVIDIA's containers. Leaves to others which process is an engine's (`engine`). Reads within the
//! process's own root, as it would, and no program is run. Ollama, llama.cpp and the Rust parts of others leave nothing
//! to be read: their version stays unknown.
//!
//! To add an engine: a branch in [`of`].

use std::{
    fs::File,
    io::Read as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2};

use super::{Kind, ProcessInfo};

/// Most bytes of a process's list of mappings that are read. A worker of PyTorch has some 3,000 lines of 150 bytes.
const MAX_MAPS: u64 = 1 << 20;

/// Most bytes of its environment.
const MAX_ENVIRONMENT: u64 = 64 * 1024;

/// Entries of a directory that are looked at. An installation with everything has some 1,000 packages.
const MAX_ENTRIES: usize = 16_384;

/// Directories that are looked into of one process.
const MAX_DIRECTORIES: usize = 24;

/// Longest version that is believed: PEP 440 with a local part, a commit and a date.
const MAX_VERSION: usize = 64;

/// The version of the engine that a process is a server of.
pub(super) fn of(process: &ProcessInfo, kind: Kind) -> Option<String> {
    match kind {
        Kind::Vllm => package(process, "vllm"),
        Kind::Sglang => package(process, "sglang"),
        Kind::Tgi => package(process, "text_generation_server"),
        Kind::Transformers => package(process, "transformers"),
        Kind::LlamaCpp => package(process, "llama_cpp_python"),
        // Set by the images of NGC (triton-inference-server/server, build.py).
        Kind::Triton => ["TRITON_SERVER_VERSION", "NVIDIA_TRITON_SERVER_VERSION"]
            .iter()
            .find_map(|name| variable(process.pid, name)),
        // `~/.lmstudio/llmster/0.0.6-1/llmster`
        Kind::LmStudio => process.exe.iter().chain(&process.cmdline).find_map(|path| {
            let (_, behind) = path.split_once("/llmster/")?;
            believed(behind.split_once('/')?.0)
        }),
        Kind::Ollama | Kind::Unknown => None,
    }
}

/// The version of a Python package that a process runs: of the directory of packages beside its script or interpreter,
/// else of one that it has mapped a library of.
fn package(process: &ProcessInfo, name: &str) -> Option<String> {
    // A program that is no script of Python's has none, and reading its mappings for nothing would cost.
    let is_python = |path: &String| path.rsplit('/').next().is_some_and(|base| base.starts_with("python"));
    process.exe.as_ref().is_none_or(is_python).then_some(())?;
    let root: OwnedFd = openat(
        CWD,
        format!("/proc/{}/root", process.pid),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let beside = beside(&root, process);
    let found = beside.iter().take(MAX_DIRECTORIES).find_map(|packages| of_metadata(&root, packages, name));
    found.or_else(|| mapped(process.pid).iter().find_map(|packages| of_metadata(&root, packages, name)))
}

/// Directories of packages that belong to the interpreter and the script of a command line.
fn beside(root: &OwnedFd, process: &ProcessInfo) -> Vec<PathBuf> {
    let paths = process.cmdline.iter().take(4).chain(&process.exe).filter(|path| path.starts_with('/'));
    let mut prefixes: Vec<PathBuf> = Vec::new();
    for prefix in paths.filter_map(|path| Path::new(path).parent()?.parent()).chain([Path::new("/usr/local")]) {
        if !prefixes.iter().any(|known| known == prefix) {
            prefixes.push(prefix.to_owned());
        }
    }
    let mut found = Vec::new();
    for lib in prefixes.iter().flat_map(|prefix| [prefix.join("lib"), prefix.join("lib64")]) {
        let versions = entries(root, &lib).into_iter().filter(|name| name.starts_with("python3"));
        found.extend(versions.flat_map(|name| ["site-packages", "dist-packages"].map(|end| lib.join(&name).join(end))));
    }
    found
}

/// Directories of packages that a process has mapped a library of.
fn mapped(pid: u32) -> Vec<PathBuf> {
    let mut maps = Vec::new();
    let read = File::open(format!("/proc/{pid}/maps")).and_then(|file| file.take(MAX_MAPS).read_to_end(&mut maps));
    if read.is_err() {
        return Vec::new();
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for line in String::from_utf8_lossy(&maps).lines() {
        let Some(path) = line.find('/').and_then(|at| line.get(at..)) else { continue };
        let end =
            ["/site-packages/", "/dist-packages/"].iter().find_map(|part| Some(path.find(part)? + part.len() - 1));
        let Some(packages) = end.and_then(|end| path.get(..end)).map(Path::new) else { continue };
        if found.len() < MAX_DIRECTORIES && !found.iter().any(|known| known == packages) {
            found.push(packages.to_owned());
        }
    }
    found
}

/// `vllm-0.11.0.dist-info` in a directory of packages (PyPA, "Recording installed projects"): the name's case and
/// separators are as the build tool left them.
fn of_metadata(root: &OwnedFd, packages: &Path, name: &str) -> Option<String> {
    entries(root, packages).iter().find_map(|entry| {
        let (package, version) = entry.strip_suffix(".dist-info")?.split_once('-')?;
        let is_same = package.len() == name.len()
            && package.bytes().zip(name.bytes()).all(|(a, b)| a.eq_ignore_ascii_case(&b) || (b == b'_' && a == b'.'));
        is_same.then(|| believed(version)).flatten()
    })
}

/// The names in a directory, as the process would see it.
fn entries(root: &OwnedFd, path: &Path) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let directory = openat2(root, path, flags, Mode::empty(), resolve).and_then(Dir::new);
    let entries = directory.into_iter().flatten().take(MAX_ENTRIES).flatten();
    entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).collect()
}

/// A variable of a process's environment at its start.
fn variable(pid: u32, name: &str) -> Option<String> {
    let mut environment = Vec::new();
    File::open(format!("/proc/{pid}/environ")).ok()?.take(MAX_ENVIRONMENT).read_to_end(&mut environment).ok()?;
    environment.split(|&byte| byte == 0).find_map(|entry| {
        let value = std::str::from_utf8(entry).ok()?.strip_prefix(name)?.strip_prefix('=')?;
        believed(value)
    })
}

/// A version begins with a digit and has no blanks: anything may stand in a name.
fn believed(version: &str) -> Option<String> {
    let fits = version.len() <= MAX_VERSION
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-_!".contains(&b));
    fits.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    fn own(cmdline: &[&str]) -> ProcessInfo {
        ProcessInfo {
            pid: std::process::id(),
            cmdline: cmdline.iter().map(|argument| (*argument).to_owned()).collect(),
            ..ProcessInfo::default()
        }
    }

    #[test]
    fn the_metadata_beside_a_script_tells() {
        let venv = tempfile::tempdir().unwrap();
        let packages = venv.path().join("lib/python3.12/site-packages");
        for name in [
            "vllm-0.11.2+cpu.dist-info",
            "vllm_ascend-9.9.dist-info",
            "Text_Generation.Server-2.0.dist-info",
            "sglang-x.dist-info",
        ] {
            fs::create_dir_all(packages.join(name)).unwrap();
        }
        let process = own(&["/nowhere/bin/python3", &format!("{}/bin/vllm", venv.path().display()), "serve", "M"]);
        assert_eq!(of(&process, Kind::Vllm).as_deref(), Some("0.11.2+cpu"));
        assert_eq!(of(&process, Kind::Tgi).as_deref(), Some("2.0"));
        assert_eq!(of(&process, Kind::Sglang), None, "no version");
        assert_eq!(of(&process, Kind::Ollama), None);
        let native = ProcessInfo { exe: Some("/usr/bin/text-generation-router".to_owned()), ..process.clone() };
        assert_eq!(of(&native, Kind::Tgi), None);
        assert_eq!(of(&ProcessInfo { pid: u32::MAX, ..process }, Kind::Vllm), None, "no such process");
    }

    #[test]
    fn a_path_or_the_environment_tells() {
        let daemon = own(&["/home/u/.lmstudio/llmster/0.0.6-1/llmster"]);
        assert_eq!(of(&daemon, Kind::LmStudio).as_deref(), Some("0.0.6-1"));
        assert_eq!(of(&own(&["llmster"]), Kind::LmStudio), None);
        // `cat` has taken over its environment by the time it answers.
        let mut child = Command::new("cat");
        child.env("TRITON_SERVER_VERSION", "2.60.0").env("OTHER_TRITON_SERVER_VERSION", "1");
        child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = child.spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let version = of(&ProcessInfo { pid: child.id(), ..ProcessInfo::default() }, Kind::Triton);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(version.as_deref(), Some("2.60.0"));
    }

    #[test]
    fn not_every_name_is_a_version() {
        for wrong in ["", "x", "v1", "1 2", "1\n", "1/2", &"1".repeat(MAX_VERSION + 1)] {
            assert_eq!(believed(wrong), None, "{wrong}");
        }
        assert_eq!(believed("1!2.0rc1.dev3+g12_a-b").as_deref(), Some("1!2.0rc1.dev3+g12_a-b"));
    }
}
