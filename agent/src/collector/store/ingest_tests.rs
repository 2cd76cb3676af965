//! What is stored is stored once, whatever is sent again.

use proptest::{collection::vec, prelude::*};

use super::{
    testing::{BatchOf, batch, beside, item, number, offer, offer_spans, open, span},
    *,
};
use inferscope_proto::{
    Message as _,
    v1::{ItemKind, RejectReason},
};
use tempfile::tempdir;

/// Calls that were added up: housekeeping may have merged some.
const TOTALS: &str = "SELECT coalesce(sum(calls), 0) FROM \
     (SELECT calls FROM rollup_minutes UNION ALL SELECT calls FROM rollup_hours)";

const A: Epoch = [1; 16];
const B: Epoch = [2; 16];

#[test]
fn a_batch_is_stored_and_its_replay_is_only_acknowledged() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    assert_eq!(ingest.high_water("a", &A), Ok(0));
    let stored = offer(&ingest, batch("a", A, 1..=5)).unwrap();
    assert_eq!((stored.durable_through, stored.stored, stored.duplicates), (5, 5, 0));
    assert_eq!(ingest.high_water("a", &A), Ok(5));
    let replay = offer(&ingest, batch("a", A, 1..=5)).unwrap();
    assert_eq!((replay.durable_through, replay.stored, replay.duplicates), (5, 0, 5));
    let overlap = offer(&ingest, batch("a", A, 4..=8)).unwrap();
    assert_eq!((overlap.durable_through, overlap.stored, overlap.duplicates), (8, 3, 2));
    let db = beside(dir.path());
    assert_eq!(number(&db, "SELECT count(*) FROM calls"), 8);
    assert_eq!(number(&db, "SELECT count(*) FROM spans"), 8);
    assert_eq!(number(&db, TOTALS), 8);
}

#[test]
fn a_hole_is_refused_and_nothing_of_it_is_stored() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    assert_eq!(offer(&ingest, batch("a", A, 2..=3)), Err(StoreError::Hole { expected: 1, first_seq: 2 }));
    offer(&ingest, batch("a", A, 1..=3)).unwrap();
    assert_eq!(offer(&ingest, batch("a", A, 5..=6)), Err(StoreError::Hole { expected: 4, first_seq: 5 }));
    assert_eq!(ingest.high_water("a", &A), Ok(3));
    assert_eq!(number(&beside(dir.path()), "SELECT count(*) FROM calls"), 3);
    assert_eq!(ingest.counts().refused, 2);
}

#[test]
fn agents_and_epochs_have_marks_of_their_own() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    // The same spans under another name of an item are the same spans.
    for (agent, epoch, stored) in [("a", A, 4), ("a", B, 0), ("b", A, 0)] {
        assert_eq!(offer(&ingest, batch(agent, epoch, 1..=4)).unwrap().stored, stored);
        assert_eq!(ingest.high_water(agent, &epoch), Ok(4));
    }
    assert_eq!(ingest.high_water("b", &B), Ok(0));
    let db = beside(dir.path());
    assert_eq!(number(&db, "SELECT count(*) FROM calls"), 4);
    assert_eq!(number(&db, TOTALS), 4);
    assert_eq!((number(&db, "SELECT count(*) FROM agents"), number(&db, "SELECT count(*) FROM epochs")), (2, 3));
}

#[test]
fn gaps_stand_for_their_seqs_and_are_kept_with_their_reason() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    let mut some = batch("a", A, 1..=6);
    some.items.retain(|item| !(3..=4).contains(&item.seq));
    some.gaps.push(Gap { first_seq: 3, last_seq: 4, reason: 2 });
    assert_eq!(offer(&ingest, some.clone()).unwrap().stored, 4);
    assert_eq!(offer(&ingest, some).unwrap().durable_through, 6);
    let db = beside(dir.path());
    assert_eq!(number(&db, "SELECT count(*) FROM gaps"), 1);
    assert_eq!(number(&db, "SELECT first_seq * 100 + last_seq * 10 + reason FROM gaps"), 342);
}

