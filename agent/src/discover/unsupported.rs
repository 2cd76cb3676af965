//! Files that have TLS functions and cannot be probed, with the reason: what `doctor` shows of them.

use std::collections::BTreeMap;

/// Files that are remembered. A machine with more programs of an old Go is told of these.
const MAX_FILES: usize = 256;

/// A file that cannot be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedFile {
    /// Path by which it was found.
    pub path: String,
    /// Whose TLS functions it has.
    pub library: String,
    /// Why they are not probed.
    pub why: String,
}

/// The list, by path.
#[derive(Debug, Default)]
pub struct Unsupported(BTreeMap<String, UnsupportedFile>);

impl Unsupported {
    /// Enters a file; false if the list is full. A file that was upgraded has a new reason, or is not entered again.
    pub fn add(&mut self, path: &str, library: &str, why: &str) -> bool {
        if self.0.len() >= MAX_FILES && !self.0.contains_key(path) {
            return false;
        }
        let file = UnsupportedFile { path: path.to_owned(), library: library.to_owned(), why: why.to_owned() };
        self.0.insert(path.to_owned(), file);
        true
    }

    /// Every file, for reports.
    pub fn files(&self) -> Vec<UnsupportedFile> {
        self.0.values().cloned().collect()
    }
}
