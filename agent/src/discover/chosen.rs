//! Who is captured of those that run: the kernel's list at the start, and each process as it is met.

use std::collections::{HashMap, HashSet};

use inferscope_common::targets::{EXCLUDED, PENDING, WANTED};

use super::mapped;
use crate::{
    host,
    kernel::TargetTable,
    targets::{Selectors, Subject, Targets},
};

/// Lists what runs already and is chosen, its descendants, and what is excluded.
pub fn list_running(targets: &Targets, table: &TargetTable) {
    if targets.is_everyone() {
        return;
    }
    let running: Vec<_> = mapped::processes().filter_map(|process| process.stat().ok()).collect();
    let subject = |stat: &procfs::process::Stat| host::subject(stat.pid as u32);
    let subjects: HashMap<i32, Subject> = running.iter().map(|stat| (stat.pid, subject(stat))).collect();
    let matching = |selectors: &Selectors| -> HashSet<i32> {
        subjects.iter().filter(|(_, subject)| selectors.matches(subject)).map(|(pid, _)| *pid).collect()
    };
    let (mut wanted, excluded) = (matching(&targets.include), matching(&targets.exclude));
    // Parents need not come before their children in the list, so until nothing is added any more.
    loop {
        let before = wanted.len();
        let children: Vec<i32> =
            running.iter().filter(|stat| wanted.contains(&stat.ppid)).map(|stat| stat.pid).collect();
        wanted.extend(children);
        if wanted.len() == before {
            break;
        }
    }
    for pid in wanted.union(&excluded) {
        let flag = |set: &HashSet<i32>, flag| if set.contains(pid) { flag } else { 0 };
        table.add(*pid as u32, flag(&wanted, WANTED) | flag(&excluded, EXCLUDED));
        // It may have ended before it was listed, and a later process of its pid must not inherit that.
        if mapped::process(*pid as u32).is_none() {
            table.judge(*pid as u32, 0);
        }
    }
}

/// Whether a process is traced. One that runs another program since a moment may not be judged yet.
pub fn is_wanted(targets: &Targets, table: &TargetTable, pid: u32) -> bool {
    if targets.is_everyone() {
        return true;
    }
    let flags = table.flags(pid);
    if flags & PENDING == 0 && flags != 0 {
        return flags & EXCLUDED == 0;
    }
    targets.wants(&host::subject(pid), flags & WANTED != 0)
}
