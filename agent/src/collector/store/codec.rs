//! How spans are stored: zstd with a dictionary of what every span says.
//!
//! Owns the dictionary (the attributes' names as spans encode them, and their commonest values) and its versions. A
//! dictionary is in the database with what it compressed, so a program with other attributes reads what this one wrote.

use std::collections::{HashMap, hash_map::Entry};

use rusqlite::{Connection, OptionalExtension as _};
use zstd_safe::{CCtx, CDict, DCtx, DDict};

use super::error::QueryError;
use crate::export::attributes as names;

/// zstd's level: without entropy coding of literals. Measured with spans of 1.3 KB, level 1 takes 2 us more of a call's 19
/// and saves nothing in the end, for rows fill pages; level -7 takes 3 us less and a quarter more room.
const LEVEL: i32 = -1;

/// Stored as it is: it did not become smaller.
pub(super) const PLAIN: i64 = 0;

/// Most bytes of a decompressed body: what an item may have, see `apply::MAX_PAYLOAD`.
const MAX_BODY: u64 = 128 << 20;

/// Values that most spans have.
const VALUES: [&str; 21] = [
    "chat",
    "text_completion",
    "embeddings",
    "openai",
    "anthropic",
    "stop",
    "tool_calls",
    "length",
    "default",
    "api.openai.com",
    "api.anthropic.com",
    "openai.chat",
    "openai.responses",
    "anthropic.messages",
    "python3",
    "node",
    "done",
    "complete",
    "syscall",
    "openssl",
    "reported",
];

/// The dictionary of this program: bytes that occur in spans, the commonest last.
fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names::ALL {
        // A key, and the tag of the value behind it.
        bytes.extend([0x0a, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        bytes.extend(name.as_bytes());
        bytes.push(0x12);
    }
    for value in VALUES {
        let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
        bytes.extend([0x12, length.saturating_add(2), 0x0a, length]);
        bytes.extend(value.as_bytes());
    }
    bytes
}

/// Compresses with one dictionary.
pub(super) struct Packer {
    id: i64,
    context: CCtx<'static>,
    dictionary: CDict<'static>,
    packed: Vec<u8>,
}

impl Packer {
    /// With this program's dictionary, which is stored when it is new.
    pub(super) fn open(db: &Connection) -> rusqlite::Result<Self> {
        let bytes = dictionary();
        let known = "SELECT id FROM dictionaries WHERE bytes = ?1";
        let id = match db.query_row(known, [&bytes], |row| row.get(0)).optional()? {
            Some(id) => id,
            None => {
                db.execute("INSERT INTO dictionaries (bytes) VALUES (?1)", [&bytes])?;
                db.last_insert_rowid()
            }
        };
        let context = CCtx::create();
        Ok(Self { id, context, dictionary: CDict::create(&bytes, LEVEL), packed: Vec::new() })
    }

    /// The codec and the bytes to store.
    pub(super) fn pack<'a>(&'a mut self, body: &'a [u8]) -> (i64, &'a [u8]) {
        let Self { id, context, dictionary, packed } = self;
        packed.clear();
        packed.reserve(zstd_safe::compress_bound(body.len()));
        match context.compress_using_cdict(packed, body, dictionary) {
            Ok(length) if length < body.len() => (*id, &packed[..length]),
            _ => (PLAIN, body),
        }
    }
}

/// Decompresses what any of the stored dictionaries compressed.
pub(super) struct Unpacker {
    context: DCtx<'static>,
    dictionaries: HashMap<i64, DDict<'static>>,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self { context: DCtx::create(), dictionaries: HashMap::new() }
    }
}

impl Unpacker {
    /// The body that was stored, added to `out`.
    pub(super) fn unpack(
        &mut self,
        db: &Connection,
        codec: i64,
        stored: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), QueryError> {
        if codec == PLAIN {
            out.extend_from_slice(stored);
            return Ok(());
        }
        let damaged = |reason| QueryError::Damaged { what: "a span", reason };
        let Self { context, dictionaries } = self;
        let dictionary = match dictionaries.entry(codec) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                let sql = "SELECT bytes FROM dictionaries WHERE id = ?1";
                let bytes: Vec<u8> = db
                    .query_row(sql, [codec], |row| row.get(0))
                    .optional()
                    .map_err(QueryError::Database)?
                    .ok_or_else(|| damaged("its dictionary is not there"))?;
                vacant.insert(DDict::create(&bytes))
            }
        };
        let size = zstd_safe::get_frame_content_size(stored).ok().flatten().filter(|size| *size <= MAX_BODY);
        let size = size.and_then(|size| usize::try_from(size).ok()).ok_or_else(|| damaged("its size is not there"))?;
        let mut body = Vec::with_capacity(size);
        context.decompress_using_ddict(&mut body, stored, dictionary).map_err(|_| damaged("it does not decompress"))?;
        out.append(&mut body);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_also_by_a_program_with_another_dictionary() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE dictionaries (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT").unwrap();
        db.execute("INSERT INTO dictionaries (bytes) VALUES (?1)", [b"an older one".to_vec()]).unwrap();
        let mut packer = Packer::open(&db).unwrap();
        assert_eq!(packer.id, 2);
        let body = dictionary().repeat(2);
        let (codec, packed) = packer.pack(&body);
        assert_eq!(codec, 2);
        assert!(packed.len() < body.len() / 20);
        let mut out = vec![7];
        Unpacker::default().unpack(&db, codec, packed, &mut out).unwrap();
        assert_eq!((out[0], &out[1..]), (7, &body[..]));
        assert_eq!(packer.pack(b"x"), (PLAIN, &b"x"[..]));
        assert_eq!(Packer::open(&db).unwrap().id, 2);
        for (codec, bytes) in [(9, &body[..]), (2, b"no frame")] {
            assert!(Unpacker::default().unpack(&db, codec, bytes, &mut Vec::new()).is_err());
        }
    }
}
