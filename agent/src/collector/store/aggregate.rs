//! Totals and quantiles, whole or over time, by up to two labels.
//!
//! Owns the question to the rollups. Nothing here looks at calls: what it costs follows from how many minutes, hours and
//! sets of labels there are, not from how many calls. Sums are exact; quantiles are within one percent.

use std::collections::{HashMap, hash_map::Entry};

use rusqlite::{Connection, Row, Rows, fallible_streaming_iterator::FallibleStreamingIterator as _};

use super::{
    calls::Filter,
    error::QueryError,
    reader::{Reader, Session},
    rollup::{self, Group, Known, OTHER_USER, UNKNOWN_USER, Width},
    sketch::Sum,
    texts::{self, OTHER, OTHER_TEXT},
    views::{Kind, SessionTexts, Status},
};

/// Rows of an answer at most.
pub const MAX_ROWS: usize = 20_000;

/// Sets of labels that are told apart within one answer or one step; the rest is shown as others. 50 KB each.
const MAX_KEYS: usize = 1000;

/// What calls can be added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the column of the same name")]
pub enum Dimension {
    Model,
    Provider,
    Host,
    Executable,
    User,
    Status,
    Kind,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Model, Self::Provider, Self::Host, Self::Executable, Self::User, Self::Status, Self::Kind];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Host => "host",
            Self::Executable => "executable",
            Self::User => "user",
            Self::Status => "status",
            Self::Kind => "kind",
        }
    }

    /// The one with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.as_str() == name)
    }

    fn of(self, group: &Group) -> i64 {
        match self {
            Self::Model => group.model,
            Self::Provider => group.provider,
            Self::Host => group.host,
            Self::Executable => group.executable,
            Self::User => group.user,
            Self::Status => group.status,
            Self::Kind => group.kind,
        }
    }

    /// What stands for a label when there are too many. Of states and kinds there never are.
    fn other(self, label: i64) -> i64 {
        match self {
            Self::User => OTHER_USER,
            Self::Model | Self::Provider | Self::Host | Self::Executable => OTHER,
            Self::Status | Self::Kind => label,
        }
    }
}

/// Totals by labels, and over time when a step was given.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Aggregate {
    /// Where what was added up begins, nanoseconds since the Unix epoch: the asked time, rounded to whole minutes, and to
    /// whole hours where minutes were merged.
    pub from: i64,
    /// Where it ends.
    pub to: i64,
    /// The step, nanoseconds; rounded up to whole minutes.
    pub step: Option<i64>,
    /// Before this time totals are by the hour: a shorter step has them at the hour's begin. Absent when none are.
    pub hourly_before: Option<i64>,
    /// By time, then by calls, most first.
    pub rows: Vec<AggregateRow>,
}

/// Totals of one set of labels in one step. Null is unknown: of no call was it known.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct AggregateRow {
    /// Where the step begins, nanoseconds since the Unix epoch.
    pub at: Option<i64>,
    /// The labels in the order that was asked for; null for calls of which it is not known.
    pub labels: Vec<Option<String>>,
    /// Calls.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Calls of which something was slow.
    pub slow: u64,
    /// Input tokens of the calls of which they are known.
    pub input_tokens: Option<i64>,
    /// How many these are.
    pub input_tokens_calls: u64,
    /// Output tokens.
    pub output_tokens: Option<i64>,
    /// Of so many calls.
    pub output_tokens_calls: u64,
    /// Input tokens that came from a cache.
    pub cache_read_tokens: Option<i64>,
    /// Of so many calls.
    pub cache_read_tokens_calls: u64,
    /// US dollars.
    pub cost_usd: Option<f64>,
    /// Of so many calls.
    pub cost_usd_calls: u64,
    /// Joules.
    pub energy_joules: Option<f64>,
    /// Of so many calls.
    pub energy_joules_calls: u64,
    /// Seconds to the first token.
    pub time_to_first_token: Option<Quantiles>,
    /// Seconds between output tokens.
    pub time_per_output_token: Option<Quantiles>,
    /// Seconds that calls took.
    pub duration: Option<Quantiles>,
}

/// How a time is distributed over the calls that have it, seconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[expect(missing_docs, reason = "each says what it is")]
pub struct Quantiles {
    pub calls: u64,
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
}

