//! What is kept for how long, and how the rest goes.
//!
//! Owns retention by age and by size, and the merge of minutes to hours. All of it is done in steps of one small
//! transaction, between those that store, so that nothing waits long. What is removed is counted in the table `removed`.
//!
//! To keep one more table for a time: an age in [`Keep`], a [`Task`], and its step.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    apply::{State, signed},
    rollup::{self, Cell, Width},
    stats::Stats,
};

/// Rows that one step removes: some ms.
const CHUNK: i64 = 1000;

/// Calls whose content one step looks for.
const CONTENT_CHUNK: i64 = 2000;

/// Pages that one step gives back to the file system.
const VACUUM_PAGES: i64 = 256;

/// Free pages that stay in the file, to be used again: 64 MB.
const SPARE_PAGES: i64 = 16 * 1024;

/// How often everything is looked at.
const EVERY: i64 = 60_000_000_000;

/// How often content is looked for from the oldest call on, for what came late.
const EVERY_DAY: i64 = 86_400_000_000_000;

const DAY: Duration = Duration::from_hours(24);

/// How long data is kept. Ages count from when a span began, and of other things from when they were received.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Spans.
    pub spans: Duration,
    /// Prompts and completions: not longer than their spans.
    pub contents: Duration,
    /// Totals by the minute; then they are merged to hours.
    pub minutes: Duration,
    /// Totals by the hour.
    pub hours: Duration,
    /// The course of GPUs' gauges.
    pub gauges: Duration,
    /// Metrics as they came.
    pub metrics: Duration,
    /// Logs.
    pub logs: Duration,
    /// Who read content.
    pub audit: Duration,
    /// Most bytes of the database; beyond, the oldest spans go. `None` for no bound.
    pub max_bytes: Option<u64>,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            spans: 30 * DAY,
            contents: 7 * DAY,
            minutes: Duration::from_hours(6),
            hours: 400 * DAY,
            gauges: 30 * DAY,
            metrics: DAY,
            logs: 7 * DAY,
            audit: 400 * DAY,
            max_bytes: None,
        }
    }
}

/// Whether there is more to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    More,
    Done,
}

#[derive(Clone, Copy, Debug)]
enum Task {
    Minutes,
    Contents,
    Spans,
    Size,
    Hours,
    GaugeMinutes,
    Metrics,
    Logs,
    Audit,
    Gaps,
    Vacuum,
}

const TASKS: [Task; 11] = [
    Task::Minutes,
    Task::Contents,
    Task::Spans,
    Task::Size,
    Task::Hours,
    Task::GaugeMinutes,
    Task::Metrics,
    Task::Logs,
    Task::Audit,
    Task::Gaps,
    Task::Vacuum,
];

/// Does the housekeeping, a step at a time.
#[derive(Debug)]
pub(super) struct Keeper {
    keep: Keep,
    /// The task whose turn it is.
    next: usize,
    /// When the first has its turn again, nanoseconds since the Unix epoch.
    due: i64,
    /// How far content was looked for: the start and the id of a call.
    content_mark: (i64, i64),
    content_restart: i64,
}

impl Keeper {
    pub(super) fn new(keep: Keep) -> Self {
        Self { keep, next: 0, due: i64::MIN, content_mark: (i64::MIN, 0), content_restart: i64::MIN }
    }

