//! The log as its users see it, on the host's file system.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use bytes::Bytes;

use super::*;

fn settings(dir: &tempfile::TempDir) -> WalSettings {
    WalSettings { commit_delay: Duration::from_millis(1), ..WalSettings::new(dir.path().join("wal")) }
}

fn payload(n: u64) -> Bytes {
    Bytes::from(format!("item {n} {}", "x".repeat((n % 50) as usize)))
}

/// What `future` gives, and a failure in place of a test that hangs.
fn within<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("it never comes") })
}

/// Waits until everything up to `seq` is durable.
fn wait_for(wal: &Wal, seq: u64) {
    let mut durable = wal.durable_through();
    let durable = within(durable.wait_for(|durable| *durable >= seq)).unwrap();
    drop(durable);
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

#[test]
fn a_second_opener_is_told_and_one_after_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(settings(&dir)).unwrap();
    let error = Wal::open(settings(&dir)).unwrap_err();
    assert!(matches!(error, WalError::Locked { .. }));
    assert!(error.to_string().contains("is open already"), "{error}");
    drop(wal);
    Wal::open(settings(&dir)).unwrap();
}

#[test]
fn others_can_read_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(settings(&dir)).unwrap();
    let mut reader = wal.reader("ship", Start::Oldest).unwrap();
    offer(&wal, 1..=3);
    wait_for(&wal, 3);
    reader.advance(2).unwrap();
    let mut waiting = vec![dir.path().join("wal")];
    let mut files = 0;
    while let Some(path) = waiting.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let expect = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, expect, "{}", path.display());
        match metadata.is_dir() {
            true => waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path())),
            false => files += 1,
        }
    }
    assert_eq!(files, 4, "lock, identity, segment, cursor");
}

#[test]
fn directories_in_place_of_files_and_files_in_place_of_directories_do_not_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("wal");
    let names = ["lock", "identity", "evicted", "cursors/ship", "segments/00000000000000000001.seg", "segments/x"];
    for name in names {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("quarantine"), b"a file").unwrap();
    {
        let wal = Wal::open(settings(&dir)).unwrap();
        assert!(wal.report().findings.len() >= 5, "{:#?}", wal.report());
        let mut reader = wal.reader("ship", Start::Oldest).unwrap();
        offer(&wal, 1..=5);
        wait_for(&wal, wal.report().next_seq + 4);
        let run = reader.next(1 << 20, 100).unwrap().unwrap();
        assert_eq!(run.items.len(), 5);
        reader.advance(run.last_seq).unwrap();
    }
    assert_eq!(Wal::open(settings(&dir)).unwrap().report().findings, []);
}

#[test]
fn items_that_are_too_many_or_too_large_are_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let limits =
        WalSettings { item_bytes: 100, queue_items: 3, commit_delay: Duration::from_secs(60), ..settings(&dir) };
    let wal = Wal::open(limits).unwrap();
    let handle = wal.handle();
    assert_eq!(handle.offer(Kind::Span, Bytes::from(vec![0; 101])), Err(Refused::TooLarge));
    (0..3).for_each(|n| handle.offer(Kind::Span, payload(n)).unwrap());
    assert_eq!(handle.offer(Kind::Span, payload(9)), Err(Refused::QueueFull));
    handle.count_shed(Level::NoContent, 7);
    assert!(wal.close(Duration::from_secs(30)), "closing does not wait for company");
    assert_eq!(handle.offer(Kind::Span, payload(9)), Err(Refused::Closed));
    let counts = wal.counts();
    assert_eq!(Refused::ALL.map(|reason| counts.refused(reason)), [1, 0, 1, 1]);
    assert_eq!((counts.accepted_items, counts.durable_items, counts.waiting_items), (3, 3, 0));
    assert_eq!((counts.waiting_bytes, counts.abandoned_items, counts.shed(Level::NoContent)), (0, 0, 7));
}

fn fill(wal: &Wal, kind: Kind) -> Result<(), Refused> {
    let before = *wal.durable_through().borrow();
    wal.handle().offer(kind, Bytes::from(vec![7; 500]))?;
    wait_for(wal, before + 1);
    Ok(())
}