impl Quantiles {
    fn of(sum: &Sum) -> Option<Self> {
        Some(Self {
            calls: sum.count(),
            mean: sum.mean()?,
            p50: sum.quantile(0.5)?,
            p95: sum.quantile(0.95)?,
            p99: sum.quantile(0.99)?,
        })
    }
}

/// Labels of a row; of one that was not asked for, 0.
type Key = [i64; 2];

/// What is added up for a row.
#[derive(Debug, Default)]
struct Totals {
    calls: i64,
    errors: i64,
    slow: i64,
    input: Known<i64>,
    output: Known<i64>,
    cache: Known<i64>,
    cost: Known<f64>,
    energy: Known<f64>,
    ttft: Sum,
    tpot: Sum,
    duration: Sum,
}

impl Totals {
    /// Adds a cell, whose columns begin behind its id. Sketches are added as they are stored.
    fn add(&mut self, row: &Row<'_>, is_error: bool) -> rusqlite::Result<()> {
        let Self { calls, errors, slow, input, output, cache, cost, energy, ttft, tpot, duration } = self;
        let more: i64 = row.get(1)?;
        *calls += more;
        if is_error {
            *errors += more;
        }
        *slow += row.get::<_, i64>(2)?;
        for (at, known) in [(3, input), (5, output), (7, cache)] {
            known.merge(Known { calls: row.get(at)?, sum: row.get(at + 1)? });
        }
        for (at, known) in [(9, cost), (11, energy)] {
            known.merge(Known { calls: row.get(at)?, sum: row.get(at + 1)? });
        }
        for (at, sum) in [(13, ttft), (14, tpot), (15, duration)] {
            // One that does not decode counts as far as it does.
            let _ = row.get_ref(at)?.as_blob_or_null()?.and_then(|bytes| sum.add(bytes));
        }
        Ok(())
    }

    fn row(&self, at: Option<i64>, labels: Vec<Option<String>>) -> AggregateRow {
        let Self { calls, errors, slow, input, output, cache, cost, energy, ttft, tpot, duration } = self;
        let count = |number: i64| super::apply::unsigned(number);
        let whole = |known: &Known<i64>| (known.calls > 0).then_some(known.sum);
        let real = |known: &Known<f64>| (known.calls > 0).then_some(known.sum);
        AggregateRow {
            at,
            labels,
            calls: count(*calls),
            errors: count(*errors),
            slow: count(*slow),
            input_tokens: whole(input),
            input_tokens_calls: count(input.calls),
            output_tokens: whole(output),
            output_tokens_calls: count(output.calls),
            cache_read_tokens: whole(cache),
            cache_read_tokens_calls: count(cache.calls),
            cost_usd: real(cost),
            cost_usd_calls: count(cost.calls),
            energy_joules: real(energy),
            energy_joules_calls: count(energy.calls),
            time_to_first_token: Quantiles::of(ttft),
            time_per_output_token: Quantiles::of(tpot),
            duration: Quantiles::of(duration),
        }
    }
}

impl Reader {
    /// Totals of the calls that a filter leaves, by up to two labels; over time when there is a `step`, nanoseconds. A
    /// filter can name what totals are kept by: the time, and each [`Dimension`].
    pub fn aggregate(
        &self,
        filter: &Filter,
        group_by: &[Dimension],
        step: Option<i64>,
    ) -> Result<Aggregate, QueryError> {
        let wrong = |reason| Err(QueryError::Wrong { reason });
        let minute = Width::Minute.nanos();
        let step = match step {
            Some(step) if step <= 0 => return wrong("a step is longer than nothing"),
            Some(step) => {
                Some(step.div_euclid(minute).saturating_add(i64::from(step % minute != 0)).saturating_mul(minute))
            }
            None => None,
        };
        if group_by.len() > 2 || (group_by.len() == 2 && group_by[0] == group_by[1]) {
            return wrong("calls are added up by at most two different labels");
        }
        let (Some(from), Some(to)) = (filter.from, filter.to) else {
            return wrong("totals need a begin and an end");
        };
        if from >= to {
            return wrong("the end is after the begin");
        }
        let only_labels = Filter {
            from: None,
            to: None,
            model: None,
            provider: None,
            host: None,
            executable: None,
            user: None,
            status: None,
            kind: None,
            ..filter.clone()
        };
        if only_labels != Filter::default() {
            return wrong("totals are filtered by time, model, provider, host, executable, user, status and kind");
        }
        self.ask(|session| answer(session, filter, group_by, step, from, to))
    }
}

