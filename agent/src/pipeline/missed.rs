//! What the pipeline missed of each process.
//!
//! The totals are in [`PipelineStats`](crate::selfstat::PipelineStats); this says whose they were.

use std::collections::HashMap;

use crate::selfstat::Missed;

/// Processes that something was missed of, at most. The rest is counted together, under number 0.
const MAX_PROCESSES: usize = 4096;

/// The table.
#[derive(Default)]
pub struct MissedTable(HashMap<u32, Missed>);

impl MissedTable {
    /// The counters of a process.
    pub fn of(&mut self, tgid: u32) -> &mut Missed {
        let known = self.0.contains_key(&tgid) || self.0.len() < MAX_PROCESSES;
        self.0.entry(if known { tgid } else { 0 }).or_default()
    }

    /// All of them, by process.
    pub fn all(&self) -> Vec<(u32, Missed)> {
        let mut all: Vec<_> = self.0.iter().map(|(tgid, missed)| (*tgid, *missed)).collect();
        all.sort_unstable_by_key(|(tgid, _)| *tgid);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_bounded_and_forgets_nothing() {
        let mut table = MissedTable::default();
        for tgid in 1..=10_000 {
            table.of(tgid).lost += 1;
        }
        table.of(1).unparsed += 5;
        let all = table.all();
        assert_eq!(all.len(), MAX_PROCESSES + 1);
        assert_eq!(all.iter().map(|(_, missed)| missed.lost).sum::<u64>(), 10_000);
        assert_eq!(all[1], (1, Missed { lost: 1, unparsed: 5, ..Missed::default() }));
    }
}
