//! Totals by minute and set of labels, kept beside the calls and in the same transaction.
//!
//! Owns the cells, how many there may be, and how they are written. Calls are added in memory; what was touched is written
//! once a transaction, whole. Memory and disk agree whenever a transaction ends: after one that failed, memory is
//! forgotten. Counts of what is not known are kept apart from sums, so that unknown is never 0.
//!
//! To add up one more measure: a field of [`Cell`], its columns in a migration, and its place in [`Cell::from_row`],
//! [`Cell::write`] and [`Cell::merge`].

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    sketch::{Sketch, Sum},
    texts::{OTHER, UNKNOWN},
};

/// Sets of labels in one minute or hour; what goes beyond counts as others. Some hundred bytes to a few KB each.
pub(super) const MAX_GROUPS: usize = 1000;

/// Sets of labels in all: what an id has room for is 2^24.
const MAX_ALL_GROUPS: usize = 200_000;

/// Cells that stay in memory between transactions, some KB each.
const MAX_CELLS: usize = 2048;

/// Bits of a group's id in a cell's.
pub(super) const GROUP_BITS: u32 = 24;

/// A user that is not known, and any other one.
pub(super) const UNKNOWN_USER: i64 = -1;
pub(super) const OTHER_USER: i64 = -2;

/// A set of labels: ids of texts, and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) model: i64,
    pub(super) provider: i64,
    pub(super) host: i64,
    pub(super) executable: i64,
    pub(super) user: i64,
    pub(super) status: i64,
    pub(super) kind: i64,
}

impl Group {
    /// What stands for it when there are too many: how calls ended and at which end they were seen is still told.
    fn other(self) -> Self {
        let Self { model: _, provider: _, host: _, executable: _, user: _, status, kind } = self;
        let (model, provider, host, executable) = (OTHER, OTHER, OTHER, OTHER);
        Self { model, provider, host, executable, user: OTHER_USER, status, kind }
    }

    fn is_other(self) -> bool {
        self.model == OTHER && self.user == OTHER_USER
    }
}

/// Which of the two tables a cell is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Width {
    Minute,
    Hour,
}

impl Width {
    pub(super) fn nanos(self) -> i64 {
        match self {
            Self::Minute => 60_000_000_000,
            Self::Hour => 3_600_000_000_000,
        }
    }
}

/// A number whose sum is kept, with how many calls it is known of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Known<T> {
    pub(super) calls: i64,
    pub(super) sum: T,
}

impl Known<i64> {
    fn add(&mut self, value: Option<i64>) {
        if let Some(value) = value {
            self.calls += 1;
            self.sum = self.sum.saturating_add(value);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.calls += other.calls;
        self.sum = self.sum.saturating_add(other.sum);
    }
}

impl Known<f64> {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.calls += 1;
            self.sum += value;
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.calls += other.calls;
        self.sum += other.sum;
    }
}

/// What is added up of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measures {
    pub(super) is_slow: bool,
    pub(super) input: Option<i64>,
    pub(super) output: Option<i64>,
    pub(super) cache: Option<i64>,
    pub(super) cost: Option<f64>,
    pub(super) energy: Option<f64>,
    pub(super) ttft: Option<f64>,
    pub(super) tpot: Option<f64>,
    pub(super) duration: Option<f64>,
}

/// The totals of one group in one minute or hour.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cell {
    pub(super) calls: i64,
    pub(super) slow: i64,
    pub(super) input: Known<i64>,
    pub(super) output: Known<i64>,
    pub(super) cache: Known<i64>,
    pub(super) cost: Known<f64>,
    pub(super) energy: Known<f64>,
    pub(super) ttft: Sketch,
    pub(super) tpot: Sketch,
    pub(super) duration: Sketch,
}

impl Cell {
    pub(super) fn add(&mut self, measures: &Measures) {
        let Self { calls, slow, input, output, cache, cost, energy, ttft, tpot, duration } = self;
        *calls += 1;
        *slow += i64::from(measures.is_slow);
        input.add(measures.input);
        output.add(measures.output);
        cache.add(measures.cache);
        cost.add(measures.cost);
        energy.add(measures.energy);
        for (sketch, value) in [(ttft, measures.ttft), (tpot, measures.tpot), (duration, measures.duration)] {
            if let Some(value) = value {
                sketch.add(value);
            }
        }
    }

