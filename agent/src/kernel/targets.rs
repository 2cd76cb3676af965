//! The kernel's list of targets, shared by those who write it: discovery at the start, the capture thread at each exec.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use inferscope_common::targets::{EVERYONE, EXCLUDED, LISTED, NOT_EXCLUDED, PORT_EXCLUDED, PORT_WANTED, WANTED};

use super::{error::LoadError, programs::take_map};
use crate::targets::Targets;

/// `BPF_EXIST`: a process that is gone by now must not come back as an entry that a later one of its pid inherits.
const EXIST: u64 = 2;

/// Flags of thread groups (`inferscope_common::targets`). Cheap to clone.
#[derive(Clone)]
pub struct TargetTable(Arc<Mutex<HashMap<MapData, u32, u32>>>);

impl TargetTable {
    /// Takes the maps that narrow the capture and fills them with what is known before anything runs.
    pub(super) fn take(ebpf: &mut Ebpf, targets: &Targets) -> Result<Self, LoadError> {
        let mut table: HashMap<_, u32, u32> = take_map(ebpf, "TARGETS")?;
        for (pids, flags) in [(&targets.include.pids, WANTED), (&targets.exclude.pids, EXCLUDED)] {
            for &pid in pids {
                table.insert(pid, flags, 0).map_err(|error| LoadError::Map("TARGETS", error))?;
            }
        }
        let map = ebpf.map_mut("TARGET_COMMS").ok_or(LoadError::LacksMap("TARGET_COMMS"))?;
        let mut comms: HashMap<_, [u8; 16], u32> =
            HashMap::try_from(map).map_err(|error| LoadError::Map("TARGET_COMMS", error))?;
        for comm in &targets.include.comms {
            comms.insert(comm_key(comm), 1, 0).map_err(|error| LoadError::Map("TARGET_COMMS", error))?;
        }
        let map = ebpf.map_mut("PORTS").ok_or(LoadError::LacksMap("PORTS"))?;
        let mut ports: HashMap<_, u16, u32> = HashMap::try_from(map).map_err(|error| LoadError::Map("PORTS", error))?;
        // Exclusions last: they win.
        for (list, flags) in [(&targets.include.ports, PORT_WANTED), (&targets.exclude.ports, PORT_EXCLUDED)] {
            for &port in list {
                ports.insert(port, flags, 0).map_err(|error| LoadError::Map("PORTS", error))?;
            }
        }
        Ok(Self(Arc::new(Mutex::new(table))))
    }

    /// Flags of a process, 0 if it is not listed.
    pub fn flags(&self, tgid: u32) -> u32 {
        self.lock().get(&tgid, 0).unwrap_or(0)
    }

    /// Lists a process that was running before. A full table leaves it as it was.
    pub fn add(&self, tgid: u32, flags: u32) {
        if let Err(error) = self.lock().insert(tgid, flags, 0) {
            tracing::warn!(pid = tgid, %error, "process cannot be added to the targets");
        }
    }

    /// Replaces what the kernel listed of a process, if it is still there.
    pub fn judge(&self, tgid: u32, flags: u32) {
        // Fails for a process that is gone, which needs no judgement any more.
        let _ = match flags {
            0 => self.lock().remove(&tgid),
            _ => self.lock().insert(tgid, flags, EXIST),
        };
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MapData, u32, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel is told of who is traced.
pub(super) fn mode(targets: &Targets) -> u32 {
    if !targets.include.has_no_process() {
        LISTED
    } else if !targets.exclude.has_no_process() {
        NOT_EXCLUDED
    } else {
        EVERYONE
    }
}

/// `PORT_*` flags that some port has.
pub(super) fn port_flags(targets: &Targets) -> u32 {
    let flag = |ports: &[u16], flag| if ports.is_empty() { 0 } else { flag };
    flag(&targets.include.ports, PORT_WANTED) | flag(&targets.exclude.ports, PORT_EXCLUDED)
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
