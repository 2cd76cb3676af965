//! The log as its users see it, on the host's file system.

use bytes::Bytes;

use super::*;

fn settings(dir: &tempfile::TempDir) -> WalSettings {
    WalSettings { commit_delay: Duration::from_millis(1), ..WalSettings::new(dir.path().join("wal")) }
}

fn payload(n: u64) -> Bytes {
    Bytes::from(format!("item {n} {}", "x".repeat((n % 50) as usize)))
}

/// Waits until everything up to `seq` is durable.
fn wait_for(wal: &Wal, seq: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(wal.durable_through().wait_for(|durable| *durable >= seq)).unwrap();
}

fn offer(wal: &Wal, seqs: impl Iterator<Item = u64>) {
    for n in seqs {
        wal.handle().offer(Kind::Span, payload(n)).unwrap();
    }
}

fn seqs(run: &Run) -> Vec<u64> {
    run.items.iter().map(|item| item.seq).collect()
}

#[test]
fn what_is_offered_is_read_in_order_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let epoch = {
        let wal = Wal::open(settings(&dir)).unwrap();
        assert!(wal.report().new_epoch && wal.report().findings.is_empty());
        let mut reader = wal.reader("ship", Start::Oldest).unwrap();
        assert_eq!(reader.next(1 << 20, 100).unwrap(), None);
        offer(&wal, 1..=20);
        wait_for(&wal, 20);
        let run = reader.next(1 << 20, 15).unwrap().unwrap();
        assert_eq!((run.first_seq, run.last_seq, seqs(&run)), (1, 15, (1..=15).collect()));
        assert!(run.items.iter().all(|item| item.payload == payload(item.seq)));
        assert!(run.items.iter().all(|item| item.crc32c == crc32c::crc32c(&item.payload)));
        reader.advance(7).unwrap();
        assert!(wal.close(Duration::from_secs(10)));
        assert_eq!(wal.handle().offer(Kind::Log, payload(1)), Err(Refused::Closed));
        wal.epoch()
    };
    let wal = Wal::open(settings(&dir)).unwrap();
    assert_eq!((wal.epoch(), wal.report().new_epoch), (epoch, false));
    assert_eq!((wal.report().next_seq, wal.report().items), (21, 20));
    let mut reader = wal.reader("ship", Start::Now).unwrap();
    let run = reader.next(1 << 20, 100).unwrap().unwrap();
    assert_eq!((seqs(&run), run.gaps), ((8..=20).collect(), vec![]));
    offer(&wal, 21..=22);
    wait_for(&wal, 22);
    assert_eq!(seqs(&reader.next(1 << 20, 100).unwrap().unwrap()), [21, 22]);
    reader.rewind(9).unwrap();
    assert_eq!(seqs(&reader.next(1, 100).unwrap().unwrap()), [9]);
}
