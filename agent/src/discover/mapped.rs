//! Mapped files: which a process has, and how to open one whatever its mount namespace.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use procfs::process::Process;

use crate::kernel::Mapping;

/// Every process that can be listed.
pub fn processes() -> impl Iterator<Item = Process> {
    procfs::process::all_processes().into_iter().flatten().flatten()
}

/// One process, if it is there.
pub fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

/// Executable mappings of files in a process, read as they are taken. None if it is gone or not readable; fewer if it goes
/// meanwhile.
pub fn executable(process: &Process) -> impl Iterator<Item = Mapping> + use<> {
    let pid = process.pid as u32;
    let maps = File::open(format!("/proc/{pid}/maps")).ok();
    maps.into_iter().flat_map(move |maps| parse(pid, BufReader::new(maps)))
}

/// Takes the executable mappings of files out of a process's list. Bytes, because a path may hold any; the kernel writes a
/// line end in one as `\012`. A line that is not understood is passed over.
fn parse(pid: u32, maps: impl BufRead) -> impl Iterator<Item = Mapping> {
    // A line is as long as the longest path, so it is bounded by the kernel.
    maps.split(b'\n').map_while(Result::ok).filter_map(move |line| parse_line(pid, &line))
}

/// `START-END PERMS OFFSET MAJOR:MINOR INODE PATH`, proc_pid_maps(5).
fn parse_line(pid: u32, line: &[u8]) -> Option<Mapping> {
    let text = String::from_utf8_lossy(line);
    let mut rest = text.as_ref();
    let mut field = || {
        let (field, behind) = rest.split_once(' ')?;
        rest = behind;
        Some(field)
    };
    let (range, perms, _offset, device, inode) = (field()?, field()?, field()?, field()?, field()?);
    let path = rest.trim_start_matches(' ');
    if perms.as_bytes().get(2) != Some(&b'x') || !path.starts_with('/') {
        return None;
    }
    let hex = |(a, b): (&str, &str)| Some((u64::from_str_radix(a, 16).ok()?, u64::from_str_radix(b, 16).ok()?));
    let (start, end) = hex(range.split_once('-')?)?;
    let (major, minor) = hex(device.split_once(':')?)?;
    Some(Mapping {
        pid,
        start,
        end,
        device: (u32::try_from(major).ok()?, u32::try_from(minor).ok()?),
        inode: inode.parse().ok()?,
        path: path.to_owned(),
    })
}

/// Opens a mapped file: through the mapping itself, which works for deleted files and other mount namespaces, else
/// by its path in the process's root. The latter may be another file by now, which is refused.
pub fn open(mapping: &Mapping) -> io::Result<File> {
    let Mapping { pid, start, end, path, .. } = mapping;
    match open_path(Path::new(&format!("/proc/{pid}/map_files/{start:x}-{end:x}"))) {
        Ok(file) => Ok(file),
        Err(_) => {
            let file = open_path(Path::new(&format!("/proc/{pid}/root{path}")))?;
            if file.metadata()?.ino() != mapping.inode {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the path names another file by now"));
            }
            Ok(file)
        }
    }
}

