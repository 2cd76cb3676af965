//! What a control group has used and was denied, from its files.
//!
//! Owns the places where control groups are mounted and the files of both versions. Leaves to others which groups are
//! read and when, and what a path says (`cgroup`).
//!
//! With version 1 each controller has a hierarchy of its own, and a process's path may differ between them; the path of a
//! [`CgroupUsage`] is looked up in each, and what is not there is absent. On a host with both (`hybrid`), version 2 has
//! no controllers: its group is read first, and version 1 fills in what it does not say.
//!
//! To add a counter: its member in [`CgroupUsage`], its file in [`Mounts::read_unified`] and in
//! [`Mounts::read_hierarchies`], and a line in the fixtures of the tests.

use std::{
    fs,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use super::CgroupUsage;

/// Most bytes of one file that are read. The longest, `memory.stat`, is not read at all.
const MAX_FILE: u64 = 16 * 1024;

/// Version 1 has no `max`: a limit of this much or more is none. It is `PAGE_COUNTER_MAX` in bytes for the largest pages
/// there are (64 KiB): the most that can be set, rounded down to a page.
const UNLIMITED: u64 = (i64::MAX as u64) & !0xffff;

/// Pids of a group that are read of one file.
const MAX_PROCS: usize = 4096;

/// A mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Where.
    at: PathBuf,
    /// The group that is seen there: not `/` inside a container.
    root: PathBuf,
}

/// Where control groups are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    unified: Option<Mount>,
    cpu: Option<Mount>,
    memory: Option<Mount>,
    systemd: Option<Mount>,
}

impl Mounts {
    /// Those of the agent's own mount namespace. None of them where the file cannot be read.
    pub fn own() -> Self {
        fs::read_to_string("/proc/self/mountinfo").map(|text| Self::of_mountinfo(&text)).unwrap_or_default()
    }

    /// Reads the text of a `mountinfo` (proc_pid_mountinfo(5)). Of several mounts of one hierarchy the first is taken
    /// that shows its root, else the first.
    fn of_mountinfo(text: &str) -> Self {
        let mut mounts = Self::default();
        for line in text.lines() {
            // `id parent major:minor root at options tags… - type source options`; blanks in paths are `\040`.
            let Some((place, kind)) = line.split_once(" - ") else { continue };
            let mut place = place.split(' ').skip(3);
            let (Some(root), Some(at)) = (place.next(), place.next()) else { continue };
            let mut kind = kind.split(' ');
            let (kind, options) = (kind.next().unwrap_or_default(), kind.nth(1).unwrap_or_default());
            let has = |name: &str| options.split(',').any(|option| option == name);
            let mount = Mount { at: plain(at).into(), root: plain(root).into() };
            let Self { unified, cpu, memory, systemd } = &mut mounts;
            let slots = [
                (kind == "cgroup2", unified),
                (kind == "cgroup" && has("cpu"), cpu),
                (kind == "cgroup" && has("memory"), memory),
                (kind == "cgroup" && has("name=systemd"), systemd),
            ];
            for (_, slot) in slots.into_iter().filter(|(fits, _)| *fits) {
                let is_better =
                    slot.as_ref().is_none_or(|known| known.root != Path::new("/") && mount.root == Path::new("/"));
                if is_better {
                    *slot = Some(mount.clone());
                }
            }
        }
        mounts
    }

    /// What the group at a path, as [`ProcessInfo::cgroup`](super::ProcessInfo::cgroup) has it, has used. Absent is what
    /// no file says; all is, where there is no such group.
    pub fn read(&self, path: &str) -> CgroupUsage {
        let mut usage = CgroupUsage { path: path.to_owned(), ..CgroupUsage::default() };
        self.read_unified(&mut usage);
        self.read_hierarchies(&mut usage);
        usage
    }

