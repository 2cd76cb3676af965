//! What discovery knows, for those who ask: which files have probes, and what every process makes of it.

use inferscope_common::{probe_stats::FileStats, process_stats::ProcessStats};

use super::{
    library::{Evidence, Functions},
    unsupported::UnsupportedFile,
};
use crate::kernel::Probe;

/// One moment's knowledge.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Files with probes.
    pub files: Vec<FileReport>,
    /// Files that have TLS functions and cannot be probed.
    pub unsupported: Vec<UnsupportedFile>,
    /// Processes that map one of them, moved bytes on a socket, or were asked for.
    pub processes: Vec<ProcessReport>,
}

/// A file with probes.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Path by which it was found.
    pub path: String,
    /// Whose functions it has.
    pub functions: Vec<Functions>,
    /// How they were found.
    pub evidence: Evidence,
    /// What was to be probed, and what it costs there.
    pub probes: Vec<Probe>,
    /// How many of them are attached.
    pub attached: usize,
    /// What they have seen, in all processes.
    pub stats: FileStats,
}

/// A process.
#[derive(Clone, Debug)]
pub struct ProcessReport {
    /// Thread group.
    pub pid: u32,
    /// Its name, if it could be read.
    pub comm: Option<String>,
    /// Files with probes in TLS functions that it maps: places in [`Report::files`].
    pub files: Vec<usize>,
    /// What it moved; nothing if no socket call was seen.
    pub stats: ProcessStats,
}
