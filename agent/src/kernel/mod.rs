//! The kernel side: loading the programs, attaching them, reading what they write.
//!
//! Owns everything that is specific to BPF and to aya, which is named nowhere else: the object and its globals
//! ([`object`]), the offsets that its programs need ([`btf`], [`offsets`]), TLS probes ([`prober`]), the rings
//! ([`rings`]) and the way back ([`answers`]), the kernel's counters ([`counters`]), what threads use ([`watcher`]), which inode a file's probes are on ([`file`]) and the stream of new
//! executable mappings ([`mappings`]). Leaves to others what the records mean and which files are worth probing.
//!
//! To add a probe: write the program in `agent-ebpf/src` (one file per hook family), run `cargo xtask build-ebpf`,
//! name it in the lists of [`programs`] if it is attached once, or in [`prober`] if it is attached per file, and say in
//! [`Degraded`] what is lost where it does not load.
#![allow(unsafe_code, reason = "the perf ring and plain-old-data map values need it; each block says why it holds")]

mod accounts;
mod answers;
mod btf;
pub mod clock;
mod counters;
mod error;
mod file;
mod go_places;
mod heap;
#[cfg(feature = "bpf-log")]
mod log;
mod mappings;
mod multi;
mod object;
mod offsets;
mod privilege;
mod probe_stats;
mod prober;
mod programs;
mod ring;
mod rings;
mod schedstat;
mod settings;
mod sys;
mod targets;
mod task_walk;
mod watcher;

pub use accounts::Accounts;
pub use answers::Answers;
pub use counters::KernelCounters;
pub use error::LoadError;
pub use file::FileId;
pub use heap::trim_heap;
pub use mappings::{Mapping, MappingEvent, MappingEvents};
pub use object::{Degraded, Loaded, load};
pub use privilege::{Missing, check as check_privilege, raise_file_limit};
pub use prober::{Links, Probe, ProbeError, Prober, Program, SiteClass};
pub use rings::{Rings, Waker};
pub use settings::Settings;
pub use targets::TargetTable;
pub use watcher::Watcher;