    /// Reads a row of either table, whose columns behind the id begin at `at`. A sketch that does not decode counts as empty.
    pub(super) fn from_row(row: &Row<'_>, at: usize) -> rusqlite::Result<Self> {
        let count = |n: usize| row.get::<_, i64>(at + n);
        let sketch = |n: usize| {
            let bytes = row.get_ref(at + n)?.as_blob_or_null()?;
            Ok::<_, rusqlite::Error>(bytes.and_then(Sketch::decode).unwrap_or_default())
        };
        Ok(Self {
            calls: count(0)?,
            slow: count(1)?,
            input: Known { calls: count(2)?, sum: count(3)? },
            output: Known { calls: count(4)?, sum: count(5)? },
            cache: Known { calls: count(6)?, sum: count(7)? },
            cost: Known { calls: count(8)?, sum: row.get(at + 9)? },
            energy: Known { calls: count(10)?, sum: row.get(at + 11)? },
            ttft: sketch(12)?,
            tpot: sketch(13)?,
            duration: sketch(14)?,
        })
    }

    /// Adds another cell's totals.
    pub(super) fn merge(&mut self, other: &Self) {
        let Self { calls, slow, input, output, cache, cost, energy, ttft, tpot, duration } = self;
        *calls += other.calls;
        *slow += other.slow;
        input.merge(other.input);
        output.merge(other.output);
        cache.merge(other.cache);
        cost.merge(other.cost);
        energy.merge(other.energy);
        for (mine, other) in [(ttft, &other.ttft), (tpot, &other.tpot), (duration, &other.duration)] {
            let mut sum = Sum::default();
            sum.add_sketch(mine);
            sum.add_sketch(other);
            *mine = sum.to_sketch();
        }
    }

    pub(super) fn write(&self, db: &Connection, width: Width, id: i64, scratch: &mut Vec<u8>) -> rusqlite::Result<()> {
        let Self { calls, slow, input, output, cache, cost, energy, ttft, tpot, duration } = self;
        let sql = match width {
            Width::Minute => {
                "REPLACE INTO rollup_minutes VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)"
            }
            Width::Hour => "REPLACE INTO rollup_hours VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)",
        };
        scratch.clear();
        let mut ends = [0; 3];
        for (sketch, end) in [ttft, tpot, duration].into_iter().zip(&mut ends) {
            if !sketch.is_empty() {
                sketch.encode(scratch);
            }
            *end = scratch.len();
        }
        let blob = |from: usize, to: usize| (from < to).then(|| &scratch[from..to]);
        db.prepare_cached(sql)?.execute(params![
            id,
            calls,
            slow,
            input.calls,
            input.sum,
            output.calls,
            output.sum,
            cache.calls,
            cache.sum,
            cost.calls,
            cost.sum,
            energy.calls,
            energy.sum,
            blob(0, ends[0]),
            blob(ends[0], ends[1]),
            blob(ends[1], ends[2]),
        ])?;
        Ok(())
    }
}

/// The id of a cell.
pub(super) fn cell_id(bucket: i64, group: i64) -> i64 {
    (bucket << GROUP_BITS) + group
}

/// The first id of a bucket's cells.
pub(super) fn bucket_start(bucket: i64) -> i64 {
    bucket << GROUP_BITS
}

/// The group in a cell's id.
pub(super) fn group_of(id: i64) -> i64 {
    id & ((1 << GROUP_BITS) - 1)
}

/// The cells that are being added to.
#[derive(Debug, Default)]
pub(super) struct Rollups {
    groups: HashMap<Group, i64>,
    cells: HashMap<(Width, i64), Cell>,
    touched: HashSet<(Width, i64)>,
    /// How many groups a bucket has.
    sizes: HashMap<(Width, i64), usize>,
    scratch: Vec<u8>,
}

impl Rollups {
    /// With the sets of labels that are stored.
    pub(super) fn open(db: &Connection) -> rusqlite::Result<Self> {
        let mut rollups = Self::default();
        rollups.load(db)?;
        Ok(rollups)
    }

