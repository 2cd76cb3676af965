//! A stand-in for NVIDIA's `libnvidia-ml.so.1`, for what a machine without a GPU can't have: it answers NVML's calls
//! from a script. It touches no device and says nothing true of one.

pub mod timeline;
