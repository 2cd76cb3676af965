//! What userspace tells the programs while they run: which streams to copy, and what need not be looked at.
//!
//! Owns the maps that the programs read for it. Leaves to others: what is decided (`pipeline`). An answer goes out as soon as
//! it is known, because what it is about is still on its way. One that finds no room costs copying and nothing else.

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use inferscope_common::{
    join::{Joined, Place},
    targets::DullPath,
    verdict::Verdict,
};

use super::{
    error::LoadError,
    programs::{Plain, take_map},
};

/// Tells the programs.
pub struct Answers {
    verdicts: HashMap<MapData, u64, Plain<Verdict>>,
    dull_paths: HashMap<MapData, Plain<DullPath>, u32>,
    joined: HashMap<MapData, Plain<Place>, Plain<Joined>>,
}

impl Answers {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            verdicts: take_map(ebpf, "VERDICTS")?,
            dull_paths: take_map(ebpf, "DULL_PATHS")?,
            joined: take_map(ebpf, "JOINED")?,
        })
    }

    /// Answers about a stream.
    pub fn answer(&mut self, address: u64, verdict: Verdict) {
        let _ = self.verdicts.insert(address, Plain(verdict), 0);
    }

    /// Says which stream's gate decides for another; `None` takes that back.
    pub fn join(&mut self, stream: Place, with: Option<Joined>) {
        let _ = match with {
            Some(joined) => self.joined.insert(Plain(stream), Plain(joined), 0),
            None => self.joined.remove(&Plain(stream)),
        };
    }

    /// Says that requests for a path need not be copied.
    pub fn learn(&mut self, path: DullPath) {
        let _ = self.dull_paths.insert(Plain(path), 1, 0);
    }
}
