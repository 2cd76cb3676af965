//! Records of the step clock: what a process launched on a GPU and waited for, and memory that it did not get. Owns their
//! members and how they are read; what they mean for a call is `serving`'s.

use inferscope_common::record as abi;

use super::{RecordError, reader::Reader};
use crate::time::Mono;

/// A process launched something and has waited for it; the record's time is when the wait was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaStep {
    /// First launch.
    pub begin: Mono,
    /// How much of the time since then was spent in the wait, nanoseconds.
    pub waited_ns: u64,
    /// From the end of the process's last step to the first launch, nanoseconds; absent for its first one.
    pub gap_ns: Option<u64>,
    /// Steps of the process so far.
    pub number: u64,
    /// Graphs that were launched.
    pub launches: u32,
}

impl CudaStep {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, RecordError> {
        let (begin, waited_ns) = (Mono(r.u64()?), r.u64()?);
        let gap_ns = Some(r.u64()?).filter(|&gap| gap != abi::NO_GAP);
        let (number, launches) = (r.u64()?, r.u32()?);
        Ok(Self { begin, waited_ns, gap_ns, number, launches })
    }
}

/// A process asked for memory of a GPU and did not get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaAllocFailed {
    /// Bytes.
    pub size: u64,
    /// `cudaError_t`.
    pub error: u32,
}

impl CudaAllocFailed {
    /// `cudaErrorMemoryAllocation` of CUDA's driver_types.h.
    const MEMORY_ALLOCATION: u32 = 2;

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Self { size: r.u64()?, error: r.u32()? })
    }

    /// Whether there was too little memory; else the call itself was wrong, or the device is in a bad state.
    pub fn is_out_of_memory(self) -> bool {
        self.error == Self::MEMORY_ALLOCATION
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::{
        super::{
            Record,
            cause::tests::{ORIGIN, record},
            parse,
        },
        *,
    };

    #[test]
    fn steps_come_back_and_the_first_has_no_gap() {
        let read = |gap: u64| {
            let members: [(usize, &[u8]); 5] = [
                (offset_of!(abi::CudaStep, begin_ns), &60u64.to_ne_bytes()),
                (offset_of!(abi::CudaStep, waited_ns), &15u64.to_ne_bytes()),
                (offset_of!(abi::CudaStep, gap_ns), &gap.to_ne_bytes()),
                (offset_of!(abi::CudaStep, number), &9u64.to_ne_bytes()),
                (offset_of!(abi::CudaStep, launches), &3u32.to_ne_bytes()),
            ];
            record(abi::Kind::CudaStep, size_of::<abi::CudaStep>(), &members, b"")
        };
        let expected = CudaStep { begin: Mono(60), waited_ns: 15, gap_ns: Some(4), number: 9, launches: 3 };
        assert_eq!(parse(&read(4)), Ok(Record::CudaStep(ORIGIN, expected)));
        let first = CudaStep { gap_ns: None, ..expected };
        assert_eq!(parse(&read(abi::NO_GAP)), Ok(Record::CudaStep(ORIGIN, first)));
        assert!(parse(&read(4)[..60]).is_err());
    }

    #[test]
    fn a_failed_allocation_says_whether_memory_was_short() {
        for (error, short) in [(2u32, true), (1, false)] {
            let members: [(usize, &[u8]); 2] = [
                (offset_of!(abi::CudaAllocFailed, size), &4096u64.to_ne_bytes()),
                (offset_of!(abi::CudaAllocFailed, error), &error.to_ne_bytes()),
            ];
            let bytes = record(abi::Kind::CudaAllocFailed, size_of::<abi::CudaAllocFailed>(), &members, b"");
            let failed = CudaAllocFailed { size: 4096, error };
            assert_eq!(parse(&bytes), Ok(Record::CudaAllocFailed(ORIGIN, failed)));
            assert_eq!(failed.is_out_of_memory(), short);
        }
    }
}
