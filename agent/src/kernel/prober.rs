//! Attaching: the tracepoint programs once, the TLS programs per file and function.

use std::path::Path;

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
    programs::{
        BtfTracePoint, ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use inferscope_common::probe_stats::FileStats;
use thiserror::Error;

use super::{
    error::LoadError,
    privilege,
    probe_stats::ProbeStats,
    programs::{PROCESS_TRACEPOINTS, SOCKET_TRACEPOINTS, program},
    settings::Settings,
};

/// Attaches probes. Owns the links of what is attached once; those of a file's probes are handed out.
pub struct Prober {
    ebpf: Ebpf,
    tls: bool,
    targets: Option<HashMap<MapData, u32, u32>>,
    stats: ProbeStats,
}

/// A program that is attached to instructions of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// Entry of a read or write function.
    TlsEntry,
    /// Its return.
    TlsReturn,
    /// Entry of the function that frees a connection object.
    TlsFree,
}

impl Program {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::TlsEntry, Self::TlsReturn, Self::TlsFree];

    /// Its name in the object.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TlsEntry => "tls_entry",
            Self::TlsReturn => "tls_return",
            Self::TlsFree => "tls_free",
        }
    }
}

/// What the kernel does at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteClass {
    /// Executes the instruction itself: 0.5 to 1.5 us a hit.
    Emulated,
    /// Executes it out of line with a trap: 5 to 13 us a hit.
    SingleStepped,
    /// The instruction could not be told.
    Undecoded,
}

impl SiteClass {
    /// For reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emulated => "emulated",
            Self::SingleStepped => "single-stepped",
            Self::Undecoded => "undecoded",
        }
    }
}

/// A probe to set in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Name of the function, for messages.
    pub function: &'static str,
    /// What runs there.
    pub program: Program,
    /// Place of the instruction in the file.
    pub file_offset: u64,
    /// What it costs there.
    pub class: SiteClass,
    /// What the program is told (`inferscope_common::tls_cookie`).
    pub cookie: u64,
}

/// Why a probe was not attached.
#[derive(Debug, Error)]
#[error("{function} at {offset:#x}")]
pub struct ProbeError {
    function: &'static str,
    offset: u64,
    #[source]
    source: ProgramError,
}

/// Attached probes. Dropping them detaches, which takes the kernel about a tenth of a second each.
#[derive(Debug, Default)]
pub struct Links(Vec<UProbeLink>);

impl Links {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Prober {
    pub(super) fn new(mut ebpf: Ebpf, settings: &Settings) -> Result<Self, LoadError> {
        let targets = if settings.listed_only() {
            let map = ebpf.take_map("TARGETS").ok_or(LoadError::Lacks("map TARGETS"))?;
            let mut targets = HashMap::try_from(map).map_err(|error| LoadError::Map("TARGETS", error))?;
            for &pid in &settings.pids {
                targets.insert(pid, 1, 0).map_err(|error| LoadError::Map("TARGETS", error))?;
            }
            let map = ebpf.map_mut("TARGET_COMMS").ok_or(LoadError::Lacks("map TARGET_COMMS"))?;
            let mut comms: HashMap<_, [u8; 16], u32> =
                HashMap::try_from(map).map_err(|error| LoadError::Map("TARGET_COMMS", error))?;
            for comm in &settings.comms {
                comms.insert(comm_key(comm), 1, 0).map_err(|error| LoadError::Map("TARGET_COMMS", error))?;
            }
            Some(targets)
        } else {
            None
        };
        let stats = ProbeStats::take(&mut ebpf)?;
        Ok(Self { ebpf, tls: !privilege::return_probes_are_dangerous(), targets, stats })
    }

    /// Attaches the programs that follow processes, so that the list of targets is kept from here on.
    pub fn follow_processes(&mut self) -> Result<(), LoadError> {
        self.attach_once(&PROCESS_TRACEPOINTS)
    }

    /// Attaches the programs that follow sockets. To be called when somebody is about to read the rings.
    pub fn follow_sockets(&mut self) -> Result<(), LoadError> {
        self.attach_once(&SOCKET_TRACEPOINTS)
    }

    fn attach_once(&mut self, names: &[&'static str]) -> Result<(), LoadError> {
        for &name in names {
            let program: &mut BtfTracePoint = program(&mut self.ebpf, name)?;
            program.attach().map_err(|error| LoadError::Attach(name, error))?;
        }
        Ok(())
    }

    /// Whether TLS libraries may be probed on this kernel.
    pub fn can_probe_tls(&self) -> bool {
        self.tls
    }

    /// Attaches probes in the file at `path`, for every process that maps it. What could not be attached is told to
    /// `failed`: one function less is not no function.
    ///
    /// The kernel resolves the path when it is called and keeps the inode; it may be a `/proc/self/fd` link.
    pub fn attach(&mut self, path: &Path, probes: &[Probe], mut failed: impl FnMut(&ProbeError)) -> Links {
        let mut links = Links::default();
        for probe in probes {
            let location = UProbeAttachLocation::AbsoluteOffset(probe.file_offset);
            let point = UProbeAttachPoint { location, cookie: Some(probe.cookie) };
            let attached = match program::<UProbe>(&mut self.ebpf, probe.program.name()) {
                Ok(program) => {
                    program.attach(point, path, UProbeScope::AllProcesses).and_then(|id| program.take_link(id))
                }
                Err(_) => Err(ProgramError::NotLoaded),
            };
            match attached {
                Ok(link) => links.0.push(link),
                Err(source) => {
                    failed(&ProbeError { function: probe.function, offset: probe.file_offset, source });
                }
            }
        }
        links
    }

    /// What the probes of the file in a slot have seen.
    pub fn stats(&self, slot: u32) -> FileStats {
        self.stats.read(slot)
    }

    /// Starts a slot's statistics over, for its next file.
    pub fn clear_stats(&mut self, slot: u32) {
        self.stats.clear(slot);
    }

    /// Adds a running process to the targets. Without a list of targets every process is one.
    pub fn add_target(&mut self, tgid: u32) {
        if let Some(targets) = &mut self.targets {
            // A full table leaves the process untraced; the kernel side counts the same for its own additions.
            if let Err(error) = targets.insert(tgid, 1, 0) {
                tracing::warn!(pid = tgid, %error, "process cannot be added to the targets");
            }
        }
    }

    /// Whether a process is traced.
    pub fn is_target(&self, tgid: u32) -> bool {
        self.targets.as_ref().is_none_or(|targets| targets.get(&tgid, 0).is_ok())
    }
}

/// A name as the kernel keeps it: 15 bytes and a NUL.
fn comm_key(comm: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (slot, byte) in key.iter_mut().take(15).zip(comm.bytes()) {
        *slot = byte;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_as_the_kernel_cuts_them() {
        assert_eq!(&comm_key("curl"), b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&comm_key("a-very-long-process-name"), b"a-very-long-pro\0");
    }
}