#[test]
fn a_batch_that_contradicts_itself_is_refused() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    let whole = batch("a", A, 1..=3);
    let without = |seq: u64| {
        let mut batch = whole.clone();
        batch.items.retain(|item| item.seq != seq);
        batch
    };
    let gap = |first_seq, last_seq| vec![Gap { first_seq, last_seq, reason: 1 }];
    let swapped = BatchOf { items: whole.items.iter().rev().cloned().collect(), ..whole.clone() };
    for wrong in [
        without(1),
        without(3),
        BatchOf { gaps: gap(2, 2), ..whole.clone() },
        BatchOf { gaps: gap(3, 4), ..without(3) },
        BatchOf { gaps: gap(3, 2), ..without(3) },
        BatchOf { last: 2, ..whole.clone() },
        BatchOf { first: 0, ..whole.clone() },
        BatchOf { first: 4, ..whole.clone() },
        BatchOf { agent: String::new(), ..whole.clone() },
        BatchOf { agent: "a".repeat(256), ..whole.clone() },
        BatchOf { last: u64::MAX, gaps: gap(4, u64::MAX), ..whole.clone() },
        swapped,
    ] {
        assert!(matches!(offer(&ingest, wrong), Err(StoreError::Malformed { .. })));
    }
    assert_eq!(number(&beside(dir.path()), "SELECT count(*) FROM agents"), 0);
    assert_eq!(offer(&ingest, BatchOf { gaps: gap(3, 3), ..without(3) }).unwrap().durable_through, 3);
}

#[test]
fn what_cannot_be_stored_is_rejected_by_item_and_the_rest_is_stored() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    let mut some = batch("a", A, 1..=7);
    some.items[1].crc32c ^= 1;
    some.items[2] = item(3, ItemKind::Span, b"no span".to_vec());
    some.items[3].kind = 99;
    some.items[4] = item(5, ItemKind::Ledger, vec![0xff]);
    some.items[5].payload = span(6).encode_to_vec()[..20].to_vec().into();
    some.items[5].crc32c = crc32c::crc32c(&some.items[5].payload);
    let stored = offer(&ingest, some.clone()).unwrap();
    let reasons: Vec<_> = stored.rejected.iter().map(|rejection| (rejection.seq, rejection.reason)).collect();
    assert_eq!(
        reasons,
        [
            (2, RejectReason::Checksum),
            (3, RejectReason::Malformed),
            (4, RejectReason::UnknownKind),
            (5, RejectReason::Malformed),
            (6, RejectReason::Malformed),
        ]
    );
    assert_eq!((stored.stored, stored.durable_through), (2, 7));
    // They count as dealt with.
    assert_eq!(offer(&ingest, some).unwrap().rejected, []);
    assert_eq!(number(&beside(dir.path()), "SELECT sum(count) FROM rejections"), 5);
}

#[test]
fn spans_without_seqs_are_stored_once_by_their_ids() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    let spans: Vec<_> = (1..=3).map(|n| span(n).encode_to_vec().into()).collect();
    let twice = [spans.clone(), spans.clone(), vec![b"?".to_vec().into()]].concat();
    let stored = offer_spans(&ingest, twice);
    assert_eq!((stored.stored, stored.duplicates, stored.rejected.len()), (3, 3, 1));
    assert_eq!(stored.rejected[0].seq, 6);
    assert_eq!(offer(&ingest, batch("a", A, 1..=4)).unwrap().stored, 1);
    assert_eq!(offer_spans(&ingest, spans).duplicates, 3);
    assert_eq!(number(&beside(dir.path()), TOTALS), 4);
}

#[test]
fn a_crash_between_commit_and_acknowledgement_loses_and_doubles_nothing() {
    let dir = tempdir().unwrap();
    let image = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    offer(&ingest, batch("a", A, 1..=4)).unwrap();
    // What a crash leaves: the file and its log as they are, the writer never closed it, nobody saw the answer.
    for name in ["collector.db", "collector.db-wal"] {
        std::fs::copy(dir.path().join(name), image.path().join(name)).unwrap();
    }
    drop(store);
    let store = open(image.path());
    let ingest = store.handle();
    assert_eq!(ingest.high_water("a", &A), Ok(4));
    assert_eq!(offer(&ingest, batch("a", A, 1..=6)).unwrap().stored, 2);
    let db = beside(image.path());
    assert_eq!(number(&db, "SELECT count(*) FROM calls"), 6);
    assert_eq!(number(&db, TOTALS), 6);
}

