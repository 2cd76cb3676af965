//! Which BPF programs and links the kernel holds, and which process holds them.
//!
//! Asks through bpf(2) itself, because the machines that run the tests have no bpftool. The kernel frees programs in
//! a worker thread and announces nothing, so [`wait_gone`] polls: it is the only wait of the harness that does.

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper among this project's dependencies")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

// Commands of bpf(2), from linux/bpf.h.
const PROG_GET_NEXT_ID: u32 = 11;
const PROG_GET_FD_BY_ID: u32 = 13;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const LINK_GET_NEXT_ID: u32 = 31;

/// Offset of the name in `struct bpf_prog_info`, and its size (BPF_OBJ_NAME_LEN).
const PROG_NAME: std::ops::Range<usize> = 64..80;

/// `union bpf_attr` at a size that every kernel knows the beginning of; unused bytes must be zero.
type Attr = [u32; 32];

/// What is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Names of programs by id.
    pub programs: BTreeMap<u32, String>,
    /// Ids of links.
    pub links: BTreeSet<u32>,
}

impl Loaded {
    /// Everything in the kernel now. Needs CAP_SYS_ADMIN.
    pub fn now() -> Result<Self> {
        let mut programs = BTreeMap::new();
        for id in ids(PROG_GET_NEXT_ID).context("cannot list BPF programs")? {
            // A program that was freed since the listing has no name any more.
            if let Ok(name) = program_name(id) {
                programs.insert(id, name);
            }
        }
        let links = ids(LINK_GET_NEXT_ID).context("cannot list BPF links")?.into_iter().collect();
        Ok(Self { programs, links })
    }

    /// What one process holds through its file descriptors.
    pub fn held_by(pid: u32) -> Result<Self> {
        let (programs, links) = held(&Path::new("/proc").join(pid.to_string()))?;
        let mut all = Self::now()?;
        all.programs.retain(|id, _| programs.contains(id));
        all.links.retain(|id| links.contains(id));
        Ok(all)
    }

    /// Whether nothing is in here.
    pub fn is_empty(&self) -> bool {
        let Self { programs, links } = self;
        programs.is_empty() && links.is_empty()
    }
}

/// What is loaded now, was not in `before` and is held by no living process: it outlived who loaded it.
///
/// Other programs on the machine may load and unload BPF at any time; what they hold does not count.
pub fn left_behind(before: &Loaded) -> Result<Loaded> {
    let mut left = Loaded::now()?;
    left.programs.retain(|id, _| !before.programs.contains_key(id));
    left.links.retain(|id| !before.links.contains(id));
    if left.is_empty() {
        return Ok(left);
    }
    for entry in fs::read_dir("/proc")?.flatten() {
        // Not a process, or one that has ended since: it holds nothing.
        if let Ok((programs, links)) = held(&entry.path()) {
            left.programs.retain(|id, _| !programs.contains(id));
            left.links.retain(|id| !links.contains(id));
        }
    }
    Ok(left)
}

/// Waits until nothing is left behind.
pub fn wait_gone(before: &Loaded, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = left_behind(before)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("left in the kernel after {timeout:?}: {left:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Ids of programs and links that the file descriptors of a `/proc/PID` refer to.
fn held(process: &Path) -> io::Result<(BTreeSet<u32>, BTreeSet<u32>)> {
    let (mut programs, mut links) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(process.join("fdinfo"))?.flatten() {
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        for (key, value) in info.lines().filter_map(|line| line.split_once(':')) {
            let into = match key {
                "prog_id" => &mut programs,
                "link_id" => &mut links,
                _ => continue,
            };
            into.extend(value.trim().parse::<u32>());
        }
    }
    Ok((programs, links))
}

fn ids(command: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut attr: Attr = [0; 32];
    loop {
        attr[0] = found.last().copied().unwrap_or(0); // start_id
        match bpf(command, &mut attr) {
            Ok(_) => found.push(attr[1]), // next_id
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(error) => return Err(error),
        }
    }
}

fn program_name(id: u32) -> io::Result<String> {
    let mut attr: Attr = [0; 32];
    attr[0] = id;
    let fd = bpf(PROG_GET_FD_BY_ID, &mut attr)?;
    // SAFETY: the kernel has just returned this descriptor to us, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = [0u8; 256];
    let address = info.as_mut_ptr() as u64;
    let mut attr: Attr = [0; 32];
    attr[0] = fd.as_raw_fd().unsigned_abs(); // bpf_fd
    attr[1] = info.len() as u32; // info_len
    // info is a u64 at offset 8, in the machine's byte order.
    let [low, high] = if cfg!(target_endian = "little") {
        [address as u32, (address >> 32) as u32]
    } else {
        [(address >> 32) as u32, address as u32]
    };
    (attr[2], attr[3]) = (low, high);
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    let name = &info[PROG_NAME];
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

fn bpf(command: u32, attr: &mut Attr) -> io::Result<i32> {
    let size = size_of::<Attr>();
    // SAFETY: `attr` is valid for `size` bytes, which the kernel neither reads nor writes beyond; commands that
    // carry a pointer in it are only issued by `program_name`, whose buffer outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    const PROG_LOAD: u32 = 5;
    const PROG_TYPE_SOCKET_FILTER: u32 = 1;

    /// Loads `r0 = 0; exit` and returns its descriptor.
    fn load() -> OwnedFd {
        let instructions: [u64; 2] = [0xb7, 0x95];
        let license = c"GPL";
        let mut attr: Attr = [0; 32];
        (attr[0], attr[1]) = (PROG_TYPE_SOCKET_FILTER, instructions.len() as u32);
        for (at, address) in [(2, instructions.as_ptr() as u64), (4, license.as_ptr() as u64)] {
            (attr[at], attr[at + 1]) = (address as u32, (address >> 32) as u32);
        }
        let fd = bpf(PROG_LOAD, &mut attr).unwrap();
        // SAFETY: the kernel has just returned this descriptor to us, and nobody else knows of it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    /// Makes a socket hold the program, which no descriptor shows: as good as a leak.
    fn hide_in(socket: &UdpSocket, program: &OwnedFd) {
        let fd = program.as_raw_fd();
        let (value, size) = ((&raw const fd).cast(), size_of_val(&fd) as u32);
        // SAFETY: `value` is valid for `size` bytes during the call, and both descriptors are open.
        let result =
            unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_BPF, value, size) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn a_program_is_seen_while_it_is_held_and_found_when_nobody_owns_it() {
        if !rustix::process::geteuid().is_root() || cfg!(target_endian = "big") {
            return; // Only root may load and list programs; the end-to-end tests run as root and rely on this.
        }
        let before = Loaded::now().unwrap();
        let program = load();
        let held = Loaded::held_by(std::process::id()).unwrap();
        let [id] = held.programs.keys().copied().collect::<Vec<_>>()[..] else { panic!("{held:?}") };
        assert!(!before.programs.contains_key(&id));
        assert!(!left_behind(&before).unwrap().programs.contains_key(&id), "held by this process");

        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        hide_in(&socket, &program);
        drop(program);
        assert!(left_behind(&before).unwrap().programs.contains_key(&id), "held by no descriptor");
        let error = wait_gone(&before, Duration::from_millis(30)).unwrap_err().to_string();
        assert!(error.contains("left in the kernel") && error.contains(&id.to_string()), "{error}");

        drop(socket);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Loaded::now().unwrap().programs.contains_key(&id) {
            assert!(Instant::now() < deadline, "the kernel keeps a program that nobody holds");
            thread::yield_now();
        }
    }
}
