//! An ELF file as the finders of TLS functions look at it.
//!
//! Owns reading: the headers, the symbol tables, code bytes by virtual address, and the way from a virtual address to
//! the place in the file where a probe is set. Bounds what it reads, because the file's author chose every length in
//! it. Knows nothing of TLS.

use std::{
    cell::{Cell, OnceCell},
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt as _,
    rc::Rc,
    time::{Duration, Instant},
};

use memchr::{memchr, memmem};
use object::{
    Endianness,
    elf::{
        ELF_NOTE_GNU, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, NT_GNU_BUILD_ID, PF_W, PF_X, PT_LOAD, ProgramHeader64,
        R_X86_64_RELATIVE, SHN_UNDEF, SHT_DYNSYM, SHT_GNU_HASH, SHT_NOBITS, SHT_RELA, SHT_SYMTAB, STT_FUNC,
        SectionHeader64, gnu_hash,
    },
    read::{
        ReadCache, ReadRef,
        elf::{
            FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _, SymbolTable, VersionTable,
        },
    },
};

/// Longest section that is read whole: 2.8 million symbols, twice what a browser has.
const MAX_SECTION: u64 = 64 << 20;

/// Longest piece of code that is read at once; the longest TLS function that was seen has 4 KB.
const MAX_CODE: u64 = 64 << 10;

/// What is read of data at once, so that many small reads of one place are one of the file.
const BLOCK: u64 = 64 << 10;

/// Bytes that are read of one file, and so kept, at most: the largest tables, and a million names.
const MAX_READ: u64 = 256 << 20;

/// What a read counts at least, because each is remembered.
const MIN_READ: u64 = 256;

/// How long one file is read at most. A hundred times what the largest program takes.
const MAX_TIME: Duration = Duration::from_secs(5);
/// Longest segment of notes that is read: Bun's has 4 KB.
const MAX_NOTES: u64 = 64 << 10;

/// Longest build id: linkers write 8 to 32 bytes.
const MAX_BUILD_ID: usize = 64;

/// What a file is read through: positioned reads, kept. Not a mapping, because a file that shrinks while it is mapped
/// kills its reader. Gives up when more was read than any program needs: tables that point at one another can ask for more
/// than the file holds.
pub struct Cache<'f> {
    kept: ReadCache<Reader<'f>>,
    left: Rc<Cell<u64>>,
}

impl<'f> Cache<'f> {
    /// Of a file of which nothing was read yet.
    pub fn new(file: &'f File) -> Self {
        let left = Rc::new(Cell::new(MAX_READ));
        let until = Instant::now() + MAX_TIME;
        Self { kept: ReadCache::new(Reader { file, position: 0, left: Rc::clone(&left), until }), left }
    }

    /// Whether nothing more can be read.
    fn is_exhausted(&self) -> bool {
        self.left.get() == 0
    }
}

impl<'a> ReadRef<'a> for &'a Cache<'_> {
    fn len(self) -> Result<u64, ()> {
        ReadRef::len(&self.kept)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        // Before memory is taken for it.
        if size > self.left.get() {
            self.left.set(0);
            return Err(());
        }
        self.kept.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        if self.is_exhausted() {
            return Err(());
        }
        self.kept.read_bytes_at_until(range, delimiter)
    }
}

