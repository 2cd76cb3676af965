//! The fuzz targets with their seeds, cut and changed: on stable Rust, within seconds. `cargo xtask fuzz` goes on from here.

use inferscope_testing::{
    alloc::Counting,
    fuzz::{self, Target},
};
use proptest::{prelude::*, sample::Index};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn seeds_and_their_beginnings_pass() {
    for Target { run, seeds, .. } in fuzz::ALL {
        run(&[]);
        for seed in seeds() {
            run(&seed);
            (0..seed.len()).step_by(1 + seed.len() / 50).for_each(|end| run(&seed[..end]));
        }
    }
}

#[test]
fn every_target_has_a_name_and_seeds_of_its_own() {
    let names: std::collections::BTreeSet<_> = fuzz::ALL.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), fuzz::ALL.len());
    assert!(fuzz::ALL.iter().all(|target| (target.seeds)().iter().all(|seed| !seed.is_empty())));
}

/// What a fuzzer does to an input.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Remove(Index, u8),
    Insert(Index, Vec<u8>),
    Repeat(Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 1u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (at(), any::<u8>()).prop_map(|(at, len)| Change::Remove(at, len)),
        (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), any::<u8>()).prop_map(|(at, len)| Change::Repeat(at, len)),
    ]
}

fn changed(mut input: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if input.is_empty() {
            break;
        }
        let len = input.len();
        let to = |at: usize, n: u8| at..(at + usize::from(n)).min(len);
        match change {
            Change::Flip(at, bits) => *at.get_mut(&mut input) ^= bits,
            Change::Remove(at, n) => drop(input.drain(to(at.index(len), *n))),
            Change::Insert(at, bytes) => drop(input.splice(at.index(len)..at.index(len), bytes.iter().copied())),
            Change::Repeat(at, n) => input.extend_from_within(to(at.index(len), *n)),
        }
    }
    input
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn changed_seeds_pass(target in any::<Index>(), seed in any::<Index>(), changes in prop::collection::vec(change(), 1..8)) {
        let target = target.get(&fuzz::ALL);
        let seeds = (target.seeds)();
        (target.run)(&changed(seed.get(&seeds).clone(), &changes));
    }

    #[test]
    fn noise_passes(target in any::<Index>(), noise in prop::collection::vec(any::<u8>(), 0..300)) {
        (target.get(&fuzz::ALL).run)(&noise);
    }
}
