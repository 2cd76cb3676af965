//! A file of JSON lines that grows, is rotated, or is moved away by somebody else.
//!
//! Owns which file is open and when it is another's turn. A line is never split between two files. Rotation renames, so
//! that a reader that has the file open reads on in it; `path.1` is the newest of those put aside. A file that was moved,
//! removed or cut short under us (an external logrotate, with or without `copytruncate`) is noticed before the next line,
//! and opened anew. Nothing here is fatal: what fails is counted, told once, and tried again later; lines go to the file
//! that is open as long as it has a name.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::ControlFlow,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    jsonl::{JsonLines, line},
    span::Span,
};

/// When a file is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Before it would have more bytes than these. A line that is longer alone is a file alone.
    pub max_bytes: u64,
    /// How many are kept, `path.1` to `path.N`.
    pub max_files: u32,
}

/// What went wrong, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileErrors {
    /// Rotations that failed; the file grew on.
    pub rotate: u64,
    /// Lines before which the file at the path could not be looked at or opened anew.
    pub reopen: u64,
}

/// The file.
#[derive(Debug)]
pub struct JsonFile {
    path: PathBuf,
    lines: JsonLines<File>,
    /// Device and inode of the file that is open; absent for what is no regular file, which is left alone.
    identity: Option<(u64, u64)>,
    /// Its size after the last line, at least.
    size: u64,
    rotation: Option<Rotation>,
    /// Size at which it is rotated. After a failure later, so that not every line is an attempt.
    rotate_at: u64,
    errors: FileErrors,
}

impl JsonFile {
    /// Appends to the file at `path`. A new file gets mode 0600, because lines may hold content; one that exists
    /// keeps the mode that its owner gave it. What is no regular file (a pipe, a terminal) is never rotated.
    pub fn append_to(path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        let Opened { lines, metadata } = open(path)?;
        // Renaming a link would put the link aside, and its file would grow on. A file without a name cannot be renamed.
        let real = path.canonicalize().ok().filter(|_| metadata.is_file());
        let rotation = rotation.filter(|_| real.is_some());
        let path = real.unwrap_or_else(|| path.to_owned());
        let rotate_at = rotation.map_or(u64::MAX, |rotation| rotation.max_bytes);
        let (identity, size, errors) = (identity(&metadata), metadata.len(), FileErrors::default());
        Ok(Self { path, lines, identity, size, rotation, rotate_at, errors })
    }

    /// Writes one span. `Break` says that the reader of a pipe has gone; other errors are worth another try with the next
    /// span.
    pub fn write(&mut self, span: &Span) -> io::Result<ControlFlow<()>> {
        let mut text = line(span);
        text.push('\n');
        let length = text.len() as u64;
        if self.identity.is_some() {
            self.follow()?;
            if self.size > 0 && self.size.saturating_add(length) > self.rotate_at {
                self.rotate();
            }
        }
        let flow = self.lines.write_line(text);
        match &flow {
            Ok(_) => self.size = self.size.saturating_add(length),
            // What it left behind is part of the file too.
            Err(_) => self.size = self.lines.get_ref().metadata().map_or(self.size, |metadata| metadata.len()),
        }
        flow
    }

    /// What went wrong so far.
    pub fn errors(&self) -> FileErrors {
        self.errors
    }

    /// Opens the file anew if the path names another one by now, none, or one that was cut short.
    fn follow(&mut self) -> io::Result<()> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) == self.identity && metadata.len() >= self.size => {
                // Another may write to it as well.
                self.size = metadata.len();
                return Ok(());
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return self.cannot_reopen(error),
            Ok(_) | Err(_) => {}
        }
        match self.reopen() {
            Ok(()) => Ok(()),
            Err(error) => self.cannot_reopen(error),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let Opened { lines, metadata } = open(&self.path)?;
        (self.lines, self.size, self.identity) = (lines, metadata.len(), identity(&metadata));
        self.rotate_at = self.rotation.map_or(u64::MAX, |rotation| rotation.max_bytes);
        Ok(())
    }

    /// Lines go on into the file that is open, unless it has no name any more: there nobody would find them.
    fn cannot_reopen(&mut self, error: io::Error) -> io::Result<()> {
        if self.errors.reopen == 0 {
            tracing::error!(%error, path = %self.path.display(), "the JSON lines file cannot be opened anew");
        }
        self.errors.reopen += 1;
        match self.lines.get_ref().metadata() {
            Ok(metadata) if metadata.nlink() > 0 => Ok(()),
            Ok(_) | Err(_) => Err(error),
        }
    }

    fn rotate(&mut self) {
        let Some(Rotation { max_bytes, max_files }) = self.rotation else { return };
        let put_aside = shift(&self.path, max_files);
        if let Err(error) = put_aside.and_then(|()| self.reopen()) {
            if self.errors.rotate == 0 {
                tracing::error!(%error, path = %self.path.display(), "the JSON lines file cannot be rotated; it grows on");
            }
            self.errors.rotate += 1;
            self.rotate_at = self.size.saturating_add(max_bytes);
        }
    }
}

/// Gives the file at `path` the name `path.1`, and those that are there the next number, up to a number that is free;
/// where none is, `path.N` goes.
fn shift(path: &Path, max_files: u32) -> io::Result<()> {
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    let mut free = max_files;
    for n in 1..max_files {
        if !numbered(n).try_exists()? {
            free = n;
            break;
        }
    }
    for n in (1..free).rev() {
        std::fs::rename(numbered(n), numbered(n + 1))?;
    }
    std::fs::rename(path, numbered(1))
}

struct Opened {
    lines: JsonLines<File>,
    metadata: Metadata,
}

fn open(path: &Path) -> io::Result<Opened> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    let torn = metadata.is_file() && ends_inside_a_line(path)?;
    Ok(Opened { lines: JsonLines::after(file, torn), metadata })
}

fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
}

/// Whether the last run was stopped in the middle of a line.
fn ends_inside_a_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
#[path = "json_file_tests.rs"]
mod tests;
