//! Debian's packages, read and downloaded without changing the system and without root.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::command::{run, text};

/// The packages that apt knows: the system's lists, or lists of our own where those lack something or are old.
pub struct Apt {
    own_lists: PathBuf,
    options: Vec<OsString>,
}

impl Apt {
    /// With the system's lists; `own_lists` is where others go if these are not enough.
    pub fn new(own_lists: PathBuf) -> Self {
        // Downloads go to folders that apt's own user may not enter. It would fall back to this by itself, and warn.
        Self { own_lists, options: vec!["-o".into(), "APT::Sandbox::User=root".into()] }
    }

    /// Downloads current lists of the system's sources and uses them from now on.
    pub fn update(&mut self) -> Result<()> {
        let (lists, cache) = (self.own_lists.join("lists"), self.own_lists.join("cache"));
        for folder in [lists.join("partial"), cache.join("archives/partial")] {
            fs::create_dir_all(&folder)?;
        }
        for (name, folder) in [("Dir::State::Lists", &lists), ("Dir::Cache", &cache)] {
            let mut option = OsString::from(format!("{name}="));
            option.push(folder);
            self.options.extend(["-o".into(), option]);
        }
        eprintln!("xtask: downloading Debian's package lists");
        run(self.command("apt-get").args(["-qq", "update"]))
    }

    /// The versions that would be downloaded; an error if one of the packages is unknown.
    pub fn versions(&self, packages: &[String]) -> Result<BTreeMap<String, String>> {
        let shown = text(self.command("apt-cache").args(["show", "--no-all-versions"]).args(packages))?;
        let versions = parse_versions(&shown);
        if let Some(missing) = packages.iter().find(|package| !versions.contains_key(*package)) {
            bail!("apt knows no package {missing}");
        }
        Ok(versions)
    }

    /// The packages that one depends on directly.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let shown = text(self.command("apt-cache").args(["depends", package]))?;
        let depends = shown.lines().filter_map(|line| line.trim_start().strip_prefix("Depends: "));
        Ok(depends.map(str::to_owned).collect())
    }

    /// The packages that installing one would add to this system, which has a compiler and so a C library.
    pub fn absent(&self, package: &str) -> Result<Vec<String>> {
        let simulate = ["-qq", "--simulate", "--no-install-recommends", "install", package];
        Ok(parse_absent(&text(self.command("apt-get").args(simulate))?))
    }

    /// Downloads packages into a folder.
    pub fn download(&self, packages: &[String], folder: &Path) -> Result<()> {
        run(self.command("apt-get").current_dir(folder).args(["-qq", "download"]).args(packages))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").args(&self.options);
        command
    }
}

/// Unpacks every package of a folder into another one, as if that were the system's root.
pub fn unpack(packages: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for entry in fs::read_dir(packages).with_context(|| format!("cannot read {}", packages.display()))? {
        run(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(root))?;
    }
    Ok(())
}

/// Names and versions in what `apt-cache show` writes: a paragraph per package.
fn parse_versions(shown: &str) -> BTreeMap<String, String> {
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    shown
        .split("\n\n")
        .filter_map(|paragraph| Some((field(paragraph, "Package")?, field(paragraph, "Version")?)))
        .collect()
}

/// New packages in what a simulated installation writes. Upgrades, which name the old version in brackets, are left
/// out, and so is the C library, which must stay the one that this machine's loader belongs to.
fn parse_absent(simulated: &str) -> Vec<String> {
    let new = simulated.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
        rest.starts_with('(').then_some(name)
    });
    new.filter(|name| !["libc6", "libgcc-s1"].contains(name)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_versions_are_read_from_paragraphs() {
        let shown = "Package: rustc-web\nSource: rustc-web (1)\nVersion: 1.96.0+dfsg1-1~deb12u2\nDepends: libc6\n\n\
            Package: llvm-22\nPriority: optional\nVersion: 1:22.1.8-1~deb12u1\n\n";
        let versions = parse_versions(shown);
        assert_eq!(versions.len(), 2);
        assert_eq!(versions["rustc-web"], "1.96.0+dfsg1-1~deb12u2");
        assert_eq!(versions["llvm-22"], "1:22.1.8-1~deb12u1");
    }

    #[test]
    fn only_new_packages_other_than_the_c_library_are_absent() {
        let simulated = "Inst libc6 (2.36-9 Debian:12 [amd64])\n\
            Inst libz3-4 (4.8.12-3.1 Debian:12.15/oldstable [amd64])\n\
            Inst zlib1g [1:1.2.12] (1:1.2.13 Debian:12 [amd64])\n\
            Inst libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12/oldstable-security [amd64]) []\n\
            Conf libz3-4 (4.8.12-3.1 Debian:12.15/oldstable [amd64])\n";
        assert_eq!(parse_absent(simulated), ["libz3-4", "libllvm22"]);
    }
}
