//! Checks that the committed kernel object was built from the kernel sources that stand beside it.
//!
//! Never runs cargo and needs no BPF toolchain: whoever does not change kernel code never notices it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::exit,
};

#[path = "../xtask/src/digest.rs"]
mod digest;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let object = root.join(digest::OBJECT);
    let provenance = root.join(digest::PROVENANCE);
    for source in digest::sources(&root).unwrap_or_default() {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    for file in [&object, &provenance, &root.join("Cargo.toml"), &root.join("Cargo.lock")] {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    println!("cargo::rerun-if-env-changed=INFERSCOPE_BPF_OBJECT");
    // For trying out an object that is not committed, and for the build of the object itself.
    let chosen = match std::env::var_os("INFERSCOPE_BPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => {
            if let Err(why) = check(&root, &object, &provenance) {
                eprintln!("{why}\nrun `cargo xtask build-ebpf` and commit what it writes under agent-ebpf/prebuilt/");
                exit(1);
            }
            object
        }
    };
    let Ok(chosen) = chosen.canonicalize() else {
        eprintln!("kernel object {} cannot be read", chosen.display());
        exit(1);
    };
    println!("cargo::rustc-env=INFERSCOPE_BPF_OBJECT={}", chosen.display());
}

fn check(root: &Path, object: &Path, provenance: &Path) -> Result<(), String> {
    let text = fs::read_to_string(provenance).map_err(|e| format!("{}: {e}", provenance.display()))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", provenance.display()))?;
    let sources = digest::of_sources(root).map_err(|e| format!("kernel sources: {e}"))?;
    if json["sources_sha256"] != sources {
        return Err("the kernel sources have changed since the committed kernel object was built".into());
    }
    let built = digest::of_file(object).map_err(|e| format!("{}: {e}", object.display()))?;
    if json["object_sha256"] != built {
        return Err("the committed kernel object is not the one that its provenance file describes".into());
    }
    Ok(())
}
