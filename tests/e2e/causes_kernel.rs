//! What the kernel side tells of why a call may have been slow, each from programs that really do it: waiting for a processor,
//! running out of memory, losing segments, a peer that does not read, weights that are opened, a port that is listened on.
//!
//! The records are read from a recording; what they mean for a call is another topic's. Every kind has a run in which nothing
//! of it may show.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use inferscope::{
    host::ProcessUsage,
    kernel::{self, Settings, Watcher},
    record::{self, FileOpen, Listen, ObjectId, Record, Retransmit, SendLimits},
    recording::{Frame, Playback},
};
use inferscope_tests::{
    agent::{Agent, Stopped},
    place,
    process::{Program, Stream},
};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use serde_json::json;

use crate::{
    controller::{Limit, Limited},
    network::Network,
    raw,
    scenario::{Need, Room, SOON, Scenarios, say},
};

/// Adds this topic's scenarios.
pub fn add(all: &mut Scenarios) {
    all.add("causes_kernel::busy_and_idle", &[Need::Taskset], busy_and_idle);
    all.add("causes_kernel::both_ways_agree", &[], both_ways_agree);
    all.add("causes_kernel::cost_of_a_walk", &[], cost_of_a_walk);
    all.add("causes_kernel::oom_victim", &[], oom_victim);
    all.add("causes_kernel::retransmits", &[Need::Ip, Need::Nft, Need::Curl], || retransmits(true));
    all.add("causes_kernel::no_retransmits", &[Need::Ip, Need::Nft, Need::Curl], || retransmits(false));
    all.add("causes_kernel::slow_reader", &[], || reader(Duration::from_millis(800)));
    all.add("causes_kernel::fast_reader", &[], || reader(Duration::ZERO));
    all.add("causes_kernel::weights", &[], weights);
    all.add("causes_kernel::weights_in_bulk", &[], weights_in_bulk);
    all.add("causes_kernel::listeners", &[], listeners);
}

/// Three programs on one processor wait for it two thirds of the time or, beside others, more; what they do not wait they run.
/// One that sleeps does neither.
fn busy_and_idle() -> Result<()> {
    let mut watcher = walker()?;
    let busy = || {
        let mut command = Command::new("taskset");
        Program::spawn("busy", command.args(["-c", "0", "sh", "-c", "while :; do :; done"]))
    };
    let programs = [busy()?, busy()?, busy()?];
    let idle = Program::spawn("idle", Command::new("sleep").arg("1000"))?;
    let pids: Vec<u32> = programs.iter().map(Program::pid).collect();
    ensure!(watcher.watch(&[&pids[..], &[idle.pid()]].concat()) == 0, "no room");
    // taskset has become sh, and has run on the other processor before, once all are seen to run.
    let settled = |usage: &BTreeMap<u32, ProcessUsage>| {
        pids.iter().all(|pid| usage.get(pid).is_some_and(|usage| usage.cpu_ns > 100_000_000))
    };
    let (before, began) = until(&mut watcher, settled)?;
    let grown = |usage: &BTreeMap<u32, ProcessUsage>| {
        pids.iter().all(|pid| usage[pid].cpu_ns + usage[pid].runqueue_ns > total(&before[pid]) + 1_000_000_000)
    };
    let (after, ended) = until(&mut watcher, grown)?;
    let wall = (ended - began).as_nanos() as u64;
    for pid in &pids {
        let (cpu, waited) = (after[pid].cpu_ns - before[pid].cpu_ns, after[pid].runqueue_ns - before[pid].runqueue_ns);
        say(&format!("busy: {cpu} ns on a processor, {waited} ns waiting, of {wall} ns"));
        // Waiting is added up when it is over, so that the last turn of the others may be missing.
        ensure!(wall.abs_diff(cpu + waited) < wall / 8, "{cpu} + {waited} of {wall}");
        ensure!(waited * 20 > wall * 11, "waited {waited} of {wall}");
        ensure!((after[pid].threads, after[pid].main_tid) == (1, *pid), "{:?}", after[pid]);
        ensure!(after[pid].main_runqueue_ns == after[pid].runqueue_ns, "{:?}", after[pid]);
    }
    let (before, after) = (&before[&idle.pid()], &after[&idle.pid()]);
    ensure!(total(after) - total(before) < 1_000_000, "it slept: {before:?} {after:?}");
    ensure!(after.uninterruptible == 0 && after.start_boottime_ns > 0, "{after:?}");
    drop(idle);
    let gone = |usage: &BTreeMap<u32, ProcessUsage>| usage.len() == pids.len();
    until(&mut watcher, gone).context("a process that is gone is still told of")?;
    Ok(())
}

