use std::{os::unix::fs::FileExt as _, time::Instant};

use super::*;
use crate::discover::{
    fixture::{self, CODE, Error, Program},
    image::Cache,
};

const ENDING: &str = "ssl/ssl_lib.cc";
const ERROR: Error = Error { library: 16, function: 0, reason: 66, line: 931 };

/// What a file's functions are, by their starts.
fn starts(bytes: &[u8]) -> Vec<Option<u64>> {
    let file = fixture::file(bytes);
    fixture::searched(&file, &[ENDING], |search, _| {
        let search = search.unwrap();
        let functions = search.sources(ENDING).flat_map(|source| source.functions.clone());
        functions.map(|function| function.start).collect()
    })
    .unwrap()
}

#[test]
fn functions_begin_where_their_symbols_say() {
    let Ok(file) = File::open("/usr/lib/x86_64-linux-gnu/libssl.so.3") else {
        eprintln!("SKIPPED: no libssl.so.3 on this machine");
        return;
    };
    fixture::searched(&file, &["ssl/ssl_lib.c", "no/such/file.c"], |search, image| {
        let search = search.unwrap();
        assert_eq!(search.sources("no/such/file.c").count(), 0);
        let mut compared = 0;
        for function in &search.sources("ssl/ssl_lib.c").next().unwrap().functions {
            // The name is the argument after the line, which is the one after the file.
            let names = function.sites.iter().filter_map(|site| search.text(site.after(2)?));
            let names: Vec<String> = names.collect();
            let [name, rest @ ..] = names.as_slice() else { continue };
            if rest.iter().all(|other| other == name)
                && let Some(address) = image.exported(name).unwrap()
            {
                assert_eq!(function.start, Some(address), "{name}");
                compared += 1;
            }
        }
        assert!(compared > 20, "{compared} functions compared");
    });
}

#[test]
fn reasons_and_lines_are_those_of_the_code() {
    let mut program = Program::new();
    // Strings of some compilers are not separated.
    let name = program.text("keep-alive../../ssl/ssl_lib.cc") + 10;
    let start = program.function(name, &[ERROR, Error { reason: 226, line: 940, ..ERROR }], true);
    let file = fixture::file(&program.bytes());
    fixture::searched(&file, &[ENDING], |search, _| {
        let search = search.unwrap();
        let source = search.sources(ENDING).next().unwrap();
        let [function] = source.functions.as_slice() else { panic!("{source:?}") };
        assert_eq!((function.start, function.stores, function.calls.as_slice()), (Some(start), true, &[CODE][..]));
        assert_eq!(function.reasons(), BTreeSet::from([66, 226]));
        assert_eq!(function.sites.iter().map(|site| site.line().unwrap()).collect::<Vec<_>>(), [931, 940]);
        assert_eq!(function.sites[0].before(3), Some(16));
    })
    .unwrap();
}

#[test]
fn where_the_stack_contradicts_no_function_begins() {
    let with = |before: &[u8], after: &[u8]| {
        let mut program = Program::new();
        let name = program.text(ENDING) as u32;
        let mut code = before.to_vec();
        code.push(0xb9);
        code.extend(name.to_le_bytes());
        code.extend([0xe8, 0, 0, 0, 0]);
        code.extend(after);
        code.resize(code.len().next_multiple_of(16), 0xcc);
        program.raw(&code);
        starts(&program.bytes())
    };
    // push %rbp .. pop %rbp; ret
    assert_eq!(with(&[0x55], &[0x5d, 0xc3]), [Some(CODE + 16)]);
    // The call finds the stack where no caller leaves it.
    assert_eq!(with(&[], &[0xc3]), [None]);
    // The return would take something else for its address.
    assert_eq!(with(&[0x55], &[0xc3]), [None]);
    assert_eq!(with(&[0x55], &[0x5d, 0x5d, 0xc3]), [None]);
    // It never returns.
    assert_eq!(with(&[0x55], &[0x0f, 0x0b]), [None]);
}

#[test]
fn a_file_that_is_cut_anywhere_is_no_danger() {
    let mut program = Program::new();
    let name = program.text(ENDING);
    program.function(name, &[ERROR], true);
    let bytes = program.bytes();
    for len in (0..bytes.len()).filter(|len| *len < 512 || *len % 97 == 0 || *len + 128 > bytes.len()) {
        let file = fixture::file(&bytes[..len]);
        fixture::searched(&file, &[ENDING], |search, _| search.is_ok());
    }
}

#[test]
fn headers_that_lie_are_no_danger() {
    let mut program = Program::new();
    let name = program.text(ENDING);
    program.function(name, &[ERROR], true);
    let bytes = program.bytes();
    // Offset, address and length of each of the two segments, and what each header says they are.
    for segment in [64, 64 + 56] {
        for field in [8, 16, 32] {
            for value in [1, 0x1000, 1 << 32, i64::MAX as u64, u64::MAX - 0xfff, u64::MAX] {
                let mut bytes = bytes.clone();
                bytes[segment + field..][..8].copy_from_slice(&value.to_le_bytes());
                starts(&bytes);
            }
        }
    }
}

#[test]
fn a_huge_file_without_anything_in_it_is_refused_at_once() {
    let mut program = Program::new();
    let name = program.text(ENDING);
    program.function(name, &[ERROR], true);
    let bytes = program.bytes();
    let file = fixture::file(&bytes);
    file.set_len(1 << 42).unwrap();
    file.write_all_at(&(1u64 << 41).to_le_bytes(), 64 + 32).unwrap();
    let began = Instant::now();
    let refused = fixture::searched(&file, &[ENDING], |search, _| matches!(search, Err(Unsearchable::TooLarge)));
    assert_eq!(refused, Some(true));
    assert!(began.elapsed().as_millis() < 500, "{:?}", began.elapsed());
}

#[test]
fn too_many_strings_are_refused() {
    let mut program = Program::new();
    for _ in 0..100 {
        program.text(ENDING);
    }
    let file = fixture::file(&program.bytes());
    let refused = fixture::searched(&file, &[ENDING], |search, _| matches!(search, Err(Unsearchable::TooMany)));
    assert_eq!(refused, Some(true));
}

#[test]
fn a_search_ends_when_it_is_told_to() {
    let file = fixture::file(&Program::new().bytes());
    let cache = Cache::new(&file);
    let image = Image::parse(&cache).unwrap().unwrap();
    let stop = AtomicBool::new(true);
    assert!(matches!(Search::run(&file, &image, &[ENDING], &stop), Err(Unsearchable::Stopped)));
}
