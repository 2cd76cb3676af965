//! Files that are read anew when they change, while the service goes on with what it has.
//!
//! Owns when to look and what a change is: another inode, size, mode or time of change of any of the files. What cannot be loaded
//! keeps what was there before, is said once and tried again; a file that is half written is such a one, and a moment later it
//! is whole.

use std::{
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often the files are looked at, at most.
const INTERVAL: Duration = Duration::from_secs(2);

/// Which files there are, as far as a change shows.
type Stamp = Vec<Option<(u64, u64, u32, i64, i64)>>;

/// A value made from files.
pub struct Fresh<T> {
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> anyhow::Result<T> + Send + Sync>,
    interval: Duration,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    /// Of the files that the value was made from.
    stamp: Stamp,
    /// Of those that could not be used, when that was said.
    refused: Option<Stamp>,
    looked: Instant,
}

impl<T> Fresh<T> {
    /// Loads a value from `files`, which `load` reads.
    pub fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> anyhow::Result<T> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let stamp = stamp(&files);
        let value = Arc::new(load()?);
        let state = Mutex::new(State { value, stamp, refused: None, looked: Instant::now() });
        Ok(Self { files, load: Box::new(load), interval: INTERVAL, state })
    }

    /// A value that no file is behind.
    pub fn fixed(value: T) -> Self
    where
        T: Clone + Send + Sync + 'static,
    {
        let state = State { value: Arc::new(value.clone()), stamp: Vec::new(), refused: None, looked: Instant::now() };
        Self {
            files: Vec::new(),
            load: Box::new(move || Ok(value.clone())),
            interval: INTERVAL,
            state: Mutex::new(state),
        }
    }

    /// The value as of now. Reads files, which are small and local, at most every two seconds.
    pub fn get(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.files.is_empty() || state.looked.elapsed() < self.interval {
            return Arc::clone(&state.value);
        }
        state.looked = Instant::now();
        let stamp = stamp(&self.files);
        if stamp != state.stamp {
            match (self.load)() {
                Ok(value) => {
                    tracing::info!(files = ?self.files, "changed files are in use");
                    state.value = Arc::new(value);
                    (state.stamp, state.refused) = (stamp, None);
                }
                Err(_) if state.refused.as_ref() == Some(&stamp) => {}
                Err(error) => {
                    state.refused = Some(stamp);
                    tracing::error!(files = ?self.files, error = format!("{error:#}"), "changed files cannot be used; going on with the old");
                }
            }
        }
        Arc::clone(&state.value)
    }
}

fn stamp(files: &[PathBuf]) -> Stamp {
    let one = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.size(), metadata.mode(), metadata.ctime(), metadata.ctime_nsec()))
    };
    files.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_is_taken_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        fs::write(&path, "1").unwrap();
        let mut fresh = Fresh::new(vec![path.clone()], {
            let path = path.clone();
            move || Ok(fs::read_to_string(&path)?.parse::<u32>()?)
        })
        .unwrap();
        fresh.interval = Duration::ZERO;
        assert_eq!(*fresh.get(), 1);
        fs::write(&path, "22").unwrap();
        assert_eq!(*fresh.get(), 22);
        fs::write(&path, "broken").unwrap();
        assert_eq!(*fresh.get(), 22);
        fs::remove_file(&path).unwrap();
        assert_eq!(*fresh.get(), 22);
        fs::write(&path, "333").unwrap();
        assert_eq!(*fresh.get(), 333);
        assert!(Fresh::<u32>::new(vec![], || anyhow::bail!("no")).is_err());
    }
}
