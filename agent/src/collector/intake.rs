//! What the collector knows of one stream of an agent: what comes next, and how much may be on its way.
//!
//! Pure: messages in, decisions out. The rules are in `proto/inferscope/v1/ship.proto`.

use inferscope_proto::v1::Batch;

/// Why a stream is ended. Nothing of the batch is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something between was never sent.
    #[error("a batch begins with seq {first}, but {expected} comes next")]
    Hole {
        /// Where it begins.
        first: u64,
        /// Where it has to.
        expected: u64,
    },
    /// Items and gaps do not cover what the batch says.
    #[error("the batch from {first} to {last} does not have seq {seq} once and in its place")]
    Cover {
        /// First seq of the batch.
        first: u64,
        /// Last seq of the batch.
        last: u64,
        /// The seq in question.
        seq: u64,
    },
    /// More than was allowed.
    #[error("a batch of {size} bytes is beyond the credit of {credit}")]
    Credit {
        /// Its size.
        size: u64,
        /// What was left.
        credit: u64,
    },
}

/// One stream.
#[derive(Debug)]
pub struct Intake {
    /// The seq that the next batch begins with; the first may begin below.
    next: u64,
    is_first: bool,
    /// What the agent may still send.
    credit: u64,
    /// What it has sent and is not stored.
    under_way: u64,
}

impl Intake {
    /// A stream of an agent of whose epoch everything up to `durable_through` is stored, with so much credit.
    pub fn begin(durable_through: u64, credit: u64) -> Self {
        Self { next: durable_through.saturating_add(1), is_first: true, credit, under_way: 0 }
    }

    /// Takes a batch of so many encoded bytes, or says why the stream has to end.
    pub fn accept(&mut self, batch: &Batch, size: u64) -> Result<(), Refusal> {
        let (first, last) = (batch.first_seq, batch.last_seq);
        if first > self.next || (first < self.next && !self.is_first) {
            return Err(Refusal::Hole { first, expected: self.next });
        }
        check_cover(batch)?;
        if size > self.credit && (self.credit == 0 || batch.items.len() > 1) {
            return Err(Refusal::Credit { size, credit: self.credit });
        }
        self.is_first = false;
        self.next = self.next.max(last.saturating_add(1));
        self.credit = self.credit.saturating_sub(size);
        self.under_way = self.under_way.saturating_add(size);
        Ok(())
    }

    /// So many bytes are stored; `window` is what the agent may have under way from now on. What it is given on top.
    pub fn stored(&mut self, size: u64, window: u64) -> u64 {
        self.under_way = self.under_way.saturating_sub(size);
        let grant = window.saturating_sub(self.credit.saturating_add(self.under_way));
        self.credit += grant;
        grant
    }
}

/// Whether items and gaps have every seq from the first to the last once, in order.
fn check_cover(batch: &Batch) -> Result<(), Refusal> {
    let (first, last) = (batch.first_seq, batch.last_seq);
    let refuse = |seq| Err(Refusal::Cover { first, last, seq });
    if first == 0 || last < first || last == u64::MAX {
        return refuse(first);
    }
    let (mut items, mut gaps) = (batch.items.iter().peekable(), batch.gaps.iter().peekable());
    let mut seq = first;
    while seq <= last {
        if items.next_if(|item| item.seq == seq).is_some() {
            seq += 1;
        } else if let Some(gap) = gaps.next_if(|gap| gap.first_seq == seq && (seq..=last).contains(&gap.last_seq)) {
            seq = gap.last_seq + 1;
        } else {
            return refuse(seq);
        }
    }
    match (items.next(), gaps.next()) {
        (None, None) => Ok(()),
        (item, gap) => refuse(item.map(|item| item.seq).or(gap.map(|gap| gap.first_seq)).unwrap_or(last)),
    }
}

#[cfg(test)]
mod tests {
    use inferscope_proto::v1::{Gap, Item};
    use proptest::prelude::*;

    use super::*;

