//! What the edge is to observe beside the calls: which processes, control groups and how often.
//!
//! Owns what is of interest and when that has changed. Who reads it is `observe`'s.

use super::Serving;

/// What the edge is to observe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Processes that serve calls: who is around them is of interest.
    pub servers: Vec<u32>,
    /// Processes whose counters are of interest.
    pub processes: Vec<u32>,
    /// Control groups whose counters are.
    pub cgroups: Vec<String>,
    /// Whether calls are under way.
    pub active: bool,
    /// Whether a model is being read.
    pub loading: bool,
    /// Counts what may have changed who belongs to an engine: a process of it began, became another program or ended.
    pub changes: u64,
}

impl Serving {
    /// What is of interest now, if that has changed.
    pub fn wish(&mut self) -> Option<Wish> {
        if !std::mem::take(&mut self.stirred) {
            return None;
        }
        let (mut processes, cgroups) = self.machines.watched();
        processes.extend(self.loads.reading());
        let wish = Wish {
            servers: self.machines.servers().to_vec(),
            loading: self.loads.is_reading(self.now),
            processes: processes.into_iter().collect(),
            cgroups,
            active: self.is_active(),
            changes: self.changes,
        };
        (wish != self.wished).then(|| {
            self.wished = wish.clone();
            wish
        })
    }

    pub(super) fn is_active(&self) -> bool {
        !self.held.is_empty() || self.flights.iter().any(|flight| flight.over.is_none())
    }
}
