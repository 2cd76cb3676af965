//! Which processes, ports and hosts are captured: patterns in, decisions out. Pure.
//!
//! Owns the meaning of `[targets]` and of the flags that narrow a capture. Leaves to others the reading of `/proc`
//! (`host`), what the kernel is told (`kernel`) and when a process is judged (`discover` at the start, `capture` at
//! each exec).
//!
//! * Selectors of processes (pids, comms, exes, cgroups, units, containers) are alternatives: one that matches is
//!   enough. None at all means every process. Children of a chosen process are chosen.
//! * Ports and hosts narrow further: a call must come from a chosen process, use a chosen port (local or remote), and
//!   name a chosen host.
//! * An exclusion wins. One of a process holds for the program that it runs, not for the programs that it starts.
//! * Patterns are globs over the whole text: `*` is any run of characters, `?` is one.
//! * A TLS stream whose socket was not found has no port and is kept, whatever the ports say. A UNIX socket has none and
//!   is left out when ports are chosen. A request that names no
//!   host is left out when hosts are chosen. A process that was gone before it could be looked at is chosen by its
//!   name or its parents only.
//!
//! To add a selector: a field in [`Selectors`], its line in [`Selectors::matches`] or a method for what it narrows, what
//! it needs in [`Subject`], and its flag in `cli`.

use serde::Deserialize;

use crate::record::Address;

/// One set of selectors. Empty: selects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selectors {
    /// Process ids.
    pub pids: Vec<u32>,
    /// Command names, as in `/proc/PID/comm`: 15 bytes at most.
    pub comms: Vec<String>,
    /// Globs of executables' paths, as the process sees them.
    pub exes: Vec<String>,
    /// Control groups: a path and everything below it, or a glob.
    pub cgroups: Vec<String>,
    /// Names of systemd units, such as `vllm.service`.
    pub units: Vec<String>,
    /// Beginnings of container ids.
    pub containers: Vec<String>,
    /// TCP ports, of either end.
    pub ports: Vec<u16>,
    /// Globs of the `Host` header, without its port.
    pub hosts: Vec<String>,
}

/// What is captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// What is chosen; what is empty does not narrow.
    pub include: Selectors,
    /// What is left out all the same.
    pub exclude: Selectors,
}

/// A process, as it is judged. Empty is what could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Thread group id.
    pub pid: u32,
    /// Command name.
    pub comm: String,
    /// Path of the executable, as the process sees it, without the mark of a deleted file.
    pub exe: String,
    /// Paths of its control groups, one per hierarchy.
    pub cgroups: Vec<String>,
    /// Container id.
    pub container: Option<String>,
}

/// Command names and ports that one set of selectors may have: half of what the kernel side's tables hold.
const MAX_LISTED: usize = 64;

impl Selectors {
    /// Says which selector cannot be meant so, and why: an id or a port of 0 and an empty pattern match nothing that
    /// there is, and the kernel side's lists are bounded.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let Self { pids, comms, exes, cgroups, units, containers, ports, hosts } = self;
        if pids.contains(&0) {
            return Err(("pids", "must be more than zero"));
        }
        if ports.contains(&0) || ports.len() > MAX_LISTED {
            return Err(("ports", "must be more than zero, and 64 at most"));
        }
        if comms.len() > MAX_LISTED {
            return Err(("comms", "must be 64 at most; `exes` has no limit"));
        }
        let texts = [("comms", comms), ("exes", exes), ("cgroups", cgroups), ("units", units)];
        let texts = texts.into_iter().chain([("containers", containers), ("hosts", hosts)]);
        match texts.into_iter().find(|(_, patterns)| patterns.iter().any(String::is_empty)) {
            Some((key, _)) => Err((key, "must be more than zero characters long")),
            None => Ok(()),
        }
    }

    /// Whether it says nothing of processes.
    pub fn has_no_process(&self) -> bool {
        let Self { pids, comms, exes, cgroups, units, containers, ports: _, hosts: _ } = self;
        pids.is_empty()
            && [comms, exes, cgroups, units, containers].into_iter().all(|patterns: &Vec<String>| patterns.is_empty())
    }

    /// Whether one of the selectors of processes matches.
    pub fn matches(&self, subject: &Subject) -> bool {
        let Self { pids, comms, exes, cgroups, units, containers, ports: _, hosts: _ } = self;
        pids.contains(&subject.pid)
            || comms.iter().any(|comm| !subject.comm.is_empty() && cut(comm) == subject.comm.as_bytes())
            || exes.iter().any(|pattern| glob(pattern.as_bytes(), subject.exe.as_bytes()))
            || subject.cgroups.iter().any(|path| {
                cgroups.iter().any(|pattern| is_within(pattern, path))
                    || path.split('/').any(|segment| units.iter().any(|unit| unit == segment))
            })
            || subject
                .container
                .as_ref()
                .is_some_and(|id| containers.iter().any(|begin| id.starts_with(begin.as_str())))
    }

    fn names_host(&self, host: &str) -> bool {
        let host = without_port(host).to_ascii_lowercase();
        self.hosts.iter().any(|pattern| glob(pattern.to_ascii_lowercase().as_bytes(), host.as_bytes()))
    }
}

impl Targets {
    /// Whether every process is captured.
    pub fn is_everyone(&self) -> bool {
        self.include.has_no_process() && self.exclude.has_no_process()
    }

    /// Whether the kernel's list of names and parents is not enough, so that every process that runs another program
    /// is to be judged.
    pub fn needs_judge(&self) -> bool {
        let named = Selectors { pids: Vec::new(), comms: Vec::new(), ..self.include.clone() };
        !named.has_no_process() || !self.exclude.has_no_process()
    }

    /// Whether a process is captured; `inherited` says that a parent was chosen.
    pub fn wants(&self, subject: &Subject, inherited: bool) -> bool {
        let chosen = inherited || self.include.has_no_process() || self.include.matches(subject);
        chosen && !self.exclude.matches(subject)
    }

    /// Whether a connection between these ends is captured.
    pub fn wants_ports(&self, local: &Address, peer: &Address) -> bool {
        let uses =
            |ports: &[u16]| [local, peer].iter().any(|end| end.ip().is_some_and(|ip| ports.contains(&ip.port())));
        (self.include.ports.is_empty() || uses(&self.include.ports)) && !uses(&self.exclude.ports)
    }

    /// Whether a request to this host is captured.
    pub fn wants_host(&self, host: Option<&str>) -> bool {
        (self.include.hosts.is_empty() || host.is_some_and(|host| self.include.names_host(host)))
            && !host.is_some_and(|host| self.exclude.names_host(host))
    }
}

/// A command name as the kernel keeps it.
fn cut(comm: &str) -> &[u8] {
    &comm.as_bytes()[..comm.len().min(15)]
}

/// Whether a control group is the one that `pattern` names, is below it, or matches it as a glob.
fn is_within(pattern: &str, path: &str) -> bool {
    if pattern.contains(['*', '?']) {
        return glob(pattern.as_bytes(), path.as_bytes());
    }
    let pattern = pattern.strip_prefix("/sys/fs/cgroup").unwrap_or(pattern).trim_end_matches('/');
    path.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A host without its port: `example.com:8080`, `[::1]:8080`, `::1`.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

/// Whether the whole of `text` matches. Linear but for the last `*`, so no pattern makes it slow.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
