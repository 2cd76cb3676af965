//! Attaching: the tracepoint programs once, the TLS programs per file and function.

use std::path::Path;

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
    programs::{
        BtfTracePoint, ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
};
use thiserror::Error;

use super::{
    error::LoadError,
    privilege,
    programs::{PROCESS_TRACEPOINTS, SOCKET_TRACEPOINTS, program},
    settings::Settings,
};

/// Attaches probes and owns their links: dropping it detaches them all.
pub struct Prober {
    ebpf: Ebpf,
    tls: bool,
    targets: Option<HashMap<MapData, u32, u32>>,
}

/// A function to probe in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFunction {
    /// Symbol, for messages.
    pub name: &'static str,
    /// Place of its first instruction in the file.
    pub file_offset: u64,
    /// What the programs are told about it; `None` for the function that frees a connection.
    pub cookie: Option<u64>,
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
        Ok(Self { ebpf, tls: !privilege::return_probes_are_dangerous(), targets })
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

    /// Attaches a function's probes in the file at `path`, for every process that maps it.
    ///
    /// The kernel resolves the path when it is called and keeps the inode; it may be a `/proc/self/fd` link.
    pub fn attach(&mut self, path: &Path, function: &ProbeFunction) -> Result<(), ProbeError> {
        let programs: &[&'static str] =
            if function.cookie.is_some() { &["tls_return", "tls_entry"] } else { &["tls_free"] };
        // The return probe first: an entry without it would be remembered for nothing.
        for name in programs {
            let location = UProbeAttachLocation::AbsoluteOffset(function.file_offset);
            let point = UProbeAttachPoint { location, cookie: function.cookie };
            let attached = match program::<UProbe>(&mut self.ebpf, name) {
                Ok(program) => program.attach(point, path, UProbeScope::AllProcesses),
                Err(_) => Err(ProgramError::NotLoaded),
            };
            attached.map_err(|source| ProbeError { function: function.name, offset: function.file_offset, source })?;
        }
        Ok(())
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