    /// One small transaction at most.
    pub(super) fn step(
        &mut self,
        db: &mut Connection,
        state: &mut State,
        now: i64,
        stats: &Stats,
    ) -> rusqlite::Result<Work> {
        // A clock that was set back must not stop it for long.
        if now < self.due && self.due - now <= EVERY {
            return Ok(Work::Done);
        }
        let Some(task) = TASKS.get(self.next) else {
            self.next = 0;
            self.due = now.saturating_add(EVERY);
            return Ok(Work::Done);
        };
        let before = |age: Duration| now.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        let keep = &self.keep;
        let work = match task {
            Task::Minutes => merge_minute(db, state, before(keep.minutes), stats)?,
            Task::Contents => self.contents(db, now, before(keep.contents), stats)?,
            Task::Spans => spans(db, before(keep.spans), "age", stats)?,
            Task::Size => match keep.max_bytes {
                Some(max) if used_bytes(db)? > max => spans(db, i64::MAX, "size", stats)?,
                _ => Work::Done,
            },
            Task::Hours => {
                let bucket = before(keep.hours).div_euclid(Width::Hour.nanos());
                let sql = "DELETE FROM rollup_hours WHERE id IN (SELECT id FROM rollup_hours WHERE id < ?1 LIMIT ?2)";
                let work = rows(db, "hours", sql, rollup::bucket_start(bucket))?;
                state.rollups.trim_hours(bucket);
                work
            }
            Task::GaugeMinutes => {
                let minute = before(keep.gauges).div_euclid(Width::Minute.nanos());
                let sql = "DELETE FROM gauge_minutes WHERE (minute, gauge) IN \
                           (SELECT minute, gauge FROM gauge_minutes WHERE minute < ?1 ORDER BY minute, gauge LIMIT ?2)";
                rows(db, "gauges", sql, minute)?
            }
            Task::Metrics => {
                let sql = "DELETE FROM metrics WHERE id IN (SELECT id FROM metrics ORDER BY id LIMIT ?2) AND at < ?1";
                rows(db, "metrics", sql, before(keep.metrics))?
            }
            Task::Logs => {
                let sql = "DELETE FROM logs WHERE id IN (SELECT id FROM logs ORDER BY id LIMIT ?2) AND at < ?1";
                rows(db, "logs", sql, before(keep.logs))?
            }
            Task::Audit => {
                let sql = "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?2) AND at < ?1";
                rows(db, "audit", sql, before(keep.audit))?
            }
            Task::Gaps => {
                let sql = "DELETE FROM gaps WHERE id IN (SELECT id FROM gaps ORDER BY id LIMIT ?2) AND at < ?1";
                rows(db, "gaps", sql, before(keep.hours))?
            }
            Task::Vacuum => vacuum(db)?,
        };
        if work == Work::Done {
            self.next += 1;
        }
        Ok(Work::More)
    }

    /// Walks over the calls that are old enough, by their start, and removes their content.
    fn contents(&mut self, db: &mut Connection, now: i64, before: i64, stats: &Stats) -> rusqlite::Result<Work> {
        if now >= self.content_restart {
            self.content_mark = (i64::MIN, 0);
            self.content_restart = now.saturating_add(EVERY_DAY);
        }
        let transaction = db.transaction()?;
        let (mut mark, mut looked, mut removed) = (self.content_mark, 0, 0);
        {
            let mut walk = transaction.prepare_cached(
                "SELECT start_ns, id FROM calls WHERE (start_ns, id) > (?1, ?2) AND start_ns < ?3 \
                 ORDER BY start_ns, id LIMIT ?4",
            )?;
            let mut remove = transaction.prepare_cached("DELETE FROM contents WHERE id = ?1")?;
            let mut rows = walk.query(params![mark.0, mark.1, before, CONTENT_CHUNK])?;
            while let Some(row) = rows.next()? {
                mark = (row.get(0)?, row.get(1)?);
                looked += 1;
                removed += remove.execute([mark.1])?;
            }
        }
        count(&transaction, "contents", "age", removed)?;
        transaction.commit()?;
        self.content_mark = mark;
        Stats::add(&stats.contents_removed, removed as u64);
        Ok(if looked < CONTENT_CHUNK { Work::Done } else { Work::More })
    }
}

