use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::collector::store::{
    Epoch, Keep, schema,
    testing::{BEGIN, batch, number},
};

const EPOCH: Epoch = [4; 16];

fn writer(dir: &std::path::Path) -> Writer {
    let (db, _) = schema::open(&dir.join(schema::FILE), &schema::MIGRATIONS).unwrap();
    Writer {
        state: State::open(&db).unwrap(),
        db,
        queue: Arc::new(Queue::new(1 << 20)),
        limits: Limits { items: 1000, bytes: 1 << 20, linger: Duration::ZERO },
        keeper: Keeper::new(Keep::default()),
        clock: Clock::new(|| BEGIN as i64),
        stats: Arc::default(),
    }
}

fn totals(writer: &Writer) -> [i64; 4] {
    ["calls", "spans", "epochs"]
        .map(|table| number(&writer.db, &format!("SELECT count(*) FROM {table}")))
        .into_iter()
        .chain([number(&writer.db, "SELECT coalesce(sum(calls), 0) FROM rollup_minutes")])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

#[test]
fn a_full_disk_fails_what_was_taken_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (first, mut stored) = batch("a", EPOCH, 1..=5).submission();
    writer.commit(&mut vec![first]);
    assert_eq!(stored.try_recv().unwrap().unwrap().stored, 5);
    // No page beyond those that there are.
    let pages = number(&writer.db, "PRAGMA page_count");
    let set = |writer: &Writer, pages: i64| number(&writer.db, &format!("PRAGMA max_page_count = {pages}"));
    set(&writer, pages);
    for _ in 0..2 {
        let (one, mut one_answer) = batch("a", EPOCH, 6..=105).submission();
        let (other, mut other_answer) = batch("b", EPOCH, 1..=3).submission();
        writer.commit(&mut vec![one, other]);
        for answer in [&mut one_answer, &mut other_answer] {
            let error = answer.try_recv().unwrap().unwrap_err();
            assert!(error.is_retryable() && matches!(error, StoreError::Disk { .. }), "{error}");
        }
        assert_eq!(totals(&writer), [5, 5, 1, 5]);
    }
    assert_eq!(writer.stats.counts().failures, 2);
    set(&writer, 1 << 30);
    let (again, mut answer) = batch("a", EPOCH, 1..=105).submission();
    writer.commit(&mut vec![again]);
    let committed = answer.try_recv().unwrap().unwrap();
    assert_eq!((committed.stored, committed.duplicates, committed.durable_through), (100, 5, 105));
    assert_eq!(totals(&writer), [105, 105, 1, 105]);
}

#[test]
fn many_submissions_are_one_transaction_and_what_is_refused_does_not_stop_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let seqs = [1..=3, 5..=6, 4..=4, 5..=6];
    let (mut taken, mut answers): (Vec<_>, Vec<_>) =
        seqs.into_iter().map(|seqs| batch("a", EPOCH, seqs).submission()).unzip();
    assert_eq!(answers[0].try_recv(), Err(TryRecvError::Empty));
    writer.commit(&mut taken);
    let results: Vec<_> = answers.iter_mut().map(|answer| answer.try_recv().unwrap()).collect();
    assert_eq!(results[1], Err(StoreError::Hole { expected: 4, first_seq: 5 }));
    assert_eq!(results.iter().flatten().map(|committed| committed.durable_through).collect::<Vec<_>>(), [3, 4, 6]);
    assert_eq!(totals(&writer), [6, 6, 1, 6]);
}

#[test]
fn nobody_has_to_wait_for_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let (submission, answer) = batch("a", EPOCH, 1..=2).submission();
    drop(answer);
    writer.commit(&mut vec![submission]);
    assert_eq!(totals(&writer), [2, 2, 1, 2]);
}
