//! The finder against files made by hand: a Go program reduced to what the finder looks at.

use std::{fs::File, io::Write as _};

use proptest::prelude::*;

use super::{
    pclntab::{Layout, tests::table},
    returns::tests::{AT, DEFERRED_AT, READ as READ_CODE, UNLOCK},
    *,
};
use crate::{discover::image::Cache, kernel::SiteClass};

/// Where the file's only segment is loaded: at its own offset, so that addresses are offsets.
const WRITE_AT: u64 = 0x1100;
const CLOSE_AT: u64 = 0x1180;
const END: u64 = 0x1200;

/// Sections as name, address and contents.
type Sections = Vec<(&'static str, u64, Vec<u8>)>;

fn build_info(version: &str) -> Vec<u8> {
    let mut section = b"\xff Go buildinf:\x08\x02".to_vec();
    section.resize(32, 0);
    section.push(version.len() as u8);
    section.extend(version.as_bytes());
    section
}

fn program(layout: Layout, version: &str) -> Sections {
    let mut text = vec![0xcc; (END - AT) as usize];
    for (address, code) in
        [(AT, &READ_CODE[..]), (DEFERRED_AT, &UNLOCK), (WRITE_AT, &READ_CODE), (CLOSE_AT, &READ_CODE)]
    {
        text[(address - AT) as usize..][..code.len()].copy_from_slice(code);
    }
    let base = if layout == Layout::Go116 { 0 } else { AT };
    let functions = [
        (AT - base, TLS_READ),
        (AT - base + READ_CODE.len() as u64, "runtime.padding"),
        (DEFERRED_AT - base, "crypto/tls.(*Conn).Read.deferwrap1"),
        (WRITE_AT - base, TLS_WRITE),
        (WRITE_AT - base + READ_CODE.len() as u64, "runtime.padding2"),
        (CLOSE_AT - base, TLS_CLOSE),
    ];
    let table = table(layout, 0, &functions, END - base);
    vec![(".text", AT, text), (".gopclntab", 0x2000, table), (".go.buildinfo", 0x3000, build_info(version))]
}

/// An ELF file with these sections, at file offsets equal to their addresses, and one segment over each.
fn elf(sections: &Sections, with_headers: bool) -> Vec<u8> {
    let mut names = vec![0u8];
    let mut headers = vec![0u8; 64];
    let mut segments = Vec::new();
    let mut file = vec![0u8; 0x4000];
    let header = |headers: &mut Vec<u8>, name: u32, kind: u32, address: u64, len: u64| {
        headers.extend(name.to_le_bytes());
        headers.extend(kind.to_le_bytes());
        headers.extend([0; 8]);
        [address, address, len, 0, 1, 0].iter().for_each(|word| headers.extend(word.to_le_bytes()));
    };
    for (name, address, bytes) in sections {
        let (at, len) = (*address as usize, bytes.len() as u64);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        header(&mut headers, names.len() as u32, 1, *address, len);
        names.extend(name.as_bytes());
        names.push(0);
        segments.extend(1u32.to_le_bytes());
        segments.extend(if *name == ".text" { 5u32 } else { 4 }.to_le_bytes());
        [*address, *address, *address, len, len, 1].iter().for_each(|word| segments.extend(word.to_le_bytes()));
    }
    let names_at = names.len() as u32;
    names.extend(b".shstrtab\0");
    header(&mut headers, names_at, 3, 0x3800, names.len() as u64);
    file[0x3800..][..names.len()].copy_from_slice(&names);
    file[0x3900..][..headers.len()].copy_from_slice(&headers);
    file[64..][..segments.len()].copy_from_slice(&segments);
    let count = sections.len() as u16;
    let (headers_at, headers_count, names_index) =
        if with_headers { (0x3900u64, count + 2, count + 1) } else { (0, 0, 0) };
    let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    head.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    [AT, 64, headers_at].iter().for_each(|word| head.extend(word.to_le_bytes()));
    head.extend([0; 4]);
    [64, 56, count, 64, headers_count, names_index].iter().for_each(|half: &u16| head.extend(half.to_le_bytes()));
    file[..64].copy_from_slice(&head);
    file
}

fn look(bytes: &[u8]) -> Result<Option<Library>, object::Error> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let cache = Cache::new(&file);
    Image::parse(&cache)?.map_or(Ok(None), |image| find(&image))
}

#[test]
fn every_layout_is_probed_where_calls_end() {
    for (layout, version) in [(Layout::Go116, "go1.17.1"), (Layout::Go118, "go1.19.13"), (Layout::Go120, "go1.26.8")] {
        let library = look(&elf(&program(layout, version), true)).unwrap().unwrap();
        assert_eq!(library.refused, None, "{layout:?}");
        let probes: Vec<_> = library.probes.iter().map(|p| (p.function, p.program, p.file_offset, p.class)).collect();
        assert_eq!(
            probes,
            [
                (TLS_READ, Program::GoReturn, DEFERRED_AT + 6, SiteClass::Emulated),
                (TLS_WRITE, Program::GoWrite, WRITE_AT + 6, SiteClass::Emulated),
                (TLS_CLOSE, Program::GoClose, CLOSE_AT + 4, SiteClass::Emulated),
            ],
            "{layout:?}"
        );
        assert_eq!(library.places.len(), 2);
        assert!(library.places.iter().all(|place| place.itab == 0), "there is no method table");
    }
}

#[test]
fn an_old_go_is_refused_with_its_version() {
    let library = look(&elf(&program(Layout::Go116, "go1.16.15"), true)).unwrap().unwrap();
    assert!(library.probes.is_empty());
    assert!(library.refused.unwrap().contains("Go 1.16"));
}

#[test]
fn code_that_is_not_gos_is_refused() {
    let mut sections = program(Layout::Go120, "go1.26.8");
    sections[0].2[..4].copy_from_slice(&[0x48, 0x3b, 0x61, 0x10]);
    let library = look(&elf(&sections, true)).unwrap().unwrap();
    assert!(library.probes.is_empty() && library.refused.is_some());
}

#[test]
fn a_program_without_tls_has_nothing() {
    let mut sections = program(Layout::Go120, "go1.26.8");
    sections[1].2 = table(Layout::Go120, AT, &[(0, "runtime.main")], 0x78);
    assert_eq!(look(&elf(&sections, true)).unwrap(), None);
}

#[test]
fn the_table_is_found_without_sections() {
    let mut sections = program(Layout::Go118, "go1.19");
    // Without a section for the text, the header must say where it begins.
    sections[1].2[24..32].copy_from_slice(&AT.to_le_bytes());
    let library = look(&elf(&sections, false)).unwrap().unwrap();
    assert_eq!((library.refused, library.probes.len()), (None, 3));
}

#[test]
fn a_file_that_is_cut_anywhere_is_looked_at_without_harm() {
    let whole = elf(&program(Layout::Go120, "go1.26.8"), true);
    // Every byte of what is looked at, and the zeroes between in steps.
    for len in (0..whole.len()).filter(|len| len % 61 == 0 || whole[*len] != 0) {
        let _error_or_not = look(&whole[..len]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn flipped_bytes_are_looked_at_without_harm(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
    ) {
        let mut file = elf(&program(Layout::Go120, "go1.26.8"), true);
        let filled: Vec<usize> = (0..file.len()).filter(|at| file[*at] != 0).collect();
        for (at, to) in flips {
            file[*at.get(&filled)] = to;
        }
        let _error_or_not = look(&file);
    }
}
