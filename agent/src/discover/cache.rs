//! What was found in files without symbols, kept so that a large program is searched once.
//!
//! Kept on disk by build id, for the service; who only looks for a moment reads that and adds nothing. Nothing in it is
//! believed: a build id is whatever a file's author wrote. Where probes go, the file must have the same instructions as the
//! one that was searched; and that a file has nothing is believed only of the very same file. What is not as it was written
//! is as if it was not there.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    finders::{self, Findings, Refusal},
    image::Image,
    library::{Evidence, Library},
};
use crate::{
    kernel::{Probe, Program, SiteClass},
    record::Source,
};

/// Where it is if the service manager names no other place.
const DIRECTORY: &str = "/var/cache/inferscope";

/// Its file, and what it is called while it is written.
const FILE: &str = "tls-functions.json";
const NEW_FILE: &str = "tls-functions.json.new";

/// Changes with what is kept and with what the finders look for.
const FORMAT: u32 = 2;

/// Files that are remembered. A host has some tens of programs without symbols that are worth searching.
const MAX_ENTRIES: usize = 256;

/// Largest file that is read: an entry has 2 KB at most.
const MAX_BYTES: u64 = 1 << 20;

/// Probes of one file that are believed.
const MAX_PROBES: usize = 32;

/// Instruction bytes that are compared at each probe.
const SITE_BYTES: usize = 16;

/// Libraries that are found by their shape.
const SOURCES: [Source; 3] = [Source::OpenSsl, Source::BoringSsl, Source::Rustls];

/// Everybody but the owner.
const OTHERS: u32 = 0o077;

/// A file as the kernel tells it apart: device, inode, length, and the last change, which nobody can set back.
type FileKey = (u64, u64, u64, i64, i64);

#[derive(Debug, Default, Deserialize, Serialize)]
struct Stored {
    format: u32,
    /// Of this program: another one's finders may know more.
    version: String,
    /// Oldest first.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Entry {
    build_id: String,
    file: FileKey,
    libraries: Vec<KeptLibrary>,
    refusals: Vec<Refusal>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct KeptLibrary {
    source: String,
    probes: Vec<KeptProbe>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct KeptProbe {
    function: String,
    program: String,
    file_offset: u64,
    class: String,
    cookie: u64,
    /// What stands there.
    code: [u8; SITE_BYTES],
}

/// What is remembered.
pub struct Cache {
    /// Where it may be written.
    directory: Option<PathBuf>,
    entries: Vec<Entry>,
    /// Of files without a build id.
    unnamed: HashMap<FileKey, Findings>,
}

impl Cache {
    /// The host's, if it is there and nobody but root can have written it.
    pub fn open(writes: bool) -> Self {
        let directory = std::env::var_os("CACHE_DIRECTORY").map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from);
        Self::open_at(&directory, writes, 0)
    }

    fn open_at(directory: &Path, writes: bool, owner: u32) -> Self {
        let made = if writes { make(directory) } else { Ok(()) };
        let read = made.and_then(|()| is_private(directory, owner)).and_then(|()| read(&directory.join(FILE), owner));
        let (usable, entries) = match read {
            Ok(entries) => (true, entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (is_private(directory, owner).is_ok(), Vec::new()),
            Err(error) => {
                tracing::warn!(directory = %directory.display(), %error, "what was found earlier is not used");
                // What is not as we write it is written anew; what others may write is left alone.
                (error.kind() == io::ErrorKind::InvalidData, Vec::new())
            }
        };
        let directory = (writes && usable).then(|| directory.to_owned());
        Self { directory, entries, unnamed: HashMap::new() }
    }

    /// What an earlier search found in a file.
    pub fn get(&self, file: &File, image: &Image<'_, '_>) -> Option<Findings> {
        let key = key(file)?;
        match image.build_id() {
            None => self.unnamed.get(&key).cloned(),
            Some(id) => {
                let id = hex(id);
                self.entries.iter().rev().find(|entry| entry.build_id == id)?.findings(file, key)
            }
        }
    }

    /// Remembers what a search has found.
    pub fn put(&mut self, file: &File, image: &Image<'_, '_>, findings: &Findings) {
        let Some(key) = key(file) else { return };
        let Some(id) = image.build_id() else {
            if self.unnamed.len() >= MAX_ENTRIES {
                self.unnamed.clear();
            }
            self.unnamed.insert(key, findings.clone());
            return;
        };
        let id = hex(id);
        let Some(entry) = Entry::new(id, file, key, findings) else { return };
        self.entries.retain(|known| known.build_id != entry.build_id);
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.remove(0);
        }
        self.entries.push(entry);
        if let Some(directory) = &self.directory
            && let Err(error) = write(directory, &self.entries)
        {
            tracing::warn!(directory = %directory.display(), %error, "what was found is not kept");
        }
    }
}

impl Entry {
    fn new(build_id: String, file: &File, key: FileKey, findings: &Findings) -> Option<Self> {
        let probe = |probe: &Probe| {
            Some(KeptProbe {
                function: probe.function.to_owned(),
                program: probe.program.name().to_owned(),
                file_offset: probe.file_offset,
                class: probe.class.as_str().to_owned(),
                cookie: probe.cookie,
                code: code(file, probe.file_offset)?,
            })
        };
        let library = |library: &Library| {
            let probes = library.probes.iter().map(probe).collect::<Option<_>>()?;
            Some(KeptLibrary { source: library.source.as_str().to_owned(), probes })
        };
        let libraries = findings.libraries.iter().map(library).collect::<Option<_>>()?;
        Some(Self { build_id, file: key, libraries, refusals: findings.refusals.clone() })
    }