#[test]
fn a_full_log_refuses_until_a_destination_has_made_room() {
    let dir = tempfile::tempdir().unwrap();
    let small = WalSettings { max_bytes: 32 << 10, segment_bytes: 2000, ..settings(&dir) };
    let wal = Wal::open(small).unwrap();
    let mut reader = wal.reader("ship", Start::Oldest).unwrap();
    let mut levels = vec![wal.level()];
    let refused = loop {
        if let Err(refused) = fill(&wal, Kind::Metrics) {
            break refused;
        }
        levels.push(wal.level());
    };
    assert_eq!(refused, Refused::DiskFull);
    assert!(levels.is_sorted());
    levels.dedup();
    assert_eq!(levels, Level::ALL);
    let counts = wal.counts();
    assert!(counts.disk_bytes <= 32 << 10 && counts.disk_bytes > 30 << 10, "{counts:?}");
    assert_eq!(counts.evicted_items, 0);
    let backlog = &counts.cursors[0];
    assert_eq!((backlog.backlog_items, backlog.backlog_bytes), (counts.durable_items, counts.disk_bytes));
    let through = reader.next(usize::MAX, usize::MAX).unwrap().unwrap().last_seq;
    reader.advance(through).unwrap();
    assert_eq!((wal.level(), wal.counts().cursors[0].backlog_items), (Level::Full, 0));
    fill(&wal, Kind::Span).unwrap();
}

#[test]
fn a_full_log_drops_the_oldest_when_it_is_told_to_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let small =
        WalSettings { max_bytes: 32 << 10, segment_bytes: 2000, policy: FullPolicy::DropOldest, ..settings(&dir) };
    let wal = Wal::open(small.clone()).unwrap();
    let mut slow = wal.reader("slow", Start::Oldest).unwrap();
    let mut fast = wal.reader("fast", Start::Oldest).unwrap();
    let mut holding = wal.reader("holding", Start::Oldest).unwrap();
    for n in 0..200 {
        fill(&wal, Kind::Span).unwrap();
        if n == 0 {
            assert_eq!(holding.next(1, 1).unwrap().unwrap().last_seq, 1);
        }
        while let Some(run) = fast.next(usize::MAX, 10).unwrap() {
            assert_eq!(run.gaps, []);
            fast.advance(run.last_seq).unwrap();
        }
    }
    assert!(wal.counts().disk_bytes <= 32 << 10);
    let evicted = wal.counts().evicted_items;
    assert!(evicted > 100);
    let check = |reader: &mut Reader, first: u64| {
        let run = reader.next(usize::MAX, usize::MAX).unwrap().unwrap();
        assert_eq!(run.gaps, [Gap { first_seq: first, last_seq: evicted, reason: GapReason::Evicted }]);
        assert_eq!((run.first_seq, run.last_seq, run.items.len() as u64), (first, 200, 200 - evicted));
    };
    check(&mut slow, 1);
    check(&mut holding, 2);
    slow.rewind(1).unwrap();
    check(&mut slow, 1);
    let told: Vec<_> = wal.counts().cursors.into_iter().map(|cursor| (cursor.name, cursor.evicted)).collect();
    let expect = [("fast", 0), ("holding", evicted - 1), ("slow", evicted)];
    assert_eq!(told, expect.map(|(name, n)| (name.to_owned(), n)), "told twice, counted once");
    drop((slow, fast, holding, wal));
    // The reason is known after a restart too.
    let wal = Wal::open(small).unwrap();
    check(&mut wal.reader("slow", Start::Oldest).unwrap(), 1);
}

