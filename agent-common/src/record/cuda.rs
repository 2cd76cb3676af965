//! Records of the step clock: what a process does with CUDA's runtime. Written only where userspace asks for them.

use super::Header;

/// Value of [`CudaStep::gap_ns`] for the first step of a process.
pub const NO_GAP: u64 = u64::MAX;

/// A process launched graphs on a GPU and has waited for them: from the first launch to the return of the first wait after it.
/// `header.time_ns` is when that returned. Only where the step clock is asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CudaStep {
    /// See [`Header`]; the thread that waited.
    pub header: Header,
    /// When the first graph was launched.
    pub begin_ns: u64,
    /// How much of the time since then the thread spent in the wait.
    pub waited_ns: u64,
    /// From the end of the process's last step to `begin_ns`; [`NO_GAP`] if there was none.
    pub gap_ns: u64,
    /// Steps of the process so far, this one included: what was not told shows in it.
    pub number: u64,
    /// Graphs that were launched.
    pub launches: u32,
    /// Zero.
    pub pad: u32,
}

/// A call that allocates memory of a GPU has failed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CudaAllocFailed {
    /// See [`Header`].
    pub header: Header,
    /// Bytes that were asked for.
    pub size: u64,
    /// `cudaError_t`; 2 if there was too little memory.
    pub error: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = {
    assert!(size_of::<CudaStep>() == 72);
    assert!(size_of::<CudaAllocFailed>() == 48);
};
