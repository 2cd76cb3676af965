//! Control groups with a limit, of either version; removed with the value.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// What is limited, with the hierarchy and the file of each version.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// Memory, bytes.
    Memory(u64),
    /// Processor time in every 100 ms, microseconds.
    Cpu(u64),
}

impl Limit {
    fn settings(self) -> [(&'static str, &'static str, String); 2] {
        const V1: [&str; 2] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu"];
        const V2: &str = "/sys/fs/cgroup";
        match self {
            Self::Memory(bytes) => {
                [(V1[0], "memory.limit_in_bytes", bytes.to_string()), (V2, "memory.max", bytes.to_string())]
            }
            Self::Cpu(quota) => {
                [(V1[1], "cpu.cfs_quota_us", quota.to_string()), (V2, "cpu.max", format!("{quota} 100000"))]
            }
        }
    }
}

/// A group.
#[derive(Debug)]
pub struct Limited {
    dir: PathBuf,
}

impl Limited {
    /// Makes one that has no limit yet, in the hierarchy that can have one like this.
    pub fn make(name: &str, like: Limit) -> Result<Self> {
        for (root, file, _) in like.settings() {
            let dir = Path::new(root).join(name);
            if Path::new(root).join("cgroup.procs").exists() && fs::create_dir(&dir).is_ok() {
                let group = Self { dir };
                if group.dir.join(file).exists() {
                    return Ok(group);
                }
            }
        }
        bail!("no control group with a limit like {like:?} can be made")
    }

    /// Sets the limit.
    pub fn set(&self, limit: Limit) -> Result<()> {
        let (_, file, value) = limit
            .settings()
            .into_iter()
            .find(|(_, file, _)| self.dir.join(file).exists())
            .context("the group has no such limit")?;
        fs::write(self.dir.join(file), &value).with_context(|| format!("cannot write {value} to {file}"))
    }

    /// Takes a limit of processor time off.
    pub fn lift(&self) -> Result<()> {
        let v1 = self.dir.join("cpu.cfs_quota_us");
        if v1.exists() {
            fs::write(v1, "-1")?
        } else {
            fs::write(self.dir.join("cpu.max"), "max")?
        }
        Ok(())
    }

    /// The file that a process is moved into it by.
    pub fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // Fails only while a process is in it, which is a failure of its own.
        let _kept = fs::remove_dir(&self.dir);
    }
}
