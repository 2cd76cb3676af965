//! The capture matrix: real programs, with the agent there before their connections were opened and after, and every
//! byte of plaintext compared with what the other end of the connection saw.
//!
//! A cell passes if the subject's streams in a recording equal the truth ([`truth`]) byte for byte, in both directions,
//! each once and with the source that is expected, and if the recording, replayed, gives every call whole. A cell that
//! cannot pass says why and what is there instead, and that is checked too: one that begins to work fails until the table
//! says so. `docs/capture-matrix.md` is this table, and [`doc`] holds them together.
//!
//! To add a program: a line in [`subjects::ALL`] or [`subjects::FULL`]. A client is a command that makes the calls of
//! `python/plan.py`, one after the other, against the base URL that it is given; the command for one more language is a
//! function of [`subjects`] and the program it runs. What needs a download of its own goes under `FULL`.

mod bodies;
mod doc;
mod run;
mod streams;
mod subjects;
mod truth;

use crate::scenario::Scenarios;
use subjects::{ALL, FULL, Subject};

/// What is there, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Every byte, and every call from these.
    Exact,
    /// Every byte and every call, of which parts of the heads are not known, with the reason.
    Partial(&'static str),
    /// Nothing, with the reason.
    Nothing(&'static str),
    /// Nothing, and the ledger names the process with what it moved unread; with the reason.
    Unread(&'static str),
}

/// When the agent comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Before the subject starts.
    Before,
    /// When the subject's connection is open and has carried an exchange.
    After,
}

impl Agent {
    const ALL: [Self; 2] = [Self::Before, Self::After];

    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

impl Subject {
    fn expect(&self, agent: Agent) -> Expect {
        match agent {
            Agent::Before => self.before,
            Agent::After => self.after,
        }
    }
}

/// Adds the matrix.
pub fn add(all: &mut Scenarios) {
    for (suite, subjects) in [("capture", ALL), ("capture_full", FULL)] {
        for subject in subjects {
            for agent in Agent::ALL {
                let name = format!("{suite}::{}::{}", subject.name, agent.name());
                all.add(name, subject.needs, move || run::cell(subject, agent));
            }
        }
    }
    all.add("capture::document", &[], doc::check);
}