/// What the kernel side adds up is what `/proc` says, for a process at rest to the nanosecond.
fn both_ways_agree() -> Result<()> {
    let threads = threads(5)?;
    let mut watchers = [walker()?, Watcher::of_proc()];
    ensure!(watchers[0].is_exact() && !watchers[1].is_exact(), "two of a kind");
    let mut read = || -> Result<Vec<ProcessUsage>> {
        let one = |watcher: &mut Watcher| {
            watcher.watch(&[threads.pid(), u32::MAX]);
            let [usage] = watcher.read()[..] else { bail!("not one process") };
            Ok(usage)
        };
        watchers.iter_mut().map(one).collect()
    };
    let deadline = Instant::now() + SOON;
    loop {
        let both = read()?;
        // `/proc` rounds to a tick of 10 ms.
        let start = both[0].start_boottime_ns;
        let rounded = ProcessUsage { start_boottime_ns: start - start % 10_000_000, ..both[0] };
        if rounded == both[1] {
            ensure!(rounded.threads == 6 && rounded.cpu_ns > 0 && rounded.read_bytes.is_some(), "{rounded:?}");
            return Ok(());
        }
        // The threads may still be on their way to sleep.
        ensure!(Instant::now() < deadline, "{both:?}");
    }
}

/// Prints what a reading costs with a thousand threads, watched and not. What finds no room is said.
fn cost_of_a_walk() -> Result<()> {
    const READINGS: u32 = 50;
    let threads = threads(1_000)?;
    for (mut watcher, how, room) in [(walker()?, "a walk", 4_096), (Watcher::of_proc(), "/proc", 256)] {
        let crowd: Vec<u32> = (1..=5_000).collect();
        ensure!(watcher.watch(&crowd) == crowd.len() - room, "{how} has another cap");
        for (pid, what) in [(threads.pid(), "watched"), (std::process::id(), "not watched")] {
            watcher.watch(&[pid]);
            watcher.read();
            let began = Instant::now();
            for _ in 0..READINGS {
                let [usage] = watcher.read()[..] else { bail!("not one process") };
                ensure!(usage.threads >= 1 && (pid != threads.pid() || usage.threads == 1_001), "{usage:?}");
            }
            let each = began.elapsed() / READINGS;
            say(&format!("{how} over a host with a process of 1,001 threads, {what}: {each:?}"));
            ensure!(each < Duration::from_millis(50), "{each:?}");
        }
    }
    Ok(())
}

/// A process that eats more than its control group may have: told although nobody traces it.
fn oom_victim() -> Result<()> {
    let limit = Limit::Memory(32 << 20);
    let group = Limited::make("inferscope-e2e-oom", limit)?;
    group.set(limit)?;
    let procs = group.procs();
    let (victim, seen) = record(&["--comm", "nobody-at-all"], |_| {
        let script = format!("echo $$ > {} && exec tail /dev/zero", procs.display());
        let hungry = Program::spawn("hungry", Command::new("sh").args(["-c", &script]))?;
        let status = hungry.wait_exit(SOON)?;
        ensure!(!status.success(), "it was not killed");
        Ok(hungry.pid())
    })?;
    let victims: Vec<_> = seen.victims.iter().filter(|origin| origin.tgid == victim).collect();
    let [origin] = victims[..] else { bail!("{} records of {victim} instead of one", victims.len()) };
    ensure!(origin.tid == victim && origin.start_ns > 0, "{origin:?}");
    Ok(())
}

