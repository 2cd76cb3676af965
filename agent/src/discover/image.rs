//! An ELF file as the finders of TLS functions look at it.
//!
//! Owns reading: the headers, the symbol tables, code bytes by virtual address, and the way from a virtual address to
//! the place in the file where a probe is set. Bounds what it reads, because the file's author chose every length in
//! it. Knows nothing of TLS.

use std::{cell::OnceCell, fs::File};

use object::{
    Endianness,
    elf::{
        EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PF_W, PF_X, PT_LOAD, ProgramHeader64, R_X86_64_RELATIVE, SHN_UNDEF,
        SHT_DYNSYM, SHT_GNU_HASH, SHT_NOBITS, SHT_RELA, SHT_STRTAB, SHT_SYMTAB, STT_FUNC, SectionHeader64, gnu_hash,
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

/// What is read of data at once, so that many small reads of one place are one of the file.
const BLOCK: u64 = 64 << 10;

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
    /// Where the loader puts an address, and which: read when it is asked for.
    relocations: OnceCell<Vec<(u64, u64)>>,
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
        Ok(Some(Self { data, endian, sections, segments, dynamic, relocations: OnceCell::new() }))
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
        let mut found = [None; N];
        let symbols = self.sections.symbols(self.endian, self.data, SHT_SYMTAB)?;
        for symbol in symbols.iter() {
            if symbol.st_type() != STT_FUNC || symbol.st_shndx(self.endian) == SHN_UNDEF {
                continue;
            }
            let Ok(name) = symbol.name(self.endian, symbols.strings()) else { continue };
            for (wanted, slot) in names.iter().zip(&mut found) {
                if name == wanted.as_bytes() {
                    *slot = Some(symbol.st_value(self.endian));
                }
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

    /// Address and contents of a section by one of its names.
    pub fn section(&self, names: &[&[u8]]) -> Option<(u64, &'d [u8])> {
        let Self { data, endian, sections, .. } = self;
        let named = |section: &&SectionHeader64<Endianness>| {
            sections.section_name(*endian, section).is_ok_and(|name| names.contains(&name))
        };
        let section = sections.iter().find(named)?;
        if section.sh_type(*endian) == SHT_NOBITS || section.sh_size(*endian) > MAX_SECTION {
            return None;
        }
        Some((section.sh_addr(*endian), section.data(*endian, *data).ok()?))
    }

    /// Whether the file says what its sections are.
    pub fn has_sections(&self) -> bool {
        !self.sections.is_empty()
    }

    /// Address and contents of what the program may write to, relocated or not.
    pub fn writable(&self) -> impl Iterator<Item = (u64, &'d [u8])> {
        self.loaded(|writable| writable)
    }

    /// Address and contents of what it may only read.
    pub fn constant(&self) -> impl Iterator<Item = (u64, &'d [u8])> {
        self.loaded(|writable| !writable)
    }

    fn loaded(&self, wanted: impl Fn(bool) -> bool) -> impl Iterator<Item = (u64, &'d [u8])> {
        let Self { data, endian, .. } = *self;
        self.segments.iter().filter_map(move |segment| {
            let flags = segment.p_flags(endian);
            let data_only = segment.p_type(endian) == PT_LOAD && !flags.contains(PF_X);
            if !data_only || !wanted(flags.contains(PF_W)) || segment.p_filesz(endian) > MAX_SECTION {
                return None;
            }
            let bytes = data.read_bytes_at(segment.p_offset(endian), segment.p_filesz(endian)).ok()?;
            Some((segment.p_vaddr(endian), bytes))
        })
    }

    /// The bytes at a virtual address, `len` or as many as its segment has in the file.
    pub fn bytes(&self, address: u64, len: u64) -> Option<&'d [u8]> {
        let Self { data, endian, .. } = *self;
        let (segment, within) = self.segments.iter().find_map(|segment| {
            let within = address.checked_sub(segment.p_vaddr(endian))?;
            (segment.p_type(endian) == PT_LOAD && within < segment.p_filesz(endian)).then_some((segment, within))
        })?;
        let len = len.min(segment.p_filesz(endian) - within);
        let offset = segment.p_offset(endian).checked_add(within)?;
        let (block, at) = (offset - offset % BLOCK, offset % BLOCK);
        // The last block of a file is shorter.
        if at + len <= BLOCK
            && let Ok(block) = data.read_bytes_at(block, BLOCK.min(data.len().ok()?.checked_sub(block)?))
        {
            return block.get(at as usize..)?.get(..len as usize);
        }
        data.read_bytes_at(offset, len.min(MAX_SECTION)).ok()
    }

    /// The address that stands at a virtual address once the program is loaded, if it is loaded where the file says.
    pub fn pointer(&self, address: u64) -> Option<u64> {
        let bytes = *self.bytes(address, 8)?.first_chunk()?;
        match u64::from_le_bytes(bytes) {
            0 => {
                let relocations = self.relocations();
                let place = relocations.binary_search_by_key(&address, |(place, _)| *place);
                Some(place.map_or(0, |place| relocations[place].1))
            }
            inline => Some(inline),
        }
    }

    /// Where the loader puts a certain address.
    pub fn pointers_to(&self, address: u64) -> Vec<u64> {
        self.relocations().iter().filter(|(_, to)| *to == address).map(|(place, _)| *place).collect()
    }

    fn relocations(&self) -> &[(u64, u64)] {
        self.relocations.get_or_init(|| {
            let Self { data, endian, sections, .. } = self;
            let mut all = Vec::new();
            for section in sections.iter() {
                if section.sh_type(*endian) != SHT_RELA || section.sh_size(*endian) > MAX_SECTION {
                    continue;
                }
                let Ok(Some((relas, _))) = section.rela(*endian, *data) else { continue };
                let relative = relas.iter().filter(|rela| rela.r_type(*endian, false) == R_X86_64_RELATIVE);
                all.extend(relative.map(|rela| (rela.r_offset.get(*endian), rela.r_addend.get(*endian) as u64)));
            }
            all.sort_unstable();
            all
        })
    }
}