/// Whether a mapped file is on a file system that a user's own program provides (FUSE, mounted by another than root). Found
/// out without touching it.
pub fn is_on_users_file_system(mapping: &Mapping) -> bool {
    // Those have no device. Neither have overlays and others, so the list of mounts is read.
    let mounts = || File::open(format!("/proc/{}/mountinfo", mapping.pid)).map(BufReader::new).ok();
    mapping.device.0 == 0 && mounts().is_some_and(|mounts| is_users(mapping.device, mounts))
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS ... - TYPE SOURCE SUPER-OPTIONS`, proc_pid_mountinfo(5).
fn is_users((major, minor): (u32, u32), mounts: impl BufRead) -> bool {
    let device = format!("{major}:{minor}");
    mounts.split(b'\n').map_while(Result::ok).any(|line| {
        let line = String::from_utf8_lossy(&line);
        let Some((mount, file_system)) = line.split_once(" - ") else { return false };
        let mut file_system = file_system.split(' ');
        let kind = file_system.next().unwrap_or_default();
        let mut options = file_system.nth(1).unwrap_or_default().split(',');
        mount.split(' ').nth(2) == Some(&device)
            && (kind == "fuse" || kind.starts_with("fuse."))
            && options.any(|option| option.strip_prefix("user_id=").is_some_and(|user| user != "0"))
    })
}

/// Opens a file without waiting for somebody to open the other end of what turns out to be a pipe.
pub fn open_path(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_maps_itself_and_can_be_opened_through_the_mapping() {
        let exe = std::fs::metadata("/proc/self/exe").unwrap();
        let mut mappings = executable(&Process::myself().unwrap());
        let own = mappings.find(|mapping| mapping.inode == exe.ino()).unwrap();
        let opened = open(&own).unwrap().metadata().unwrap();
        assert_eq!((opened.dev(), opened.ino()), (exe.dev(), exe.ino()));
    }

    fn paths(maps: &[u8]) -> Vec<String> {
        parse(7, maps).map(|mapping| mapping.path).collect()
    }

    #[test]
    fn a_line_is_read_whatever_the_path_holds() {
        let line = b"7f00-7f10 r-xp 00001000 fe:0a 99                         /a b\\012\x1b[31m\xff.so (deleted)\n";
        let mapping = parse(7, &line[..]).next().unwrap();
        assert_eq!((mapping.start, mapping.end, mapping.device, mapping.inode), (0x7f00, 0x7f10, (0xfe, 10), 99));
        assert_eq!(mapping.path, "/a b\\012\u{1b}[31m\u{fffd}.so (deleted)");
    }

    #[test]
    fn what_is_no_executable_file_and_what_is_not_understood_is_passed_over() {
        let maps = b"1-2 r--p 0 fe:00 1 /data\n1-2 r-xp 0 00:00 0 [vdso]\n1-2 r-xp 0 00:00 0 \nnonsense\n\n\
            1-2 r-xp 0 fe:00 1 /code\nz-2 r-xp 0 fe:00 1 /bad\n1-2 r-xp 0 fe:00 184467440737095516160 /bad\n\
            1-2 r-xp 0 fe:00 2 /cut off";
        assert_eq!(paths(maps), ["/code", "/cut off"]);
        for end in 0..maps.len() {
            let _ = paths(&maps[..end]);
        }
    }

    #[test]
    fn a_hundred_thousand_lines_are_read_one_by_one() {
        let line = b"7f0000000000-7f0000001000 r-xp 00001000 fe:0a 99                         /usr/lib/libssl.so.3\n";
        assert_eq!(parse(7, &line.repeat(100_000)[..]).count(), 100_000);
    }

    #[test]
    fn a_users_own_file_system_is_told_by_its_mount() {
        let mounts = b"36 35 0:40 / / rw shared:1 - overlay overlay rw,lowerdir=/a,user_id=1\n\
            37 36 0:41 / /mnt/root rw - fuse.sshfs host: rw,user_id=0,group_id=0\n\
            38 36 0:42 / /home/u/\xff\\040x rw - fuse.theirs theirs rw,user_id=1000,group_id=0\ncut";
        assert_eq!([40, 41, 42, 43].map(|minor| is_users((0, minor), &mounts[..])), [false, false, true, false]);
    }

    #[test]
    fn a_process_that_is_gone_maps_nothing() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::new(child.id() as i32).unwrap();
        child.wait().unwrap();
        assert_eq!(executable(&process).count(), 0);
    }

    #[test]
    fn a_path_that_names_another_file_by_now_is_refused() {
        let exe = std::env::current_exe().unwrap();
        let gone = Mapping {
            pid: std::process::id(),
            start: 0,
            end: 1,
            device: (0, 0),
            inode: 1,
            path: exe.display().to_string(),
        };
        assert_eq!(open(&gone).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
