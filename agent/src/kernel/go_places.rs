//! What the programs are told of the probed places in Go functions.

use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use inferscope_common::go_place::{GoPlace, PLACES_PER_FILE, index};

use super::{
    error::LoadError,
    programs::{Plain, take_map},
};

/// Writes the places of a file's slot.
pub struct GoPlaces {
    map: Array<MapData, Plain<GoPlace>>,
}

impl GoPlaces {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self { map: take_map(ebpf, "GO_PLACES")? })
    }

    /// Sets a file's places, in order, before its probes are attached; false if they could not be set.
    pub fn set(&mut self, slot: u32, places: &[GoPlace]) -> bool {
        places.len() <= PLACES_PER_FILE as usize
            && (0u8..).zip(places).all(|(n, place)| self.map.set(index(slot, n), Plain(*place), 0).is_ok())
    }
}
