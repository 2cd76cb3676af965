//! The database file: what it must be, and how an older one becomes a current one.
//!
//! Owns the file's mark, its migrations and the settings of every connection. A file that is not ours, that a later
//! program wrote or that is damaged is refused before anything in it is changed.
//!
//! To change the schema: add a numbered file to `schema/` and a line to [`MIGRATIONS`]; never edit an older one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, ffi::ErrorCode};

use super::error::OpenError;

/// What the file says that it is, beside being a database.
const APPLICATION_ID: i32 = 0x1fe5_c0be;

/// Each is one step, in one transaction. The number of steps that were taken is the file's `user_version`.
pub(super) const MIGRATIONS: [&str; 2] = [include_str!("schema/0001.sql"), include_str!("schema/0002.sql")];

/// Name of the database in its directory.
pub(super) const FILE: &str = "collector.db";

/// A database up to this size is checked whole when it is opened; a larger one takes too long.
const MAX_CHECKED_BYTES: u64 = 64 << 20;

/// How long a connection waits for another's lock. With one writer only a checkpoint makes one wait.
const BUSY: Duration = Duration::from_secs(5);

/// Size of SQLite's file header, and where in it are what we look at.
const HEADER: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const USER_VERSION_AT: usize = 60;
const APPLICATION_ID_AT: usize = 68;

/// Makes the directory, only for us.
pub(super) fn make_dir(dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)
}

/// Brings the names of new files to stable storage: that of the database, and that of its directory as far as we may.
fn sync_names(path: &Path) -> io::Result<()> {
    let Some(dir) = path.parent() else { return Ok(()) };
    File::open(dir)?.sync_all()?;
    match dir.parent().map(File::open) {
        Some(Ok(parent)) => parent.sync_all(),
        _ => Ok(()),
    }
}

/// Makes the directory ours alone, until the file is closed.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|source| OpenError::Io { path: path.clone(), source })?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse { path: dir.to_owned() }),
        Err(error) => Err(OpenError::Io { path, source: error.into() }),
    }
}

/// What a file's first bytes say.
enum Header {
    New,
    Ours { version: u32 },
}

fn header(path: &Path) -> Result<Header, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(HEADER as u64).read_to_end(&mut bytes).map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Header::New),
        Err(error) => return Err(io(error)),
    };
    if bytes.is_empty() {
        return Ok(Header::New);
    }
    let foreign = || OpenError::Foreign { path: path.to_owned() };
    let word = |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
    match (bytes.starts_with(MAGIC), word(APPLICATION_ID_AT), word(USER_VERSION_AT)) {
        (true, Some(id), Some(version)) if id == APPLICATION_ID.cast_unsigned() => Ok(Header::Ours { version }),
        _ => Err(foreign()),
    }
}

/// Opens the database for writing, and brings it up to date. Returns the version that it had, 0 for a new one.
pub(super) fn open(path: &Path, migrations: &[&str]) -> Result<(Connection, u32), OpenError> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    let found = header(path)?;
    if let Header::Ours { version } = found
        && version > known
    {
        return Err(OpenError::Newer { path: path.to_owned(), found: version, known });
    }
    let database = |source| opening(path, source);
    if matches!(found, Header::New) {
        let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        made.map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    }
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(database)?;
    db.busy_timeout(BUSY).map_err(database)?;
    if matches!(found, Header::New) {
        begin(&db).map_err(database)?;
        sync_names(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    }
    // The log may hold a later version than the file's first page.
    let version: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(database)?;
    if version > known {
        return Err(OpenError::Newer { path: path.to_owned(), found: version, known });
    }
    check(&db, path)?;
    settings(&db).map_err(database)?;
    migrate(&db, version, migrations).map_err(database)?;
    Ok((db, version))
}

/// Marks an empty file. What a reader of its first bytes sees is there before the log is used.
fn begin(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;")?;
    db.pragma_update(None, "application_id", APPLICATION_ID)
}

fn settings(db: &Connection) -> rusqlite::Result<()> {
    // A checkpoint writes each page once, however often it was changed since the last: the rarer, the less is written.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 16384;
         PRAGMA journal_size_limit = 134217728; PRAGMA cache_size = -131072; PRAGMA temp_store = MEMORY;
         PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF;",
    )?;
    db.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn migrate(db: &Connection, from: u32, migrations: &[&str]) -> rusqlite::Result<()> {
    for (step, sql) in (1_u32..).zip(migrations).skip(from as usize) {
        let done = db.unchecked_transaction().and_then(|transaction| {
            transaction.execute_batch(sql)?;
            if step == 1 {
                transaction.execute("INSERT INTO texts (id, text) VALUES (1, ?1)", [super::texts::OTHER_TEXT])?;
            }
            transaction.pragma_update(None, "user_version", step)?;
            transaction.commit()
        });
        done?;
    }
    Ok(())
}

/// A damaged database is refused while it is whole enough to be repaired.
fn check(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let bytes = fs::metadata(path).map_or(0, |file| file.len());
    let sql = match bytes <= MAX_CHECKED_BYTES {
        true => "PRAGMA quick_check(1)",
        false => "SELECT 'ok' FROM sqlite_schema LIMIT 1",
    };
    match db.query_row(sql, [], |row| row.get::<_, String>(0)) {
        Ok(found) if found == "ok" => Ok(()),
        Ok(reason) => Err(OpenError::Corrupt { path: path.to_owned(), reason }),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(()),
        Err(error) => Err(opening(path, error)),
    }
}

fn opening(path: &Path, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Corrupt { path: path.to_owned(), reason: error.to_string() }
        }
        _ => OpenError::Database { path: path.to_owned(), source: error },
    }
}

/// Opens the database for reading.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY)?;
    db.execute_batch(
        "PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;",
    )?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
