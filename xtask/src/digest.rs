//! What the committed kernel object is compared by: a digest of the sources that it is built from.
//!
//! Shared with the agent's build script, which includes this file, so it uses nothing but `std` and `sha2`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// The committed kernel object, from the repository's root.
pub const OBJECT: &str = "agent-ebpf/prebuilt/inferscope.bpf.o";

/// What it was built from and with.
pub const PROVENANCE: &str = "agent-ebpf/prebuilt/provenance.json";

/// Every file that the object depends on, from the repository's root, in a stable order. The lock file counts
/// only through the versions of the crates that the kernel side uses, so that an unrelated update does not make the
/// object stale.
pub fn sources(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("agent-ebpf/Cargo.toml"), PathBuf::from("agent-common/Cargo.toml")];
    for folder in ["agent-ebpf/src", "agent-common/src"] {
        for entry in fs::read_dir(root.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "rs")
                && let Some(name) = path.file_name()
            {
                files.push(Path::new(folder).join(name));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Digest of all sources, of the locked versions of the kernel side's crates and of what the workspace's manifest says
/// about their build, in hexadecimal.
pub fn of_sources(root: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    for file in sources(root)? {
        let content = fs::read(root.join(&file))?;
        hash.update(file.to_string_lossy().as_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    for line in locked_versions(&fs::read_to_string(root.join("Cargo.lock"))?) {
        hash.update(line.as_bytes());
    }
    for line in build_settings(&fs::read_to_string(root.join("Cargo.toml"))?) {
        hash.update(line.as_bytes());
    }
    Ok(hex(&hash.finalize()))
}

/// Digest of one file, in hexadecimal.
pub fn of_file(path: &Path) -> io::Result<String> {
    Ok(hex(&Sha256::digest(fs::read(path)?)))
}

fn locked_versions(lock: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"');
        } else if let Some(version) = line.strip_prefix("version = ")
            && (name.starts_with("aya-ebpf") || name == "aya-log-ebpf" || name == "aya-log-common")
        {
            found.push(format!("{name} {version}\n"));
        }
    }
    found
}

/// The lines of the workspace's manifest that change the object: its profile, the one that it inherits from, the edition,
/// and the features of the kernel side's crates.
fn build_settings(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut section = "";
    for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            section = line;
        } else if ["[profile.bpf]", "[profile.release]"].contains(&section)
            || ["edition ", "aya-ebpf ", "aya-log-ebpf "].iter().any(|name| line.starts_with(name))
        {
            found.push(format!("{section} {line}\n"));
        }
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
