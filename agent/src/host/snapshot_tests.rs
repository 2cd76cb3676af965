//! Looks at real processes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::*;
use crate::host::same_start;

/// Starts two processes that speak to each other over a path, over loopback or over a socket that has no name, and a
/// third that speaks to nobody; tells their pids when all are there, and ends with its standard input.
const PARENT: &str = r#"
import os, socket, sys
how, path = sys.argv[1], sys.argv[2]
pair = socket.socketpair()
names, ready = os.pipe(), os.pipe()
def child(run):
    pid = os.fork()
    if pid == 0:
        run()
        os.write(ready[1], b'r')
        os.read(0, 1)
        os._exit(0)
    return pid
def serve():
    global kept
    if how == 'pair':
        pair[1].close()
        kept = pair[0]
        return
    listener = socket.socket(socket.AF_UNIX if how == 'path' else socket.AF_INET)
    listener.bind(path if how == 'path' else ('127.0.0.1', 0))
    listener.listen()
    os.write(names[1], str(listener.getsockname()[1] if how == 'tcp' else 1).encode() + b'\n')
    kept = (listener, listener.accept()[0])
    pair[0].close(); pair[1].close()
def call():
    global kept
    if how == 'pair':
        pair[0].close()
        kept = pair[1]
        return
    port = int(os.read(names[0], 16))
    kept = socket.create_connection(('127.0.0.1', port)) if how == 'tcp' else socket.socket(socket.AF_UNIX)
    if how == 'path': kept.connect(path)
    pair[0].close(); pair[1].close()
def idle():
    pair[0].close(); pair[1].close()
pids = [child(serve), child(call), child(idle)]
pair[0].close(); pair[1].close()
got = 0
while got < 3: got += len(os.read(ready[0], 3))
print(*pids, flush=True)
sys.stdin.read(1)
"#;

struct Family {
    parent: Child,
    pids: Vec<u32>,
    _room: tempfile::TempDir,
}

impl Family {
    /// None where there is no Python.
    fn start(how: &str) -> Option<Self> {
        let room = tempfile::tempdir().unwrap();
        let mut parent = Command::new("python3");
        parent.args(["-c", PARENT, how]).arg(room.path().join("socket")).args(["--api-key", "cnry-7Qx"]);
        let Ok(mut parent) = parent.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            eprintln!("skipped: no python3 here");
            return None;
        };
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pids = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        Some(Self { parent, pids, _room: room })
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        // All four read the same pipe.
        drop(self.parent.stdin.take());
        let _ = self.parent.wait();
    }
}

#[test]
fn relatives_and_who_speaks_to_whom() {
    for how in ["tcp", "path", "pair"] {
        let Some(family) = Family::start(how) else { return };
        let [server, client, idle] = family.pids[..] else { panic!("{:?}", family.pids) };
        // From the one that speaks to nobody.
        let (processes, links) = Snapshot::take(&[idle]);
        let of = |pid: u32| processes.iter().find(|process| process.pid == pid).unwrap();
        for pid in [server, client, idle] {
            assert_eq!(of(pid).parent, family.parent.id(), "{how}");
        }
        let parent = of(family.parent.id());
        assert_eq!(parent.parent, std::process::id());
        assert!(parent.exe.as_ref().is_some_and(|exe| exe.contains("python")) && parent.uid.is_some());
        assert!(parent.cmdline.iter().any(|argument| argument == "--api-key"));
        assert!(!parent.cmdline.iter().any(|argument| argument.contains("cnry-7Qx")));
        assert!(parent.cgroup.as_ref().is_some_and(|path| path.starts_with('/')));
        let test = of(std::process::id());
        let boot = procfs::boot_time_secs().unwrap();
        let ticks = procfs::process::Process::myself().unwrap().stat().unwrap().starttime;
        assert!(boot > 0 && same_start(test.start_boottime_ns, ticks * 10_000_000 + 9_999_999));
        assert!(processes.iter().map(|process| process.pid).is_sorted());
        let between = LocalLink { one: server.min(client), other: server.max(client) };
        // A kernel without `unix_diag` does not tell of UNIX sockets.
        if how == "tcp" || !super::super::unix_peers::pairs(server, true).is_empty() {
            assert!(links.contains(&between), "{how}: {links:?}");
        }
        assert!(!links.iter().any(|link| [link.one, link.other].contains(&idle)), "{how}: {links:?}");
        assert_eq!(of(server).listens.len(), usize::from(how == "tcp"), "{how}");
        assert!(of(client).listens.is_empty());
    }
}

#[test]
fn a_process_that_is_gone_is_left_out() {
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    assert_eq!(Snapshot::take(&[gone.id(), u32::MAX, 0]), (vec![], vec![]));
    assert_eq!(Snapshot::take(&[]), (vec![], vec![]));
    // One that ends between the scan and the reading.
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let snapshot = Snapshot::scan();
    assert!(snapshot.read(child.id()).is_some());
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(snapshot.read(child.id()), None);
    // A pid that came back.
    let mut other = Snapshot::scan();
    let own = std::process::id();
    other.scanned.get_mut(&own).unwrap().start_boottime_ns += start::TICK_NS;
    assert_eq!(other.read(own), None);
}

#[test]
fn a_member_of_the_control_group_is_found_without_being_a_relative() {
    let name = format!("inferscope-test-members-{}", std::process::id());
    let text = fs::read_to_string("/proc/mounts").unwrap();
    let mount = text.lines().find_map(|line| {
        let mut parts = line.split(' ');
        let (at, kind, options) = (parts.nth(1)?, parts.next()?, parts.next()?);
        (kind == "cgroup2" || options.split(',').any(|option| option == "cpu")).then(|| at.to_owned())
    });
    let Some(group) = mount.map(|at| std::path::Path::new(&at).join(&name)) else {
        eprintln!("skipped: no control groups here");
        return;
    };
    if fs::create_dir(&group).is_err() {
        eprintln!("skipped: no control group can be made here");
        return;
    }
    // The first ends at once and leaves its child to `init`.
    let start = || {
        let script = "echo $$ > \"$0/cgroup.procs\"; { cat <&3 >/dev/null & echo $!; } 3<&0";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(&group).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let input = shell.stdin.take();
        shell.wait().unwrap();
        (line.trim().parse::<u32>().unwrap(), input)
    };
    let (one, mut one_input) = start();
    let (other, mut other_input) = start();
    let (processes, _) = Snapshot::take(&[one]);
    let found = processes.iter().find(|process| process.pid == other).cloned();
    for input in [&mut one_input, &mut other_input] {
        let _ = input.as_mut().unwrap().flush();
        drop(input.take());
    }
    // Both end with their input; the group can go when they have.
    while fs::remove_dir(&group).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(found.and_then(|process| process.cgroup), Some(format!("/{name}")));
}

#[test]
fn a_name_may_look_like_the_rest_of_the_line() {
    let fields = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
    for comm in ["python3", "a) b (c", "", "x)"] {
        let stat = Stat::of_text(&format!("5 ({comm}) {fields}")).unwrap();
        assert_eq!((stat.comm.as_str(), stat.parent, stat.start_boottime_ns), (comm, 7, 47_110_000_000));
    }
    assert_eq!(Stat::of_text("5 (x) S 7"), None);
    assert_eq!(Stat::of_text(""), None);
}
