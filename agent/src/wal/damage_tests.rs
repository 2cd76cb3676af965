//! A small log with every single byte of it damaged, and directories with what does not belong there.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{
    format::{FRAME_BYTES, HEADER_BYTES, segment_name},
    queue::Offered,
    seal::SEAL_BYTES,
    sim::{Plan, SimFs},
    *,
};

const DIR: &str = "/d/wal";

fn settings() -> WalSettings {
    WalSettings { segment_bytes: 420, max_bytes: 64 << 10, ..WalSettings::new(DIR) }.fitted()
}

fn open(fs: &SimFs, key: Option<&MasterKey>) -> (Log, Arc<Shared>, OpenReport) {
    open_with(Arc::new(fs.clone()), settings(), key.cloned()).expect("what is in the directory is no reason to fail")
}

fn payload(n: u64) -> Bytes {
    Bytes::from(format!("payload {n} {}", "z".repeat((n * 5 % 23) as usize)))
}

fn append(log: &mut Log, n: u64) {
    for _ in 0..n {
        let payload = payload(log.next_seq());
        log.append_batch([Offered { kind: Kind::Metrics, payload }]);
    }
    log.commit().unwrap();
}

/// A log of so many items, closed.
fn log_of(n: u64, key: Option<&MasterKey>) -> SimFs {
    let fs = SimFs::new(1, Plan::Nothing);
    let (mut log, _, _) = open(&fs, key);
    for _ in 0..n {
        append(&mut log, 1);
    }
    fs
}

/// The same files, one of them changed.
fn with(fs: &SimFs, path: &Path, bytes: &[u8]) -> SimFs {
    let copy = SimFs::new(1, Plan::Nothing);
    for other in fs.paths() {
        copy.put(&other, &fs.bytes(&other).unwrap());
    }
    copy.put(path, bytes);
    copy
}

fn segments(fs: &SimFs) -> Vec<PathBuf> {
    fs.paths().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
}

/// Everything that a new destination is given: seqs of items, and gaps. The items must be right.
fn read_all(shared: &Arc<Shared>) -> (Vec<u64>, Vec<Gap>) {
    let mut reader = Reader::new(Arc::clone(shared), "all", Start::Oldest).unwrap();
    reader.rewind(1).unwrap();
    let (mut seqs, mut gaps, mut next) = (Vec::new(), Vec::new(), 1);
    while let Some(run) = reader.next(1 << 20, 1000).unwrap() {
        assert_eq!(run.first_seq, next);
        next = run.last_seq + 1;
        for item in run.items {
            assert_eq!((&item.payload, item.kind), (&payload(item.seq), Kind::Metrics));
            assert_eq!(item.crc32c, crc32c::crc32c(&item.payload));
            seqs.push(item.seq);
        }
        gaps.extend(run.gaps);
    }
    (seqs, gaps)
}

/// Where each frame of a segment is: its seq, begin and end.
fn frames_of(first_seq: u64, len: usize, key: Option<&MasterKey>) -> Vec<(u64, usize, usize)> {
    let mut at = HEADER_BYTES;
    let mut frames = Vec::new();
    for seq in first_seq.. {
        if at >= len {
            break;
        }
        let end = at + FRAME_BYTES + payload(seq).len() + if key.is_some() { SEAL_BYTES } else { 0 };
        frames.push((seq, at, end));
        at = end;
    }
    frames
}

fn first_seq(path: &Path) -> u64 {
    format::first_seq_of(path.file_name().unwrap().to_str().unwrap(), ".seg").unwrap()
}

