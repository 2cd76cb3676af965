//! What the log asks of a file system, and the one of the host.
//!
//! Owns the modes of files and every call that changes one, behind a trait, so that tests can fail or cut off each of them.

use std::{
    any::Any,
    ffi::OsString,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name.
    pub name: OsString,
    /// Whether it is a regular file, and no link to one.
    pub is_file: bool,
    /// Bytes.
    pub len: u64,
}

/// A file that is read.
pub(crate) trait ReadFile: Send + Sync + fmt::Debug {
    /// Its bytes now.
    fn len(&self) -> io::Result<u64>;
    /// Reads at `offset`, less than asked for only at the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

/// A file that is written from its beginning on.
pub(crate) trait WriteFile: Send + fmt::Debug {
    /// Writes all of `bytes` behind what was written. After an error some of it may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts it off.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// A file system.
pub(crate) trait Files: Send + Sync + fmt::Debug {
    /// Makes a directory and those above it, mode 0700, unless it is there.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// What is in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Opens a regular file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>>;
    /// Makes a file, mode 0600, that must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;
    /// Gives a file, or whatever it is, another name, in place of what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a file durable that somebody else wrote.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the names of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Holds a lock until what is returned is dropped; `None` when another has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>>;
}

/// Reads a small file whole: no more than `max` bytes of it.
pub(crate) fn read_small(files: &dyn Files, path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let file = files.open(path)?;
    let mut bytes = vec![0; max];
    let n = file.read_at(0, &mut bytes)?;
    bytes.truncate(n);
    Ok(bytes)
}

/// The host's file system.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostFiles;

fn no_follow() -> i32 {
    // Without waiting either: a name may be a pipe's.
    (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32
}

impl Files for HostFiles {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) => {
                    let (is_file, len) = (metadata.is_file(), metadata.len());
                    entries.push(Entry { name: entry.file_name(), is_file, len });
                }
                // It went while the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path)?;
        match file.metadata()?.is_file() {
            true => Ok(Box::new(HostFile(file))),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(HostWriter { file, end: 0 }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().read(true).custom_flags(no_follow()).open(path)?.sync_all()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct HostFile(File);

impl ReadFile for HostFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

#[derive(Debug)]
struct HostWriter {
    file: File,
    end: u64,
}

impl WriteFile for HostWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // At a position of its own: after an error that of the file is anywhere.
        self.file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        self.file.flush()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.end = len;
        Ok(())
    }
}
