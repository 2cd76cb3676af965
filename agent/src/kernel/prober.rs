//! Attaching: the tracepoint programs once, those of TLS libraries and of CUDA's runtime per file and function.

use std::{os::fd::OwnedFd, path::Path};

use aya::{
    Ebpf,
    programs::{
        BtfTracePoint, ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use inferscope_common::{go_place::GoPlace, probe_stats::FileStats};
use thiserror::Error;

use super::{
    error::LoadError,
    go_places::GoPlaces,
    multi::Multi,
    privilege,
    probe_stats::ProbeStats,
    programs::{PROCESS_TRACEPOINTS, SOCKET_TRACEPOINTS, program},
    settings::Settings,
    targets::TargetTable,
};

/// Attaches probes. Owns the links of what is attached once; those of a file's probes are handed out.
pub struct Prober {
    ebpf: Ebpf,
    /// Where the kernel has no such links, or refuses them: a perf event for every place.
    multi: Option<Multi>,
    tls: bool,
    /// Programs on tracepoints that this kernel has and others may lack, with what is lost without each.
    optional: Vec<(&'static str, &'static str)>,
    targets: TargetTable,
    stats: ProbeStats,
    places: GoPlaces,
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
    /// Entry of Go's read function.
    GoEntry,
    /// A place where its call is over. A plain probe: a return probe would crash the program.
    GoReturn,
    /// Entry of the function that Go's writes come down to, past the check of its stack.
    GoWrite,
    /// Entry of Go's function that closes a connection.
    GoClose,
    /// Entry of a function that seals or opens a record.
    AeadEntry,
    /// Return of one that opens.
    AeadReturn,
    /// Entry of a function of CUDA's runtime.
    CudaEntry,
    /// Return of one that waits or allocates.
    CudaReturn,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::TlsEntry,
        Self::TlsReturn,
        Self::TlsFree,
        Self::GoEntry,
        Self::GoReturn,
        Self::GoWrite,
        Self::GoClose,
        Self::AeadEntry,
        Self::AeadReturn,
        Self::CudaEntry,
        Self::CudaReturn,
    ];

    /// Its name in the object.
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsEntry => "tls_entry",
            Self::TlsReturn => "tls_return",
            Self::TlsFree => "tls_free",
            Self::GoEntry => "go_entry",
            Self::GoReturn => "go_return",
            Self::GoWrite => "go_write",
            Self::GoClose => "go_close",
            Self::AeadEntry => "aead_entry",
            Self::AeadReturn => "aead_return",
            Self::CudaEntry => "cuda_entry",
            Self::CudaReturn => "cuda_return",
        }
    }

    /// Whether it runs when the function returns.
    pub(super) fn is_return(self) -> bool {
        matches!(self, Self::TlsReturn | Self::AeadReturn | Self::CudaReturn)
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

/// Threads that take links off at once. The kernel waits for the same moment for all of them.
const DETACHERS: usize = 16;

/// Attached probes. Dropping them detaches, which takes the kernel about a tenth of a second: for all of them where it
/// has links of many places, for each of them where it has not.
#[derive(Debug, Default)]
pub struct Links {
    events: Vec<UProbeLink>,
    multi: Vec<OwnedFd>,
    places: usize,
}

impl Links {
    /// Places that are probed.
    pub fn len(&self) -> usize {
        self.places
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places == 0
    }

    /// Takes in others, to be dropped with them.
    pub fn append(&mut self, mut others: Self) {
        self.events.append(&mut others.events);
        self.multi.append(&mut others.multi);
        self.places += std::mem::take(&mut others.places);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let share = self.multi.len().div_ceil(DETACHERS).max(1);
        std::thread::scope(|scope| {
            while self.multi.len() > share {
                let some = self.multi.split_off(self.multi.len() - share);
                // Without a thread they are dropped here, with the closure.
                let _ = std::thread::Builder::new().name("detach".into()).spawn_scoped(scope, || drop(some));
            }
            self.multi.clear();
        });
    }
}

impl Prober {
    pub(super) fn new(
        mut ebpf: Ebpf,
        multi: Option<Multi>,
        settings: &Settings,
        optional: Vec<(&'static str, &'static str)>,
    ) -> Result<Self, LoadError> {
        let targets = TargetTable::take(&mut ebpf, &settings.targets)?;
        let stats = ProbeStats::take(&mut ebpf)?;
        let places = GoPlaces::take(&mut ebpf)?;
        let tls = !privilege::return_probes_are_dangerous();
        Ok(Self { ebpf, multi, tls, optional, targets, stats, places })
    }

    /// Attaches the programs that follow processes, so that the list of targets is kept from here on.
    pub fn follow_processes(&mut self) -> Result<(), LoadError> {
        self.attach_once(&PROCESS_TRACEPOINTS)
    }

    /// Attaches the programs that follow sockets. To be called when somebody is about to read the rings.
    pub fn follow_sockets(&mut self) -> Result<(), LoadError> {
        self.attach_once(&SOCKET_TRACEPOINTS)?;
        for (name, consequence) in std::mem::take(&mut self.optional) {
            if let Err(error) = self.attach_once(&[name]) {
                tracing::warn!(missing = name, consequence, %error, "running with less");
            }
        }
        Ok(())
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

    /// Attaches probes in the file at `path`, for every process that maps it, in the order of their programs' first
    /// places. What could not be attached is told to `failed`: one function less is not no function.
    ///
    /// The kernel resolves the path when it is called and keeps the inode; it may be a `/proc/self/fd` link.
    pub fn attach(&mut self, path: &Path, probes: &[Probe], mut failed: impl FnMut(&ProbeError)) -> Links {
        let mut links = Links::default();
        let mut done = Vec::new();
        for probe in probes {
            if done.contains(&probe.program) {
                continue;
            }
            done.push(probe.program);
            let alike: Vec<&Probe> = probes.iter().filter(|other| other.program == probe.program).collect();
            if !self.attach_all(path, &alike, &mut links) {
                alike.into_iter().for_each(|probe| self.attach_one(path, probe, &mut links, &mut failed));
            }
        }
        links
    }

    /// Attaches probes of one program by one link; false if that is not to be had. One bad place refuses all.
    fn attach_all(&self, path: &Path, probes: &[&Probe], links: &mut Links) -> bool {
        let (Some(multi), [first, ..]) = (&self.multi, probes) else { return false };
        let places: Vec<(u64, u64)> = probes.iter().map(|probe| (probe.file_offset, probe.cookie)).collect();
        match multi.attach(first.program, path, &places) {
            Ok(link) => {
                links.multi.push(link);
                links.places += places.len();
                true
            }
            Err(error) => {
                tracing::debug!(program = first.program.name(), %error, "no link of many places; one by one instead");
                false
            }
        }
    }

    fn attach_one(&mut self, path: &Path, probe: &Probe, links: &mut Links, failed: &mut impl FnMut(&ProbeError)) {
        let location = UProbeAttachLocation::AbsoluteOffset(probe.file_offset);
        let point = UProbeAttachPoint { location, cookie: Some(probe.cookie) };
        let attached = match program::<UProbe>(&mut self.ebpf, probe.program.name()) {
            Ok(program) => loaded(program).and_then(|program| {
                let id = program.attach(point, path, UProbeScope::AllProcesses)?;
                program.take_link(id)
            }),
            Err(_) => Err(ProgramError::NotLoaded),
        };
        match attached {
            Ok(link) => {
                links.events.push(link);
                links.places += 1;
            }
            Err(source) => failed(&ProbeError { function: probe.function, offset: probe.file_offset, source }),
        }
    }

    /// What the probes of the file in a slot have seen.
    pub fn stats(&self, slot: u32) -> FileStats {
        self.stats.read(slot)
    }

    /// Starts a slot's statistics over, for its next file.
    pub fn clear_stats(&mut self, slot: u32) {
        self.stats.clear(slot);
    }

    /// Tells the programs of the places in the Go functions of the file in a slot; false if they could not be told.
    pub fn describe(&mut self, slot: u32, places: &[GoPlace]) -> bool {
        self.places.set(slot, places)
    }

    /// The kernel's list of targets.
    pub fn targets(&self) -> &TargetTable {
        &self.targets
    }
}

/// The program, loaded for perf events now if it has not been: where one link serves many places, it never is.
fn loaded(program: &mut UProbe) -> Result<&mut UProbe, ProgramError> {
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
        Err(error) => Err(error),
    }
}