/// A server and a client in a network of their own, which loses every tenth segment that the server sends, or none.
fn retransmits(lossy: bool) -> Result<()> {
    let network = Network::make("inferscope-e2e", lossy)?;
    let room = Room::new()?;
    let (port, seen) = record(&[], |_| {
        let mut command = network.inside(&place::python()?);
        command.arg(place::script("model_server.py")).args(["--chunks", "300", "--interval-ms", "1"]);
        command.args(["--first-token-ms", "1", "--log"]).arg(room.file("log"));
        let server = Program::spawn("uvicorn", &mut command)?;
        let ready = server.wait_for_line(Stream::Stdout, "ready", SOON, |line| line.starts_with("ready "))?;
        let port: u16 = ready.split_whitespace().last().context("no port")?.parse()?;
        let body = json!({"model": "inferscope-test-model", "stream": true,
            "messages": [{"role": "user", "content": "hello"}]});
        let mut curl = network.inside(Path::new("curl"));
        curl.args(["--silent", "--show-error", "--fail", "--no-buffer", "--json", &body.to_string()]);
        curl.arg(format!("http://127.0.0.1:{port}/v1/chat/completions"));
        Program::spawn("curl", &mut curl)?.wait_success(SOON)?;
        Ok(port)
    })?;
    // Others on this machine may lose segments too.
    let ours: Vec<_> = seen.retransmits.iter().filter(|(_, one)| seen.local_port(one.socket) == Some(port)).collect();
    if !lossy {
        ensure!(ours.is_empty(), "nothing was lost: {ours:?}");
        return Ok(());
    }
    let (Some((_, first)), Some((_, last))) = (ours.first(), ours.last()) else { bail!("no retransmits") };
    let times: u32 = ours.iter().map(|(_, one)| one.since).sum();
    say(&format!("{} records tell of {times} retransmits, {:?} segments", ours.len(), last.total));
    ensure!(ours.iter().all(|(_, one)| one.since >= 1 && one.state != 0), "{ours:?}");
    ensure!(ours.windows(2).all(|pair| pair[0].0 + 10_000_000 <= pair[1].0), "more than one in 10 ms: {ours:?}");
    ensure!(last.total.context("no count")? >= times && times >= 5, "{times} of {last:?}");
    // The connection's end has the last word.
    let limits = seen.limits.iter().rfind(|limits| limits.socket == first.socket).context("no limits at the end")?;
    ensure!(limits.total_retrans >= last.total && limits.srtt_us.is_some(), "{limits:?} before {last:?}");
    Ok(())
}

/// An answer of more than the buffers take, to a client that waits before it reads.
fn reader(pause: Duration) -> Result<()> {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 256;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let own = std::process::id().to_string();
    let ((), seen) = record(&["--pid", &own], |_| {
        let server = thread::spawn(move || -> Result<()> {
            let (mut socket, _) = listener.accept()?;
            raw::read_request(&mut socket)?;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PIECE * PIECES);
            socket.write_all(head.as_bytes())?;
            for _ in 0..PIECES {
                socket.write_all(&[b'x'; PIECE])?;
            }
            Ok(())
        });
        let mut client = raw::connect(port)?;
        client.write_all(&raw::request("slow"))?;
        raw::read_until(&mut client, "\r\n\r\n")?;
        // The pause is what is measured; nothing happens in it that could be waited for.
        thread::sleep(pause);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest)?;
        server.join().map_err(|_| anyhow!("the server panicked"))?
    })?;
    let limited = |limits: &&SendLimits| seen.local_port(limits.socket) == Some(port);
    let ours: Vec<_> = seen.limits.iter().filter(limited).collect();
    let most = ours.iter().map(|limits| limits.rwnd_limited_ns).max().unwrap_or(0);
    say(&format!("a pause of {pause:?}: held back for {most} ns, {} records", ours.len()));
    let pause = pause.as_nanos() as u64;
    ensure!(most <= pause + 250_000_000, "more than the pause: {ours:?}");
    if pause > 0 {
        ensure!(most >= pause - 250_000_000, "less than the pause: {ours:?}");
        ensure!(ours.windows(2).all(|pair| pair[0].rwnd_limited_ns <= pair[1].rwnd_limited_ns), "it shrinks: {ours:?}");
    }
    Ok(())
}

