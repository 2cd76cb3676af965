//! Files that lie: whatever is in a file, looking for TLS libraries in it ends soon, takes little memory and does not panic.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::finders::libraries;

/// What the worst file may take in a test build. Reading stops by itself before.
const SOON: Duration = Duration::from_secs(20);

/// Memory that the worst file may take, in KiB: what may be read of it, and a little.
const MEMORY_KB: u64 = (256 << 10) + (32 << 10);

/// Set in a copy of this test that runs alone, so that its memory is its own.
const ALONE: &str = "INFERSCOPE_TEST_ALONE";

/// Section headers of [`elf`], in order.
const DYNSYM: usize = 1;
const DYNSTR: usize = 2;
const HASH: usize = 3;
const SYMTAB: usize = 4;
const STRTAB: usize = 5;
const N_SECTIONS: usize = 6;

/// Where things are in [`elf`].
const PROGRAM_HEADER: usize = 64;
const CODE: usize = 0x100;
const STRINGS: usize = 0x200;
const SYMBOLS: usize = 0x300;
const TABLE: usize = 0x400;
const SECTIONS: usize = 0x500;

/// Members of a section header: place and size.
const SH_TYPE: (usize, usize) = (4, 4);
const SH_OFFSET: (usize, usize) = (24, 8);
const SH_SIZE: (usize, usize) = (32, 8);
const SH_LINK: (usize, usize) = (40, 4);
const SH_ENTSIZE: (usize, usize) = (56, 8);

const NAMES: [&str; 3] = ["SSL_read", "SSL_write", "SSL_free"];