/// What must be given when `lost` is damaged, of `n` items; behind the last item seqs may be left out as well.
fn expect(fs: &SimFs, key: Option<&MasterKey>, n: u64, lost: &[u64], told: &[u64], what: &str) {
    let (mut log, shared, report) = open(fs, key);
    let (seqs, gaps) = read_all(&shared);
    let kept: Vec<u64> = (1..=n).filter(|seq| !lost.contains(seq)).collect();
    assert_eq!(seqs, kept, "{what}: {report:?}");
    let missing: Vec<u64> = gaps.iter().flat_map(|gap| gap.first_seq..=gap.last_seq).collect();
    let within: Vec<u64> = missing.iter().copied().filter(|seq| *seq <= n).collect();
    assert_eq!(within, told, "{what}: {gaps:?}");
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::Corrupt), "{what}: {gaps:?}");
    assert!(missing.len() - within.len() < 8, "{what}: {gaps:?}");
    assert_eq!(shared.counts().corrupt_items as usize, missing.len(), "{what}");
    // It goes on, above everything that was ever there and left a trace.
    let next = log.next_seq();
    assert!(next > told.last().copied().unwrap_or(0) && next > kept.last().copied().unwrap_or(0), "{what}");
    append(&mut log, 2);
    drop((log, shared));
    let (_, shared, _) = open(fs, key);
    assert_eq!(read_all(&shared).0, [kept, vec![next, next + 1]].concat(), "{what}");
}

#[test]
fn every_byte_flipped_costs_exactly_the_frame_that_it_is_in() {
    let key = MasterKey::of(3);
    for key in [None, Some(&key)] {
        let fs = log_of(10, key);
        assert!(segments(&fs).len() > 1);
        for path in segments(&fs) {
            let bytes = fs.bytes(&path).unwrap();
            let frames = frames_of(first_seq(&path), bytes.len(), key);
            for at in 0..bytes.len() {
                let lost: Vec<u64> = frames
                    .iter()
                    .filter(|(_, begin, end)| (*begin..*end).contains(&at))
                    .map(|(seq, ..)| *seq)
                    .collect();
                for bits in [0x01, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= bits;
                    let what = format!("{} byte {at} ^ {bits:#x}, encrypted: {}", path.display(), key.is_some());
                    expect(&with(&fs, &path, &damaged), key, 10, &lost, &lost, &what);
                }
            }
        }
    }
}

#[test]
fn a_segment_cut_off_anywhere_costs_exactly_what_is_behind() {
    let key = MasterKey::of(3);
    for key in [None, Some(&key)] {
        let fs = log_of(10, key);
        let paths = segments(&fs);
        for (index, path) in paths.iter().enumerate() {
            let bytes = fs.bytes(path).unwrap();
            let frames = frames_of(first_seq(path), bytes.len(), key);
            for len in HEADER_BYTES..bytes.len() {
                let lost: Vec<u64> = frames.iter().filter(|(.., end)| *end > len).map(|(seq, ..)| *seq).collect();
                // Of the newest, only the frame that is there in part is known to have been there at all.
                let partly = frames.iter().filter(|(_, begin, end)| *begin < len && *end > len).map(|(seq, ..)| *seq);
                let told = if index + 1 < paths.len() { lost.clone() } else { partly.collect() };
                let what = format!("{} cut off at {len}, encrypted: {}", path.display(), key.is_some());
                expect(&with(&fs, path, &bytes[..len]), key, 10, &lost, &told, &what);
            }
        }
    }
}

#[test]
fn a_segment_cut_off_in_its_header_is_put_aside() {
    let fs = log_of(10, None);
    for path in segments(&fs) {
        for len in [0, 1, 60, 100, HEADER_BYTES - 1] {
            let bytes = fs.bytes(&path).unwrap();
            let (mut log, shared, report) = open(&with(&fs, &path, &bytes[..len]), None);
            let first = first_seq(&path);
            // With one whole copy of the header it is an empty segment.
            let (seqs, _) = read_all(&shared);
            assert!(seqs.iter().all(|seq| *seq < first || *seq >= first + 3), "{seqs:?} {report:?}");
            append(&mut log, 1);
        }
    }
}

#[test]
fn what_a_destination_has_is_never_given_again_even_if_the_log_lost_it() {
    let fs = log_of(10, None);
    {
        let (_log, shared, _) = open(&fs, None);
        Reader::new(Arc::clone(&shared), "ship", Start::Oldest).unwrap().advance(10).unwrap();
    }
    let last = segments(&fs).pop().unwrap();
    let bytes = fs.bytes(&last).unwrap();
    for len in [HEADER_BYTES, HEADER_BYTES + FRAME_BYTES / 2, bytes.len() - 1] {
        let (log, shared, _) = open(&with(&fs, &last, &bytes[..len]), None);
        assert_eq!(log.next_seq(), 11);
        let mut reader = Reader::new(shared, "ship", Start::Oldest).unwrap();
        assert_eq!(reader.next(1000, 10).unwrap(), None);
    }
}