/// Reads a file without moving its position, which others may share.
struct Reader<'f> {
    file: &'f File,
    position: u64,
    left: Rc<Cell<u64>>,
    until: Instant,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let cost = MIN_READ.max(buffer.len() as u64);
        if cost > self.left.get() || Instant::now() > self.until {
            self.left.set(0);
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.left.set(self.left.get() - cost);
        let n = self.file.read_at(buffer, self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(by) => (self.position, by),
            SeekFrom::End(by) => (self.file.metadata()?.len(), by),
        };
        self.position = from.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

type Header = FileHeader64<Endianness>;

/// A parsed file.
pub struct Image<'d, 'f> {
    data: &'d Cache<'f>,
    endian: Endianness,
    sections: SectionTable<'d, Header, &'d Cache<'f>>,
    segments: &'d [ProgramHeader64<Endianness>],
    dynamic: SymbolTable<'d, Header, &'d Cache<'f>>,
    fixed: bool,
    /// Where the loader puts an address, and which: read when it is asked for.
    relocations: OnceCell<Vec<(u64, u64)>>,
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
        let read_whole = [SHT_DYNSYM, SHT_SYMTAB, SHT_GNU_HASH];
        let too_large = |section: &SectionHeader64<Endianness>| {
            read_whole.contains(&section.sh_type(endian)) && section.sh_size(endian) > MAX_SECTION
        };
        if sections.iter().any(too_large) {
            return Ok(None);
        }
        let dynamic = sections.symbols(endian, data, SHT_DYNSYM)?;
        let fixed = header.e_type(endian) == ET_EXEC;
        Ok(Some(Self { data, endian, sections, segments, dynamic, fixed, relocations: OnceCell::new() }))
    }

    /// Virtual address of an exported function. Looked up in the file's own hash table: a short-lived program must
    /// have its probes before it makes its first call, and a browser or Node exports tens of thousands of symbols.
    pub fn exported(&self, name: &str) -> Result<Option<u64>, object::Error> {
        let Self { data, endian, sections, dynamic, .. } = self;
        let name = name.as_bytes();
        let table = if self.has_sound_hash() { sections.gnu_hash(*endian, *data)? } else { None };
        let symbol = match table {
            Some((table, _)) => table
                .find(*endian, name, gnu_hash(name), None, dynamic, &VersionTable::default())
                .map(|(_, symbol)| symbol),
            // Old linkers, and some that are not GNU's, write no such table.
            None => {
                let mut readable = dynamic.iter().take_while(|_| !data.is_exhausted());
                readable.find(|symbol| symbol.name(*endian, dynamic.strings()) == Ok(name))
            }
        };
        self.check()?;
        Ok(symbol
            .filter(|symbol| symbol.st_type() == STT_FUNC && symbol.st_shndx(*endian) != SHN_UNDEF)
            .map(|symbol| symbol.st_value(*endian)))
    }

    /// Virtual addresses of functions in the full symbol table, local ones included, in one pass over it; all `None`
    /// for a stripped file.
    pub fn local<const N: usize>(&self, names: [&str; N]) -> Result<[Option<u64>; N], object::Error> {
        self.local_by(&names, |name| names.iter().position(|wanted| *wanted == name))
    }

    /// The same for functions that `which` gives places; their names end with one of `ends`.
    pub fn local_by<const N: usize>(
        &self,
        ends: &[&str],
        which: impl Fn(&str) -> Option<usize>,
    ) -> Result<[Option<u64>; N], object::Error> {
        let mut found = [None; N];
        let symbols = self.sections.symbols(self.endian, self.data, SHT_SYMTAB)?;
        // The names at once, and not one by one: a program has a hundred thousand. Most files have none of those wanted.
        let strings = match self.sections.section(symbols.string_section()) {
            Ok(section) if section.sh_size(self.endian) <= MAX_SECTION => section.data(self.endian, self.data)?,
            _ => return self.check().map(|()| found),
        };
        if !ends.iter().any(|end| memmem::find(strings, &[end.as_bytes(), &[0]].concat()).is_some()) {
            return self.check().map(|()| found);
        }
        for symbol in symbols.iter().take_while(|_| !self.data.is_exhausted()) {
            if symbol.st_type() != STT_FUNC || symbol.st_shndx(self.endian) == SHN_UNDEF {
                continue;
            }
            let Some(name) = strings.get(symbol.st_name(self.endian) as usize..) else { continue };
            let len = memchr(0, name).unwrap_or(name.len());
            let place = std::str::from_utf8(&name[..len]).ok().and_then(&which);
            if let Some(slot) = place.and_then(|place| found.get_mut(place)) {
                *slot = Some(symbol.st_value(self.endian));
            }
        }
        self.check()?;
        Ok(found)
    }

    /// Whether the file has a hash table that can be looked into: the reader takes the head of one as it is.
    fn has_sound_hash(&self) -> bool {
        let head =
            |section: &SectionHeader64<Endianness>| section.gnu_hash_header(self.endian, self.data).ok().flatten();
        self.sections
            .iter()
            .find_map(head)
            .is_some_and(|head| head.bloom_shift.get(self.endian) < u32::BITS && head.bloom_count.get(self.endian) > 0)
    }

    /// An error if so much was read that nothing was found for that reason.
    fn check(&self) -> Result<(), object::Error> {
        Header::parse(self.data).map(drop)
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