/// What a filter asks of a group's labels.
struct Wanted(Vec<(Dimension, i64)>);

impl Wanted {
    /// `None` where a label was never seen.
    fn of(db: &Connection, filter: &Filter) -> rusqlite::Result<Option<Self>> {
        let Filter { model, provider, host, executable, user, status, kind, .. } = filter;
        let mut wanted = Vec::new();
        for (dimension, label) in [
            (Dimension::Model, model),
            (Dimension::Provider, provider),
            (Dimension::Host, host),
            (Dimension::Executable, executable),
        ] {
            let Some(label) = label else { continue };
            match texts::find(db, label)? {
                Some(id) => wanted.push((dimension, id)),
                None => return Ok(None),
            }
        }
        wanted.extend(user.map(|user| (Dimension::User, user)));
        wanted.extend(status.map(|status| (Dimension::Status, status.number())));
        wanted.extend(kind.map(|kind| (Dimension::Kind, kind.number())));
        Ok(Some(Self(wanted)))
    }

    fn has(&self, group: &Group) -> bool {
        self.0.iter().all(|(dimension, label)| dimension.of(group) == *label)
    }
}

/// Groups that were looked at: the key of their row and whether they failed, or that they are not wanted.
struct Groups<'a> {
    db: &'a Connection,
    wanted: Wanted,
    group_by: &'a [Dimension],
    known: HashMap<i64, Option<(Key, bool)>>,
}

impl Groups<'_> {
    fn key(&mut self, id: i64) -> rusqlite::Result<Option<(Key, bool)>> {
        let Self { db, wanted, group_by, known } = self;
        let vacant = match known.entry(id) {
            Entry::Occupied(found) => return Ok(*found.get()),
            Entry::Vacant(vacant) => vacant,
        };
        let sql = "SELECT model, provider, host, executable, user, status, kind FROM groups WHERE id = ?1";
        let group = db.prepare_cached(sql)?.query_row([id], |row| rollup::group(row, 0))?;
        let label = |at: usize| group_by.get(at).map_or(0, |dimension| dimension.of(&group));
        let key = wanted.has(&group).then(|| ([label(0), label(1)], group.status == Status::Error.number()));
        Ok(*vacant.insert(key))
    }
}

/// The two tables, read together in the order of time.
struct Cells<'a> {
    tables: [(Width, Rows<'a>, Option<i64>); 2],
}

impl Cells<'_> {
    /// Moves one table on.
    fn advance(&mut self, table: usize) -> rusqlite::Result<()> {
        let (_, rows, next) = &mut self.tables[table];
        *next = match rows.next()? {
            Some(row) => Some(row.get(0)?),
            None => None,
        };
        Ok(())
    }

    /// The table whose row is next, when that begins, and its group.
    fn next(&self) -> Option<(usize, i64, i64)> {
        let start = |table: usize| {
            let (width, _, id) = &self.tables[table];
            id.map(|id| (table, (id >> rollup::GROUP_BITS) * width.nanos(), rollup::group_of(id)))
        };
        match (start(0), start(1)) {
            (Some(one), Some(other)) => Some(if one.1 <= other.1 { one } else { other }),
            (one, other) => one.or(other),
        }
    }
}

