//! What was found when a log was opened, and why one cannot be.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::{format::Epoch, seal::KeyError, table::Gap};

/// Why a log cannot be opened. What its directory holds is never a reason.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The directory cannot be made or read.
    #[error("the log's directory {} cannot be used", path.display())]
    Directory {
        /// It, or what is in it.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process, or another part of this one, has it open.
    #[error("the log in {} is open already: stop the other inferscope, or give this one a directory of its own", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// There is no key.
    #[error("the log cannot be encrypted")]
    Key(#[from] KeyError),
    /// No random bytes, or no thread.
    #[error("the log cannot be started")]
    Start(#[source] io::Error),
}

impl WalError {
    pub(crate) fn directory(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Directory { path, source }
    }
}

/// What is wrong with something in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None of the log's files.
    Foreign,
    /// Neither copy of its header is right.
    Damaged,
    /// It ends before its first frame.
    Cut,
    /// Bytes at its end are no frame: a write that was cut off, or damage.
    TornTail {
        /// How many.
        bytes: u64,
    },
    /// It is of another life of the log.
    OtherEpoch {
        /// How many items it has, at most.
        items: u64,
    },
    /// It is encrypted with another key, or there is none.
    OtherKey,
    /// It was written by a newer version.
    Newer(u16),
    /// It cannot be read, written or moved at the moment.
    Io(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is none of the log's files"),
            Self::Damaged => f.write_str("it is damaged beyond reading"),
            Self::Cut => f.write_str("it ends before its first item"),
            Self::TornTail { bytes } => {
                write!(f, "its last {bytes} bytes are no item: a write was cut off, or they are damaged")
            }
            Self::OtherEpoch { items } => write!(f, "it is of another life of the log, and has up to {items} items"),
            Self::OtherKey => f.write_str("it is encrypted, and this key does not open it"),
            Self::Newer(version) => write!(f, "it is of format version {version}, which is newer than this program"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

/// Something in the directory that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
    /// Where it is now, if it was moved.
    pub moved_to: Option<PathBuf>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.fault)?;
        match &self.moved_to {
            Some(to) => write!(f, "; moved to {}", to.display()),
            None => Ok(()),
        }
    }
}

/// Findings that are kept of a directory: enough to see what happened to it, and not all of a million files.
const MAX_FINDINGS: usize = 1000;

/// Keeps a finding, unless there are as many as are kept.
pub(crate) fn keep(findings: &mut Vec<Finding>, finding: Finding) {
    if findings.len() < MAX_FINDINGS {
        findings.push(finding);
    }
}

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The log's life.
    pub epoch: Epoch,
    /// That life began just now.
    pub new_epoch: bool,
    /// The seq of the next item.
    pub next_seq: u64,
    /// The oldest seq that may be there; `next_seq` when there is none.
    pub oldest_seq: u64,
    /// Seqs that are there, as far as that is known without reading all of them.
    pub items: u64,
    /// Bytes of the segments that they are in.
    pub bytes: u64,
    /// Missing seqs that are known without reading all of them. Readers are told of each that matters to them.
    pub gaps: Vec<Gap>,
    /// What is not as it should be: the first thousand of it.
    pub findings: Vec<Finding>,
}
