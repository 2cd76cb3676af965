//! The kernel programs' counters, summed over processors.

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use inferscope_common::counters::COUNT;

use super::{error::LoadError, programs::take_map};
use crate::selfstat::KernelCounts;

/// Reads the counters.
pub struct KernelCounters {
    map: PerCpuArray<MapData, u64>,
}

impl KernelCounters {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self { map: take_map(ebpf, "COUNTERS")? })
    }

    /// Reads all counters. Not one instant: a counter that moves meanwhile is read before or after its step.
    pub fn read(&self) -> KernelCounts {
        let mut counts = [0; COUNT as usize];
        for (slot, sum) in (0..COUNT).zip(&mut counts) {
            // A slot below the map's length cannot fail to be read.
            if let Ok(per_cpu) = self.map.get(&slot, 0) {
                *sum = per_cpu.iter().sum();
            }
        }
        KernelCounts::new(counts)
    }
}
