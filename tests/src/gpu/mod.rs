//! GPUs that a script describes, for machines that have none.
//!
//! Owns nothing: the stand-ins are `inferscope-fake-nvml`, with the script's format and writer, and
//! `inferscope-fake-cudart`. Their libraries are built with whatever depends on this crate.

pub use inferscope_fake_cudart::library as cudart;
pub use inferscope_fake_nvml::{library as nvml, timeline};