fn put(file: &mut [u8], at: usize, size: usize, value: u64) {
    file[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

fn set(file: &mut [u8], section: usize, (at, size): (usize, usize), value: u64) {
    put(file, SECTIONS + 64 * section + at, size, value);
}

/// A small shared object that exports the functions of OpenSSL, found through its hash table if `hashed`, else by a walk.
fn elf(hashed: bool) -> Vec<u8> {
    let mut file = vec![0; SECTIONS + 64 * N_SECTIONS];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    // e_type, e_machine, e_version, e_phoff, e_shoff, e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum,
    // e_shstrndx
    let header = [(16, 2, 3), (18, 2, 62), (20, 4, 1), (32, 8, PROGRAM_HEADER as u64), (40, 8, SECTIONS as u64)];
    let sizes = [(52, 2, 64), (54, 2, 56), (56, 2, 1), (58, 2, 64), (60, 2, N_SECTIONS as u64), (62, 2, STRTAB as u64)];
    header.into_iter().chain(sizes).for_each(|(at, size, value)| put(&mut file, at, size, value));
    // PT_LOAD, readable and executable, from the beginning to the end, at address 0.
    let len = file.len() as u64;
    let program = [(0, 4, 1), (4, 4, 5), (32, 8, len), (40, 8, len), (48, 8, 0x1000)];
    program.into_iter().for_each(|(at, size, value)| put(&mut file, PROGRAM_HEADER + at, size, value));
    // Functions that push and return.
    file[CODE..STRINGS].copy_from_slice(&[0x55, 0x5d, 0xc3, 0x90].repeat((STRINGS - CODE) / 4));
    let mut name = 1;
    for (i, text) in NAMES.iter().enumerate() {
        file[STRINGS + name..][..text.len()].copy_from_slice(text.as_bytes());
        // st_name, STT_FUNC and STB_GLOBAL, st_shndx, st_value, st_size
        let symbol = [(0, 4, name as u64), (4, 1, 0x12), (6, 2, 1), (8, 8, (CODE + 16 * i) as u64), (16, 8, 4)];
        symbol.into_iter().for_each(|(at, size, value)| put(&mut file, SYMBOLS + 24 * (i + 1) + at, size, value));
        name += text.len() + 1;
    }
    // One bucket with all symbols behind each other, and a filter that lets everything through.
    let hash = [(0, 4, 1), (4, 4, 1), (8, 4, 1), (12, 4, 0), (16, 8, u64::MAX), (24, 4, 1)];
    hash.into_iter().for_each(|(at, size, value)| put(&mut file, TABLE + at, size, value));
    for (i, text) in NAMES.iter().enumerate() {
        let last = u64::from(i + 1 == NAMES.len());
        let value = u64::from(object::elf::gnu_hash(text.as_bytes())) & !1 | last;
        put(&mut file, TABLE + 28 + 4 * i, 4, value);
    }
    let symbols = 24 * (NAMES.len() as u64 + 1);
    for (section, kind, offset, size, link, entry) in [
        (DYNSYM, 11, SYMBOLS, symbols, DYNSTR, 24),
        (DYNSTR, 3, STRINGS, 0x100, 0, 0),
        (HASH, if hashed { 0x6fff_fff6 } else { 0 }, TABLE, 28 + 4 * NAMES.len() as u64, DYNSYM, 0),
        (SYMTAB, 2, SYMBOLS, symbols, STRTAB, 24),
        (STRTAB, 3, STRINGS, 0x100, 0, 0),
    ] {
        set(&mut file, section, SH_TYPE, kind);
        set(&mut file, section, SH_OFFSET, offset as u64);
        set(&mut file, section, SH_SIZE, size);
        set(&mut file, section, SH_LINK, link as u64);
        set(&mut file, section, SH_ENTSIZE, entry);
    }
    file
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Looks into a file; how many libraries it has, 0 if it cannot be read.
fn look(file: &File) -> usize {
    let began = Instant::now();
    let found = libraries(file).map_or(0, |libraries| libraries.len());
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
    found
}

/// The most memory that this process ever had, in KiB.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn the_small_file_is_a_library_either_way() {
    assert_eq!([true, false].map(|hashed| look(&file_of(&elf(hashed)))), [1, 1]);
}

#[test]
fn a_file_may_end_at_any_byte() {
    for hashed in [true, false] {
        let bytes = elf(hashed);
        let file = file_of(&bytes);
        for len in (0..bytes.len()).rev() {
            file.set_len(len as u64).unwrap();
            assert_eq!(look(&file), 0, "cut at {len}: the last section's header is gone");
        }
    }
}

#[test]
fn the_systems_library_may_end_anywhere() {
    let Ok(bytes) = std::fs::read("/usr/lib/x86_64-linux-gnu/libssl.so.3") else {
        eprintln!("SKIPPED: no libssl.so.3 on this machine");
        return;
    };
    let file = file_of(&bytes);
    assert_eq!(look(&file), 1);
    // Every byte of what is read first and last, and a spread of what lies between.
    let cuts = (0..1024).chain((1024..bytes.len()).step_by(4099)).chain(bytes.len() - 256..bytes.len());
    let mut cuts: Vec<usize> = cuts.collect();
    cuts.sort_unstable_by(|a, b| b.cmp(a));
    for len in cuts {
        file.set_len(len as u64).unwrap();
        look(&file);
    }
}

#[test]
fn headers_may_claim_anything() {
    let extremes = [0, 1, 7, 0x17, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, 1 << 63, u64::MAX - 7, u64::MAX];
    for hashed in [true, false] {
        for section in 0..N_SECTIONS {
            for member in [SH_TYPE, SH_OFFSET, SH_SIZE, SH_LINK, SH_ENTSIZE] {
                for value in extremes {
                    let mut bytes = elf(hashed);
                    set(&mut bytes, section, member, value);
                    look(&file_of(&bytes));
                }
            }
        }
        // The file's own header, the segment's, and the head of the hash table.
        let members = [(32, 8), (40, 8), (52, 2), (54, 2), (56, 2), (58, 2), (60, 2), (62, 2)];
        let segment = [(0, 4), (4, 4), (8, 8), (16, 8), (32, 8), (40, 8)].map(|(at, n)| (PROGRAM_HEADER + at, n));
        let table = [(0, 4), (4, 4), (8, 4), (12, 4), (24, 4), (28, 4)].map(|(at, n)| (TABLE + at, n));
        for (at, size) in members.into_iter().chain(segment).chain(table) {
            for value in extremes {
                let mut bytes = elf(hashed);
                put(&mut bytes, at, size, value);
                look(&file_of(&bytes));
            }
        }
    }
}

#[test]
fn sections_may_lie_on_one_another() {
    let mut bytes = elf(false);
    let len = (bytes.len() / 24 * 24) as u64;
    for section in [DYNSYM, DYNSTR, SYMTAB, STRTAB] {
        set(&mut bytes, section, SH_OFFSET, 0);
        set(&mut bytes, section, SH_SIZE, len);
    }
    look(&file_of(&bytes));
}

#[test]
fn a_file_without_sections_has_no_library() {
    let mut bytes = elf(true);
    put(&mut bytes, 40, 8, 0);
    put(&mut bytes, 60, 2, 0);
    assert_eq!(look(&file_of(&bytes)), 0);
}

/// Four terabytes that are not there, and tables that claim as much of them as is read at all: symbols by the million,
/// strings without an end, a hash chain without one.
#[test]
fn a_file_of_terabytes_is_given_up() {
    const AWAY: u64 = 1 << 40;
    const THIS: &str = "discover::hostile_tests::a_file_of_terabytes_is_given_up";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", THIS, "--nocapture"]).env(ALONE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let before = peak_kb();
    let began = Instant::now();
    for size in [50 << 20, 64 << 20, 256 << 20, 1 << 40] {
        for hashed in [true, false] {
            let mut bytes = elf(hashed);
            for section in [DYNSYM, SYMTAB] {
                set(&mut bytes, section, SH_OFFSET, AWAY);
                set(&mut bytes, section, SH_SIZE, size / 24 * 24);
            }
            set(&mut bytes, HASH, SH_OFFSET, 2 * AWAY);
            set(&mut bytes, HASH, SH_SIZE, size);
            let file = file_of(&bytes);
            file.set_len(4 * AWAY).unwrap();
            file.write_all_at(&bytes[TABLE..TABLE + 28], 2 * AWAY).unwrap();
            assert_eq!(look(&file), 0);
        }
    }
    let took = peak_kb() - before;
    eprintln!("terabytes: eight files in {:?}, {took} KiB", began.elapsed());
    assert!(took < MEMORY_KB, "{took} KiB");
}

/// Symbols whose names never end: each is looked for in vain, and the budget of reads is used up.
#[test]
fn names_without_an_end_are_given_up() {
    let mut bytes = elf(false);
    let symbols = bytes.len() as u64;
    let n = 4_000_000u64;
    // Every symbol has another name, of as many bytes as are read of one.
    let table: Vec<u8> = (0..n).flat_map(|i| symbol((i % 4_000_000) as u32)).collect();
    let strings = symbols + table.len() as u64;
    bytes.extend(table);
    for section in [DYNSYM, SYMTAB] {
        set(&mut bytes, section, SH_OFFSET, symbols);
        set(&mut bytes, section, SH_SIZE, n * 24);
    }
    for section in [DYNSTR, STRTAB] {
        set(&mut bytes, section, SH_OFFSET, strings);
        set(&mut bytes, section, SH_SIZE, 8 << 20);
    }
    bytes.extend(vec![b'x'; 8 << 20]);
    let began = Instant::now();
    assert_eq!(look(&file_of(&bytes)), 0);
    eprintln!("names without an end: {:?}", began.elapsed());
}

fn symbol(name: u32) -> [u8; 24] {
    let mut symbol = [0; 24];
    symbol[..4].copy_from_slice(&name.to_le_bytes());
    (symbol[4], symbol[6]) = (0x12, 1);
    symbol
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bits_may_be_wrong(
        hashed in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..16),
    ) {
        let mut bytes = elf(hashed);
        let len = bytes.len();
        flips.iter().for_each(|(at, bit)| bytes[at.index(len)] ^= 1 << bit);
        look(&file_of(&bytes));
    }

    #[test]
    fn words_may_be_anything(
        hashed in any::<bool>(),
        words in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..6),
    ) {
        let mut bytes = elf(hashed);
        let len = bytes.len() / 4;
        words.iter().for_each(|(at, word)| put(&mut bytes, 4 * at.index(len), 4, u64::from(*word)));
        look(&file_of(&bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_systems_library_may_have_wrong_bits(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..64),
    ) {
        let Ok(mut bytes) = std::fs::read("/usr/lib/x86_64-linux-gnu/libssl.so.3") else { return Ok(()) };
        // Half of them where the tables are: in the first eighth and behind the last byte of code.
        let len = bytes.len();
        for (n, (at, bit)) in flips.iter().enumerate() {
            let at = if n % 2 == 0 { at.index(len / 8) } else { at.index(len) };
            bytes[at] ^= 1 << bit;
        }
        look(&file_of(&bytes));
    }
}
