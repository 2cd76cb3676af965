//! inferscope's kernel programs.
//!
//! Four hook families, one file each: socket system calls at their exit ([`syscall`]), what io_uring does in their place
//! ([`uring`]), calls into TLS libraries ([`tls`], [`go_tls`] and [`aead`] over [`tls_stream`]) and the life of processes and
//! sockets ([`process`], [`sock_state`], [`unix_end`]). Beside them stands what tells why a call was slow: what threads have
//! used ([`usage`]), what kept sockets from sending ([`limits`], [`retransmit`]), which weights were opened ([`weights`]) and, where it is asked for, an engine's steps on its GPU
//! ([`cuda`]).
//! They share the gate that decides what is worth copying ([`flow`]), the walk from a descriptor to its socket ([`sock`]) and the only code
//! that writes to the rings ([`emit`]). Everything userspace must agree on is in `inferscope-common`.
//!
//! Rules of this crate: no panics (a reachable panic leaves no last instruction), no floating point, no
//! `Result` with arms of equal size (a verifier bug on 5.10 to 6.7), nothing large on the 512-byte stack, and a
//! counter for every branch that loses something.
#![no_std]
#![no_main]
// Atomic exchange and addition: see `count`. Allowed on a stable compiler by RUSTC_BOOTSTRAP, which the build of
// this crate sets anyway for aya-ebpf.
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "core_intrinsics is the only way to these two instructions on this target")]
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "every line here reads raw kernel or user memory; the verifier proves what a SAFETY comment would claim"
)]

mod account;
mod aead;
mod count;
mod cuda;
mod dull;
mod emit;
mod flow;
mod globals;
mod go_tls;
mod headers;
mod limits;
mod lines;
mod log;
mod maps;
mod path;
mod pipe;
mod process;
mod records;
mod retransmit;
mod sock;
mod sock_state;
mod socket;
mod syscall;
mod task;
mod tls;
mod tls_stream;
mod transfer;
mod unix_end;
mod uring;
mod usage;
mod weights;

/// GPL-only helpers need a compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
