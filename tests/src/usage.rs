//! What processes use: CPU time to the nanosecond, and memory.
//!
//! `/proc/PID/stat` counts in hundredths of a second, which is too coarse for runs of a few seconds. The kernel keeps
//! the same times in nanoseconds behind a clock per process.

#![expect(unsafe_code, reason = "the CPU clock of another process and the usage of children have no safe wrapper")]

use std::{fs, io, time::Duration};

use anyhow::{Context as _, Result};

/// CPU time of a process, user and system, of all its threads, those that have ended included.
pub fn cpu_of(pid: u32) -> io::Result<Duration> {
    // `MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)` of the kernel: the process in the upper bits, inverted.
    let clock = (!pid.cast_signed()) << 3 | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives on the stack for the length of the call.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// CPU time of this process.
pub fn own_cpu() -> Duration {
    // The own clock can always be read.
    cpu_of(0).unwrap_or_default()
}

/// CPU time of all children that have ended and were waited for.
pub fn cpu_of_children() -> Result<Duration> {
    // SAFETY: all zero bytes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a rusage that lives on the stack for the length of the call.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) } != 0;
    anyhow::ensure!(!failed, "getrusage: {}", io::Error::last_os_error());
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    Ok(time(usage.ru_utime) + time(usage.ru_stime))
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident: every mapping counts what of it is there.
    pub resident: u64,
    /// The most that was ever resident.
    pub peak: u64,
    /// Resident, with what is shared counted in proportion: a page that is mapped twice counts once.
    pub proportional: u64,
    /// Resident pages that are the process's own: heap, stacks, written data.
    pub anonymous: u64,
    /// Resident pages of BPF ring buffers, by mapping: each page of a ring is mapped twice.
    pub rings: u64,
}

impl Memory {
    /// Of a process now.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let (status, rollup) = (read("status")?, read("smaps_rollup")?);
        Ok(Self {
            resident: kilobytes(&status, "VmRSS:")?,
            peak: kilobytes(&status, "VmHWM:")?,
            proportional: kilobytes(&rollup, "Pss:")?,
            anonymous: kilobytes(&status, "RssAnon:")?,
            rings: rings_in(&read("smaps")?),
        })
    }
}

/// The value of a line such as `VmRSS:   123 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let number = line.trim().trim_end_matches(" kB").trim();
    Ok(number.parse::<u64>().with_context(|| format!("{name} {line}"))? << 10)
}

/// Resident bytes of the mappings of BPF maps in `smaps`.
fn rings_in(smaps: &str) -> u64 {
    let mut is_ring = false;
    let mut total = 0;
    for line in smaps.lines() {
        // A mapping's first line begins with its addresses, all others with a name and a colon.
        let first = line.split(' ').next().unwrap_or_default();
        if first.contains('-') && !first.ends_with(':') {
            is_ring = line.contains("bpf-map") || line.contains("bpf_map");
        } else if is_ring && let Ok(bytes) = kilobytes(line, "Rss:") {
            total += bytes;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_grows_with_work() {
        let before = own_cpu();
        let mut x = 1u64;
        while own_cpu() < before + Duration::from_millis(5) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let other = cpu_of(std::process::id()).unwrap();
        assert!(other >= before + Duration::from_millis(5), "{other:?} after {before:?}");
        assert!(cpu_of(u32::MAX >> 4).is_err());
    }

    #[test]
    fn memory_is_that_of_the_process() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.resident > 0 && memory.peak >= memory.resident && memory.proportional <= memory.resident);
        assert_eq!(memory.rings, 0);
    }

    #[test]
    fn rings_are_told_by_the_name_of_their_mapping() {
        let smaps = "7f00-7f10 rw-s 00000000 00:0e 1 anon_inode:bpf-map\nSize: 64 kB\nRss:  40 kB\nVmFlags: rd\n\
            7f10-7f20 rw-p 00000000 00:00 0 [heap]\nRss:  99 kB\n7f20-7f30 r--s 0 00:0e 1 anon_inode:bpf-map\nRss: 2 kB\n";
        assert_eq!(rings_in(smaps), 42 << 10);
    }
}
