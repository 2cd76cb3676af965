//! What rows become when they are shown: kinds, states, texts.

use std::{cell::RefCell, collections::HashMap};

use rusqlite::Connection;

use super::{calls::optional, texts::UNKNOWN};

/// Texts that a connection keeps in memory.
const MAX_TEXTS: usize = 16 * 1024;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            #[default]
            $($(#[$variant_doc])* $variant = $number),*
        }

        impl $name {
            /// As the contract spells it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),*
                }
            }

            /// The one that is spelt so.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }

            pub(super) fn number(self) -> i64 {
                self as i64
            }

            pub(super) fn from_number(number: i64) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    _ => Self::default(),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

numbered! {
    /// Which end of a connection was captured, in OTLP's numbers.
    Kind {
        /// Not told.
        Unspecified = 0, "unspecified";
        /// Something inside a process.
        Internal = 1, "internal";
        /// The process answered.
        Server = 2, "server";
        /// The process asked.
        Client = 3, "client";
        /// It put a message in a queue.
        Producer = 4, "producer";
        /// It took one out.
        Consumer = 5, "consumer";
    }
}

numbered! {
    /// How a call ended, in OTLP's numbers.
    Status {
        /// Not seen.
        Unset = 0, "unset";
        /// Well.
        Ok = 1, "ok";
        /// It failed, was cancelled or was given up.
        Error = 2, "error";
    }
}

/// Texts by their ids, which never change.
#[derive(Debug, Default)]
pub(super) struct TextsById {
    texts: HashMap<i64, Option<String>>,
    agents: HashMap<i64, Option<String>>,
}

/// Looks texts up while rows are read.
pub(super) struct SessionTexts<'a> {
    db: &'a Connection,
    known: RefCell<&'a mut TextsById>,
}

impl<'a> SessionTexts<'a> {
    pub(super) fn new(db: &'a Connection, known: &'a mut TextsById) -> Self {
        if known.texts.len() > MAX_TEXTS {
            known.texts.clear();
        }
        if known.agents.len() > MAX_TEXTS {
            known.agents.clear();
        }
        Self { db, known: RefCell::new(known) }
    }

    /// The text of a column.
    pub(super) fn text(&self, id: Option<i64>) -> rusqlite::Result<Option<String>> {
        let Some(id) = id.filter(|id| *id != UNKNOWN) else { return Ok(None) };
        let mut known = self.known.borrow_mut();
        look_up(self.db, &mut known.texts, "SELECT text FROM texts WHERE id = ?1", id)
    }

    /// The name of an agent.
    pub(super) fn agent(&self, id: i64) -> rusqlite::Result<Option<String>> {
        let mut known = self.known.borrow_mut();
        look_up(self.db, &mut known.agents, "SELECT agent_id FROM agents WHERE id = ?1", id)
    }
}

fn look_up(
    db: &Connection,
    known: &mut HashMap<i64, Option<String>>,
    sql: &'static str,
    id: i64,
) -> rusqlite::Result<Option<String>> {
    if let Some(text) = known.get(&id) {
        return Ok(text.clone());
    }
    let text: Option<String> = optional(db.prepare_cached(sql)?.query_row([id], |row| row.get(0)))?;
    known.insert(id, text.clone());
    Ok(text)
}
