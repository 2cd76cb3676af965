use super::*;

const MS: u64 = 1_000_000;
const FRONT: u32 = 10;
const WORKER: u32 = 11;
const IDS: SpanIds = SpanIds { trace: [1; 16], span: [2; 8], parent: None };

fn at(ms: u64) -> Mono {
    Mono(ms * MS)
}

fn open(path: &str, inode: u64, size: u64) -> FileOpen<'_> {
    FileOpen { path: path.as_bytes(), is_whole: true, size: Some(size), inode: Some(inode), flags: 0, fd: 3 }
}

fn usage(pid: u32, read_bytes: u64) -> Vec<ProcessUsage> {
    vec![ProcessUsage { pid, read_bytes: Some(read_bytes), ..ProcessUsage::default() }]
}

fn engine(pid: u32) -> Option<(usize, Vec<u32>)> {
    [FRONT, WORKER].contains(&pid).then(|| (7, vec![FRONT, WORKER]))
}

fn only(loads: &mut Loads, now: Mono) -> ModelLoad {
    let mut found = loads.finished(now, engine);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(loads.finished(now, engine).is_empty() && loads.reading().next().is_none(), "told once");
    let (number, load) = found.remove(0);
    assert_eq!(number, 7);
    load
}

fn phases(load: &ModelLoad) -> Vec<(&'static str, u64, u64)> {
    load.phases.iter().map(|(phase, from, to)| (phase.as_str(), from.0 / MS, to.0 / MS)).collect()
}

/// A front that starts a worker, which opens two files, one of them twice.
fn starting() -> Loads {
    let mut loads = Loads::default();
    loads.exec(at(1_000), FRONT);
    loads.exec(at(3_000), WORKER);
    assert!(loads.opened(at(4_000), WORKER, &open("m/a.safetensors", 1, 1 << 30)));
    assert!(!loads.opened(at(4_500), WORKER, &open("m/b.safetensors", 2, 1 << 29)));
    loads.opened(at(4_600), WORKER, &open("m/b.safetensors", 2, 1 << 29));
    loads
}

#[test]
fn a_start_is_told_from_the_program_to_the_first_token_with_all_phases() {
    let mut loads = starting();
    assert_eq!(loads.reading().collect::<Vec<_>>(), [WORKER]);
    assert!(loads.is_reading(at(14_000)) && !loads.is_reading(at(15_000)));
    for (ms, bytes) in [(4_010, 5), (5_000, 5 + (500 << 20)), (6_000, 5 + (1000 << 20)), (7_000, 6 + (1000 << 20))] {
        loads.usage(at(ms), &usage(WORKER, bytes));
    }
    loads.listened(at(9_000), FRONT);
    assert!(loads.finished(at(10_000), engine).is_empty(), "nobody was served");
    loads.served(FRONT, at(12_000), at(12_400), Some(IDS));
    let load = only(&mut loads, at(12_500));
    assert_eq!((load.process.pid, load.processes, load.path.as_str()), (WORKER, 1, "m/a.safetensors"));
    assert_eq!((load.files, load.bytes, load.read_bytes), (2, 3 << 29, Some((1000 << 20) + 1)));
    assert_eq!((load.start, load.begun, load.end), (at(1_000), at(4_000), at(12_400)));
    let expected = [
        ("start_up", 1_000, 4_000),
        ("weights", 4_000, 6_000),
        ("warm_up", 6_000, 9_000),
        ("idle", 9_000, 12_000),
        ("first_token", 12_000, 12_400),
    ];
    assert_eq!(phases(&load), expected);
    assert!((load.rate().unwrap() / f64::from(500 << 20) - 1.0).abs() < 1e-6, "{:?}", load.rate());
    assert_eq!(load.call, None, "the call came when it was loaded");
}

#[test]
fn a_load_that_a_call_waited_for_is_that_calls() {
    let mut loads = Loads::default();
    loads.exec(at(1_000), FRONT);
    loads.listened(at(1_500), FRONT);
    // Half a minute later somebody asks, and a runner is started for it.
    loads.exec(at(31_000), WORKER);
    loads.opened(at(31_200), WORKER, &open("m.gguf", 1, 1 << 20));
    loads.served(FRONT, at(30_900), at(33_000), None);
    assert!(loads.finished(at(33_100), engine).is_empty(), "the call goes on");
    loads.served(FRONT, at(30_900), at(33_000), Some(IDS));
    let load = only(&mut loads, at(34_000));
    assert_eq!(load.call, Some(IDS));
    assert_eq!(load.start, at(31_000), "the front was there before");
    assert_eq!(phases(&load), [("start_up", 31_000, 31_200), ("first_token", 31_200, 33_000)]);
    assert_eq!((load.read_bytes, load.rate()), (None, None), "nothing was counted");
}

