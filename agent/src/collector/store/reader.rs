//! Connections that read, and what a query may cost.
//!
//! Owns the pool and the time limit. A query sees one state of the database from its begin to its end, and never waits for
//! the writer nor makes it wait.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::{Connection, ffi::ErrorCode};

use super::{codec::Unpacker, error::QueryError, schema, views::TextsById};

/// Steps of SQLite's machine between two looks at the clock: some 100 us.
const STEPS: i32 = 10_000;

/// Asks questions. Blocks the thread that asks, for the time limit at most.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: Arc<Pool>,
}

struct Pool {
    path: PathBuf,
    limit: Duration,
    state: Mutex<Free>,
    given_back: Condvar,
}

struct Free {
    idle: Vec<Session>,
    /// Connections that may be opened beside the idle ones.
    left: usize,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("path", &self.path).finish_non_exhaustive()
    }
}

/// One connection, with what it has read that does not change.
pub(super) struct Session {
    pub(super) db: Connection,
    pub(super) unpacker: Unpacker,
    pub(super) texts: TextsById,
}

impl Reader {
    /// With at most `connections`, each query in at most `limit`.
    pub(super) fn new(path: PathBuf, connections: usize, limit: Duration) -> Self {
        let state = Mutex::new(Free { idle: Vec::new(), left: connections.max(1) });
        Self { pool: Arc::new(Pool { path, limit, state, given_back: Condvar::new() }) }
    }

    /// Asks within one transaction.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&mut Session) -> Result<T, QueryError>) -> Result<T, QueryError> {
        let deadline = Instant::now() + self.pool.limit;
        let mut taken = Taken { session: Some(self.pool.take(deadline)?), pool: &self.pool };
        let Some(session) = taken.session.as_mut() else { return Err(QueryError::Busy) };
        session
            .db
            .progress_handler(STEPS, Some(move || Instant::now() >= deadline))
            .and_then(|()| session.db.execute_batch("BEGIN"))
            .map_err(QueryError::Database)?;
        let answer = question(session);
        let ended = session.db.execute_batch("ROLLBACK");
        match answer {
            Err(QueryError::Database(error)) if is_interrupted(&error) => {
                Err(QueryError::TooSlow { limit: self.pool.limit })
            }
            Ok(answer) => ended.map(|()| answer).map_err(QueryError::Database),
            error => error,
        }
    }
}

fn is_interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

impl Pool {
    fn take(&self, deadline: Instant) -> Result<Session, QueryError> {
        let mut free = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(session) = free.idle.pop() {
                return Ok(session);
            }
            if free.left > 0 {
                free.left -= 1;
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(QueryError::Busy);
            }
            free = self.given_back.wait_timeout(free, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(free);
        let session = schema::open_reader(&self.path).map_err(QueryError::Database).map(|db| Session {
            db,
            unpacker: Unpacker::default(),
            texts: TextsById::default(),
        });
        if session.is_err() {
            self.give_back(None);
        }
        session
    }

    /// One that is in a state that nobody knows is not given out again.
    fn give_back(&self, session: Option<Session>) {
        let mut free = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match session.filter(|session| session.db.is_autocommit()) {
            Some(session) => free.idle.push(session),
            None => free.left += 1,
        }
        self.given_back.notify_one();
    }
}

/// A connection that is given back, whatever happens to the question.
struct Taken<'a> {
    session: Option<Session>,
    pool: &'a Pool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Self { session, pool } = self;
        pool.give_back(session.take());
    }
}