#[test]
fn segments_go_when_all_have_them_and_a_forgotten_destination_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(WalSettings { segment_bytes: 1000, ..settings(&dir) }).unwrap();
    let mut ship = wal.reader("ship", Start::Oldest).unwrap();
    let mut otlp = wal.reader("otlp", Start::Oldest).unwrap();
    for n in 1..=40 {
        offer(&wal, n..=n);
        wait_for(&wal, n);
    }
    let segments = || fs::read_dir(dir.path().join("wal/segments")).unwrap().count();
    let all = segments();
    ship.advance(40).unwrap();
    assert_eq!(segments(), all);
    otlp.advance(20).unwrap();
    assert!(segments() < all);
    assert_eq!(wal.cursors().iter().map(|cursor| cursor.through).collect::<Vec<_>>(), [20, 40]);
    assert!(wal.forget("otlp").unwrap() && !wal.forget("otlp").unwrap());
    assert_eq!(segments(), 1, "the newest stays: the log's position is in it");
    assert!(otlp.advance(30).is_err());
    let anew = wal.reader("otlp", Start::Now).unwrap();
    drop(otlp);
    assert!(wal.reader("otlp", Start::Now).is_err(), "the reader before it had it no more");
    drop(anew);
    assert!(wal.forget("otlp").unwrap());
    // What was acknowledged and is gone is told as that.
    ship.rewind(1).unwrap();
    let run = ship.next(usize::MAX, 100).unwrap().unwrap();
    let first = run.items[0].seq;
    assert_eq!(run.gaps, [Gap { first_seq: 1, last_seq: first - 1, reason: GapReason::Acknowledged }]);
    assert!(ship.rewind(0).is_err() && ship.rewind(42).is_err() && ship.advance(41).is_err());
    ship.rewind(41).unwrap();
    drop((ship, wal));
    assert_eq!(Wal::open(settings(&dir)).unwrap().report().next_seq, 41);
}

#[test]
fn destinations_have_names_and_one_reader_each() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(settings(&dir)).unwrap();
    for bad in ["", "A", "a/b", "..", "a.tmp", &"a".repeat(65)] {
        assert_eq!(wal.reader(bad, Start::Now).unwrap_err(), ReaderError::Name(bad.to_owned()));
    }
    let reader = wal.reader("a-b_9", Start::Now).unwrap();
    assert_eq!(wal.reader("a-b_9", Start::Now).unwrap_err(), ReaderError::InUse("a-b_9".to_owned()));
    drop(reader);
    wal.reader("a-b_9", Start::Now).unwrap();
    for n in 1..shared::MAX_CURSORS {
        wal.reader(&format!("d{n}"), Start::Now).unwrap();
    }
    assert_eq!(wal.reader("more", Start::Now).unwrap_err(), ReaderError::TooMany);
}

#[test]
fn key_files_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let write = |bytes: &[u8], mode| {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let keyed = WalSettings { key_file: Some(path.clone()), ..settings(&dir) };
        Wal::open(keyed)
    };
    for bad in [&b""[..], &[1; 31], &[1; 33], "ab".repeat(31).as_bytes(), "xy".repeat(32).as_bytes(), &[b'a'; 70]] {
        assert!(matches!(write(bad, 0o600).unwrap_err(), WalError::Key(KeyError::Length { .. })));
    }
    for mode in [0o640, 0o604, 0o620] {
        assert!(matches!(write(&[1; 32], mode).unwrap_err(), WalError::Key(KeyError::Mode { .. })));
    }
    for good in [&[1; 32][..], "aB".repeat(32).as_bytes(), format!("{}\n", "09".repeat(32)).as_bytes()] {
        write(good, 0o600).unwrap();
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let keyed = WalSettings { key_file: Some(path), ..settings(&dir) };
    assert!(matches!(Wal::open(keyed).unwrap_err(), WalError::Key(KeyError::Read { .. })));
}

/// Format version 1 as it was first written. Never changed: logs that old are read for good.
#[test]
fn logs_of_version_1_are_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    let dir = tempfile::tempdir().unwrap();
    copy(&golden.join("wal"), &dir.path().join("wal"));
    let key_file = dir.path().join("key");
    fs::write(&key_file, "07".repeat(32)).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    let wal = Wal::open(WalSettings { key_file: Some(key_file), ..settings(&dir) }).unwrap();
    assert_eq!((wal.epoch(), wal.report().next_seq, &wal.report().findings), ([0xe0; 16], 7, &vec![]));
    let mut reader = wal.reader("ship", Start::Now).unwrap();
    assert_eq!(reader.acknowledged(), 1);
    reader.rewind(1).unwrap();
    let run = reader.next(usize::MAX, 100).unwrap().unwrap();
    assert_eq!((seqs(&run), &run.gaps), ((1..=6).collect(), &vec![]));
    assert!(run.items.iter().all(|item| item.payload == payload(item.seq) && item.kind == golden_kind(item.seq)));
}

