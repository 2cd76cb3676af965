//! A stand-in for CUDA's runtime library, `libcudart`, for what a machine without a GPU can't have: functions under their
//! real names to attach probes to, and launches that take time. It computes nothing, and its memory is only numbers.
//!
//! As a `cdylib` it is copied to the name that a test wants ([`library::copy`]) and loaded as PyTorch loads the real one.
//! Every function begins as those of NVIDIA's wheels do, with `push %rbp`, so that a probe costs what it costs there.
//!
//! `work` is what is launched and waited for, `memory` what is allocated, and `calls` are the symbols. To add a function:
//! its name and signature in `calls`, and its name in the test's list.

mod calls;
pub mod library;
mod memory;
mod work;
