//! Attaching: the tracepoint programs once, the TLS programs per file and function.

use std::path::Path;

use aya::{
    Ebpf,
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
    targets::TargetTable,
};

/// Attaches probes. Owns the links of what is attached once; those of a file's probes are handed out.
pub struct Prober {
    ebpf: Ebpf,
    tls: bool,
    targets: TargetTable,
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
    /// Entry of a function that seals or opens a record.
    AeadEntry,
    /// Return of one that opens.
    AeadReturn,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::TlsEntry, Self::TlsReturn, Self::TlsFree, Self::AeadEntry, Self::AeadReturn];

    /// Its name in the object.
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsEntry => "tls_entry",
            Self::TlsReturn => "tls_return",
            Self::TlsFree => "tls_free",
            Self::AeadEntry => "aead_entry",
            Self::AeadReturn => "aead_return",
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
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Emulated, Self::SingleStepped, Self::Undecoded];

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
        let targets = TargetTable::take(&mut ebpf, &settings.targets)?;
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

    /// The kernel's list of targets.
    pub fn targets(&self) -> &TargetTable {
        &self.targets
    }
}