#[test]
fn a_call_that_does_not_end_keeps_nobody_waiting() {
    let mut loads = starting();
    loads.served(FRONT, at(12_000), at(12_400), None);
    assert!(loads.finished(Mono(at(12_400).0 + CALL_NS - 1), engine).is_empty());
    assert_eq!(only(&mut loads, Mono(at(12_400).0 + CALL_NS)).call, None);
}

#[test]
fn files_that_are_opened_while_others_are_served_are_no_load() {
    let mut loads = Loads::default();
    loads.exec(at(1_000), FRONT);
    loads.served(FRONT, at(2_000), at(2_100), Some(IDS));
    loads.opened(at(5_000), FRONT, &open("lora.safetensors", 1, 1 << 20));
    // One that came after it proves nothing.
    loads.served(FRONT, at(5_100), at(5_200), Some(IDS));
    assert!(loads.finished(at(6_000), engine).is_empty());
    assert!(loads.reading().next().is_none(), "and nothing is watched for it");
    // One that waited does.
    loads.opened(at(8_000), FRONT, &open("other.safetensors", 2, 1 << 20));
    loads.served(FRONT, at(7_900), at(9_000), Some(IDS));
    let load = only(&mut loads, at(9_100));
    assert_eq!((load.start, load.call), (at(8_000), Some(IDS)));
}

#[test]
fn a_runner_that_serves_is_asked_itself() {
    let mut loads = Loads::default();
    loads.listened(at(100), FRONT);
    loads.exec(at(1_000), WORKER);
    loads.listened(at(1_100), WORKER);
    loads.opened(at(1_200), WORKER, &open("m.gguf", 1, 1 << 20));
    // Another model's token, of the same front.
    loads.served(FRONT, at(900), at(1_300), Some(IDS));
    assert!(loads.finished(at(1_400), engine).is_empty());
    loads.served(WORKER, at(1_150), at(2_000), Some(IDS));
    assert_eq!(only(&mut loads, at(2_100)).end, at(2_000));
}

#[test]
fn what_ends_writes_or_serves_nobody_loads_nothing() {
    let mut loads = starting();
    assert!(loads.exited(WORKER) && !loads.exited(WORKER));
    for flags in [O_WRONLY, O_CREAT | 2, O_TRUNC | 2] {
        assert!(!loads.opened(at(5_000), WORKER, &FileOpen { flags, ..open("checkpoint.pt", 1, 1 << 20) }));
    }
    assert!(!loads.opened(at(5_000), WORKER, &open("lib/site-packages/a.pth", 1, 151)), "no weights");
    assert!(loads.reading().next().is_none());
    loads.opened(at(6_000), WORKER, &open("data.bin", 1, 1 << 20));
    assert!(loads.finished(Mono(at(6_000).0 + LONGEST_NS), engine).is_empty());
    assert!(loads.reading().next().is_none(), "given up");
}

#[test]
fn tables_are_bounded() {
    let mut loads = Loads::default();
    for pid in 0..20_000 {
        loads.exec(at(1), pid);
        loads.opened(at(2), pid, &open("x.gguf", 1, LEAST_BYTES));
    }
    for inode in 0..10_000 {
        loads.opened(at(3), 0, &open("x.gguf", inode, LEAST_BYTES));
    }
    assert_eq!((loads.seen.len(), loads.loading.len()), (MAX_SEEN, MAX_LOADING));
    assert_eq!(loads.refused(), 20_000 - MAX_LOADING as u64);
    let load = &loads.loading[&0];
    assert_eq!((load.inodes.len(), load.files, load.untold.len()), (MAX_FILES, MAX_FILES as u64, MAX_UNTOLD));
    assert_eq!(loads.untold(|pid| pid == 0).len(), MAX_UNTOLD);
    assert!(loads.untold(|pid| pid == 0).is_empty());
}
