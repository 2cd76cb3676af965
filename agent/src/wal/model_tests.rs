//! The log against a list of items, in any order of what can be done with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    queue::Offered,
    sim::{Plan, SimFs},
    *,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u16, usize)>),
    Commit,
    Read {
        reader: usize,
        max_bytes: usize,
        max_items: usize,
    },
    Advance {
        reader: usize,
        back: u64,
    },
    Rewind {
        reader: usize,
        back: u64,
    },
    Forget {
        reader: usize,
    },
    Reopen {
        key: bool,
    },
    /// The disk fails a few calls from here on.
    Fail {
        after: u64,
        calls: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reader = 0..NAMES.len();
    let step = prop_oneof![
        6 => prop::collection::vec((1u16..=4, 0usize..120), 1..8).prop_map(Step::Append),
        5 => Just(Step::Commit),
        6 => (reader.clone(), 1usize..600, 1usize..9)
            .prop_map(|(reader, max_bytes, max_items)| Step::Read { reader, max_bytes, max_items }),
        4 => (reader.clone(), 0u64..6).prop_map(|(reader, back)| Step::Advance { reader, back }),
        2 => (reader.clone(), 0u64..12).prop_map(|(reader, back)| Step::Rewind { reader, back }),
        1 => reader.prop_map(|reader| Step::Forget { reader }),
        2 => any::<bool>().prop_map(|key| Step::Reopen { key }),
        1 => (0u64..6, 1u64..5).prop_map(|(after, calls)| Step::Fail { after, calls }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the log must be: all items that were committed, and where each destination is.
#[derive(Debug, Default)]
struct Model {
    /// Items from seq 1 on, the durable ones first.
    items: Vec<(Kind, Bytes)>,
    durable: u64,
    through: BTreeMap<&'static str, u64>,
}

struct Open {
    log: Log,
    shared: Arc<Shared>,
    readers: Vec<Reader>,
}

fn open(fs: &SimFs, key: bool) -> Open {
    let settings = WalSettings { segment_bytes: 500, max_bytes: 1 << 20, ..WalSettings::new("/d/wal") }.fitted();
    let key = key.then(|| MasterKey::of(9));
    let (log, shared, report) = open_with(Arc::new(fs.clone()), settings, key).unwrap();
    assert_eq!(report.findings, []);
    let readers = NAMES.map(|name| Reader::new(Arc::clone(&shared), name, Start::Oldest).unwrap());
    Open { log, shared, readers: readers.into() }
}

impl Model {
    /// A run is a part of the list; what is missing in it has been acknowledged by this destination.
    fn check(&self, name: &str, next: u64, run: &Run, max_bytes: usize, max_items: usize) -> Result<(), TestCaseError> {
        prop_assert_eq!(run.first_seq, next);
        prop_assert!(run.last_seq <= self.durable && run.items.len() <= max_items);
        let size: usize = run.items.iter().map(|item| item.payload.len() + format::FRAME_BYTES).sum();
        prop_assert!(size <= max_bytes || run.items.len() == 1);
        let mut seq = run.first_seq;
        let mut gaps = run.gaps.iter().peekable();
        let mut items = run.items.iter().peekable();
        while seq <= run.last_seq {
            if let Some(gap) = gaps.next_if(|gap| gap.first_seq == seq) {
                prop_assert_eq!(gap.reason, GapReason::Acknowledged);
                prop_assert!(gap.last_seq <= self.through[name]);
                seq = gap.last_seq + 1;
            } else {
                let item = items.next();
                prop_assert_eq!(item.map(|item| item.seq), Some(seq));
                let (kind, payload) = &self.items[seq as usize - 1];
                prop_assert_eq!(item.map(|item| (item.kind, &item.payload)), Some((*kind, payload)));
                seq += 1;
            }
        }
        prop_assert!(gaps.next().is_none() && items.next().is_none());
        Ok(())
    }
}

fn go(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let fs = SimFs::new(5, Plan::Nothing);
    let mut key = false;
    let mut open_log = open(&fs, false);
    let mut model = Model { through: NAMES.map(|name| (name, 0)).into(), ..Default::default() };
    let mut n = 0u64;
    let mut failed = false;
    for step in steps {
        let Open { log, shared, readers } = &mut open_log;
        match step {
            Step::Append(sizes) => {
                for (kind, size) in sizes {
                    n += 1;
                    let (kind, payload) =
                        (Kind::from_number(kind).unwrap(), Bytes::from(format!("{n:0$}", size.max(1))));
                    model.items.push((kind, payload.clone()));
                    log.append_batch([Offered { kind, payload }]);
                }
            }
            Step::Commit => {
                let done = log.commit().is_ok();
                failed = !done;
                let through = shared.table().durable;
                prop_assert!(through >= model.durable);
                model.durable = through;
                prop_assert_eq!(done, log.pending() == 0);
                prop_assert_eq!(through + log.pending() as u64, model.items.len() as u64);
            }
            Step::Read { reader, max_bytes, max_items } => {
                let reader = &mut readers[reader];
                let next = reader.position();
                match reader.next(max_bytes, max_items) {
                    Ok(Some(run)) => {
                        model.check(reader.name(), next, &run, max_bytes, max_items)?;
                        prop_assert_eq!(reader.position(), run.last_seq + 1);
                    }
                    Ok(None) => prop_assert_eq!(next, model.durable + 1),
                    Err(_) => prop_assert_eq!(reader.position(), next),
                }
            }
            Step::Advance { reader, back } => {
                let reader = &mut readers[reader];
                let to = (reader.position() - 1).saturating_sub(back);
                if reader.advance(to).is_ok() {
                    let known = model.through.get_mut(reader.name()).unwrap();
                    *known = to.max(*known);
                }
            }
            Step::Rewind { reader, back } => {
                let reader = &mut readers[reader];
                reader.rewind(reader.position().saturating_sub(back).max(1)).unwrap();
            }
            Step::Forget { reader } => {
                let name = NAMES[reader];
                if shared.forget(name).is_ok() {
                    // A reader that is new under the name begins with the oldest.
                    let begins = shared.table().beginning() - 1;
                    readers.remove(reader);
                    readers.insert(reader, Reader::new(Arc::clone(shared), name, Start::Oldest).unwrap());
                    model.through.insert(name, begins);
                }
            }
            Step::Reopen { key: wanted } => {
                // A key can be added and is never taken away: what it closed must be open.
                key |= wanted;
                fs.set_plan(|_| Plan::Nothing);
                if failed {
                    // What a failed attempt leaves behind when the agent dies then is the business of the crash tests.
                    log.commit().unwrap();
                    (model.durable, failed) = (shared.table().durable, false);
                }
                drop(open_log);
                model.items.truncate(model.durable as usize);
                open_log = open(&fs, key);
                let through = open_log.shared.table().durable;
                prop_assert_eq!(through, model.durable);
                for (name, known) in &mut model.through {
                    let now = open_log.shared.table().cursors[*name].through;
                    // A cursor whose last change was not confirmed may have changed.
                    prop_assert!(now >= *known, "{} was at {} and is at {}", name, known, now);
                    *known = now;
                }
            }
            Step::Fail { after, calls } => {
                fs.set_plan(|now| Plan::Fail(now + 1 + after, calls, rustix::io::Errno::NOSPC));
            }
        }
        let Open { shared, .. } = &open_log;
        let (least, oldest) = (model.through.values().min().copied().unwrap_or(0), shared.table().oldest());
        prop_assert!(oldest <= least + 1, "{oldest} is the oldest, and a destination is at {least}");
    }
    Ok(())
}

/// More with `PROPTEST_CASES`.
#[test]
fn the_log_is_a_list_whatever_is_done_with_it() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) };
    proptest!(config, |(steps in steps())| go(steps)?);
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}
