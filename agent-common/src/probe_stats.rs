//! What the probes of a file have seen: the evidence that they are hit, and that they are on the right functions.

/// Files with probes at most: slots of the `PROBE_STATS` map. A probed file costs a dozen descriptors.
pub const MAX_FILES: u32 = 128;

/// Value of the `PROBE_STATS` map, per processor; the index is the file's slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStats {
    /// Calls that transferred bytes.
    pub calls: u64,
    /// Bytes that they transferred.
    pub bytes: u64,
    /// Calls that claimed more bytes than their buffer holds: the function is not what it was taken for.
    pub overruns: u64,
    /// Streams that were recognised as HTTP.
    pub recognised: u64,
    /// Streams that were given up because nothing was recognised on them.
    pub unrecognised: u64,
}

/// Members of [`FileStats`].
pub const FILE_STATS_LEN: usize = size_of::<FileStats>() / size_of::<u64>();

const _: () = assert!(FILE_STATS_LEN == 5);