#[test]
fn notes_that_are_damaged_cost_nothing_but_reading_again() {
    let fs = log_of(10, None);
    {
        let (_log, shared, _) = open(&fs, None);
        let mut reader = Reader::new(Arc::clone(&shared), "ship", Start::Oldest).unwrap();
        while reader.next(1000, 100).unwrap().is_some() {}
        reader.advance(2).unwrap();
    }
    let epoch = open(&fs, None).1.epoch;
    for name in ["identity", "cursors/ship"] {
        let path = Path::new(DIR).join(name);
        let bytes = fs.bytes(&path).unwrap();
        let cut = (0..bytes.len()).map(|len| bytes[..len].to_vec());
        let flipped = (0..bytes.len()).flat_map(|at| {
            [0x01, 0x80, 0xff].map(|bits| {
                let mut damaged = bytes.clone();
                damaged[at] ^= bits;
                damaged
            })
        });
        for damaged in cut.chain(flipped) {
            let fs = with(&fs, &path, &damaged);
            let (_log, shared, report) = open(&fs, None);
            assert_eq!((shared.epoch, report.next_seq, report.findings.len()), (epoch, 11, 1));
            assert!(report.findings[0].moved_to.is_some());
            let reader = Reader::new(Arc::clone(&shared), "ship", Start::Now).unwrap();
            assert!(reader.acknowledged() <= 2);
        }
    }
}

#[test]
fn what_does_not_belong_there_is_put_aside_and_told() {
    let fs = log_of(4, None);
    let good = segments(&fs).len();
    let put = |name: &str, bytes: &[u8]| fs.put(&Path::new(DIR).join(name), bytes);
    put("segments/core", b"what is this");
    put("segments/9.seg", b"");
    put("segments/18446744073709551615.seg", b"no seq is that high");
    put(&format!("segments/{}", segment_name(40)), &[7; 3 * FRAME_BYTES + HEADER_BYTES]);
    put("cursors/UPPER", b"");
    put("cursors/half.tmp", b"half");
    let (mut log, shared, report) = open(&fs, None);
    assert_eq!(report.findings.iter().filter(|finding| finding.fault == Fault::Foreign).count(), 4, "{report:#?}");
    assert!(report.findings.iter().any(|finding| finding.fault == Fault::Damaged));
    assert!(!report.new_epoch);
    // Its name says that 40 was given, and its size how many more can have been.
    assert_eq!(report.next_seq, 40 + format::frames_within((3 * FRAME_BYTES + HEADER_BYTES) as u64));
    let (seqs, gaps) = read_all(&shared);
    assert_eq!(seqs, [1, 2, 3, 4]);
    assert_eq!(gaps, [Gap { first_seq: 5, last_seq: report.next_seq - 1, reason: GapReason::Corrupt }]);
    assert_eq!(segments(&fs).len(), good);
    append(&mut log, 1);
    drop((log, shared));
    let again = open(&fs, None).2;
    assert_eq!((again.next_seq, again.findings.len()), (report.next_seq + 1, 0), "{again:?}");
}

#[test]
fn a_newer_version_is_left_alone() {
    let fs = log_of(4, None);
    let path = Path::new(DIR).join("segments").join(segment_name(5));
    let newer = [&b"INFWAL\r\n"[..], &2u16.to_le_bytes(), &[9; 300]].concat();
    fs.put(&path, &newer);
    let (mut log, shared, report) = open(&fs, None);
    assert_eq!(report.findings, [Finding { path: path.clone(), fault: Fault::Newer(2), moved_to: None }]);
    assert_eq!(report.next_seq, 5 + newer.len() as u64);
    let gap = Gap { first_seq: 5, last_seq: report.next_seq - 1, reason: GapReason::Unreadable };
    assert_eq!(read_all(&shared), (vec![1, 2, 3, 4], vec![gap]));
    append(&mut log, 3);
    assert_eq!(fs.bytes(&path), Some(newer));
}

