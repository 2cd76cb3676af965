//! `docs/capture-matrix.md` says what the table says.

use std::{collections::BTreeMap, env, fmt::Write as _, fs};

use anyhow::{Context as _, Result, ensure};
use inferscope_tests::place;

use super::{
    Agent, Expect,
    subjects::{ALL, FULL, Role, Subject},
};

/// Around the part of the document that is made from the table.
const BEGIN: &str = "<!-- The table, made from tests/e2e/capture/subjects.rs: INFERSCOPE_WRITE_DOCS=1 writes it. -->\n";
const END: &str = "<!-- End of the table. -->\n";

/// With this set to 1, the document is written instead of checked.
const WRITE: &str = "INFERSCOPE_WRITE_DOCS";

/// Compares the document with the table, or brings it up to date.
pub fn check() -> Result<()> {
    let path = place::workspace().join("docs/capture-matrix.md");
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let (before, rest) = text.split_once(BEGIN).context("the document has no beginning of the table")?;
    let (_, after) = rest.split_once(END).context("the document has no end of the table")?;
    let want = format!("{before}{BEGIN}{}{END}{after}", table());
    if env::var_os(WRITE).is_some_and(|value| value == "1") {
        fs::write(path, want)?;
        return Ok(());
    }
    ensure!(text == want, "{} is not what the table says: run this with {WRITE}=1", path.display());
    Ok(())
}

/// The table and its notes, in Markdown.
fn table() -> String {
    let mut notes = Notes::default();
    let mut text =
        String::from("\n| program | TLS library | side | agent first | connection first |\n|---|---|---|---|---|\n");
    for (subjects, more) in [(ALL, ""), (FULL, " (`--suite capture-full`)")] {
        for subject in subjects {
            let Subject { title, library, role, .. } = subject;
            let side = if let Role::Server { .. } = role { "server" } else { "client" };
            let [first, last] = Agent::ALL.map(|agent| notes.word(subject.expect(agent)));
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {title}{more} | {library} | {side} | {first} | {last} |");
        }
    }
    for (reason, number) in notes.in_order() {
        let _ = write!(text, "\n{number}. {reason}.");
    }
    text.push_str("\n\n");
    text
}

/// Reasons, numbered in the order in which they come up.
#[derive(Default)]
struct Notes(BTreeMap<&'static str, usize>);

impl Notes {
    fn word(&mut self, expect: Expect) -> String {
        let (word, reason) = match expect {
            Expect::Exact => return "exact".to_owned(),
            Expect::Partial(reason) => ("bytes exact, calls `partial_start`", reason),
            Expect::Nothing(reason) => ("nothing", reason),
            Expect::Unread(reason) => ("nothing, and the ledger says so", reason),
        };
        let next = self.0.len() + 1;
        let number = self.0.entry(reason).or_insert(next);
        format!("{word} ({number})")
    }

    fn in_order(self) -> Vec<(&'static str, usize)> {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_by_key(|(_, number)| *number);
        all
    }
}
