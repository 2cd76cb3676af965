//! A control group of the tests' own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Where a hierarchy of version 2 is mounted, alone or beside those of version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// A group, removed with the value.
pub struct Group {
    dir: PathBuf,
    name: String,
}

impl Group {
    /// Makes a group at the top of the hierarchy; `name` must be this scenario's own.
    pub fn make(name: &str) -> Result<Self> {
        let root = ROOTS.into_iter().find(|root| Path::new(root).join("cgroup.procs").exists());
        let dir = Path::new(root.context("there is no control group hierarchy of version 2")?).join(name);
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir, name: name.to_owned() })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its path as `/proc/PID/cgroup` has it.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Fails only while a process is in it, which is a failure of its own.
        let _kept = fs::remove_dir(&self.dir);
    }
}