#[test]
fn a_segment_that_the_key_does_not_open_is_kept_and_told() {
    let (old, new) = (MasterKey::of(1), MasterKey::of(2));
    for wrong in [None, Some(&new)] {
        let fs = log_of(8, Some(&old));
        let before: Vec<_> = segments(&fs).iter().map(|path| fs.bytes(path).unwrap()).collect();
        let gap = Gap { first_seq: 1, last_seq: 8, reason: GapReason::Unreadable };
        for _ in 0..2 {
            // Nothing is left that can be read, and still its seqs are not given again.
            let (_log, shared, report) = open(&fs, wrong);
            assert_eq!((report.next_seq, report.new_epoch, report.gaps.len()), (9, false, 1), "{report:?}");
            assert_eq!(read_all(&shared), (vec![], vec![gap]));
            assert!(shared.counts().quarantine_bytes > 0);
        }
        let (mut log, shared, _) = open(&fs, wrong);
        append(&mut log, 4);
        assert_eq!(read_all(&shared), ((9..=12).collect(), vec![gap]));
        let quarantine = Path::new(DIR).join("quarantine");
        let kept: Vec<_> = fs.paths().into_iter().filter(|path| path.parent() == Some(&*quarantine)).collect();
        assert_eq!(kept.iter().map(|path| fs.bytes(path).unwrap()).collect::<Vec<_>>(), before);
    }
}

#[test]
fn plain_and_encrypted_segments_follow_each_other() {
    let key = MasterKey::of(1);
    let fs = log_of(4, None);
    for (key, all) in [(Some(&key), 6), (Some(&key), 8)] {
        let (mut log, shared, report) = open(&fs, key);
        assert_eq!(report.findings, []);
        append(&mut log, 2);
        assert_eq!(read_all(&shared), ((1..=all).collect(), vec![]));
    }
    let secret = fs
        .paths()
        .into_iter()
        .filter_map(|path| fs.bytes(&path))
        .filter(|bytes| bytes.windows(9).any(|window| window == b"payload 5" || window == b"payload 7"));
    assert_eq!(secret.count(), 0);
}

#[test]
fn segments_of_another_life_are_put_aside_and_counted() {
    let (fs, other) = (log_of(4, None), log_of(9, None));
    for path in segments(&other).iter().filter(|path| first_seq(path) > 4) {
        fs.put(path, &other.bytes(path).unwrap());
    }
    let (_log, shared, report) = open(&fs, None);
    assert!(report.findings.iter().all(|finding| matches!(finding.fault, Fault::OtherEpoch { .. })), "{report:?}");
    assert_eq!((report.next_seq, report.new_epoch), (5, false));
    assert!(shared.counts().foreign_items >= 5);
    assert_eq!(read_all(&shared), (vec![1, 2, 3, 4], vec![]));
}

#[test]
fn a_lost_identity_costs_nothing_and_lost_segments_begin_a_new_life() {
    let fs = log_of(4, None);
    let epoch = open(&fs, None).1.epoch;
    fs.remove(&Path::new(DIR).join("identity")).unwrap();
    let (mut log, shared, report) = open(&fs, None);
    assert_eq!((shared.epoch, report.new_epoch), (epoch, false));
    append(&mut log, 1);
    drop((log, shared));
    segments(&fs).iter().for_each(|path| fs.remove(path).unwrap());
    let (_log, shared, report) = open(&fs, None);
    assert!(shared.epoch != epoch && report.new_epoch && report.next_seq == 1);
}

#[test]
fn a_bad_sector_costs_what_is_in_it() {
    let fs = SimFs::new(1, Plan::Nothing);
    let (mut log, shared, _) = open(&fs, None);
    append(&mut log, 5);
    let mut reader = Reader::new(Arc::clone(&shared), "ship", Start::Oldest).unwrap();
    fs.set_plan(|calls| Plan::Fail(calls + 1, u64::MAX / 2, rustix::io::Errno::IO));
    let run = (0..20).find_map(|_| reader.next(1000, 10).ok().flatten()).unwrap();
    assert_eq!((run.items.len(), run.gaps.len(), run.last_seq), (0, 1, 5));
    fs.set_plan(|_| Plan::Nothing);
    append(&mut log, 5);
    assert_eq!(reader.next(1 << 20, 10).unwrap().unwrap().items.len(), 5);
}
