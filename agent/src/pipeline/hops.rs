//! Calls that a server makes while it serves one: the second hop of a proxy, or of an engine that has its runner do the work.
//!
//! Owns which server's calls each process has under way, and the parent of a call that was made meanwhile. Where exactly one
//! is under way the other was made for it; where several are, nothing in the kernel's records says which, and none is guessed.

use std::collections::HashMap;

use crate::{
    call::{SpanIds, connection::Begun},
    serving::FlightKey,
};

/// Calls that are remembered, either way. As many as connections.
const MAX_CALLS: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Hops {
    serving: HashMap<u32, HashMap<FlightKey, Begun>>,
    process_of: HashMap<FlightKey, u32>,
    parents: HashMap<FlightKey, SpanIds>,
}

impl Hops {
    /// A process serves a call.
    pub fn serve(&mut self, tgid: u32, key: FlightKey, begun: Begun) {
        if self.process_of.len() < MAX_CALLS {
            self.process_of.insert(key, tgid);
            self.serving.entry(tgid).or_default().insert(key, begun);
        }
    }

    /// A call is over, whichever side's.
    pub fn over(&mut self, key: FlightKey) {
        self.parents.remove(&key);
        if let Some(tgid) = self.process_of.remove(&key)
            && let Some(calls) = self.serving.get_mut(&tgid)
        {
            calls.remove(&key);
            if calls.is_empty() {
                self.serving.remove(&tgid);
            }
        }
    }

    /// The only call that a process serves.
    pub fn only(&self, tgid: u32) -> Option<(FlightKey, Begun)> {
        let calls = self.serving.get(&tgid)?;
        let (key, begun) = calls.iter().next()?;
        (calls.len() == 1).then_some((*key, *begun))
    }

    /// A client's call was made for this one.
    pub fn nest(&mut self, key: FlightKey, parent: SpanIds) {
        if self.parents.len() < MAX_CALLS {
            self.parents.insert(key, parent);
        }
    }

    /// What a client's call was made for.
    pub fn parent(&self, key: FlightKey) -> Option<SpanIds> {
        self.parents.get(&key).copied()
    }
}
