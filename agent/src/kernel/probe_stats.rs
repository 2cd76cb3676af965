//! What the probes of each file have seen, summed over processors.

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use inferscope_common::probe_stats::FileStats;

use super::{
    error::LoadError,
    programs::{Plain, take_map},
};

/// Reads and clears the statistics of a file's slot.
pub struct ProbeStats {
    map: PerCpuArray<MapData, Plain<FileStats>>,
}

impl ProbeStats {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self { map: take_map(ebpf, "PROBE_STATS")? })
    }

    /// What was seen so far. Not one instant: a counter that moves meanwhile is read before or after its step.
    pub fn read(&self, slot: u32) -> FileStats {
        let mut sum = FileStats::default();
        // A slot below the map's length cannot fail to be read.
        let Ok(per_cpu) = self.map.get(&slot, 0) else { return sum };
        for Plain(one) in per_cpu.iter() {
            sum.calls += one.calls;
            sum.bytes += one.bytes;
            sum.overruns += one.overruns;
            sum.recognised += one.recognised;
            sum.unrecognised += one.unrecognised;
        }
        sum
    }

    /// Starts a slot over, for its next file.
    pub fn clear(&mut self, slot: u32) {
        let Ok(per_cpu) = self.map.get(&slot, 0) else { return };
        let zeroes = vec![Plain(FileStats::default()); per_cpu.len()];
        if let Ok(values) = aya::maps::PerCpuValues::try_from(zeroes) {
            // As above.
            let _ = self.map.set(slot, values, 0);
        }
    }
}