const GOLDEN: &str = "src/wal/testdata/v1";

fn golden_kind(seq: u64) -> Kind {
    Kind::ALL[(seq % 4) as usize]
}

/// The bytes of the golden files, by the code of now.
fn golden_files() -> Vec<(&'static str, Vec<u8>)> {
    let key = MasterKey::of(7);
    let segment = |first_seq: u64, key: Option<&MasterKey>| {
        let salt = [first_seq as u8; format::SALT_BYTES];
        let (epoch, key_check) = ([0xe0; 16], key.map(|key| key.check(&salt)));
        let header =
            format::SegmentHeader { epoch, first_seq, salt, key_check, created_unix_nano: 1_800_000_000_000_000_000 };
        let mut bytes = header.encode().to_vec();
        for seq in first_seq..first_seq + 3 {
            let (payload, mut sealed) = (payload(seq), Vec::new());
            let added = if key.is_some() { seal::SEAL_BYTES } else { 0 };
            let stored = (payload.len() + added) as u32;
            let mut frame = format::FrameHeader { stored, seq, kind: golden_kind(seq) as u16, crc: 0 };
            match key {
                Some(key) => key.segment(&salt).unwrap().seal(&frame, &payload, &mut sealed).unwrap(),
                None => sealed.extend_from_slice(&payload),
            }
            frame.crc = crc32c::crc32c(&sealed);
            bytes.extend_from_slice(&frame.encode(header.seed()));
            bytes.extend_from_slice(&sealed);
        }
        bytes
    };
    let note = |seq| format::Note { epoch: [0xe0; 16], seq }.encode().to_vec();
    vec![
        ("wal/identity", note(0)),
        ("wal/cursors/ship", note(1)),
        ("wal/segments/00000000000000000001.seg", segment(1, None)),
        ("wal/segments/00000000000000000004.seg", segment(4, Some(&key))),
    ]
}

#[test]
fn version_1_is_still_written_as_it_was() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    for (name, bytes) in golden_files() {
        let path = golden.join(name);
        if std::env::var_os("INFERSCOPE_WRITE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{name} would be written differently: that needs a new version");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => fs::write(to, fs::read(entry.path()).unwrap()).unwrap(),
        }
    }
}

#[test]
fn what_waits_is_written_when_the_disk_answers_again() {
    use super::sim::{Plan, SimFs};
    let fs = SimFs::new(1, Plan::Nothing);
    let wal = Wal::open_in(Arc::new(fs.clone()), WalSettings::new("/d/wal")).unwrap();
    let mut reader = wal.reader("ship", Start::Oldest).unwrap();
    fs.set_plan(|calls| Plan::Fail(calls + 1, u64::MAX, rustix::io::Errno::NOSPC));
    offer(&wal, 1..=3);
    let mut health = wal.health();
    let degraded = within(health.wait_for(|health| *health != Health::Fine)).unwrap().clone();
    assert!(matches!(&degraded, Health::Degraded(reason) if reason.contains("No space left")), "{degraded:?}");
    offer(&wal, 4..=5);
    assert!(wal.counts().write_failures > 0 && wal.counts().waiting_items == 5);
    fs.set_plan(|_| Plan::Nothing);
    wait_for(&wal, 5);
    within(health.wait_for(|health| *health == Health::Fine)).unwrap();
    assert_eq!(seqs(&reader.next(usize::MAX, 10).unwrap().unwrap()), [1, 2, 3, 4, 5]);
    // A disk that never answers again does not keep the agent from ending.
    fs.set_plan(|calls| Plan::Fail(calls + 1, u64::MAX, rustix::io::Errno::NOSPC));
    offer(&wal, 6..=7);
    assert!(!wal.close(Duration::from_millis(50)));
    let counts = wal.counts();
    assert_eq!((counts.abandoned_items, counts.waiting_items, counts.durable_items), (2, 0, 5));
    assert_eq!(counts.accepted_items, 7);
}

