//! The values of a label that has no bound of its own: the commonest get series, the others are one.
//!
//! Owns the choice. Programs name their models as they like, and whoever sends a request chooses its `Host`: a label with
//! such values would make a series for each. The first values to come get a place. One that finds none is counted, and
//! takes the place of the rarest when it is clearly commoner than that; counts age, so that what was common once makes
//! room. The candidates are bounded too, as in the Space-Saving summary (Metwally, Agrawal, El Abbadi 2005): a newcomer
//! replaces the rarest candidate and inherits its count as a possible error, which is not held to its favour here.

use std::{collections::HashMap, sync::Arc};

/// What the values without a place are called.
pub const OTHER: &str = "other";

/// Longest value of a label, bytes: names of models and hosts are shorter, and a payload may hold anything.
pub const MAX_VALUE: usize = 128;

/// Candidates for each place.
const CANDIDATES: usize = 2;

/// A candidate takes a place when it has more than twice the rarest's count, and so many more: places change hands
/// seldom, because each change ends series.
const MARGIN: u64 = 8;

/// After so many choices all counts are halved.
const AGEING: u64 = 10_000;

/// What a value is to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The value itself, or [`OTHER`].
    pub value: Arc<str>,
    /// Whether it found no place.
    pub folded: bool,
    /// The value that lost its place to it: its series are over.
    pub evicted: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Candidate {
    count: u64,
    /// How much of the count may be others'.
    error: u64,
}

/// The values of one label.
#[derive(Debug)]
pub struct Top {
    places: usize,
    shown: HashMap<Arc<str>, u64>,
    candidates: HashMap<Arc<str>, Candidate>,
    choices: u64,
    other: Arc<str>,
}

impl Top {
    /// A label with at most `places` values and [`OTHER`].
    pub fn new(places: usize) -> Self {
        let (shown, candidates) = Default::default();
        Self { places, shown, candidates, choices: 0, other: OTHER.into() }
    }

    /// What `value` is to be called this time.
    pub fn choose(&mut self, value: &str) -> Choice {
        self.age();
        let value = cut(value);
        if let Some((known, _)) = self.shown.get_key_value(value) {
            let known = Arc::clone(known);
            *self.shown.entry(Arc::clone(&known)).or_default() += 1;
            return Choice { value: known, folded: false, evicted: None };
        }
        let value: Arc<str> = value.into();
        if self.shown.len() < self.places {
            self.shown.insert(Arc::clone(&value), 1);
            return Choice { value, folded: false, evicted: None };
        }
        let sure = self.count(&value);
        let rarest = self
            .shown
            .iter()
            .min_by_key(|(value, count)| (**count, Arc::clone(value)))
            .map(|(value, count)| (Arc::clone(value), *count));
        match rarest {
            Some((rarest, count)) if sure > count * 2 + MARGIN => {
                self.candidates.remove(&value);
                self.shown.remove(&rarest);
                self.candidates.insert(Arc::clone(&rarest), Candidate { count, error: 0 });
                self.shown.insert(Arc::clone(&value), sure);
                Choice { value, folded: false, evicted: Some(rarest) }
            }
            _ => Choice { value: Arc::clone(&self.other), folded: true, evicted: None },
        }
    }

    /// Counts a candidate; how often it came for certain.
    fn count(&mut self, value: &Arc<str>) -> u64 {
        if !self.candidates.contains_key(value) && self.candidates.len() >= self.places * CANDIDATES {
            let rarest = self.candidates.iter().min_by_key(|(value, candidate)| (candidate.count, Arc::clone(value)));
            let Some((rarest, Candidate { count, .. })) = rarest.map(|(value, count)| (Arc::clone(value), *count))
            else {
                return 0;
            };
            self.candidates.remove(&rarest);
            self.candidates.insert(Arc::clone(value), Candidate { count, error: count });
        }
        let candidate = self.candidates.entry(Arc::clone(value)).or_default();
        candidate.count += 1;
        candidate.count - candidate.error
    }

    fn age(&mut self) {
        self.choices += 1;
        if !self.choices.is_multiple_of(AGEING) {
            return;
        }
        self.shown.values_mut().for_each(|count| *count /= 2);
        self.candidates.retain(|_, candidate| {
            (candidate.count, candidate.error) = (candidate.count / 2, candidate.error / 2);
            candidate.count > 0
        });
    }
}

/// The beginning of `value` that a label may have.
pub fn cut(value: &str) -> &str {
    cut_to(value, MAX_VALUE)
}

/// The beginning of `value`, of at most `bytes`.
pub(super) fn cut_to(value: &str, bytes: usize) -> &str {
    &value[..value.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(top: &mut Top, value: &str) -> bool {
        !top.choose(value).folded
    }

    #[test]
    fn the_first_have_places_and_the_others_are_one() {
        let mut top = Top::new(2);
        assert!(shown(&mut top, "a") && shown(&mut top, "b"));
        assert_eq!(&*top.choose("c").value, OTHER);
        assert_eq!(&*top.choose("a").value, "a");
    }

    #[test]
    fn what_is_clearly_commoner_takes_the_rarest_s_place() {
        let mut top = Top::new(2);
        for _ in 0..5 {
            top.choose("a");
        }
        top.choose("b");
        let evicted: Vec<_> = (0..40).filter_map(|_| top.choose("c").evicted).collect();
        assert_eq!(evicted, ["b".into()]);
        assert!(shown(&mut top, "a") && shown(&mut top, "c") && !shown(&mut top, "b"));
    }

    #[test]
    fn values_that_come_once_never_take_a_place_nor_room() {
        let mut top = Top::new(3);
        for value in ["a", "b", "c"] {
            top.choose(value);
        }
        for n in 0..50_000 {
            assert!(top.choose(&format!("model-{n}")).folded);
        }
        assert!(top.candidates.len() <= 3 * CANDIDATES && top.shown.len() == 3);
    }

    #[test]
    fn what_was_common_once_makes_room() {
        let mut top = Top::new(1);
        for _ in 0..5_000 {
            top.choose("old");
        }
        let mut n = 0;
        while top.choose("new").folded {
            n += 1;
            assert!(n < 2 * AGEING, "the old value keeps its place for ever");
        }
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = "ü".repeat(MAX_VALUE);
        assert_eq!(cut(&long).len(), MAX_VALUE);
        assert_eq!(cut(&format!("x{long}")).len(), MAX_VALUE - 1);
        assert_eq!(&*Top::new(1).choose(&long).value, cut(&long));
    }
}
