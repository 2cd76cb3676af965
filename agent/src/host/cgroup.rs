//! What the path of a control group says of a process: its container, its systemd unit, its pod.
//!
//! Owns the reading of `/proc/PID/cgroup`'s text and the layouts that container runtimes, Kubernetes and systemd make
//! of paths. Pure. Leaves to others the opening of files (`snapshot`), a group's counters (`cgroup_stat`) and the
//! container id itself (`container`).
//!
//! To add a layout: a line in `layouts` below with the path as its software writes it; then, where it names a pod or a
//! unit in a new way, [`Place::of_path`].

use super::container;

/// What a control group's path says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The path that was chosen, from the hierarchy's root.
    pub path: String,
    /// Container id, 64 hexadecimal digits.
    pub container_id: Option<String>,
    /// systemd unit, `*.service` or `*.scope`; none for what belongs to a container, and none for a login session.
    pub unit: Option<String>,
    /// Kubernetes' pod uid, with dashes.
    pub pod_uid: Option<String>,
}

impl Place {
    /// Reads the text of `/proc/PID/cgroup`, one `hierarchy:controllers:path` a line. The path is that of version 2 if it
    /// says more than `/`; else that of the `cpu` hierarchy, of `memory`, of systemd's own, whichever first says more.
    /// What none of the four says more than `/` of is in the root: `/`. None where no line can be read.
    pub fn of_text(text: &str) -> Option<Self> {
        let mut paths = [None; 4];
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(hierarchy), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            if !path.starts_with('/') {
                continue;
            }
            let has = |name: &str| controllers.split(',').any(|controller| controller == name);
            let rank = match () {
                () if hierarchy == "0" && controllers.is_empty() => 0,
                () if has("cpu") => 1,
                () if has("memory") => 2,
                () if has("name=systemd") => 3,
                () => continue,
            };
            if let Some(place) = paths.get_mut(rank) {
                *place = Some(path);
            }
        }
        let path = paths.iter().flatten().find(|path| **path != "/").or(paths.iter().flatten().next())?;
        Some(Self::of_path(path))
    }

    /// Reads one path.
    pub fn of_path(path: &str) -> Self {
        let container_id = container::id_of(path).map(str::to_owned);
        let pod_uid = pod_uid(path);
        // A container's scope is named by its id, which is told already; inside it systemd may run again, whose units
        // are the container's business.
        let unit = match (&container_id, &pod_uid) {
            (None, None) => unit(path).map(str::to_owned),
            _ => None,
        };
        Self { path: path.to_owned(), container_id, unit, pod_uid }
    }
}

/// The innermost unit that somebody meant: not the login session that a shell runs in, and not the manager that runs the
/// units of a user.
fn unit(path: &str) -> Option<&str> {
    path.rsplit('/').find(|segment| is_unit(segment) && !is_session_segment(segment))
}

fn is_unit(segment: &str) -> bool {
    [".service", ".scope"].iter().any(|end| segment.len() > end.len() && segment.ends_with(end))
}

/// `session-3.scope`, `user@1000.service`, `init.scope`: groups of whatever runs in a session or under a manager.
/// Terminals put each tab into a scope of its own (`vte-spawn-….scope`, `tmux-spawn-….scope`), which is a session too.
fn is_session_segment(segment: &str) -> bool {
    const BEGINNINGS: [&str; 4] = ["session-", "vte-spawn-", "tmux-spawn-", "user@"];
    segment == "init.scope" || (is_unit(segment) && BEGINNINGS.iter().any(|begin| segment.starts_with(begin)))
}

/// Whether the group of this path holds what has nothing to do with each other: the root, a slice, a login session. That
/// two processes are both in such a group tells nothing.
pub fn is_shared(path: &str) -> bool {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    last.is_empty() || is_session_segment(last) || (last.ends_with(".slice") && pod_uid(path).is_none())
}

/// The uid of a pod. The kubelet's driver `cgroupfs` writes `/kubepods/burstable/pod<uid>/<container>`, its driver
/// `systemd` `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/…` with underscores in the uid,
/// because a dash separates the levels of slices. Uids are UUIDs, or 32 digits alone for pods from a file.
fn pod_uid(path: &str) -> Option<String> {
    if !path.contains("kubepods") {
        return None;
    }
    path.split(['/', ':']).find_map(|segment| {
        let name = segment.strip_suffix(".slice").unwrap_or(segment);
        // Either the whole segment or what follows a level of the slice: never `pods` of `kubepods`.
        let uid = match name.strip_prefix("pod") {
            Some(uid) => uid,
            None => name.rfind("-pod").and_then(|at| name.get(at + "-pod".len()..))?,
        };
        let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
        let fits = digits == 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'-' | b'_'));
        fits.then(|| uid.replace('_', "-"))
    })
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
