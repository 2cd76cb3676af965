//! Why the kernel side did not come up.

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use thiserror::Error;

use super::btf::BtfError;

/// Where the kernel publishes its type information.
pub(super) const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why the kernel side did not come up.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel publishes no type information.
    #[error(
        "cannot read {VMLINUX_BTF}: the kernel must be built with CONFIG_DEBUG_INFO_BTF=y (every current distribution's is)"
    )]
    NoBtf(#[source] std::io::Error),
    /// The type information cannot be read.
    #[error("{VMLINUX_BTF} is not what was expected")]
    BadBtf(#[from] BtfError),
    /// Members without which no socket can be followed are missing.
    #[error("the kernel's type information lacks {0}: sockets cannot be followed on this kernel")]
    NoOffsets(String),
    /// aya did not take the object.
    #[error("the kernel did not accept the programs' maps or type information")]
    Object(#[from] EbpfError),
    /// A program did not load.
    #[error("the kernel refused program {name}: {log}")]
    Program {
        /// Which.
        name: &'static str,
        /// Error and the end of the verifier's log.
        log: String,
    },
    /// A program did not attach.
    #[error("program {0} did not attach")]
    Attach(&'static str, #[source] ProgramError),
    /// The system is out of threads or descriptors.
    #[error("a thread or a descriptor cannot be had")]
    Resources(#[from] std::io::Error),
    /// The object lacks a program: it is from another version.
    #[error("the kernel object has no {0}; it does not belong to this agent")]
    Lacks(&'static str),
    /// The object lacks a map: likewise.
    #[error("the kernel object has no map {0}; it does not belong to this agent")]
    LacksMap(&'static str),
    /// A map could not be used.
    #[error("map {0}")]
    Map(&'static str, #[source] MapError),
}