    /// Version 2 (kernel, `Documentation/admin-guide/cgroup-v2.rst`).
    fn read_unified(&self, usage: &mut CgroupUsage) {
        let Some(at) = directory(self.unified.as_ref(), &usage.path) else { return };
        if let Some(stat) = text(&at.join("cpu.stat")) {
            usage.throttled_periods = field(&stat, "nr_throttled");
            usage.throttled_ns = field(&stat, "throttled_usec").map(|us| us.saturating_mul(1000));
        }
        usage.memory = number(&at.join("memory.current"));
        // `max` is no number.
        usage.memory_limit = number(&at.join("memory.max"));
        if let Some(events) = text(&at.join("memory.events")) {
            usage.memory_limit_hits = field(&events, "max");
            usage.oom_kills = field(&events, "oom_kill");
        }
        usage.memory_pressure_ns = text(&at.join("memory.pressure")).and_then(|text| pressure(&text));
    }

    /// Version 1 (`Documentation/scheduler/sched-bwc.rst`, `Documentation/admin-guide/cgroup-v1/memory.rst`).
    fn read_hierarchies(&self, usage: &mut CgroupUsage) {
        let fill = |slot: &mut Option<u64>, value: Option<u64>| *slot = slot.or(value);
        if let Some(stat) = directory(self.cpu.as_ref(), &usage.path).and_then(|at| text(&at.join("cpu.stat"))) {
            fill(&mut usage.throttled_periods, field(&stat, "nr_throttled"));
            fill(&mut usage.throttled_ns, field(&stat, "throttled_time"));
        }
        let Some(at) = directory(self.memory.as_ref(), &usage.path) else { return };
        fill(&mut usage.memory, number(&at.join("memory.usage_in_bytes")));
        let limit = number(&at.join("memory.limit_in_bytes")).filter(|&limit| limit < UNLIMITED);
        fill(&mut usage.memory_limit, limit);
        fill(&mut usage.memory_limit_hits, number(&at.join("memory.failcnt")));
        fill(&mut usage.oom_kills, text(&at.join("memory.oom_control")).and_then(|text| field(&text, "oom_kill")));
    }

    /// The pids of a group, of whichever hierarchy has it, in the agent's pid namespace; those of groups below it not.
    pub(super) fn pids(&self, path: &str) -> Vec<u32> {
        let Self { unified, cpu, memory, systemd } = self;
        // A group with this path is in one hierarchy at least: where the path came from.
        let found = [unified, cpu, memory, systemd].into_iter().find_map(|mount| {
            let procs = directory(mount.as_ref(), path)?.join("cgroup.procs");
            text(&procs).filter(|text| !text.is_empty())
        });
        found
            .unwrap_or_default()
            .lines()
            .filter_map(|pid| pid.parse().ok())
            .filter(|&pid| pid != 0)
            .take(MAX_PROCS)
            .collect()
    }
}

/// Where a group's files are, if its hierarchy shows it. A path that leads out of it (`/../x`, of a process outside the
/// agent's control group namespace) names none.
fn directory(mount: Option<&Mount>, path: &str) -> Option<PathBuf> {
    let mount = mount?;
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    below.components().all(|part| matches!(part, Component::Normal(_))).then(|| mount.at.join(below))
}

/// A path of `mountinfo`, in which blanks, tabs, newlines and backslashes are octal.
fn plain(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (written, meant)| path.replace(written, meant))
}

/// A file's text, as far as it is read.
fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

/// The number beside a name, of a file with one pair a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once(' ').filter(|(known, _)| *known == name)?.1.trim().parse().ok())
}

/// `total` of `some`, which is microseconds (`Documentation/accounting/psi.rst`), in nanoseconds.
fn pressure(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split(' ').find_map(|pair| pair.strip_prefix("total="))?;
    total.parse::<u64>().ok().map(|us| us.saturating_mul(1000))
}

#[cfg(test)]
#[path = "cgroup_stat_tests.rs"]
mod tests;