#[test]
fn what_waits_is_written_before_the_store_is_closed() {
    let dir = tempdir().unwrap();
    let store = open(dir.path());
    let ingest = store.handle();
    let mut answers = Vec::new();
    for first in [1, 6, 11] {
        let (submission, answer) = batch("a", A, first..=first + 4).submission();
        ingest.offer(submission).unwrap();
        answers.push(answer);
    }
    store.close();
    for (answer, through) in answers.into_iter().zip([5, 10, 15]) {
        assert_eq!(answer.blocking_recv().unwrap().unwrap().durable_through, through);
    }
    assert_eq!(offer(&ingest, batch("a", A, 16..=16)), Err(StoreError::Closed));
    assert_eq!(open(dir.path()).handle().high_water("a", &A), Ok(15));
}

#[test]
fn the_queue_has_a_bound() {
    let queue = queue::Queue::new(1000);
    let one = || batch("a", A, 1..=3).submission().0;
    let bytes = one().bytes();
    assert!((500..1000 * 3).contains(&bytes));
    queue.offer(one()).unwrap();
    assert_eq!(queue.offer(one()), Err(Full));
    assert_eq!(queue.bytes(), bytes);
    let mut taken = Vec::new();
    let limits = Limits { items: 1, bytes: 1, linger: Duration::ZERO };
    assert!(queue.take(&mut taken, limits, Duration::ZERO));
    assert_eq!((taken.len(), queue.bytes()), (1, 0));
    queue.offer(one()).unwrap();
    // Without a writer nobody waits for ever.
    let (waiting, answer) = batch("a", A, 1..=1).submission();
    let queue = queue::Queue::new(1000);
    queue.offer(waiting).unwrap();
    queue.give_up();
    assert_eq!(answer.blocking_recv().unwrap(), Err(StoreError::Closed));
    assert!(!queue.take(&mut taken, limits, Duration::ZERO));
}

/// What an agent may send: where each batch begins before its mark, and how long it is.
fn sent() -> impl Strategy<Value = Vec<(bool, bool, u64, u64)>> {
    vec((any::<bool>(), any::<bool>(), 0..6_u64, 1..8_u64), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn whatever_is_sent_again_each_item_is_stored_once(sent in sent(), reopen in 0..12_usize) {
        let dir = tempdir().unwrap();
        let mut store = open(dir.path());
        let mut marks = std::collections::HashMap::new();
        for (n, (agent, epoch, back, length)) in sent.into_iter().enumerate() {
            if n == reopen {
                store.close();
                store = open(dir.path());
            }
            let (agent, epoch) = (if agent { "a" } else { "b" }, if epoch { A } else { B });
            let mark = marks.entry((agent, epoch)).or_insert(0_u64);
            // One step beyond is a hole.
            let first = (*mark + 2).saturating_sub(back).max(1);
            let last = first + length - 1;
            let mut some = batch(agent, epoch, first..=last);
            // Spans of their own for each life.
            let life = u64::from(agent == "a") * 2 + u64::from(epoch == A);
            for at in &mut some.items {
                *at = item(at.seq, ItemKind::Span, span(life * 1000 + at.seq).encode_to_vec());
            }
            let answer = offer(&store.handle(), some);
            if first > *mark + 1 {
                prop_assert_eq!(answer, Err(StoreError::Hole { expected: *mark + 1, first_seq: first }));
            } else {
                let new = last.saturating_sub(*mark);
                *mark = last.max(*mark);
                let answer = answer.unwrap();
                prop_assert_eq!((answer.durable_through, answer.stored), (*mark, new));
            }
            prop_assert_eq!(store.handle().high_water(agent, &epoch), Ok(*mark));
        }
        let all: u64 = marks.values().sum();
        let db = beside(dir.path());
        for sql in ["SELECT count(*) FROM calls", "SELECT count(*) FROM spans", TOTALS] {
            prop_assert_eq!(number(&db, sql), all as i64);
        }
    }
}

/// Cases of a test that opens a store in each.
pub(super) fn cases() -> u32 {
    std::env::var("STORE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12)
}