/// Names that weights have and names that they have not, paths up to what a path can be, every way to open one.
fn weights() -> Result<()> {
    let room = Room::new()?;
    let names = ["a.safetensors", "b.gguf", "c.bin", "d.pt", "e.pth", "f.onnx", "g.engine"];
    let others = ["a.safetensor", "asafetensors", "b.bin.txt", "c.GGUF", "bin", "d.engines", "pt", "e.json"];
    for (i, name) in names.iter().chain(&others).enumerate() {
        fs::write(room.file(name), vec![0; i + 1])?;
    }
    let long = deep(room.path(), 300)?.join("model.safetensors");
    let edge = deep(room.path(), 245)?;
    let edges = [255, 256, 257].map(|len| {
        let stem = len - edge.as_os_str().len() - "/.bin".len();
        edge.join(format!("{}.bin", "n".repeat(stem)))
    });
    for path in edges.iter().chain([&long]) {
        fs::write(path, b"12345")?;
    }
    let own = std::process::id().to_string();
    let ((), seen) = record(&["--pid", &own], |_| {
        for name in names.iter().chain(&others) {
            File::open(room.file(name))?;
        }
        for path in edges.iter().chain([&long]) {
            File::open(path)?;
        }
        ensure!(File::open(room.file("absent.gguf")).is_err(), "it is there");
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        openat2(CWD, room.file("b.gguf"), flags, Mode::empty(), ResolveFlags::empty())?;
        Ok(())
    })?;
    let found: Vec<_> = seen.opens.iter().map(|(path, open)| (path.as_str(), open)).collect();
    let all = found.len();
    let expected = names.map(|name| room.file(name));
    let paths = expected.iter().chain(&edges).chain([&long]).chain([&expected[1]]);
    ensure!(all == names.len() + edges.len() + 2, "{all} opens: {found:?}");
    for (path, (told, open)) in paths.zip(&found) {
        let path = path.to_str().context("an odd path")?;
        ensure!(path.ends_with(told) && open.is_whole == (path.len() <= 256), "{told:?} of {path:?}");
        ensure!(told.len() == path.len().min(256), "{} bytes of {}", told.len(), path.len());
        ensure!(open.size == Some(fs::metadata(path)?.len()), "{open:?} of {path}");
        ensure!(open.inode == Some(std::os::unix::fs::MetadataExt::ino(&fs::metadata(path)?)), "{open:?} of {path}");
    }
    let flags: Vec<u32> = found.iter().map(|(_, open)| open.flags & 3).collect();
    ensure!(flags.iter().rev().copied().eq(std::iter::once(2).chain(vec![0; all - 1])), "{flags:?}");
    Ok(())
}

/// A data set whose files are called like weights does not fill the ring; what is left out is counted.
fn weights_in_bulk() -> Result<()> {
    const OPENS: usize = 3_000;
    let room = Room::new()?;
    let file = room.file("sample.pt");
    fs::write(&file, b"1")?;
    let own = std::process::id().to_string();
    let (seconds, seen) = record(&["--pid", &own], |_| {
        let began = Instant::now();
        for _ in 0..OPENS {
            File::open(&file)?;
        }
        Ok(began.elapsed().as_secs() as usize + 1)
    })?;
    let ledger = seen.stopped.ledger().context("no ledger")?;
    let skipped = ledger["kernel.file_opens_skipped"].as_u64().context("no counter")? as usize;
    say(&format!("{OPENS} opens within {seconds} s: {} told, {skipped} left out", seen.opens.len()));
    ensure!(seen.opens.len() + skipped == OPENS, "{} + {skipped}", seen.opens.len());
    ensure!((512..=512 * (seconds + 1)).contains(&seen.opens.len()), "{} told", seen.opens.len());
    Ok(())
}

/// Who listens is told with the port, of traced processes only.
fn listeners() -> Result<()> {
    let own = std::process::id().to_string();
    let (ports, seen) = record(&["--pid", &own], |_| {
        let one = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let other = TcpListener::bind(("::1", 0)).ok().and_then(|listener| listener.local_addr().ok());
        Ok((one, other.map(|address| address.port())))
    })?;
    let mut expected = vec![Listen { port: Some(ports.0), is_ipv6: false }];
    expected.extend(ports.1.map(|port| Listen { port: Some(port), is_ipv6: true }));
    ensure!(seen.listens == expected, "{:?} instead of {expected:?}", seen.listens);
    let (_, seen) = record(&["--comm", "nobody-at-all"], |_| Ok(TcpListener::bind(("127.0.0.1", 0))?))?;
    ensure!(seen.listens.is_empty(), "not traced: {:?}", seen.listens);
    Ok(())
}

