//! The rules that the compiler does not check: what the pure modules may name, where `unsafe` and aya may stand,
//! how long a file may be. Each is an invariant of ARCHITECTURE.md.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules that take bytes and time and give events, and touch nothing else.
const PURE: [&str; 14] = [
    "record",
    "record.rs",
    "stream",
    "protocol",
    "llm",
    "infer",
    "call",
    "privacy",
    "metrics",
    "pipeline",
    "serving",
    "selfstat.rs",
    "targets.rs",
    "time.rs",
];

/// What the pure modules must not name.
const IMPURE: [&str; 14] = [
    "tokio",
    "aya",
    "std::fs",
    "fs::",
    "std::net::Tcp",
    "std::net::Udp",
    "UnixStream",
    "std::thread",
    "thread::",
    "Instant::now",
    "SystemTime",
    "std::env",
    "std::process",
    "crate::kernel",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Folders with our code.
const CODE: [&str; 9] = [
    "agent/src",
    "agent/testing/src",
    "agent-common/src",
    "agent-ebpf/src",
    "proto/src",
    "xtask/src",
    "tests/src",
    "tests/fake-cudart/src",
    "tests/fake-nvml/src",
];

/// Every Rust file below a folder (or the file itself), with its content.
fn sources(at: &Path) -> Vec<(PathBuf, String)> {
    if at.is_file() {
        return vec![(at.to_owned(), fs::read_to_string(at).unwrap())];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(at).unwrap_or_else(|error| panic!("{}: {error}", at.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some_and(|e| e == "rs") {
            found.extend(sources(&path));
        }
    }
    found
}

/// What a program wrote from a definition: nobody reads it, and nobody splits it.
fn is_generated(path: &Path) -> bool {
    path.starts_with(root().join("proto/src/generated"))
}

fn agent(part: &str) -> PathBuf {
    root().join("agent/src").join(part)
}

/// Lines of code that are not comments and stand before the unit tests.
fn code(content: &str) -> impl Iterator<Item = (usize, &str)> {
    content
        .lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(n, line)| (n + 1, line))
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_stem().is_some_and(|stem| {
            let stem = stem.to_string_lossy();
            stem == "tests" || stem.ends_with("_tests") || stem == "testing"
        })
}

/// A file's path in its folder of code, which may itself be one named `tests`.
fn below<'a>(path: &'a Path, part: &str) -> &'a Path {
    path.strip_prefix(root().join(part)).unwrap_or(path)
}

fn complain(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn pure_modules_name_nothing_of_the_outside() {
    let found: Vec<String> = PURE.iter().flat_map(|part| naming(&agent(part), &IMPURE, is_test_file)).collect();
    complain("invariant 1: a pure module names the outside world", &found);
}

/// Whether a line names `word` as a path or a part of one, and not inside a longer identifier.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before) && (word.ends_with("::") || !part(after))
    })
}

/// Where a word is named in the files of a folder, but for those that may.
fn naming(folder: &Path, words: &[&str], may: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, content) in sources(folder) {
        if may(&path) {
            continue;
        }
        for (n, line) in code(&content) {
            if let Some(word) = words.iter().find(|word| names(line, word)) {
                found.push(format!("{}:{n}: {word}", path.display()));
            }
        }
    }
    found
}

#[test]
fn only_the_kernel_module_names_aya() {
    let found = naming(&agent(""), &["aya", "aya_log"], |path| path.starts_with(agent("kernel")));
    complain("invariant 1: aya is named outside kernel/", &found);
}

#[test]
fn unsafe_stands_where_it_is_allowed() {
    let found = naming(&agent(""), &["unsafe"], |path| path.starts_with(agent("kernel")));
    complain("invariant 1: unsafe outside kernel/", &found);
    // The stand-ins are libraries for C: only what is called from there needs it.
    for (stand_in, calls) in [("tests/fake-cudart/src", "calls.rs"), ("tests/fake-nvml/src", "calls")] {
        let stand_in = root().join(stand_in);
        let found = naming(&stand_in, &["unsafe"], |path| path.starts_with(stand_in.join(calls)));
        complain("unsafe in a stand-in outside its calls", &found);
    }
}

#[test]
fn only_emit_writes_to_the_rings() {
    let may = |path: &Path| path.ends_with("emit.rs") || path.ends_with("maps.rs");
    let found = naming(&root().join("agent-ebpf/src"), &["DATA", "EVENTS"], may);
    complain("a kernel program writes to a ring by itself", &found);
}

/// Lines before the unit tests that stand at the end of a file. Test modules that are only declared stand among the others.
fn lines_of_code(content: &str) -> usize {
    let lines: Vec<&str> = content.lines().collect();
    let is_test = |at: usize| lines[at].starts_with("#[cfg(test)]");
    let is_declared = |at: usize| lines.get(at + 1).is_some_and(|line| line.starts_with("mod ") && line.ends_with(';'));
    (0..lines.len()).find(|&at| is_test(at) && !is_declared(at)).unwrap_or(lines.len())
}

#[test]
fn files_have_a_size_that_can_be_read() {
    let mut found = Vec::new();
    for part in CODE {
        for (path, content) in sources(&root().join(part)) {
            let lines = lines_of_code(&content);
            let limit = if path.ends_with("main.rs") { 80 } else { 500 };
            if lines > limit && !is_test_file(below(&path, part)) && !is_generated(&path) {
                found.push(format!("{}: {lines} lines, at most {limit}", path.display()));
            }
        }
    }
    complain("a file is too long: split it by what it owns", &found);
}

#[test]
fn every_module_says_what_it_owns() {
    let mut found = Vec::new();
    for part in CODE {
        for (path, content) in sources(&root().join(part)) {
            if !content.starts_with("//!") && !is_test_file(below(&path, part)) && !is_generated(&path) {
                found.push(path.display().to_string());
            }
        }
    }
    complain("a file does not begin with what it is for", &found);
}
