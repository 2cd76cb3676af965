//! The TLS functions of an ELF file.
//!
//! Owns the table of functions that are known and what the kernel programs must be told about each. Looks at
//! exported symbols: shared libraries have them, and so do programs that link OpenSSL statically and export it, as
//! Node does.

use std::fs::File;

use inferscope_common::{
    record::{READ, SOURCE_OPENSSL, WRITE},
    tls_cookie::{COUNT_FIFTH, COUNT_FOURTH, COUNT_RETURNED, pack},
};
use object::{
    Object as _, ObjectSymbol as _, SymbolKind,
    read::{
        ReadCache, ReadRef,
        elf::{ElfFile64, FileHeader as _, ProgramHeader as _},
    },
};

use crate::kernel::ProbeFunction;

/// Functions by symbol, with their cookie; `None` for the one that frees a connection. SSL_peek is not here: the
/// bytes come again.
const FUNCTIONS: [(&str, Option<u64>); 6] = [
    ("SSL_read", Some(pack(READ, COUNT_RETURNED, SOURCE_OPENSSL))),
    ("SSL_write", Some(pack(WRITE, COUNT_RETURNED, SOURCE_OPENSSL))),
    ("SSL_read_ex", Some(pack(READ, COUNT_FOURTH, SOURCE_OPENSSL))),
    ("SSL_write_ex", Some(pack(WRITE, COUNT_FOURTH, SOURCE_OPENSSL))),
    ("SSL_write_ex2", Some(pack(WRITE, COUNT_FIFTH, SOURCE_OPENSSL))),
    ("SSL_free", None),
];

/// The TLS functions that a file has, in the order in which they are to be probed. Empty if it is no TLS library:
/// one that has no read and no write function is none, whatever else it exports.
pub fn tls_functions(file: &File) -> Result<Vec<ProbeFunction>, object::Error> {
    let cache = ReadCache::new(file);
    let elf: ElfFile64<'_, object::Endianness, _> = ElfFile64::parse(&cache)?;
    let mut found = Vec::new();
    for symbol in elf.dynamic_symbols() {
        if symbol.kind() != SymbolKind::Text || symbol.is_undefined() {
            continue;
        }
        let Ok(name) = symbol.name() else { continue };
        if let Some(&(name, cookie)) = FUNCTIONS.iter().find(|(known, _)| *known == name)
            && let Some(file_offset) = file_offset(&elf, symbol.address())
            && !found.iter().any(|f: &ProbeFunction| f.file_offset == file_offset)
        {
            found.push(ProbeFunction { name, file_offset, cookie });
        }
    }
    let has = |wanted: &str| found.iter().any(|f| f.name == wanted);
    if !has("SSL_read") || !has("SSL_write") {
        return Ok(Vec::new());
    }
    found.sort_by_key(|f| FUNCTIONS.iter().position(|(name, _)| *name == f.name));
    Ok(found)
}

/// Where in the file the instruction at a virtual address is: probes are set by file offset.
fn file_offset<'data, R: ReadRef<'data>>(elf: &ElfFile64<'data, object::Endianness, R>, address: u64) -> Option<u64> {
    let endian = elf.endian();
    let segments = elf.elf_header().program_headers(endian, elf.data()).ok()?;
    segments.iter().find_map(|segment| {
        if segment.p_type(endian) != object::elf::PT_LOAD {
            return None;
        }
        let (start, size) = (segment.p_vaddr(endian), segment.p_filesz(endian));
        let within = address.checked_sub(start)?;
        (within < size).then(|| segment.p_offset(endian) + within)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn this_test_is_no_tls_library() {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(tls_functions(&file).unwrap(), []);
    }

    #[test]
    fn noise_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\x7fELF and nothing that follows from it").unwrap();
        assert!(tls_functions(&file).is_err());
    }

    #[test]
    fn the_systems_libssl_has_both_apis() {
        let Ok(file) = File::open("/usr/lib/x86_64-linux-gnu/libssl.so.3") else {
            eprintln!("SKIPPED: no libssl.so.3 on this machine");
            return;
        };
        let functions = tls_functions(&file).unwrap();
        let names: Vec<&str> = functions.iter().map(|f| f.name).collect();
        assert_eq!(names[..4], ["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex"]);
        assert_eq!(names.last(), Some(&"SSL_free"));
    }
}