/// `cargo test -p inferscope --lib wal:: -- --ignored --nocapture measure`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "what a measurement is for")]
fn measure() {
    let dir = tempfile::tempdir_in(".").unwrap();
    for (name, size) in [("1 KiB", 1 << 10), ("200 B", 200), ("16 KiB", 16 << 10)] {
        for keyed in [false, true] {
            let key = dir.path().join("key");
            fs::write(&key, [1; 32]).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
            let key_file = keyed.then_some(key);
            let wal =
                Wal::open(WalSettings { key_file, ..WalSettings::new(dir.path().join(format!("{size}{keyed}"))) });
            let wal = wal.unwrap();
            let (handle, payload) = (wal.handle(), Bytes::from(vec![5; size]));
            let n = (128 << 20) / size as u64;
            let n = n.min(100_000);
            let start = Instant::now();
            for _ in 0..n {
                while handle.offer(Kind::Span, payload.clone()).is_err() {
                    std::thread::yield_now();
                }
            }
            wait_for(&wal, n);
            let wrote = start.elapsed().as_secs_f64();
            let mut reader = wal.reader("ship", Start::Oldest).unwrap();
            let start = Instant::now();
            let mut items = 0;
            while let Some(run) = reader.next(1 << 20, 1000).unwrap() {
                items += run.items.len();
            }
            let read = start.elapsed().as_secs_f64();
            assert_eq!(items as u64, n);
            let mib = n as f64 * size as f64 / f64::from(1 << 20);
            eprintln!(
                "{name}, encrypted {keyed}: durable {:.0}/s {:.0} MiB/s, read {:.0}/s {:.0} MiB/s",
                n as f64 / wrote,
                mib / wrote,
                n as f64 / read,
                mib / read
            );
        }
    }
    let settings = WalSettings::new(dir.path().join("1024false"));
    let start = Instant::now();
    let report = Wal::open(settings).unwrap().report().clone();
    eprintln!("open with {} MiB of backlog: {:?}", report.bytes >> 20, start.elapsed());
}

/// The seqs that are seen from outside.
fn seen(dir: &Path, key: Option<&MasterKey>) -> (view::View, Vec<u64>) {
    let mut seqs = Vec::new();
    let view = view::view(dir, key, view::Depth::Payloads, &mut |_, item| {
        assert_eq!(item.payload, payload(item.seq));
        seqs.push(item.seq);
        Ok(())
    });
    (view.unwrap(), seqs)
}

#[test]
fn a_log_is_looked_into_beside_a_running_agent() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(WalSettings { segment_bytes: 400, ..settings(&dir) }).unwrap();
    let mut reader = wal.reader("ship", Start::Oldest).unwrap();
    for n in 1..=9 {
        offer(&wal, n..=n);
        wait_for(&wal, n);
    }
    reader.advance(2).unwrap();
    let (view, seqs) = seen(&dir.path().join("wal"), None);
    assert_eq!((seqs, view.epoch, view.is_damaged()), ((1..=9).collect(), Some(wal.epoch()), false));
    assert!(view.segments.len() > 1);
    let cursor = view::CursorView { name: "ship".to_owned(), through: Some(2), backlog: 7 };
    assert_eq!(view.cursors, [cursor]);
}

#[test]
fn what_is_in_quarantine_is_read_with_the_right_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let keyed = |byte: u8| {
        fs::write(&path, [byte; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        WalSettings { key_file: Some(path.clone()), ..settings(&dir) }
    };
    let (first, second) = (keyed(1), 4..=6);
    {
        let wal = Wal::open(first).unwrap();
        offer(&wal, 1..=3);
        assert!(wal.close(Duration::from_secs(60)));
    }
    {
        let wal = Wal::open(keyed(2)).unwrap();
        assert_eq!(wal.report().gaps, [Gap { first_seq: 1, last_seq: 3, reason: GapReason::Unreadable }]);
        offer(&wal, second);
        assert!(wal.close(Duration::from_secs(60)));
    }
    let root = dir.path().join("wal");
    assert_eq!(seen(&root, Some(&MasterKey::of(2))).1, [4, 5, 6]);
    assert_eq!(seen(&root, Some(&MasterKey::of(1))).1, [1, 2, 3]);
    let (view, seqs) = seen(&root, None);
    assert!(seqs.is_empty() && view.is_damaged(), "{view:?}");
}
