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
    Endianness,
    elf::{
        FileHeader64, PT_LOAD, ProgramHeader64, SHN_UNDEF, SHT_DYNSYM, SHT_GNU_HASH, SHT_STRTAB, STT_FUNC,
        SectionHeader64, gnu_hash,
    },
    read::{
        ReadCache,
        elf::{
            FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _, SymbolTable, VersionTable,
        },
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

/// Longest section that is read. The largest string table that was seen, of a browser with its symbols, has 90 MB.
const MAX_SECTION: u64 = 256 << 20;

type Cache<'f> = ReadCache<&'f File>;
type Header = FileHeader64<Endianness>;

/// The TLS functions that a file has, in the order in which they are to be probed. Empty if it is no TLS library:
/// one that has no read and no write function is none, whatever else it exports.
///
/// Looks the few names up in the file's own hash table: a short-lived program must have its probes before it makes
/// its first call, and a browser or Node exports tens of thousands of symbols.
pub fn tls_functions(file: &File) -> Result<Vec<ProbeFunction>, object::Error> {
    let cache = ReadCache::new(file);
    let data: &Cache<'_> = &cache;
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let segments = header.program_headers(endian, data)?;
    // What is read whole, and whose length the file's author chose: a sparse file can claim any.
    let read_whole = [SHT_DYNSYM, SHT_STRTAB, SHT_GNU_HASH];
    let too_large = |section: &SectionHeader64<Endianness>| {
        read_whole.contains(&section.sh_type(endian)) && section.sh_size(endian) > MAX_SECTION
    };
    if sections.iter().any(too_large) {
        return Ok(Vec::new());
    }
    let symbols = sections.symbols(endian, data, SHT_DYNSYM)?;
    let mut found = Vec::new();
    for (name, cookie) in FUNCTIONS {
        if let Some(address) = address_of(endian, data, &sections, &symbols, name)?
            && let Some(file_offset) = file_offset(endian, segments, address)
            && !found.iter().any(|f: &ProbeFunction| f.file_offset == file_offset)
        {
            found.push(ProbeFunction { name, file_offset, cookie });
        }
    }
    let has = |wanted: &str| found.iter().any(|f| f.name == wanted);
    if !has("SSL_read") || !has("SSL_write") {
        return Ok(Vec::new());
    }
    Ok(found)
}

/// Virtual address of an exported function.
fn address_of<'d, 'f>(
    endian: Endianness,
    data: &'d Cache<'f>,
    sections: &SectionTable<'d, Header, &'d Cache<'f>>,
    symbols: &SymbolTable<'d, Header, &'d Cache<'f>>,
    name: &str,
) -> Result<Option<u64>, object::Error> {
    let name = name.as_bytes();
    let symbol = match sections.gnu_hash(endian, data)? {
        Some((table, _)) => {
            table.find(endian, name, gnu_hash(name), None, symbols, &VersionTable::default()).map(|(_, symbol)| symbol)
        }
        // Old linkers, and some that are not GNU's, write no such table.
        None => symbols.iter().find(|symbol| symbol.name(endian, symbols.strings()) == Ok(name)),
    };
    Ok(symbol
        .filter(|symbol| symbol.st_type() == STT_FUNC && symbol.st_shndx(endian) != SHN_UNDEF)
        .map(|symbol| symbol.st_value(endian)))
}

/// Where in the file the instruction at a virtual address is: probes are set by file offset.
fn file_offset(endian: Endianness, segments: &[ProgramHeader64<Endianness>], address: u64) -> Option<u64> {
    segments.iter().find_map(|segment| {
        if segment.p_type(endian) != PT_LOAD {
            return None;
        }
        let within = address.checked_sub(segment.p_vaddr(endian))?;
        (within < segment.p_filesz(endian)).then(|| segment.p_offset(endian) + within)
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
