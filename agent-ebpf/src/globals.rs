//! Globals that userspace sets before load. Read through volatile loads, one member at a time: the compiler must
//! not fold the initial values, and the verifier turns each load from the frozen map into a constant.

use inferscope_common::config::{Config, MISSING, OFFSETS_LEN, Offsets};

#[unsafe(no_mangle)]
static CONFIG: Config = Config {
    self_tgid: 0,
    target_mode: 0,
    judged: 0,
    ports: 0,
    all_http: 0,
    max_chunks: 0,
    infer: 0,
    lines: 0,
    tick_ns: 0,
};

// An array of the same layout as `Offsets`, because only userspace fills it.
#[unsafe(no_mangle)]
static OFFSETS: [u32; OFFSETS_LEN] = [MISSING; OFFSETS_LEN];

/// Reads one member of [`CONFIG`].
macro_rules! config {
    ($field:ident) => {
        $crate::globals::load(&raw const (*$crate::globals::config_ptr()).$field)
    };
}

/// Reads one member of [`OFFSETS`]; [`MISSING`] if this kernel does not have it.
macro_rules! offset {
    ($field:ident) => {
        $crate::globals::load(&raw const (*$crate::globals::offsets_ptr()).$field)
    };
}

pub(crate) use {config, offset};

#[inline(always)]
pub fn config_ptr() -> *const Config {
    &raw const CONFIG
}

#[inline(always)]
pub fn offsets_ptr() -> *const Offsets {
    (&raw const OFFSETS).cast()
}

#[inline(always)]
pub unsafe fn load(at: *const u32) -> u32 {
    unsafe { core::ptr::read_volatile(at) }
}
