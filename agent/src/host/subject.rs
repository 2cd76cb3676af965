//! A process as targets are matched against it, read from `/proc`.

use std::fs;

use super::container;
use crate::targets::Subject;

/// What the kernel adds to the path of an executable whose file is gone.
const DELETED: &str = " (deleted)";

/// What `/proc` says of a process now. What cannot be read stays empty.
pub fn subject(pid: u32) -> Subject {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).map(|exe| exe.to_string_lossy().into_owned());
    let mut exe = exe.unwrap_or_default();
    if exe.ends_with(DELETED) {
        exe.truncate(exe.len() - DELETED.len());
    }
    // `hierarchy:controllers:path`, a line each.
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let cgroups: Vec<String> =
        groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(str::to_owned).collect();
    let container = cgroups.iter().find_map(|path| container::id_of(path)).map(str::to_owned);
    Subject { pid, comm: comm.trim_end_matches('\n').to_owned(), exe, cgroups, container }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_read_and_nobody_is_empty() {
        let own = subject(std::process::id());
        assert_eq!(own.exe, std::env::current_exe().unwrap().display().to_string());
        assert!(!own.comm.is_empty() && own.cgroups.iter().all(|path| path.starts_with('/')));
        assert_eq!(subject(u32::MAX), Subject { pid: u32::MAX, ..Subject::default() });
    }
}