fn answer(
    session: &mut Session,
    filter: &Filter,
    group_by: &[Dimension],
    step: Option<i64>,
    from: i64,
    to: i64,
) -> Result<Aggregate, QueryError> {
    let Session { db, texts, .. } = session;
    let texts = SessionTexts::new(db, texts);
    let minute = Width::Minute.nanos();
    let hour = Width::Hour.nanos();
    let rounded_up = |time: i64, unit: i64| time.saturating_sub(1).div_euclid(unit).saturating_add(1);
    let mut answer = Aggregate {
        from: from.div_euclid(minute).saturating_mul(minute),
        to: rounded_up(to, minute).saturating_mul(minute),
        step,
        hourly_before: None,
        rows: Vec::new(),
    };
    let Some(wanted) = Wanted::of(db, filter).map_err(QueryError::Database)? else { return Ok(answer) };
    let mut groups = Groups { db, wanted, group_by, known: HashMap::new() };
    let mut open = Open { at: None, totals: HashMap::new() };
    let mut add_up = || -> Result<(), rusqlite::Error> {
        let mut statements = [
            db.prepare_cached("SELECT * FROM rollup_hours WHERE id >= ?1 AND id < ?2 ORDER BY id")?,
            db.prepare_cached("SELECT * FROM rollup_minutes WHERE id >= ?1 AND id < ?2 ORDER BY id")?,
        ];
        let [hours, minutes] = &mut statements;
        let ids = |unit: i64| {
            let clamp = |bucket: i64| bucket.clamp(-(1 << 38), 1 << 38);
            params_of(clamp(from.div_euclid(unit)), clamp(rounded_up(to, unit)))
        };
        let mut cells = Cells {
            tables: [(Width::Hour, hours.query(ids(hour))?, None), (Width::Minute, minutes.query(ids(minute))?, None)],
        };
        cells.advance(0)?;
        cells.advance(1)?;
        while let Some((table, start, group)) = cells.next() {
            if let Some((key, is_error)) = groups.key(group)? {
                if table == 0 {
                    answer.from = answer.from.min(start);
                    answer.to = answer.to.max(start.saturating_add(hour));
                    answer.hourly_before = Some(start.saturating_add(hour));
                }
                let at = step.map(|step| start.div_euclid(step) * step);
                if at != open.at {
                    open.close(&mut answer.rows, &texts, group_by)?;
                    open.at = at;
                    if answer.rows.len() > MAX_ROWS {
                        return Ok(());
                    }
                }
                if let Some(row) = cells.tables[table].1.get() {
                    open.totals(key, group_by).add(row, is_error)?;
                }
            }
            cells.advance(table)?;
        }
        open.close(&mut answer.rows, &texts, group_by)
    };
    add_up().map_err(QueryError::Database)?;
    if answer.rows.len() > MAX_ROWS {
        return Err(QueryError::Wrong { reason: "there are too many rows: take a longer step, or fewer labels" });
    }
    Ok(answer)
}

fn params_of(from: i64, to: i64) -> [i64; 2] {
    [rollup::bucket_start(from), rollup::bucket_start(to)]
}

/// The rows of the step that is being added up.
struct Open {
    at: Option<i64>,
    totals: HashMap<Key, Totals>,
}

impl Open {
    fn totals(&mut self, key: Key, group_by: &[Dimension]) -> &mut Totals {
        let Self { at: _, totals } = self;
        let key = match totals.len() >= MAX_KEYS && !totals.contains_key(&key) {
            true => [0, 1].map(|at| group_by.get(at).map_or(0, |dimension| dimension.other(key[at]))),
            false => key,
        };
        totals.entry(key).or_default()
    }

    /// Tells what was added up, and begins again.
    fn close(
        &mut self,
        rows: &mut Vec<AggregateRow>,
        texts: &SessionTexts<'_>,
        group_by: &[Dimension],
    ) -> rusqlite::Result<()> {
        let Self { at, totals } = self;
        let begin = rows.len();
        for (key, sums) in totals.drain() {
            let labels = group_by.iter().zip(key).map(|(dimension, label)| shown(texts, *dimension, label));
            rows.push(sums.row(*at, labels.collect::<rusqlite::Result<_>>()?));
        }
        rows[begin..].sort_by(|a, b| b.calls.cmp(&a.calls).then_with(|| a.labels.cmp(&b.labels)));
        Ok(())
    }
}

fn shown(texts: &SessionTexts<'_>, dimension: Dimension, label: i64) -> rusqlite::Result<Option<String>> {
    Ok(match dimension {
        Dimension::Model | Dimension::Provider | Dimension::Host | Dimension::Executable => texts.text(Some(label))?,
        Dimension::User => match label {
            UNKNOWN_USER => None,
            OTHER_USER => Some(OTHER_TEXT.to_owned()),
            user => Some(user.to_string()),
        },
        Dimension::Status => Some(Status::from_number(label).as_str().to_owned()),
        Dimension::Kind => Some(Kind::from_number(label).as_str().to_owned()),
    })
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;
