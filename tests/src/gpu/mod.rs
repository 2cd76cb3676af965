//! GPUs that a script describes, for machines that have none.
//!
//! Owns nothing: the script's writer and the stand-in for NVML that follows it are `inferscope-fake-nvml`'s.

pub use inferscope_fake_nvml::timeline;
