//! Control groups as directories of fixtures, and real ones where this machine lets us make them.

use std::{
    fs,
    process::{Child, Command},
    time::{Duration, Instant},
};

use super::*;

/// A hierarchy's mount point with files in it.
fn with_files(group: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let room = tempfile::tempdir().unwrap();
    let at = room.path().join(group);
    fs::create_dir_all(&at).unwrap();
    for (name, content) in files {
        fs::write(at.join(name), content).unwrap();
    }
    room
}

fn mount(room: &tempfile::TempDir, root: &str) -> Option<Mount> {
    Some(Mount { at: room.path().to_owned(), root: root.into() })
}

#[test]
fn version_2() {
    let room = with_files(
        "a.slice/b.service",
        &[
            (
                "cpu.stat",
                "usage_usec 100\nuser_usec 60\nsystem_usec 40\nnr_periods 10\nnr_throttled 3\nthrottled_usec 4500\n",
            ),
            ("memory.current", "1048576\n"),
            ("memory.max", "2097152\n"),
            ("memory.events", "low 0\nhigh 7\nmax 5\noom 2\noom_kill 1\noom_group_kill 0\n"),
            (
                "memory.pressure",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
            ),
            ("cgroup.procs", "17\n0\n4\n"),
        ],
    );
    let mounts = Mounts { unified: mount(&room, "/"), ..Mounts::default() };
    assert_eq!(
        mounts.read("/a.slice/b.service"),
        CgroupUsage {
            path: "/a.slice/b.service".to_owned(),
            throttled_periods: Some(3),
            throttled_ns: Some(4_500_000),
            memory: Some(1_048_576),
            memory_limit: Some(2_097_152),
            memory_limit_hits: Some(5),
            oom_kills: Some(1),
            memory_pressure_ns: Some(123_000),
        }
    );
    assert_eq!(mounts.pids("/a.slice/b.service"), [17, 4]);
    // The agent in a container sees a part.
    let mounts = Mounts { unified: mount(&room, "/docker/x"), ..Mounts::default() };
    assert_eq!(mounts.read("/docker/x/a.slice/b.service").memory, Some(1_048_576));
    for outside in ["/docker", "/docker/xy", "/../x", "/docker/x/../../a.slice/b.service", "relative", ""] {
        assert_eq!(mounts.read(outside), CgroupUsage { path: outside.to_owned(), ..CgroupUsage::default() });
        assert!(mounts.pids(outside).is_empty());
    }
}

#[test]
fn what_is_not_limited_or_not_there_is_absent() {
    let room = with_files("g", &[("memory.max", "max\n"), ("memory.current", "x\n"), ("cpu.stat", "usage_usec 1\n")]);
    let mounts = Mounts { unified: mount(&room, "/"), ..Mounts::default() };
    assert_eq!(mounts.read("/g"), CgroupUsage { path: "/g".to_owned(), ..CgroupUsage::default() });
    let room = with_files(
        "g",
        &[
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.usage_in_bytes", "5\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n"),
        ],
    );
    let usage = Mounts { memory: mount(&room, "/"), ..Mounts::default() }.read("/g");
    assert_eq!((usage.memory, usage.memory_limit, usage.oom_kills), (Some(5), None, None));
}

