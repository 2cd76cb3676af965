//! Fixed names for the folders that the kernel object's sources lie in, which differ from machine to machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The crate that everything in the object belongs to or is used by.
const KERNEL_SIDE: &str = "inferscope-ebpf";

/// What is used of `cargo metadata`'s answer.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    /// None for the workspace's own.
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// None for a dependency of the crate itself, not of its tests or build script.
    kind: Option<String>,
}

/// Folders with the names that stand for them; where several fit, the last one counts.
///
/// The workspace is `.`, so that the linker, which runs there, finds the kernel side's sources and puts the text of
/// their lines into the BTF, for readers of a verifier's log. The other names exist nowhere, so that what else is
/// installed on the machine makes no difference. Crates are named one by one: the folder around them is called after
/// the registry that they come from, and vendored ones are called without their version.
pub fn of_folders(metadata: &str, root: &Path, core_sources: Option<&Path>) -> Result<Vec<(PathBuf, String)>> {
    let metadata: Metadata = serde_json::from_str(metadata).context("cargo's metadata is not as expected")?;
    let used = used(&metadata).with_context(|| format!("cargo's metadata has no {KERNEL_SIDE}"))?;
    let mut names = vec![(root.to_owned(), ".".to_owned())];
    for Package { id, name, version, source, manifest_path } in &metadata.packages {
        if source.is_some() && used.contains(id.as_str()) {
            let folder = manifest_path.parent().with_context(|| format!("{name} has no folder"))?;
            names.push((folder.to_owned(), format!("/crates/{name}-{version}")));
        }
    }
    names.extend(core_sources.map(|folder| (folder.to_owned(), "/rust".to_owned())));
    Ok(names)
}

/// The packages that the kernel side depends on, and itself.
fn used(metadata: &Metadata) -> Option<BTreeSet<&str>> {
    let nodes: BTreeMap<_, _> = metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut open = vec![metadata.packages.iter().find(|package| package.name == KERNEL_SIDE)?.id.as_str()];
    let mut used = BTreeSet::new();
    while let Some(id) = open.pop() {
        if used.insert(id) {
            let deps = nodes.get(id)?.deps.iter();
            let built_in = deps.filter(|dep| dep.dep_kinds.iter().any(|Kind { kind }| kind.is_none()));
            open.extend(built_in.map(|dep| dep.pkg.as_str()));
        }
    }
    Some(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_the_kernel_side_are_named_by_name_and_version() {
        let package = |id: &str, name: &str, source: &str| {
            format!(
                r#"{{"id":"{id}","name":"{name}","version":"1.2.3","source":{source},"manifest_path":"/v/{name}/Cargo.toml"}}"#
            )
        };
        let dep = |id: &str, kind: &str| format!(r#"{{"pkg":"{id}","dep_kinds":[{{"kind":{kind}}}]}}"#);
        let packages = [
            package("k", KERNEL_SIDE, "null"),
            package("a", "aya-ebpf", r#""registry""#),
            package("b", "aya-build", r#""registry""#),
            package("t", "tokio", r#""registry""#),
        ];
        let metadata = format!(
            r#"{{"packages":[{}],"resolve":{{"nodes":[{{"id":"k","deps":[{},{}]}},{{"id":"a","deps":[]}}]}}}}"#,
            packages.join(","),
            dep("a", "null"),
            dep("b", r#""build""#),
        );
        let names = of_folders(&metadata, Path::new("/w"), Some(Path::new("/s"))).unwrap();
        let expect = [("/w", "."), ("/v/aya-ebpf", "/crates/aya-ebpf-1.2.3"), ("/s", "/rust")];
        assert_eq!(names, expect.map(|(folder, name)| (folder.into(), name.to_owned())));
    }
}
