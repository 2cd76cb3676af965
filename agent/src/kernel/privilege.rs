//! What must be allowed before it is worth trying, said in words that help.

use std::{fmt, path::Path};

/// Something that is needed and not there. The process exits with code 77 (DESIGN: missing privilege or kernel
/// feature).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub Vec<String>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inferscope cannot trace here:")?;
        for what in &self.0 {
            write!(f, "\n  - {what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Missing {}

/// Bits of include/uapi/linux/capability.h.
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Oldest kernel whose helpers the programs use: `bpf_loop` is of 5.17.
const OLDEST_KERNEL: (u32, u32) = (5, 17);

/// Checks capabilities, kernel version and type information. Passing is necessary, not sufficient: what really works
/// is decided by loading and attaching.
pub fn check() -> Result<(), Missing> {
    let mut missing = Vec::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective_capabilities(&status).unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    // CAP_SYS_ADMIN: since the fix of CVE-2025-38466 perf-based uprobes need it whatever else is held.
    for (bit, name, why) in [
        (CAP_BPF, "CAP_BPF", "to load programs"),
        (CAP_PERFMON, "CAP_PERFMON", "to attach them"),
        (CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "to attach uprobes on current kernels"),
        (CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "to see what other users' processes map"),
    ] {
        if !has(bit) {
            missing.push(format!("capability {name} is missing ({why}): run as root, e.g. `sudo inferscope ...`"));
        }
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if kernel_version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        let (major, minor) = OLDEST_KERNEL;
        missing.push(format!("kernel {} is older than {major}.{minor}", release.trim()));
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        missing.push("/sys/kernel/btf/vmlinux is missing: the kernel needs CONFIG_DEBUG_INFO_BTF=y".into());
    }
    if missing.is_empty() { Ok(()) } else { Err(Missing(missing)) }
}

/// Allows as many open files as the hard limit does: each probe of a TLS function holds one, and each connection of a collector.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a structure that lives through the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above. Refused, the limit stays as it was, which is no failure.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
}

/// Whether return probes can kill what they probe: on x86-64 6.11 to 6.13 their trampoline is a system call that
/// a process's seccomp filter sees (libseccomp#438, systemd#34615).
pub(super) fn return_probes_are_dangerous() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    kernel_version(&release).is_some_and(is_dangerous)
}

fn is_dangerous(version: (u32, u32)) -> bool {
    ((6, 11)..(6, 14)).contains(&version)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_prints() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(kernel_version("6.1.0-13-amd64\n"), Some((6, 1)));
        assert_eq!(kernel_version("5.15.0"), Some((5, 15)));
        assert!(kernel_version("5.15.0") < Some(OLDEST_KERNEL));
        assert_eq!(kernel_version("odd"), None);
    }

    #[test]
    fn return_probes_are_left_out_where_they_kill() {
        for (version, expected) in [((6, 10), false), ((6, 11), true), ((6, 13), true), ((6, 14), false)] {
            assert_eq!(is_dangerous(version), expected, "{version:?}");
        }
    }
}