#[test]
fn version_1_and_what_version_2_says_beside_it() {
    let cpu = with_files("g", &[("cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 77\n")]);
    let memory = with_files(
        "g",
        &[
            ("memory.usage_in_bytes", "10\n"),
            ("memory.limit_in_bytes", "20\n"),
            ("memory.failcnt", "3\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ],
    );
    let unified = with_files("g", &[("memory.pressure", "some avg10=0 avg60=0 avg300=0 total=1\n")]);
    let mounts =
        Mounts { unified: mount(&unified, "/"), cpu: mount(&cpu, "/"), memory: mount(&memory, "/"), systemd: None };
    assert_eq!(
        mounts.read("/g"),
        CgroupUsage {
            path: "/g".to_owned(),
            throttled_periods: Some(4),
            throttled_ns: Some(77),
            memory: Some(10),
            memory_limit: Some(20),
            memory_limit_hits: Some(3),
            oom_kills: Some(2),
            memory_pressure_ns: Some(1000),
        }
    );
}

#[test]
fn mount_points() {
    let text = "\
        29 23 0:25 / /sys/fs/cgroup rw shared:4 - tmpfs tmpfs ro,mode=755\n\
        30 29 0:26 /docker/x /mnt/with\\040blank rw - cgroup2 cgroup2 rw,nsdelegate\n\
        31 29 0:27 /docker/x /elsewhere rw - cgroup2 cgroup2 rw\n\
        32 29 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:7 master:1 - cgroup cgroup rw,cpu,cpuacct\n\
        33 29 0:29 /docker/x /m rw - cgroup cgroup rw,memory\n\
        34 29 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        35 29 0:30 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n\
        36 29 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
        broken\n";
    let at = |at: &str, root: &str| Some(Mount { at: at.into(), root: root.into() });
    assert_eq!(
        Mounts::of_mountinfo(text),
        Mounts {
            unified: at("/mnt/with blank", "/docker/x"),
            cpu: at("/sys/fs/cgroup/cpu,cpuacct", "/"),
            memory: at("/sys/fs/cgroup/memory", "/"),
            systemd: at("/sys/fs/cgroup/systemd", "/"),
        }
    );
}

/// A group of this test's own with a limit of a hundredth of a processor, and a busy process in it.
struct Throttled {
    group: PathBuf,
    busy: Child,
}

impl Throttled {
    /// None where groups cannot be made here.
    fn start(mounts: &Mounts) -> Option<Self> {
        let name = format!("inferscope-test-{}", std::process::id());
        let (mount, is_unified) = match (&mounts.cpu, &mounts.unified) {
            (Some(cpu), _) => (cpu, false),
            (None, unified) => (unified.as_ref()?, true),
        };
        let group = mount.at.join(name);
        fs::create_dir(&group).ok()?;
        let limit = match is_unified {
            true => fs::write(group.join("cpu.max"), "1000 100000"),
            false => fs::write(group.join("cpu.cfs_quota_us"), "1000"),
        };
        if limit.is_err() {
            let _ = fs::remove_dir(&group);
            return None;
        }
        let busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let throttled = Self { group, busy };
        fs::write(throttled.group.join("cgroup.procs"), throttled.busy.id().to_string()).unwrap();
        Some(throttled)
    }
}

impl Drop for Throttled {
    fn drop(&mut self) {
        let _ = self.busy.kill();
        let _ = self.busy.wait();
        // The kernel lets go of the process a moment after it was waited for.
        let until = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.group).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_throttled_process_is_seen_to_be() {
    let mounts = Mounts::own();
    let Some(throttled) = Throttled::start(&mounts) else {
        eprintln!("skipped: no control group with a limit of processor time can be made here");
        return;
    };
    let path = format!("/{}", throttled.group.file_name().unwrap().to_str().unwrap());
    assert!(mounts.pids(&path).contains(&throttled.busy.id()));
    let until = Instant::now() + Duration::from_secs(60);
    let grown = loop {
        let usage = mounts.read(&path);
        if usage.throttled_periods.is_some_and(|n| n > 2) && usage.throttled_ns.is_some_and(|ns| ns > 0) {
            break usage;
        }
        assert!(Instant::now() < until, "{usage:?}");
        // Nothing tells when the kernel has counted a period.
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(grown.memory_limit, None);
}

#[test]
fn the_group_of_this_test_has_a_memory() {
    let mounts = Mounts::own();
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let Some(path) = text.lines().find_map(|line| line.split_once(":memory:")).map(|(_, path)| path.to_owned()) else {
        eprintln!("skipped: no memory hierarchy of version 1 here");
        return;
    };
    if directory(mounts.memory.as_ref(), &path).is_none() {
        eprintln!("skipped: the hierarchy does not show the own group");
        return;
    }
    let usage = mounts.read(&path);
    assert!(usage.memory.is_some_and(|bytes| bytes > 4096) && usage.oom_kills.is_some(), "{usage:?}");
}
