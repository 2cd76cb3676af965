//! The log on a file system that goes down, or fails, at every single call.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use bytes::Bytes;
use rustix::io::Errno;

use super::{
    queue::Offered,
    sim::{Plan, SimFs},
    *,
};

/// What is known to the world of the items of every life.
#[derive(Debug, Default)]
struct World {
    /// What was given a seq, by epoch and seq: everything that may ever be read there.
    given: HashMap<(Epoch, u64), Vec<Bytes>>,
    /// What was told to be durable, or was read.
    known: HashMap<(Epoch, u64), Bytes>,
    /// What each destination was told to have acknowledged durably, by its name: at least, and at most.
    cursors: BTreeMap<&'static str, (Epoch, u64, u64)>,
    items: u64,
}

const NAMES: [&str; 2] = ["ship", "otlp"];

fn settings(policy: FullPolicy) -> WalSettings {
    WalSettings { segment_bytes: 400, max_bytes: 16 << 10, policy, ..WalSettings::new("/d/wal") }
}

fn open(fs: &SimFs, key: Option<&MasterKey>) -> Result<(Log, Arc<Shared>, OpenReport), WalError> {
    open_with(Arc::new(fs.clone()), settings(FullPolicy::RefuseNew).fitted(), key.cloned())
}

impl World {
    fn append(&mut self, log: &mut Log, shared: &Shared, n: u64) {
        let epoch = shared.epoch;
        for _ in 0..n {
            self.items += 1;
            let payload = Bytes::from(format!("item {} {}", self.items, "y".repeat((self.items * 7 % 40) as usize)));
            self.given.entry((epoch, log.next_seq())).or_default().push(payload.clone());
            log.append_batch([Offered { kind: Kind::Span, payload }]);
        }
    }

    fn know(&mut self, epoch: Epoch, seq: u64, payload: &Bytes) {
        let before = self.known.entry((epoch, seq)).or_insert_with(|| payload.clone());
        assert_eq!(before, payload, "seq {seq} was given other bytes");
    }

    /// Everything up to `through` was told to be durable. Of what this life gave, the last under a seq is what counts.
    fn durable(&mut self, epoch: Epoch, from: u64, through: u64) {
        for seq in from..=through {
            if let Some(payload) = self.given.get(&(epoch, seq)).and_then(|all| all.last()).cloned() {
                self.know(epoch, seq, &payload);
            }
        }
    }

    fn read(&mut self, epoch: Epoch, run: &Run) {
        let gaps = run.gaps.iter().flat_map(|gap| gap.first_seq..=gap.last_seq);
        let mut all: Vec<u64> = run.items.iter().map(|item| item.seq).chain(gaps.clone()).collect();
        all.sort_unstable();
        assert_eq!(all, (run.first_seq..=run.last_seq).collect::<Vec<_>>(), "every seq once");
        for item in &run.items {
            let given = self.given.get(&(epoch, item.seq)).map(Vec::as_slice).unwrap_or_default();
            assert!(given.contains(&item.payload), "seq {} was never that", item.seq);
            self.know(epoch, item.seq, &item.payload);
        }
        for gap in &run.gaps {
            for seq in gap.first_seq..=gap.last_seq {
                let lost = self.known.get(&(epoch, seq));
                assert!(lost.is_none() || gap.reason == GapReason::Acknowledged, "seq {seq} was durable: {gap:?}");
            }
        }
    }

    /// Reads all there is for a destination; `false` when the machine is down.
    fn read_all(&mut self, reader: &mut Reader, epoch: Epoch) -> bool {
        // Each error is one that the plan wants, and there are few.
        for _ in 0..100 {
            match reader.next(300, 5) {
                Ok(Some(run)) => self.read(epoch, &run),
                Ok(None) => return true,
                Err(_) => {}
            }
        }
        false
    }

    fn advance(&mut self, reader: &mut Reader, name: &'static str, epoch: Epoch, through: u64) {
        let entry = self.cursors.entry(name).or_insert((epoch, 0, 0));
        if entry.0 != epoch {
            *entry = (epoch, 0, 0);
        }
        entry.2 = entry.2.max(through);
        if reader.advance(through).is_ok() {
            entry.1 = entry.1.max(through);
        }
    }
}

