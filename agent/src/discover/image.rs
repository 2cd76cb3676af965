//! An ELF file as the finders of TLS functions look at it.
//!
//! Owns reading: the headers, the symbol tables, code bytes by virtual address, and the way from a virtual address to
//! the place in the file where a probe is set. Bounds what it reads, because the file's author chose every length in
//! it. Knows nothing of TLS.

use std::fs::File;

use object::{
    Endianness,
    elf::{
        ELF_NOTE_GNU, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, NT_GNU_BUILD_ID, PF_W, PF_X, PT_LOAD, ProgramHeader64,
        SHN_UNDEF, SHT_DYNSYM, SHT_GNU_HASH, SHT_STRTAB, SHT_SYMTAB, STT_FUNC, SectionHeader64, gnu_hash,
    },
    read::{
        ReadCache, ReadRef as _,
        elf::{
            FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _, SymbolTable, VersionTable,
        },
    },
};

/// Longest section that is read whole. The largest string table that was seen, of a browser with its symbols, has 90 MB.
const MAX_SECTION: u64 = 256 << 20;

/// Longest piece of code that is read at once; the longest TLS function that was seen has 4 KB.
const MAX_CODE: u64 = 64 << 10;

/// Longest segment of notes that is read: Bun's has 4 KB.
const MAX_NOTES: u64 = 64 << 10;

/// Longest build id: linkers write 8 to 32 bytes.
const MAX_BUILD_ID: usize = 64;

/// What a file is read through: positioned reads, kept. Not a mapping, because a file that shrinks while it is mapped
/// kills its reader.
pub type Cache<'f> = ReadCache<&'f File>;

type Header = FileHeader64<Endianness>;

/// A parsed file.
pub struct Image<'d, 'f> {
    data: &'d Cache<'f>,
    endian: Endianness,
    sections: SectionTable<'d, Header, &'d Cache<'f>>,
    segments: &'d [ProgramHeader64<Endianness>],
    dynamic: SymbolTable<'d, Header, &'d Cache<'f>>,
    fixed: bool,
}

/// A loadable segment, as the file claims it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address.
    pub address: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// Bytes of it that are in the file.
    pub len: u64,
    /// It is code.
    pub executable: bool,
    /// It is data that changes.
    pub writable: bool,
}

impl<'d, 'f> Image<'d, 'f> {
    /// Reads the headers; `None` for a file that holds no code of this machine, or claims sections that nobody has.
    pub fn parse(data: &'d Cache<'f>) -> Result<Option<Self>, object::Error> {
        let header = Header::parse(data)?;
        let endian = header.endian()?;
        if header.e_machine(endian) != EM_X86_64 || !matches!(header.e_type(endian), ET_DYN | ET_EXEC) {
            return Ok(None);
        }
        let sections = header.sections(endian, data)?;
        let segments = header.program_headers(endian, data)?;
        // What is read whole, and whose length the file's author chose: a sparse file can claim any.
        let read_whole = [SHT_DYNSYM, SHT_SYMTAB, SHT_STRTAB, SHT_GNU_HASH];
        let too_large = |section: &SectionHeader64<Endianness>| {
            read_whole.contains(&section.sh_type(endian)) && section.sh_size(endian) > MAX_SECTION
        };
        if sections.iter().any(too_large) {
            return Ok(None);
        }
        let dynamic = sections.symbols(endian, data, SHT_DYNSYM)?;
        let fixed = header.e_type(endian) == ET_EXEC;
        Ok(Some(Self { data, endian, sections, segments, dynamic, fixed }))
    }

    /// Virtual address of an exported function. Looked up in the file's own hash table: a short-lived program must
    /// have its probes before it makes its first call, and a browser or Node exports tens of thousands of symbols.
    pub fn exported(&self, name: &str) -> Result<Option<u64>, object::Error> {
        let Self { data, endian, sections, dynamic, .. } = self;
        let name = name.as_bytes();
        let symbol = match sections.gnu_hash(*endian, *data)? {
            Some((table, _)) => table
                .find(*endian, name, gnu_hash(name), None, dynamic, &VersionTable::default())
                .map(|(_, symbol)| symbol),
            // Old linkers, and some that are not GNU's, write no such table.
            None => dynamic.iter().find(|symbol| symbol.name(*endian, dynamic.strings()) == Ok(name)),
        };
        Ok(symbol
            .filter(|symbol| symbol.st_type() == STT_FUNC && symbol.st_shndx(*endian) != SHN_UNDEF)
            .map(|symbol| symbol.st_value(*endian)))
    }

