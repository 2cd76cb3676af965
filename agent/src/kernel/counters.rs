//! The kernel programs' counters, summed over processors.

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use inferscope_common::counters::COUNT;

use super::error::LoadError;
use crate::selfstat::KernelCounts;

/// Reads the counters.
pub struct KernelCounters {
    map: PerCpuArray<MapData, u64>,
}

impl KernelCounters {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let map = ebpf.take_map("COUNTERS").ok_or(LoadError::Lacks("map COUNTERS"))?;
        Ok(Self { map: PerCpuArray::try_from(map).map_err(|error| LoadError::Map("COUNTERS", error))? })
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
