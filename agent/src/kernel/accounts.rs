//! What each process moved and what was captured of it, as the kernel side counts it.

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use inferscope_common::process_stats::ProcessStats;

use super::{
    error::LoadError,
    programs::{Plain, take_map},
};

/// Reads the accounts. May be used from any thread.
pub struct Accounts {
    map: HashMap<MapData, u32, Plain<ProcessStats>>,
}

impl Accounts {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self { map: take_map(ebpf, "PROCESSES")? })
    }

    /// Every process that moved bytes on a socket, those that have ended included. Not one instant; an account that is
    /// evicted meanwhile may be missing.
    pub fn all(&self) -> Vec<(u32, ProcessStats)> {
        self.map.iter().flatten().map(|(tgid, Plain(stats))| (tgid, stats)).collect()
    }
}
