//! Texts that repeat, stored once.
//!
//! Owns the ids of texts, and what is kept of them in memory. Everything that a text can be comes from payloads, so both
//! its length and how many there are have a bound: a text beyond it is shown as [`OTHER_TEXT`], and only the stored span
//! says which it was.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _};

/// The id of what is not told, where a column cannot be null.
pub(super) const UNKNOWN: i64 = 0;
/// The id of [`OTHER_TEXT`].
pub(super) const OTHER: i64 = 1;
/// What stands for texts beyond the bound.
pub(super) const OTHER_TEXT: &str = "(other)";

/// Most texts. A host has some hundreds; a client that makes names up must not fill the disk with them for good.
const MAX_TEXTS: i64 = 1_000_000;

/// Longest text, bytes; of a longer one the beginning counts.
const MAX_TEXT: usize = 256;

/// Texts in memory: some 100 bytes each.
const MAX_CACHED: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Texts {
    ids: HashMap<Box<str>, i64>,
    /// How many there are, once counted.
    count: Option<i64>,
}

impl Texts {
    /// The id of a text, which is added when it is new.
    pub(super) fn id(&mut self, db: &Connection, text: &str) -> rusqlite::Result<i64> {
        let text = cut(text);
        if let Some(id) = self.ids.get(text) {
            return Ok(*id);
        }
        let id = self.look_up(db, text)?;
        if self.ids.len() >= MAX_CACHED {
            self.ids.clear();
        }
        self.ids.insert(text.into(), id);
        Ok(id)
    }

    /// The id of a text that may be unknown.
    pub(super) fn maybe(&mut self, db: &Connection, text: Option<&str>) -> rusqlite::Result<Option<i64>> {
        text.map(|text| self.id(db, text)).transpose()
    }

    fn look_up(&mut self, db: &Connection, text: &str) -> rusqlite::Result<i64> {
        if let Some(id) = find(db, text)? {
            return Ok(id);
        }
        let count = match self.count {
            Some(count) => count,
            None => db.query_row("SELECT count(*) FROM texts", [], |row| row.get(0))?,
        };
        self.count = Some(count);
        if count >= MAX_TEXTS {
            return Ok(OTHER);
        }
        db.prepare_cached("INSERT INTO texts (text) VALUES (?1)")?.execute([text])?;
        self.count = Some(count + 1);
        Ok(db.last_insert_rowid())
    }

    /// Forgets what is in memory: a transaction was rolled back, and with it new ids.
    pub(super) fn forget(&mut self) {
        let Self { ids, count } = self;
        ids.clear();
        *count = None;
    }
}

/// The id of a text that is stored.
pub(super) fn find(db: &Connection, text: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM texts WHERE text = ?1")?.query_row([cut(text)], |row| row.get(0)).optional()
}

/// As much of a text as is stored.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
