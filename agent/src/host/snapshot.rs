//! One look at the processes around some others.
//!
//! Owns which processes are looked at and what of `/proc` is read of each. Leaves to others what the text of a control
//! group means (`cgroup`), what a command line must not show (`scrub`), the sockets (`sockets`) and who belongs
//! together (`group`).
//!
//! Looked at are the seeds (who serves calls, who uses a GPU); their ancestors up to `init`; all that the topmost
//! ancestor that is no shell or supervisor has started; and the other members of the seeds' control groups, where those
//! are more than a session. A process may end at any moment: one that was gone, or had become another, before it was
//! read to the end is left out; what could not be read of one that stayed is absent.
//!
//! Start times come from `/proc/PID/stat`, in ticks; how they are compared with the kernel's is in `start`.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fs::{self, File},
    io::Read as _,
    sync::LazyLock,
};

use super::{
    Engine, LocalLink, ProcessInfo, Role,
    boundary::is_boundary_comm,
    cgroup::{Place, is_shared},
    cgroup_stat::Mounts,
    scrub::scrub,
    sockets, start, version,
};

/// Processes that are told of.
pub const MAX_PROCESSES: usize = 1024;

/// Processes of the host that are looked through for parents and children: the kernel's default `pid_max`.
const MAX_SCANNED: usize = 32_768;

/// Generations that are climbed.
const MAX_GENERATIONS: usize = 64;

/// Bytes that are read of a command line, and of any other file.
const MAX_FILE: u64 = 64 * 1024;

/// What the kernel adds to the path of an executable whose file is gone.
const DELETED: &str = " (deleted)";

/// Where control groups are mounted does not change while the agent runs.
static MOUNTS: LazyLock<Mounts> = LazyLock::new(Mounts::own);

/// A look at the host.
#[derive(Debug)]
pub struct Snapshot {
    scanned: HashMap<u32, Stat>,
    children: HashMap<u32, Vec<u32>>,
}

/// What is read of every process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stat {
    comm: String,
    parent: u32,
    start_boottime_ns: u64,
}

impl Snapshot {
    /// Looks at the processes around the seeds, at most [`MAX_PROCESSES`], those that are nearest first; and at who of
    /// them speaks to whom. Both in the order of pids. On a busy machine of two processors it took 10 µs for each process
    /// of the host and 350 µs for each that is told of.
    pub fn take(seeds: &[u32]) -> (Vec<ProcessInfo>, Vec<LocalLink>) {
        let snapshot = Self::scan();
        let chosen = snapshot.choose(seeds);
        let mut processes: Vec<ProcessInfo> = chosen.iter().filter_map(|&pid| snapshot.read(pid)).collect();
        let pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();
        let mut sockets = sockets::read(&pids);
        for process in &mut processes {
            process.listens = sockets.listens.remove(&process.pid).unwrap_or_default();
        }
        (processes, sockets.links)
    }

    fn scan() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let scanned: HashMap<u32, Stat> =
            pids.take(MAX_SCANNED).filter_map(|pid| Some((pid, Stat::read(pid)?))).collect();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for (&pid, stat) in &scanned {
            children.entry(stat.parent).or_default().push(pid);
        }
        Self { scanned, children }
    }

    fn choose(&self, seeds: &[u32]) -> BTreeSet<u32> {
        let mut chosen = BTreeSet::new();
        let mut add = |pid: u32| {
            let fits = chosen.len() < MAX_PROCESSES && self.scanned.contains_key(&pid);
            if fits {
                chosen.insert(pid);
            }
        };
        let seeds = || seeds.iter().copied().filter(|pid| self.scanned.contains_key(pid));
        seeds().for_each(&mut add);
        seeds().flat_map(|seed| self.up(seed)).for_each(&mut add);
        let mut groups = BTreeSet::new();
        for seed in seeds() {
            self.below(self.base(seed)).into_iter().for_each(&mut add);
            groups.extend(place(seed).map(|place| place.path).filter(|path| !is_shared(path)));
        }
        groups.iter().flat_map(|path| MOUNTS.pids(path)).for_each(&mut add);
        chosen
    }

    /// A process and its ancestors.
    fn up(&self, pid: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(pid), |pid| Some(self.scanned.get(pid)?.parent).filter(|&parent| parent != 0))
            .take(MAX_GENERATIONS)
    }

    /// The topmost ancestor that may be of the same engine.
    fn base(&self, seed: u32) -> u32 {
        let joins = |pid: &u32| *pid > 1 && self.scanned.get(pid).is_some_and(|stat| !is_boundary_comm(&stat.comm));
        self.up(seed).skip(1).take_while(joins).last().unwrap_or(seed)
    }

    /// A process and what it has started, nearest first.
    fn below(&self, base: u32) -> Vec<u32> {
        let mut open = VecDeque::from([base]);
        let mut found = Vec::new();
        while let Some(pid) = open.pop_front().filter(|_| found.len() < MAX_PROCESSES) {
            found.push(pid);
            open.extend(self.children.get(&pid).into_iter().flatten());
        }
        found
    }

    /// What `/proc` says of a process, if it still is the one that was scanned.
    fn read(&self, pid: u32) -> Option<ProcessInfo> {
        let Stat { comm, parent, start_boottime_ns } = self.scanned.get(&pid)?.clone();
        let place = place(pid);
        let mut process = ProcessInfo {
            pid,
            start_boottime_ns,
            parent,
            uid: uid(pid),
            comm: Some(comm),
            exe: fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| {
                let path = path.to_string_lossy();
                path.strip_suffix(DELETED).unwrap_or(&path).to_owned()
            }),
            cmdline: cmdline(pid),
            cgroup: place.as_ref().map(|place| place.path.clone()),
            container_id: place.as_ref().and_then(|place| place.container_id.clone()),
            unit: place.as_ref().and_then(|place| place.unit.clone()),
            pod_uid: place.and_then(|place| place.pod_uid),
            listens: Vec::new(),
            engine_version: None,
        };
        // A version is a server's to tell: its workers have the same.
        if let Some(engine) = Engine::recognise(&process)
            && engine.role.is_some_and(|role| matches!(role, Role::ApiServer | Role::Launcher))
        {
            process.engine_version = version::of(&process, engine.kind);
        }
        (Stat::read(pid)?.start_boottime_ns == start_boottime_ns).then_some(process)
    }
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::of_text(&text(&format!("/proc/{pid}/stat"))?)
    }

    /// `pid (comm) state ppid …`, where the name may have anything in it (proc_pid_stat(5)).
    fn of_text(text: &str) -> Option<Self> {
        let (head, tail) = text.rsplit_once(')')?;
        let comm = head.split_once('(')?.1.to_owned();
        let mut fields = tail.split_ascii_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        // Field 22; the parent is the fourth.
        let start: u64 = fields.nth(22 - 4 - 1)?.parse().ok()?;
        Some(Self { comm, parent, start_boottime_ns: start::of_ticks(start) })
    }
}

fn place(pid: u32) -> Option<Place> {
    Place::of_text(&text(&format!("/proc/{pid}/cgroup"))?)
}

/// The real user, the first of four.
fn uid(pid: u32) -> Option<u32> {
    let status = text(&format!("/proc/{pid}/status"))?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The arguments without their secrets. Whoever sets its title leaves the rest of the room empty.
fn cmdline(pid: u32) -> Vec<String> {
    let bytes = bytes(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    match bytes.get(..end) {
        None | Some([]) => Vec::new(),
        Some(text) => scrub(text.split(|&byte| byte == 0)),
    }
}

fn bytes(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn text(path: &str) -> Option<String> {
    bytes(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
