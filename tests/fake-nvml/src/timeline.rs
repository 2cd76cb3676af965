//! The script that the stand-in follows, and its writer.
//!
//! A time line is a file of JSON lines: one [`Header`], then [`Line`]s. The stand-in reads what was appended before
//! each call, so a test may append while others use the library, and several programs may append to one file: every
//! [`Timeline::write`] is one `write` to a file opened with `O_APPEND`.
//!
//! Owns the format, for the one who writes and the one who reads. What a line does to a device is `device`'s.
//!
//! To add a member: a field in `line`, a method that sets it, and its use in `device`. Both structs refuse members that
//! they do not know, so a misspelt script fails and is not taken for an idle GPU.

mod header;
mod line;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

pub use header::{Clock, Device, Header, Mig};
pub use line::{Kind, Line, Process, Violation};

/// Environment variable that names the time line to the stand-in.
pub const ENV: &str = "INFERSCOPE_FAKE_NVML";
/// What the name of a copy of the library is followed by in the name of a time line for this copy alone; it comes before
/// [`ENV`].
pub const BESIDE: &str = ".jsonl";

/// Nanoseconds of `CLOCK_MONOTONIC`: what times mean with [`Clock::Monotonic`].
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A time line being written.
#[derive(Debug)]
pub struct Timeline {
    file: File,
    path: PathBuf,
}

impl Timeline {
    /// A new time line, in place of one that may be there.
    ///
    /// # Errors
    ///
    /// If the file can't be made or written.
    pub fn create(path: impl Into<PathBuf>, header: &Header) -> io::Result<Self> {
        let path = path.into();
        // Not truncated: a library that reads the old file is to go on reading it.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut timeline = Self { file: OpenOptions::new().create_new(true).append(true).open(&path)?, path };
        timeline.put([header])?;
        Ok(timeline)
    }

    /// A time line that another program began.
    ///
    /// # Errors
    ///
    /// If there is none, or it can't be written.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        Ok(Self { file: OpenOptions::new().append(true).open(&path)?, path })
    }

    /// Where it is: the value for [`ENV`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds lines, which the library sees before its next call, all or none of them.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn write<'a>(&mut self, lines: impl IntoIterator<Item = &'a Line>) -> io::Result<()> {
        self.put(lines)
    }

    fn put<T: Serialize>(&mut self, lines: impl IntoIterator<Item = T>) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        self.file.write_all(&text)
    }
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