/// Removes the oldest calls, with all that is stored of them.
fn spans(db: &mut Connection, before: i64, reason: &str, stats: &Stats) -> rusqlite::Result<Work> {
    let transaction = db.transaction()?;
    let mut removed = 0;
    {
        let mut oldest =
            transaction.prepare_cached("SELECT id FROM calls WHERE start_ns < ?1 ORDER BY start_ns, id LIMIT ?2")?;
        let ids: Vec<i64> = oldest.query_map([before, CHUNK], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut calls = transaction.prepare_cached("DELETE FROM calls WHERE id = ?1")?;
        let mut spans = transaction.prepare_cached("DELETE FROM spans WHERE id = ?1")?;
        let mut contents = transaction.prepare_cached("DELETE FROM contents WHERE id = ?1")?;
        for id in ids {
            removed += calls.execute([id])?;
            spans.execute([id])?;
            contents.execute([id])?;
        }
    }
    count(&transaction, "spans", reason, removed)?;
    transaction.commit()?;
    Stats::add(&stats.spans_removed, removed as u64);
    Ok(if removed == 0 { Work::Done } else { Work::More })
}

/// Merges the oldest minute to its hour, if it is older than `before`.
fn merge_minute(db: &mut Connection, state: &mut State, before: i64, stats: &Stats) -> rusqlite::Result<Work> {
    let oldest: Option<i64> = db
        .prepare_cached("SELECT id FROM rollup_minutes ORDER BY id LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(minute) = oldest.map(|id| id >> rollup::GROUP_BITS) else { return Ok(Work::Done) };
    if minute >= before.div_euclid(Width::Minute.nanos()) {
        return Ok(Work::Done);
    }
    let range = [rollup::bucket_start(minute), rollup::bucket_start(minute + 1)];
    let hour = minute.div_euclid(60);
    let transaction = db.transaction()?;
    {
        let sql = "SELECT g.model, g.provider, g.host, g.executable, g.user, g.status, g.kind, r.* FROM rollup_minutes r \
                   JOIN groups g ON g.id = r.id & 16777215 WHERE r.id >= ?1 AND r.id < ?2";
        let mut minutes = transaction.prepare_cached(sql)?;
        let mut rows = minutes.query(range)?;
        while let Some(row) = rows.next()? {
            // After the seven labels and the id.
            let totals = Cell::from_row(row, 8)?;
            state.rollups.merge(&transaction, Width::Hour, hour, rollup::group(row, 0)?, &totals)?;
        }
    }
    transaction.prepare_cached("DELETE FROM rollup_minutes WHERE id >= ?1 AND id < ?2")?.execute(range)?;
    state.rollups.forget_bucket(Width::Minute, minute);
    state.rollups.write(&transaction)?;
    transaction.commit()?;
    state.rollups.trim();
    Stats::add(&stats.minutes_merged, 1);
    Ok(Work::More)
}

/// Runs a statement that removes at most [`CHUNK`] (`?2`) of the rows that are before something (`?1`).
fn rows(db: &mut Connection, what: &str, sql: &str, before: i64) -> rusqlite::Result<Work> {
    let transaction = db.transaction()?;
    let removed = transaction.prepare_cached(sql)?.execute([before, CHUNK])?;
    count(&transaction, what, "age", removed)?;
    transaction.commit()?;
    Ok(if removed == 0 { Work::Done } else { Work::More })
}

fn count(db: &Connection, what: &str, reason: &str, removed: usize) -> rusqlite::Result<()> {
    if removed == 0 {
        return Ok(());
    }
    db.prepare_cached(
        "INSERT INTO removed (what, reason, count) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?
    .execute(params![what, reason, signed(removed as u64)])?;
    Ok(())
}

fn pragma(db: &Connection, name: &str) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, name, |row| row.get(0))
}

/// Bytes of the database that hold something.
pub(super) fn used_bytes(db: &Connection) -> rusqlite::Result<u64> {
    let pages = pragma(db, "page_count")? - pragma(db, "freelist_count")?;
    Ok(super::apply::unsigned(pages.saturating_mul(pragma(db, "page_size")?)))
}

fn vacuum(db: &Connection) -> rusqlite::Result<Work> {
    let free = pragma(db, "freelist_count")?;
    if free <= SPARE_PAGES {
        return Ok(Work::Done);
    }
    let pages = VACUUM_PAGES.min(free - SPARE_PAGES);
    // One row a page: to run a statement without asking for its rows would free the first of them.
    let mut statement = db.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut freed = statement.query([])?;
    while freed.next()?.is_some() {}
    Ok(Work::More)
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
