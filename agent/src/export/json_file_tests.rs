use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use super::{FileErrors, JsonFile, Rotation};
use crate::export::{jsonl::line, testing::numbered_span};

struct Room {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        Self { folder, path }
    }

    fn aside(&self, n: u32) -> PathBuf {
        self.folder.path().join(format!("calls.jsonl.{n}"))
    }

    fn open(&self, max_bytes: u64, max_files: u32) -> JsonFile {
        JsonFile::append_to(&self.path, Some(Rotation { max_bytes, max_files })).unwrap()
    }
}

fn write(file: &mut JsonFile, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        assert!(file.write(&numbered_span(n)).unwrap().is_continue());
    }
}

/// The numbers of the spans in a file, of which every line must be whole.
fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| {
            let span: serde_json::Value = serde_json::from_str(line).unwrap();
            u64::from_str_radix(span["span_id"].as_str().unwrap(), 16).unwrap()
        })
        .collect()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn line_bytes() -> u64 {
    line(&numbered_span(1)).len() as u64 + 1
}

#[test]
fn a_file_is_private_and_continued_after_a_torn_line() {
    let room = Room::new();
    write(&mut JsonFile::append_to(&room.path, None).unwrap(), [1]);
    assert_eq!(mode(&room.path), 0o600);
    fs::File::options().append(true).open(&room.path).unwrap().write_all(b"{\"schema\":").unwrap();
    write(&mut JsonFile::append_to(&room.path, None).unwrap(), [2]);
    let text = fs::read_to_string(&room.path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines, [line(&numbered_span(1)), "{\"schema\":".to_owned(), line(&numbered_span(2))]);
}

#[test]
fn a_full_file_is_put_aside_between_two_lines_and_the_oldest_goes() {
    let room = Room::new();
    let mut file = room.open(line_bytes() * 3, 2);
    write(&mut file, 0..10);
    assert_eq!(numbers(&room.path), [9]);
    assert_eq!(numbers(&room.aside(1)), [6, 7, 8]);
    assert_eq!(numbers(&room.aside(2)), [3, 4, 5]);
    assert!(!room.aside(3).exists());
    for path in [room.path.clone(), room.aside(1), room.aside(2)] {
        assert_eq!(mode(&path), 0o600);
        assert!(path.metadata().unwrap().len() <= line_bytes() * 3);
    }
    assert_eq!(file.errors(), FileErrors::default());
}

#[test]
fn a_line_that_is_longer_than_a_file_is_a_file_alone() {
    let room = Room::new();
    write(&mut room.open(10, 9), 0..3);
    assert_eq!([numbers(&room.path), numbers(&room.aside(1)), numbers(&room.aside(2))], [[2], [1], [0]]);
}

#[test]
fn a_run_goes_on_where_the_last_one_stopped_and_fills_gaps_in_the_numbers() {
    let room = Room::new();
    write(&mut room.open(line_bytes() * 2, 3), 0..5);
    fs::remove_file(room.aside(1)).unwrap();
    write(&mut room.open(line_bytes() * 2, 3), 5..7);
    assert_eq!((numbers(&room.path), numbers(&room.aside(1))), (vec![6], vec![4, 5]));
    assert_eq!(numbers(&room.aside(2)), [0, 1], "a free number is taken before an old file goes");
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let room = Room::new();
    let mut file = JsonFile::append_to(&room.path, None).unwrap();
    write(&mut file, [1]);
    fs::rename(&room.path, room.aside(1)).unwrap();
    write(&mut file, [2]);
    // As logrotate's `create` does it: moved, and another in its place.
    fs::rename(&room.path, room.aside(2)).unwrap();
    fs::write(&room.path, b"").unwrap();
    write(&mut file, [3]);
    fs::remove_file(&room.path).unwrap();
    write(&mut file, [4]);
    assert_eq!([numbers(&room.aside(1)), numbers(&room.aside(2)), numbers(&room.path)], [[1], [2], [4]]);
    assert_eq!(mode(&room.path), 0o600);
    assert_eq!(file.errors(), FileErrors::default());
}

#[test]
fn a_file_that_was_cut_short_is_written_from_its_new_end() {
    let room = Room::new();
    let mut file = room.open(line_bytes() * 3, 1);
    write(&mut file, 0..2);
    // As logrotate's `copytruncate` does it.
    fs::File::options().write(true).open(&room.path).unwrap().set_len(0).unwrap();
    write(&mut file, 2..5);
    assert_eq!((numbers(&room.path), room.aside(1).exists()), (vec![2, 3, 4], false), "its size begins anew");
    fs::File::options().write(true).open(&room.path).unwrap().set_len(5).unwrap();
    write(&mut file, [5]);
    let text = fs::read_to_string(&room.path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[1]), (2, line(&numbered_span(5)).as_str()), "half a line does not swallow the next");
}

#[test]
fn a_rotation_that_fails_is_counted_and_loses_nothing() {
    let room = Room::new();
    let mut file = room.open(line_bytes() * 2, 1);
    // A folder with something in it cannot be replaced by a file.
    fs::create_dir_all(room.aside(1).join("x")).unwrap();
    write(&mut file, 0..4);
    assert_eq!(file.errors(), FileErrors { rotate: 1, reopen: 0 });
    write(&mut file, 4..5);
    assert_eq!(file.errors().rotate, 2, "tried again after as many bytes again");
    fs::remove_dir_all(room.aside(1)).unwrap();
    write(&mut file, 5..7);
    assert_eq!((numbers(&room.aside(1)), numbers(&room.path)), ((0..6).collect(), vec![6]));
}

#[test]
fn lines_go_on_into_the_file_that_is_open_as_long_as_it_has_a_name() {
    let room = Room::new();
    let mut file = JsonFile::append_to(&room.path, None).unwrap();
    fs::rename(&room.path, room.aside(1)).unwrap();
    fs::create_dir(&room.path).unwrap();
    write(&mut file, [1]);
    assert_eq!((numbers(&room.aside(1)), file.errors().reopen), (vec![1], 1));
    fs::remove_file(room.aside(1)).unwrap();
    assert!(file.write(&numbered_span(2)).is_err(), "nobody would find it");
    fs::remove_dir(&room.path).unwrap();
    write(&mut file, [3]);
    assert_eq!((numbers(&room.path), file.errors().reopen), (vec![3], 2));
}

#[test]
fn a_link_stays_and_its_file_is_rotated() {
    let room = Room::new();
    let link = room.folder.path().join("link");
    symlink(&room.path, &link).unwrap();
    fs::write(&room.path, b"").unwrap();
    let rotation = Rotation { max_bytes: line_bytes(), max_files: 1 };
    write(&mut JsonFile::append_to(&link, Some(rotation)).unwrap(), [1, 2]);
    assert_eq!((numbers(&link), numbers(&room.aside(1))), (vec![2], vec![1]));
}

#[test]
fn what_is_no_regular_file_is_left_alone() {
    let rotation = Rotation { max_bytes: 1, max_files: 1 };
    let mut file = JsonFile::append_to(Path::new("/dev/null"), Some(rotation)).unwrap();
    write(&mut file, 0..3);
    assert_eq!(file.errors(), FileErrors::default());
}
