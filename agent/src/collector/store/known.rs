//! What has an id of its own: agents, the lives of their logs, sources, and kinds of causes.
//!
//! Owns these ids in memory, with how far each life is stored, so that a batch need not ask for them. Whatever is here is
//! also on disk when no transaction is open.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    apply::unsigned,
    submit::{Epoch, Source},
    texts::Texts,
};

/// Sources, agents and lives that are kept in memory; beyond, they are looked up again.
const MAX_KNOWN: usize = 4096;

/// Bits for kinds of causes; the last stands for any other.
const MAX_CAUSE_BITS: u32 = 62;

/// A life of an agent's log, as it is in the transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) id: i64,
    pub(super) high_water: u64,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    /// By digest: the id, and the text of the host.
    sources: HashMap<[u8; 32], (i64, Option<i64>)>,
    agents: HashMap<Arc<str>, i64>,
    lives: HashMap<(i64, Epoch), Life>,
    causes: HashMap<Box<str>, u32>,
}

impl Known {
    /// A transaction was rolled back, and with it new ids and marks.
    pub(super) fn forget(&mut self) {
        let Self { sources, agents, lives, causes } = self;
        sources.clear();
        agents.clear();
        lives.clear();
        causes.clear();
    }

    /// After a transaction: keeps memory within its bounds.
    pub(super) fn trim(&mut self) {
        let Self { sources, agents, lives, causes: _ } = self;
        if sources.len() > MAX_KNOWN {
            sources.clear();
        }
        if agents.len() > MAX_KNOWN {
            agents.clear();
        }
        if lives.len() > MAX_KNOWN {
            lives.clear();
        }
    }

    /// A life is stored further than before.
    pub(super) fn moved(&mut self, agent: i64, epoch: &Epoch, life: Life) {
        self.lives.insert((agent, *epoch), life);
    }

    /// The id of an agent, which is added when it is new.
    pub(super) fn agent(&mut self, db: &Connection, agent_id: &Arc<str>, now: i64) -> rusqlite::Result<i64> {
        if let Some(id) = self.agents.get(agent_id) {
            return Ok(*id);
        }
        db.prepare_cached(
            "INSERT INTO agents (agent_id, first_seen, last_seen) VALUES (?1, ?2, ?2) ON CONFLICT DO NOTHING",
        )?
        .execute(params![agent_id, now])?;
        let sql = "SELECT id FROM agents WHERE agent_id = ?1";
        let id = db.prepare_cached(sql)?.query_row([agent_id], |row| row.get(0))?;
        self.agents.insert(agent_id.clone(), id);
        Ok(id)
    }

    /// The life, when it was heard of before. Nothing is written for a batch that is refused.
    pub(super) fn stored_life(
        &mut self,
        db: &Connection,
        agent_id: &Arc<str>,
        epoch: &Epoch,
    ) -> rusqlite::Result<Option<Life>> {
        if let Some(agent) = self.agents.get(agent_id)
            && let Some(life) = self.lives.get(&(*agent, *epoch))
        {
            return Ok(Some(*life));
        }
        let sql = "SELECT e.id, e.high_water FROM epochs e JOIN agents a ON a.id = e.agent WHERE a.agent_id = ?1 AND e.epoch = ?2";
        db.prepare_cached(sql)?
            .query_row(params![agent_id, epoch], |row| Ok(Life { id: row.get(0)?, high_water: unsigned(row.get(1)?) }))
            .optional()
    }

    /// A life of an agent's log, which is added when it is new.
    pub(super) fn life(&mut self, db: &Connection, agent: i64, epoch: &Epoch, now: i64) -> rusqlite::Result<Life> {
        if let Some(life) = self.lives.get(&(agent, *epoch)) {
            return Ok(*life);
        }
        db.prepare_cached(
            "INSERT INTO epochs (agent, epoch, high_water, first_seen, last_seen) VALUES (?1, ?2, 0, ?3, ?3) \
                 ON CONFLICT DO NOTHING",
        )?
        .execute(params![agent, epoch, now])?;
        let sql = "SELECT id, high_water FROM epochs WHERE agent = ?1 AND epoch = ?2";
        let life = db
            .prepare_cached(sql)?
            .query_row(params![agent, epoch], |row| Ok(Life { id: row.get(0)?, high_water: unsigned(row.get(1)?) }))?;
        self.lives.insert((agent, *epoch), life);
        Ok(life)
    }

    /// The id of a source, which is added when it is new, and of its host's name.
    pub(super) fn source(
        &mut self,
        db: &Connection,
        texts: &mut Texts,
        source: &Source,
    ) -> rusqlite::Result<(i64, Option<i64>)> {
        let Source { resource, scope, host, digest } = source;
        if let Some(known) = self.sources.get(digest) {
            return Ok(*known);
        }
        let host = texts.maybe(db, host.as_deref())?;
        db.prepare_cached(
            "INSERT INTO sources (digest, resource, scope, host) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![digest, &resource[..], &scope[..], host])?;
        let sql = "SELECT id FROM sources WHERE digest = ?1";
        let id = db.prepare_cached(sql)?.query_row([digest], |row| row.get(0))?;
        self.sources.insert(*digest, (id, host));
        Ok((id, host))
    }

    /// The bit of a kind of cause, which gets one when it is new and some are left.
    pub(super) fn cause(&mut self, db: &Connection, kind: &str) -> rusqlite::Result<u32> {
        if let Some(bit) = self.causes.get(kind) {
            return Ok(*bit);
        }
        let kind = &kind[..kind.floor_char_boundary(64)];
        let find = "SELECT bit FROM causes WHERE kind = ?1";
        let bit = match db.prepare_cached(find)?.query_row([kind], |row| row.get(0)).optional()? {
            Some(bit) => bit,
            None => {
                let next: u32 = db.query_row("SELECT coalesce(max(bit) + 1, 0) FROM causes", [], |row| row.get(0))?;
                if next >= MAX_CAUSE_BITS {
                    return Ok(MAX_CAUSE_BITS);
                }
                db.execute("INSERT INTO causes (bit, kind) VALUES (?1, ?2)", params![next, kind])?;
                next
            }
        };
        self.causes.insert(kind.into(), bit);
        Ok(bit)
    }
}