    /// Virtual addresses of functions in the full symbol table, local ones included, in one pass over it; all `None`
    /// for a stripped file.
    pub fn local<const N: usize>(&self, names: [&str; N]) -> Result<[Option<u64>; N], object::Error> {
        self.local_by(|name| names.iter().position(|wanted| *wanted == name))
    }

    /// The same for functions that `which` gives places.
    pub fn local_by<const N: usize>(
        &self,
        which: impl Fn(&str) -> Option<usize>,
    ) -> Result<[Option<u64>; N], object::Error> {
        let mut found = [None; N];
        let symbols = self.sections.symbols(self.endian, self.data, SHT_SYMTAB)?;
        for symbol in symbols.iter() {
            if symbol.st_type() != STT_FUNC || symbol.st_shndx(self.endian) == SHN_UNDEF {
                continue;
            }
            let Ok(name) = symbol.name(self.endian, symbols.strings()) else { continue };
            let place = std::str::from_utf8(name).ok().and_then(&which);
            if let Some(slot) = place.and_then(|place| found.get_mut(place)) {
                *slot = Some(symbol.st_value(self.endian));
            }
        }
        Ok(found)
    }

    /// Where in the file the instruction at a virtual address is: probes are set by file offset.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            if segment.p_type(self.endian) != PT_LOAD || !segment.p_flags(self.endian).contains(PF_X) {
                return None;
            }
            let within = address.checked_sub(segment.p_vaddr(self.endian))?;
            (within < segment.p_filesz(self.endian)).then(|| segment.p_offset(self.endian).checked_add(within))?
        })
    }

    /// The identity that the linker gave it, if it did.
    pub fn build_id(&self) -> Option<&'d [u8]> {
        let id =
            self.segments.iter().filter(|segment| segment.p_filesz(self.endian) <= MAX_NOTES).find_map(|segment| {
                let mut notes = segment.notes(self.endian, self.data).ok()??;
                while let Ok(Some(note)) = notes.next() {
                    if note.name() == ELF_NOTE_GNU && note.n_type(self.endian) == NT_GNU_BUILD_ID {
                        return Some(note.desc());
                    }
                }
                None
            });
        id.filter(|id| (8..=MAX_BUILD_ID).contains(&id.len()))
    }

    /// What the file's loadable segments say of themselves, in their order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        self.segments.iter().filter(|segment| segment.p_type(self.endian) == PT_LOAD).map(|segment| Segment {
            address: segment.p_vaddr(self.endian),
            offset: segment.p_offset(self.endian),
            len: segment.p_filesz(self.endian),
            executable: segment.p_flags(self.endian).contains(PF_X),
            writable: segment.p_flags(self.endian).contains(PF_W),
        })
    }

    /// Whether it is loaded where it says, so that its code may hold addresses as they are.
    pub fn is_at_fixed_address(&self) -> bool {
        self.fixed
    }

    /// The code at a virtual address, `len` bytes or as many as its segment has.
    pub fn code(&self, address: u64, len: u64) -> Option<&'d [u8]> {
        let segment = self.segments.iter().find(|segment| {
            segment.p_type(self.endian) == PT_LOAD
                && segment.p_flags(self.endian).contains(PF_X)
                && address
                    .checked_sub(segment.p_vaddr(self.endian))
                    .is_some_and(|within| within < segment.p_filesz(self.endian))
        })?;
        let within = address - segment.p_vaddr(self.endian);
        let len = len.min(MAX_CODE).min(segment.p_filesz(self.endian) - within);
        self.data.read_bytes_at(segment.p_offset(self.endian).checked_add(within)?, len).ok()
    }
}
