//! What a benchmark ran on: without that no figure means anything.

use std::{fs, process::Command, thread};

use inferscope_tests::place;
use serde::Serialize;

/// The machine, and what was measured on it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Processors that this program may use.
    pub cores: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Whether it is a virtual machine, and of what kind.
    pub virtualisation: String,
    /// The system's libssl.
    pub openssl: String,
    /// When, in UTC.
    pub date: String,
    /// Which state of the sources.
    pub version: String,
    /// Load of the machine before anything was started: 1 minute's average.
    pub load_before: f64,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let (cpuinfo, meminfo) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or_else(unknown),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field(&meminfo, "MemTotal")
                .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
                .map_or(0, |kib| kib >> 10),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            virtualisation: virtualisation(&cpuinfo, read("/sys/class/dmi/id/sys_vendor").trim()),
            openssl: said("openssl", &["version"]).unwrap_or_else(unknown),
            date: said("date", &["-u", "+%Y-%m-%d %H:%M"]).unwrap_or_else(unknown),
            version: said("git", &["describe", "--always", "--dirty"]).unwrap_or_else(unknown),
            load_before: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }

    /// In a sentence.
    pub fn sentence(&self) -> String {
        let Self { cpu, cores, memory_mib, kernel, virtualisation, openssl, date, version, load_before } = self;
        format!(
            "{cpu}, {cores} cores, {:.0} GiB, {virtualisation}, Linux {kernel}, {openssl}; {date} UTC, version {version}, load \
             of the machine before the start {load_before:.2}",
            *memory_mib as f64 / 1024.0
        )
    }
}

/// The value of a line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start().strip_prefix(':')?.trim().to_owned())
}

fn virtualisation(cpuinfo: &str, vendor: &str) -> String {
    let flags = field(cpuinfo, "flags").unwrap_or_default();
    match (flags.split(' ').any(|flag| flag == "hypervisor"), vendor) {
        (false, _) => "no virtual machine".to_owned(),
        (true, "") => "virtual machine".to_owned(),
        (true, vendor) => format!("virtual machine ({vendor})"),
    }
}

/// What a program says in one line.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).current_dir(place::workspace()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "processor\t: 0\nmodel name\t: A Processor\nflags\t\t: fpu hypervisor\nMemTotal:  2048 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A Processor"));
        assert_eq!(field(text, "MemTotal").as_deref(), Some("2048 kB"));
        assert_eq!(field(text, "model"), None);
        assert_eq!(virtualisation(text, "KVM"), "virtual machine (KVM)");
        assert_eq!(virtualisation("flags\t: fpu\n", "Vendor"), "no virtual machine");
    }
}
