//! What was found in files without symbols, kept so that a large program is searched once.
//!
//! Kept on disk by build id, for the service; who only looks for a moment reads that and adds nothing. A file without a
//! build id is known by being the very same file. Nothing in it is believed: a build id is whatever a file's author wrote.
//! Where probes go, the file must have the same instructions as the one that was searched; and that a file has nothing is
//! believed only of the very same file. What is not as it was written is as if it was not there.

use std::{
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
const FORMAT: u32 = 3;

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
    /// Absent for a file that has none.
    build_id: Option<String>,
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
        Self { directory, entries }
    }

    /// What an earlier search found in a file.
    pub fn get(&self, file: &File, image: &Image<'_, '_>) -> Option<Findings> {
        let (id, key) = (image.build_id().map(hex), key(file)?);
        self.entries.iter().rev().find(|entry| entry.is_of(&id, &key))?.findings(file, key)
    }

    /// Remembers what a search has found.
    pub fn put(&mut self, file: &File, image: &Image<'_, '_>, findings: &Findings) {
        let Some(key) = key(file) else { return };
        let Some(entry) = Entry::new(image.build_id().map(hex), file, key, findings) else { return };
        self.entries.retain(|known| !known.is_of(&entry.build_id, &entry.file));
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
    fn new(build_id: Option<String>, file: &File, key: FileKey, findings: &Findings) -> Option<Self> {
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
            Some(KeptLibrary { source: library.functions.as_str().to_owned(), probes })
        };
        let libraries = findings.libraries.iter().map(library).collect::<Option<_>>()?;
        Some(Self { build_id, file: key, libraries, refusals: findings.refusals.clone() })
    }

    /// Whether it is about such a file.
    fn is_of(&self, build_id: &Option<String>, key: &FileKey) -> bool {
        self.build_id == *build_id && (build_id.is_some() || self.file == *key)
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
                Library::tls(SOURCES.into_iter().find(|known| known.as_str() == source)?, Evidence::Shape);
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;
    use crate::discover::{
        fixture::{self, Program as Fixture},
        image,
    };

    const ID: [u8; 20] = [7; 20];

    fn program(filler: &[u8]) -> File {
        built(filler, Some(ID))
    }

    fn built(filler: &[u8], id: Option<[u8; 20]>) -> File {
        let mut program = Fixture::new();
        if let Some(id) = id {
            program.build_id(id);
        }
        program.raw(filler);
        program.raw(&[0x90; 64]);
        fixture::file(&program.bytes())
    }

    /// One probe on the first instruction.
    fn findings() -> Findings {
        let mut library = Library::tls(Source::BoringSsl, Evidence::Shape);
        library.add(Probe {
            function: "SSL_read",
            program: Program::TlsEntry,
            file_offset: fixture::CODE - fixture::CONSTANTS + 16,
            class: SiteClass::Emulated,
            cookie: 0x20001,
        });
        Findings { libraries: vec![library], refusals: vec![Refusal::new("OpenSSL", "it is not certain")] }
    }

    fn with<T>(file: &File, look: impl FnOnce(&Image<'_, '_>) -> T) -> T {
        let read = image::Cache::new(file);
        look(&Image::parse(&read).unwrap().unwrap())
    }

    fn open(directory: &TempDir, writes: bool) -> Cache {
        let owner = fs::metadata(directory.path()).unwrap().uid();
        Cache::open_at(&directory.path().join("inferscope"), writes, owner)
    }

    #[test]
    fn what_was_found_is_there_at_the_next_start() {
        let (directory, file) = (TempDir::new().unwrap(), program(&[0x55]));
        with(&file, |image| open(&directory, true).put(&file, image, &findings()));
        let path = directory.path().join("inferscope");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::metadata(path.join(FILE)).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(with(&file, |image| open(&directory, false).get(&file, image)), Some(findings()));
        assert_eq!(with(&file, |image| open(&directory, true).get(&file, image)), Some(findings()));
    }

    #[test]
    fn another_file_with_the_same_build_id_is_searched() {
        let (directory, file, other) = (TempDir::new().unwrap(), program(&[0x55]), program(&[0x53]));
        let mut cache = open(&directory, true);
        with(&file, |image| cache.put(&file, image, &findings()));
        assert_eq!(with(&other, |image| cache.get(&other, image)), None);
        // That a file has nothing is believed of itself only.
        with(&file, |image| cache.put(&file, image, &Findings::default()));
        assert_eq!(with(&file, |image| cache.get(&file, image)), Some(Findings::default()));
        let copy = program(&[0x55]);
        assert_eq!(with(&copy, |image| cache.get(&copy, image)), None);
    }

    #[test]
    fn a_file_without_a_build_id_is_known_by_being_the_same_file() {
        let (directory, file, copy) = (TempDir::new().unwrap(), built(&[0x55], None), built(&[0x55], None));
        let mut cache = open(&directory, true);
        with(&file, |image| cache.put(&file, image, &findings()));
        with(&copy, |image| cache.put(&copy, image, &Findings::default()));
        let cache = open(&directory, false);
        assert_eq!(with(&file, |image| cache.get(&file, image)), Some(findings()));
        assert_eq!(with(&copy, |image| cache.get(&copy, image)), Some(Findings::default()));
        let other = built(&[0x55], None);
        assert_eq!(with(&other, |image| cache.get(&other, image)), None);
    }

    #[test]
    fn what_is_not_as_it_was_written_is_ignored_and_written_anew() {
        let file = program(&[0x55]);
        for content in ["", "{", "[]", r#"{"format":0,"version":"","entries":[]}"#, "\u{0}"] {
            let directory = TempDir::new().unwrap();
            with(&file, |image| open(&directory, true).put(&file, image, &findings()));
            let path = directory.path().join("inferscope").join(FILE);
            fs::write(&path, content).unwrap();
            let mut cache = open(&directory, true);
            assert_eq!(with(&file, |image| cache.get(&file, image)), None, "{content}");
            with(&file, |image| cache.put(&file, image, &findings()));
            assert_eq!(with(&file, |image| open(&directory, false).get(&file, image)), Some(findings()), "{content}");
        }
    }

    #[test]
    fn a_function_that_no_finder_names_is_ignored() {
        let (directory, file) = (TempDir::new().unwrap(), program(&[0x55]));
        with(&file, |image| open(&directory, true).put(&file, image, &findings()));
        let path = directory.path().join("inferscope").join(FILE);
        let text = fs::read_to_string(&path).unwrap().replace("SSL_read", "SSL_rear");
        fs::write(&path, text).unwrap();
        assert_eq!(with(&file, |image| open(&directory, false).get(&file, image)), None);
    }

    #[test]
    fn what_others_may_have_written_is_left_alone() {
        let file = program(&[0x55]);
        for (name, mode) in [("inferscope", 0o755), ("inferscope/tls-functions.json", 0o640)] {
            let directory = TempDir::new().unwrap();
            with(&file, |image| open(&directory, true).put(&file, image, &findings()));
            fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
            let mut cache = open(&directory, true);
            assert_eq!(with(&file, |image| cache.get(&file, image)), None, "{name}");
            with(&file, |image| cache.put(&file, image, &Findings::default()));
            let text = fs::read_to_string(directory.path().join("inferscope").join(FILE)).unwrap();
            assert!(text.contains("SSL_read"), "{name}: it was written over");
        }
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let (directory, file) = (TempDir::new().unwrap(), program(&[0x55]));
        let mut cache = open(&directory, true);
        let key = key(&file).unwrap();
        cache.directory = None;
        let entry = |n: usize| Entry::new(Some(n.to_string()), &file, key, &Findings::default()).unwrap();
        cache.entries = (0..MAX_ENTRIES).map(entry).collect();
        with(&file, |image| cache.put(&file, image, &findings()));
        assert_eq!((cache.entries.len(), cache.entries[0].build_id.as_deref()), (MAX_ENTRIES, Some("1")));
    }
}