/// What was recorded.
struct Seen {
    sockets: BTreeMap<ObjectId, u16>,
    victims: Vec<record::Origin>,
    /// With their times.
    retransmits: Vec<(u64, Retransmit)>,
    limits: Vec<SendLimits>,
    /// With their paths.
    opens: Vec<(String, FileOpen<'static>)>,
    listens: Vec<Listen>,
    stopped: Stopped,
}

impl Seen {
    fn local_port(&self, socket: ObjectId) -> Option<u16> {
        self.sockets.get(&socket).copied()
    }
}

/// Records what happens in `run`.
fn record<T>(args: &[&str], run: impl FnOnce(&Agent) -> Result<T>) -> Result<(T, Seen)> {
    let room = Room::new()?;
    let file = room.file("recording");
    let mut all = vec!["record".into(), file.clone().into_os_string()];
    all.extend(args.iter().map(Into::into));
    let agent = Agent::start(&all)?;
    let result = run(&agent)?;
    let stopped = agent.stop()?.clean()?;
    Ok((result, read_back(&file, stopped)?))
}

fn read_back(file: &Path, stopped: Stopped) -> Result<Seen> {
    let mut playback = Playback::open(BufReader::new(File::open(file)?))?;
    let mut seen = Seen {
        sockets: BTreeMap::new(),
        victims: Vec::new(),
        retransmits: Vec::new(),
        limits: Vec::new(),
        opens: Vec::new(),
        listens: Vec::new(),
        stopped,
    };
    loop {
        let bytes = match playback.next_frame()? {
            Frame::Record(bytes) => bytes,
            Frame::End => return Ok(seen),
            Frame::Damaged => bail!("the recording is damaged"),
        };
        match record::parse(bytes)? {
            Record::Socket(_, socket) => {
                if let Some(local) = socket.local.ip() {
                    seen.sockets.insert(socket.id, local.port());
                }
            }
            Record::OomVictim { origin } => seen.victims.push(origin),
            Record::Retransmit(origin, retransmit) => seen.retransmits.push((origin.time.0, retransmit)),
            Record::SendLimits(_, limits) => seen.limits.push(limits),
            Record::FileOpen(_, open) => {
                seen.opens.push((String::from_utf8(open.path.to_vec())?, FileOpen { path: b"", ..open }));
            }
            Record::Listen(_, listen) => seen.listens.push(listen),
            _ => {}
        }
    }
}

/// A watcher that the kernel side serves; nothing is attached.
fn walker() -> Result<Watcher> {
    let loaded = kernel::load(&Settings::default())?;
    ensure!(loaded.watcher.is_exact(), "not by a walk: {:?}", loaded.degraded);
    Ok(loaded.watcher)
}

/// Reads until what was read is as it should be; gives when that was.
fn until(
    watcher: &mut Watcher,
    is_right: impl Fn(&BTreeMap<u32, ProcessUsage>) -> bool,
) -> Result<(BTreeMap<u32, ProcessUsage>, Instant)> {
    let deadline = Instant::now() + SOON;
    loop {
        let usage = watcher.read().into_iter().map(|usage| (usage.pid, usage)).collect();
        let now = Instant::now();
        if is_right(&usage) {
            return Ok((usage, now));
        }
        ensure!(now < deadline, "not within {SOON:?}: {usage:?}");
        // The kernel announces nothing of it.
        thread::sleep(Duration::from_millis(20));
    }
}

fn total(usage: &ProcessUsage) -> u64 {
    usage.cpu_ns + usage.runqueue_ns
}

/// A program with so many threads beside its first, all asleep.
fn threads(n: usize) -> Result<Program> {
    let script = format!(
        "import threading, time\nthreading.stack_size(1 << 16)\n\
         for _ in range({n}): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n\
         print('ready', flush=True)\ntime.sleep(1000)"
    );
    let program = Program::spawn("threads", Command::new(place::python()?).args(["-c", &script]))?;
    program.wait_for_line(Stream::Stdout, "ready", SOON, |line| line == "ready")?;
    Ok(program)
}

/// Directories below `from` whose path is at least `len` bytes long.
fn deep(from: &Path, len: usize) -> Result<PathBuf> {
    let mut path = from.to_owned();
    while path.as_os_str().len() < len {
        let left = len - path.as_os_str().len();
        path.push("d".repeat(left.clamp(2, 41) - 1));
    }
    fs::create_dir_all(&path)?;
    Ok(path)
}