    fn batch(first_seq: u64, last_seq: u64, items: &[u64], gaps: &[(u64, u64)]) -> Batch {
        Batch {
            first_seq,
            last_seq,
            items: items.iter().map(|seq| Item { seq: *seq, ..Item::default() }).collect(),
            gaps: gaps
                .iter()
                .map(|(first_seq, last_seq)| Gap { first_seq: *first_seq, last_seq: *last_seq, reason: 1 })
                .collect(),
        }
    }

    #[test]
    fn batches_follow_each_other_and_only_the_first_may_repeat() {
        let mut intake = Intake::begin(10, 1_000);
        assert_eq!(intake.accept(&batch(12, 12, &[12], &[]), 1), Err(Refusal::Hole { first: 12, expected: 11 }));
        assert_eq!(intake.accept(&batch(9, 12, &[9, 10, 12], &[(11, 11)]), 1), Ok(()));
        assert_eq!(intake.accept(&batch(12, 13, &[12, 13], &[]), 1), Err(Refusal::Hole { first: 12, expected: 13 }));
        assert_eq!(intake.accept(&batch(13, 13, &[], &[(13, 13)]), 1), Ok(()));
        // A first batch that has nothing new sets nothing back.
        let mut intake = Intake::begin(10, 1_000);
        assert_eq!(intake.accept(&batch(1, 2, &[1, 2], &[]), 1), Ok(()));
        assert_eq!(intake.next, 11);
    }

    #[test]
    fn every_seq_is_there_once() {
        let mut intake = Intake::begin(0, 1_000);
        for (wrong, seq) in [
            (batch(1, 3, &[1, 3], &[]), 2),
            (batch(1, 2, &[1, 2, 3], &[]), 3),
            (batch(1, 2, &[2, 1], &[]), 1),
            (batch(1, 2, &[1], &[(2, 5)]), 2),
            (batch(1, 2, &[1], &[(2, 1)]), 2),
            (batch(1, 2, &[1, 2], &[(2, 2)]), 2),
            (batch(1, 0, &[], &[]), 1),
            (batch(0, 0, &[0], &[]), 0),
            (batch(1, u64::MAX, &[], &[(1, u64::MAX)]), 1),
        ] {
            let (first, last) = (wrong.first_seq, wrong.last_seq);
            assert_eq!(intake.accept(&wrong, 1), Err(Refusal::Cover { first, last, seq }));
        }
    }

    #[test]
    fn credit_is_what_may_be_under_way() {
        let mut intake = Intake::begin(0, 100);
        assert_eq!(intake.accept(&batch(1, 2, &[1, 2], &[]), 101), Err(Refusal::Credit { size: 101, credit: 100 }));
        assert_eq!(intake.accept(&batch(1, 2, &[1, 2], &[]), 60), Ok(()));
        // A single item may be larger than what is left, as long as there is any.
        assert_eq!(intake.accept(&batch(3, 3, &[3], &[]), 60), Ok(()));
        assert_eq!(intake.accept(&batch(4, 4, &[4], &[]), 1), Err(Refusal::Credit { size: 1, credit: 0 }));
        assert_eq!(intake.stored(60, 100), 40);
        assert_eq!(intake.stored(60, 100), 60);
        // A window that has become smaller takes nothing back and gives nothing.
        assert_eq!(intake.accept(&batch(4, 4, &[4], &[]), 10), Ok(()));
        assert_eq!(intake.stored(10, 50), 0);
    }

    proptest! {
        #[test]
        fn an_agent_that_keeps_to_its_credit_is_never_refused_and_never_left_without(sizes in proptest::collection::vec(1u64..200, 1..60)) {
            let (mut intake, mut credit, mut seq) = (Intake::begin(0, 100), 100, 1);
            let mut under_way = std::collections::VecDeque::new();
            for size in sizes {
                while credit == 0 {
                    let stored = under_way.pop_front();
                    prop_assert!(stored.is_some(), "no credit and nothing under way");
                    credit += intake.stored(stored.unwrap_or(0), 100);
                }
                prop_assert_eq!(intake.accept(&batch(seq, seq, &[seq], &[]), size), Ok(()));
                credit = credit.saturating_sub(size);
                under_way.push_back(size);
                seq += 1;
            }
        }
    }
}
