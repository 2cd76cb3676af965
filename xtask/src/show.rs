//! Talking to whoever runs a task.

use std::io::Write as _;

/// Prints a line on standard output.
pub fn say(line: &str) {
    // A closed standard output is no reason to stop.
    let _closed = writeln!(std::io::stdout().lock(), "{line}");
}
