use std::path::PathBuf;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::collector::store::{Options, Store};

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join(FILE)
}

/// What tables and indexes there are, as they were written.
fn shape(db: &Connection) -> Vec<String> {
    let mut statement = db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Opening fails, and leaves the file and what is beside it as they were.
fn refused(dir: &TempDir) -> OpenError {
    let all = || {
        let mut files: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap() != "lock")
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = all();
    let error = Store::open(dir.path(), Options::default()).map(|_| ()).unwrap_err();
    assert_eq!(all(), before);
    error
}

#[test]
fn a_new_database_is_ours_alone_and_current() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempdir().unwrap();
    let data = dir.path().join("a/b");
    let (store, report) = Store::open(&data, Options::default()).unwrap();
    assert_eq!((report.found_schema, report.schema), (0, MIGRATIONS.len() as u32));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in fs::read_dir(&data).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    assert!(matches!(Store::open(&data, Options::default()), Err(OpenError::InUse { .. })));
    drop(store);
    let (_store, report) = Store::open(&data, Options::default()).unwrap();
    assert_eq!(report.found_schema, MIGRATIONS.len() as u32);
}

#[test]
fn a_database_of_any_older_version_becomes_a_current_one_with_what_is_in_it() {
    let fresh = tempdir().unwrap();
    let (newest, _) = open(&path(&fresh), &MIGRATIONS).unwrap();
    for version in 0..=MIGRATIONS.len() {
        let dir = tempdir().unwrap();
        let (old, _) = open(&path(&dir), &MIGRATIONS[..version]).unwrap();
        if version > 0 {
            old.execute("INSERT INTO texts (text) VALUES ('kept')", []).unwrap();
        }
        drop(old);
        let (db, found) = open(&path(&dir), &MIGRATIONS).unwrap();
        assert_eq!(found, version as u32);
        assert_eq!(shape(&db), shape(&newest));
        let kept: i64 = db.query_row("SELECT count(*) FROM texts WHERE text = 'kept'", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, i64::from(version > 0));
    }
}

#[test]
fn a_migration_that_fails_leaves_the_version_before() {
    let dir = tempdir().unwrap();
    let broken = [MIGRATIONS[0], "CREATE TABLE more (id INTEGER) STRICT; CREATE TABLE texts (id INTEGER) STRICT;"];
    assert!(matches!(open(&path(&dir), &broken), Err(OpenError::Database { .. })));
    let (db, found) = open(&path(&dir), &MIGRATIONS).unwrap();
    assert_eq!(found, 1);
    let more: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'more'", [], |row| row.get(0)).unwrap();
    assert_eq!(more, 0);
}

#[test]
fn a_database_of_a_later_program_is_left_alone() {
    let dir = tempdir().unwrap();
    let later = [MIGRATIONS[0], MIGRATIONS[1], "CREATE TABLE more (id INTEGER) STRICT"];
    drop(open(&path(&dir), &later).unwrap());
    assert!(matches!(refused(&dir), OpenError::Newer { found: 3, known: 2, .. }));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let dir = tempdir().unwrap();
    fs::write(path(&dir), "some notes, kept under a name that we also use").unwrap();
    assert!(matches!(refused(&dir), OpenError::Foreign { .. }));

    let dir = tempdir().unwrap();
    let other = Connection::open(path(&dir)).unwrap();
    other.execute_batch("CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('x')").unwrap();
    drop(other);
    assert!(matches!(refused(&dir), OpenError::Foreign { .. }));
}

#[test]
fn a_damaged_database_is_left_alone() {
    let dir = tempdir().unwrap();
    let (db, _) = open(&path(&dir), &MIGRATIONS).unwrap();
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(db);
    let whole = fs::read(path(&dir)).unwrap();
    let mut overwritten = whole.clone();
    overwritten[4096 * 3..4096 * 5].fill(0x5a);
    for damaged in [overwritten, whole[..whole.len() / 2].to_vec()] {
        let dir = tempdir().unwrap();
        fs::write(path(&dir), damaged).unwrap();
        assert!(matches!(refused(&dir), OpenError::Corrupt { .. }));
    }
}

#[test]
fn a_directory_that_is_none_is_told() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Store::open(&file, Options::default()), Err(OpenError::Io { .. })));
}