/// A life of an agent: some commits, readers of two paces, a clean end. Ends early when the machine goes down.
fn live(world: &mut World, fs: &SimFs, key: Option<&MasterKey>) {
    // An error of a plan may hit what there is no log without; the service manager tries again.
    let opened = (0..8).find_map(|_| open(fs, key).ok());
    let Some((mut log, shared, _)) = opened else {
        assert!(fs.is_down(), "the log cannot be opened");
        return;
    };
    let epoch = shared.epoch;
    let mut readers = NAMES.map(|name| (name, Reader::new(Arc::clone(&shared), name, Start::Oldest).unwrap()));
    for round in 1..=5u64 {
        let before = shared.table().durable;
        world.append(&mut log, &shared, round + 1);
        let committed = (0..8).any(|_| {
            let committed = log.commit().is_ok();
            let through = shared.table().durable;
            world.durable(epoch, before + 1, through);
            committed
        });
        if !committed {
            assert!(fs.is_down(), "the log cannot be written");
            return;
        }
        for (at, (name, reader)) in readers.iter_mut().enumerate() {
            if !world.read_all(reader, epoch) {
                assert!(fs.is_down(), "the log cannot be read");
                return;
            }
            let behind = [1, 4 * round][at];
            world.advance(reader, name, epoch, (reader.position() - 1).saturating_sub(behind));
        }
    }
}

/// What must hold when the machine is up again.
fn check(world: &mut World, fs: &SimFs, key: Option<&MasterKey>) {
    let (mut log, shared, report) = open(fs, key).expect("what is in the directory is no reason to fail");
    let epoch = shared.epoch;
    let highest = world.known.keys().filter(|(known, _)| *known == epoch).map(|(_, seq)| *seq).max();
    if let Some(old) = world.known.keys().map(|(known, _)| *known).next() {
        assert_eq!(epoch, old, "the log's life goes on: {report:?}");
    }
    assert!(report.next_seq > highest.unwrap_or(0), "{report:?}");
    for name in NAMES {
        let mut reader = Reader::new(Arc::clone(&shared), name, Start::Oldest).unwrap();
        if let Some((_, least, most)) = world.cursors.get(name).filter(|cursor| cursor.0 == epoch) {
            let through = reader.acknowledged();
            assert!((*least..=*most).contains(&through), "{name} is at {through}, not {least} to {most}: {report:?}");
        }
        assert!(world.read_all(&mut reader, epoch), "{name} cannot be read");
        assert_eq!(reader.position(), report.next_seq);
    }
    let before = shared.table().durable;
    world.append(&mut log, &shared, 3);
    log.commit().expect("nothing fails any more");
    world.durable(epoch, before + 1, shared.table().durable);
    let mut reader = Reader::new(Arc::clone(&shared), NAMES[0], Start::Oldest).unwrap();
    reader.rewind(report.next_seq).unwrap();
    assert!(world.read_all(&mut reader, epoch));
    assert_eq!(reader.position(), report.next_seq + 3);
}

/// Two lives, and whatever comes of the plan; then the machine goes down for good and comes up again, twice.
fn run(seed: u64, plan: Plan, key: Option<&MasterKey>) -> u64 {
    let fs = SimFs::new(seed, plan);
    let mut world = World::default();
    live(&mut world, &fs, key);
    live(&mut world, &fs, key);
    let calls = fs.calls();
    let up = fs.restarted();
    check(&mut world, &up, key);
    check(&mut world, &up.restarted(), key);
    calls
}

/// More with `INFERSCOPE_WAL_SEEDS=100`.
fn seeds() -> std::ops::Range<u64> {
    1..1 + std::env::var("INFERSCOPE_WAL_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn every_call(plan: fn(u64) -> Plan) {
    let key = MasterKey::of(7);
    for key in [None, Some(&key)] {
        for seed in seeds() {
            let calls = run(seed, Plan::Nothing, key);
            assert!(calls > 100, "{calls} calls are no test");
            for call in 1..=calls {
                let at = format!("seed {seed}, {:?}, encrypted: {}", plan(call), key.is_some());
                let result = std::panic::catch_unwind(|| run(seed, plan(call), key));
                assert!(result.is_ok(), "{at}");
            }
        }
    }
}

#[test]
fn what_was_durable_survives_a_crash_at_every_call() {
    every_call(Plan::Crash);
}

#[test]
fn a_call_that_fails_once_costs_nothing() {
    every_call(|call| Plan::Fail(call, 1, Errno::IO));
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_nothing() {
    every_call(|call| Plan::Fail(call, 4, Errno::NOSPC));
}

#[test]
fn nothing_is_left_over_when_nothing_fails() {
    let fs = SimFs::new(1, Plan::Nothing);
    let mut world = World::default();
    live(&mut world, &fs, None);
    live(&mut world, &fs, None);
    let strange =
        |path: &Path| !(path.ends_with("lock") || path.ends_with("identity") || path.starts_with("/d/wal/cursors"));
    let segments: Vec<_> = fs.paths().into_iter().filter(|path| strange(path)).collect();
    assert!(segments.iter().all(|path| path.starts_with("/d/wal/segments")), "{segments:?}");
}