    /// What it says of a file; `None` if that cannot be believed.
    fn findings(&self, file: &File, key: FileKey) -> Option<Findings> {
        let Self { build_id: _, file: searched, libraries, refusals } = self;
        let probes: usize = libraries.iter().map(|library| library.probes.len()).sum();
        if (probes == 0 && *searched != key) || probes > MAX_PROBES {
            return None;
        }
        let mut findings = Findings { libraries: Vec::new(), refusals: refusals.clone() };
        for KeptLibrary { source, probes } in libraries {
            let mut library =
                Library::new(SOURCES.into_iter().find(|known| known.as_str() == source)?, Evidence::Shape);
            for probe in probes {
                library.add(probe.probe().filter(|_| code(file, probe.file_offset) == Some(probe.code))?);
            }
            findings.libraries.push(library);
        }
        Some(findings)
    }
}

impl KeptProbe {
    fn probe(&self) -> Option<Probe> {
        let Self { function, program, file_offset, class, cookie, code: _ } = self;
        Some(Probe {
            function: finders::functions_by_shape().find(|known| known == function)?,
            program: Program::ALL.into_iter().find(|known| known.name() == program)?,
            file_offset: *file_offset,
            class: SiteClass::ALL.into_iter().find(|known| known.as_str() == class)?,
            // The file's slot is put in when it has one.
            cookie: u64::from(*cookie as u32),
        })
    }
}

fn key(file: &File) -> Option<FileKey> {
    let file = file.metadata().ok()?;
    Some((file.dev(), file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
}

fn code(file: &File, offset: u64) -> Option<[u8; SITE_BYTES]> {
    let mut code = [0; SITE_BYTES];
    file.read_exact_at(&mut code, offset).ok()?;
    Some(code)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a directory that only its owner can enter.
fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Whether nobody but the owner can write in a directory or read it.
fn is_private(directory: &Path, owner: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != owner || found.mode() & OTHERS != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a directory of root's with mode 0700"));
    }
    Ok(())
}

fn read(path: &Path, owner: u32) -> io::Result<Vec<Entry>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != owner || found.mode() & OTHERS != 0 || found.nlink() != 1 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "its file is not one of root's with mode 0600"));
    }
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if found.len() > MAX_BYTES {
        return Err(invalid("its file is too large"));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text)?;
    let stored: Stored = serde_json::from_slice(&text).map_err(|_| invalid("its file is not as it is written here"))?;
    if stored.format != FORMAT || stored.version != env!("CARGO_PKG_VERSION") || stored.entries.len() > MAX_ENTRIES {
        return Err(invalid("its file is of another version"));
    }
    Ok(stored.entries)
}

/// Writes it beside the old one and puts it in its place.
fn write(directory: &Path, entries: &[Entry]) -> io::Result<()> {
    let stored = Stored { format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), entries: entries.to_vec() };
    let new = directory.join(NEW_FILE);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(&stored)?)?;
    fs::rename(new, directory.join(FILE))
}