    fn load(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let mut statement =
            db.prepare("SELECT id, model, provider, host, executable, user, status, kind FROM groups")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            self.groups.insert(group(row, 1)?, row.get(0)?);
        }
        Ok(())
    }

    /// Adds a call that began at `start`, nanoseconds since the Unix epoch.
    pub(super) fn add(
        &mut self,
        db: &Connection,
        start: i64,
        group: Group,
        measures: &Measures,
    ) -> rusqlite::Result<()> {
        let bucket = start.div_euclid(Width::Minute.nanos());
        let id = self.cell(db, Width::Minute, bucket, group)?;
        if let Some(cell) = self.cells.get_mut(&(Width::Minute, id)) {
            cell.add(measures);
        }
        Ok(())
    }

    /// Adds totals to a bucket.
    pub(super) fn merge(
        &mut self,
        db: &Connection,
        width: Width,
        bucket: i64,
        group: Group,
        totals: &Cell,
    ) -> rusqlite::Result<()> {
        let id = self.cell(db, width, bucket, group)?;
        if let Some(cell) = self.cells.get_mut(&(width, id)) {
            cell.merge(totals);
        }
        Ok(())
    }

    /// Brings the cell to memory that a group's calls count in, and says that it is touched.
    fn cell(&mut self, db: &Connection, width: Width, bucket: i64, group: Group) -> rusqlite::Result<i64> {
        let mut group = group;
        loop {
            let known = self.groups.get(&group).copied();
            let id = match known {
                Some(number) => {
                    let id = cell_id(bucket, number);
                    if self.cells.contains_key(&(width, id)) {
                        self.touched.insert((width, id));
                        return Ok(id);
                    }
                    if let Some(cell) = stored(db, width, id)? {
                        self.cells.insert((width, id), cell);
                        self.touched.insert((width, id));
                        return Ok(id);
                    }
                    Some(id)
                }
                None => None,
            };
            // It would be a new one here.
            let size = self.size(db, width, bucket)?;
            let is_full = size >= MAX_GROUPS || (known.is_none() && self.groups.len() >= MAX_ALL_GROUPS);
            if is_full && !group.is_other() {
                group = group.other();
                continue;
            }
            let id = match id {
                Some(id) => id,
                None => cell_id(bucket, self.insert(db, group)?),
            };
            self.sizes.insert((width, bucket), size + 1);
            self.cells.insert((width, id), Cell::default());
            self.touched.insert((width, id));
            return Ok(id);
        }
    }

    fn insert(&mut self, db: &Connection, group: Group) -> rusqlite::Result<i64> {
        let Group { model, provider, host, executable, user, status, kind } = group;
        db.prepare_cached(
            "INSERT INTO groups (model, provider, host, executable, user, status, kind) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute([model, provider, host, executable, user, status, kind])?;
        let id = db.last_insert_rowid();
        self.groups.insert(group, id);
        Ok(id)
    }

    fn size(&mut self, db: &Connection, width: Width, bucket: i64) -> rusqlite::Result<usize> {
        if let Some(size) = self.sizes.get(&(width, bucket)) {
            return Ok(*size);
        }
        let sql = match width {
            Width::Minute => "SELECT count(*) FROM rollup_minutes WHERE id >= ?1 AND id < ?2",
            Width::Hour => "SELECT count(*) FROM rollup_hours WHERE id >= ?1 AND id < ?2",
        };
        let range = [bucket_start(bucket), bucket_start(bucket + 1)];
        let size: i64 = db.prepare_cached(sql)?.query_row(range, |row| row.get(0))?;
        Ok(usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Writes what was touched.
    pub(super) fn write(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let Self { groups: _, cells, touched, sizes: _, scratch } = self;
        for (width, id) in touched.iter() {
            if let Some(cell) = cells.get(&(*width, *id)) {
                cell.write(db, *width, *id, scratch)?;
            }
        }
        touched.clear();
        Ok(())
    }

    /// After a transaction: keeps memory within its bound.
    pub(super) fn trim(&mut self) {
        if self.cells.len() > MAX_CELLS {
            self.cells.clear();
            self.sizes.clear();
        }
    }

    /// Forgets a bucket that was removed.
    pub(super) fn forget_bucket(&mut self, width: Width, bucket: i64) {
        let range = bucket_start(bucket)..bucket_start(bucket + 1);
        let is_of = |key: &(Width, i64)| key.0 == width && range.contains(&key.1);
        self.cells.retain(|key, _| !is_of(key));
        self.touched.retain(|key| !is_of(key));
        self.sizes.remove(&(width, bucket));
    }

    /// Forgets the hours before one, which are being removed.
    pub(super) fn trim_hours(&mut self, before: i64) {
        self.cells.retain(|(width, id), _| *width == Width::Minute || *id >= bucket_start(before));
        self.sizes.retain(|(width, bucket), _| *width == Width::Minute || *bucket >= before);
    }

    /// Forgets everything: a transaction was rolled back.
    pub(super) fn forget(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let Self { groups, cells, touched, sizes, scratch: _ } = self;
        groups.clear();
        cells.clear();
        touched.clear();
        sizes.clear();
        self.load(db)
    }
}

fn stored(db: &Connection, width: Width, id: i64) -> rusqlite::Result<Option<Cell>> {
    let sql = match width {
        Width::Minute => "SELECT * FROM rollup_minutes WHERE id = ?1",
        Width::Hour => "SELECT * FROM rollup_hours WHERE id = ?1",
    };
    db.prepare_cached(sql)?.query_row([id], |row| Cell::from_row(row, 1)).optional()
}

/// A set of labels, whose columns begin at `at`.
pub(super) fn group(row: &Row<'_>, at: usize) -> rusqlite::Result<Group> {
    Ok(Group {
        model: row.get(at)?,
        provider: row.get(at + 1)?,
        host: row.get(at + 2)?,
        executable: row.get(at + 3)?,
        user: row.get(at + 4)?,
        status: row.get(at + 5)?,
        kind: row.get(at + 6)?,
    })
}

/// The label of a call that may not be known.
pub(super) fn label(id: Option<i64>) -> i64 {
    id.unwrap_or(UNKNOWN)
}
