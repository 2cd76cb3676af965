//! The ABI between inferscope's kernel programs and its userspace agent.
//!
//! Owns every layout that crosses the boundary: ring records ([`record`]), the globals that userspace sets
//! before load ([`config`]), the values that userspace writes into maps ([`verdict`], [`join`], [`wake`]), the slots of the kernel's
//! counters ([`counters`], [`probe_stats`], [`process_stats`], [`usage`]), the attach cookie of TLS probes ([`tls_cookie`]), what it has no
//! room for ([`go_place`]), and that of CUDA's ([`cuda_cookie`]). Holds no logic and
//! has no dependencies; both sides compile the same source, so they cannot drift apart.
//!
//! To add a record: give it a [`record::Kind`], a `#[repr(C)]` struct that begins with [`record::Header`] and has
//! no padding, a line in the layout assertions, an emitter in `agent-ebpf/src/emit.rs` and a branch in the
//! agent's `record.rs`.
#![no_std]

pub mod config;
pub mod counters;
pub mod cuda_cookie;
pub mod go_place;
pub mod join;
pub mod probe_stats;
pub mod process_stats;
pub mod record;
pub mod targets;
pub mod tls_cookie;
pub mod usage;
pub mod verdict;
pub mod wake;
