//! Mapped files: which a process has, and how to open one whatever its mount namespace.

use std::{fs::File, io, os::unix::fs::MetadataExt as _};

use procfs::process::{MMPermissions, MMapPath, Process};

use crate::kernel::Mapping;

/// Every process that can be listed.
pub fn processes() -> impl Iterator<Item = Process> {
    procfs::process::all_processes().into_iter().flatten().flatten()
}

/// One process, if it is there.
pub fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

/// Executable mappings of files in a process. None if it is gone or not readable.
pub fn executable(process: &Process) -> Vec<Mapping> {
    let Ok(maps) = process.maps() else { return Vec::new() };
    maps.into_iter()
        .filter(|map| map.perms.contains(MMPermissions::EXECUTE))
        .filter_map(|map| {
            let MMapPath::Path(path) = &map.pathname else { return None };
            Some(Mapping {
                pid: process.pid as u32,
                start: map.address.0,
                end: map.address.1,
                device: (map.dev.0 as u32, map.dev.1 as u32),
                inode: map.inode,
                path: path.display().to_string(),
            })
        })
        .collect()
}

/// Opens a mapped file: through the mapping itself, which works for deleted files and other mount namespaces, else
/// by its path in the process's root. The latter may be another file by now, which is refused.
pub fn open(mapping: &Mapping) -> io::Result<File> {
    let Mapping { pid, start, end, path, .. } = mapping;
    match File::open(format!("/proc/{pid}/map_files/{start:x}-{end:x}")) {
        Ok(file) => Ok(file),
        Err(_) => {
            let file = File::open(format!("/proc/{pid}/root{path}"))?;
            if file.metadata()?.ino() != mapping.inode {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the path names another file by now"));
            }
            Ok(file)
        }
    }
}

/// Device and inode of an open file.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_maps_itself_and_can_be_opened_through_the_mapping() {
        let exe = std::fs::metadata("/proc/self/exe").unwrap();
        let mappings = executable(&Process::myself().unwrap());
        let own = mappings.iter().find(|mapping| mapping.inode == exe.ino()).unwrap();
        assert_eq!(identity(&open(own).unwrap()).unwrap(), (exe.dev(), exe.ino()));
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
