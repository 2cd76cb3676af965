//! Go's `runtime.moduledata`: where the text begins, and where the method tables are.
//!
//! Found as the structure that begins with the address of the function table and repeats its length. Its later members have
//! moved between versions, so they are tried where any version had them; what proves them right is what they lead to.

use super::super::image::Image;

/// Positions in words, the same since Go 1.16: the number of functions and one, and the start of the text.
const FUNCTIONS: usize = 17;
const TEXT: usize = 22;

/// Start of the type information: up to Go 1.19, since 1.20.
const TYPES: [usize; 2] = [35, 37];

/// The list of method tables, address and length: Go 1.17, 1.18, 1.20, 1.26.
const ITAB_LINKS: [usize; 4] = [43, 45, 47, 48];

/// Words of the structure that are read.
const WORDS: usize = ITAB_LINKS[3] + 3;

/// Method tables that are looked at; a large program has some ten thousand.
const MAX_ITABS: u64 = 1 << 18;

/// Offsets in a type's description: flags, and where its name is.
const TYPE_FLAGS: usize = 20;
const TYPE_NAME: usize = 40;
const TYPE_LEN: u64 = 48;

/// In the flags: the name has a star in front that is not the type's.
const EXTRA_STAR: u8 = 2;

/// The structure.
#[derive(Debug)]
pub struct Module([u64; WORDS]);

impl Module {
    /// Finds it, given the address of the function table and the number of its functions.
    pub fn find(image: &Image<'_, '_>, table: u64, functions: usize) -> Option<Self> {
        let inline = image.writable().flat_map(|(address, bytes)| {
            let wanted = table.to_le_bytes();
            memchr::memmem::find_iter(bytes, &wanted).map(|at| address + at as u64).collect::<Vec<_>>()
        });
        // A file that another linker made position-independent has zeroes there, and says in its relocations what belongs there.
        let relocated = || image.pointers_to(table);
        inline.chain(std::iter::once_with(relocated).flatten()).find_map(|address| {
            let module = Self::read(image, address)?;
            (module.0[FUNCTIONS] == functions as u64 + 1 && module.0[FUNCTIONS] == module.0[FUNCTIONS + 1])
                .then_some(module)
        })
    }

    fn read(image: &Image<'_, '_>, address: u64) -> Option<Self> {
        let mut words = [0; WORDS];
        for (n, word) in words.iter_mut().enumerate() {
            *word = image.pointer(address.checked_add(8 * n as u64)?)?;
        }
        Some(Self(words))
    }

    /// Start of the text.
    pub fn text(&self) -> u64 {
        self.0[TEXT]
    }

    /// Address of the only table of a type's methods as an interface, both given by name.
    pub fn itab(&self, image: &Image<'_, '_>, interface: &[u8], implementation: &[u8]) -> Option<u64> {
        let lists = ITAB_LINKS.map(|links| (self.0[links], self.0[links + 1], self.0[links + 2]));
        let lists = lists.into_iter().filter(|(_, len, room)| len == room && *len <= MAX_ITABS);
        let mut tries = lists.flat_map(|(list, len, _)| TYPES.map(|place| (list, len, self.0[place])));
        tries.find_map(|(list, len, types)| {
            let itabs = (0..len).map_while(|n| image.pointer(list.checked_add(8 * n)?));
            let mut found = itabs.filter(|itab| {
                let is = |word: u64, name: &[u8]| {
                    let of = itab.checked_add(8 * word).and_then(|at| image.pointer(at));
                    of.is_some_and(|of| type_name(image, types, of) == Some(name))
                };
                is(1, implementation) && is(0, interface)
            });
            // Two types of one name: which is meant is not known.
            found.next().filter(|first| found.all(|other| other == *first))
        })
    }
}

/// Name of the type whose description is at `address`.
fn type_name<'d>(image: &Image<'d, '_>, types: u64, address: u64) -> Option<&'d [u8]> {
    let of = image.bytes(address, TYPE_LEN)?;
    let offset = u32::from_le_bytes(*of.get(TYPE_NAME..)?.first_chunk()?);
    // A byte of flags, the length as a varint, and the name. None that is looked for has 128 bytes.
    let name = image.bytes(types.checked_add(u64::from(offset))?, 2 + 127)?;
    let len = usize::from(*name.get(1)?);
    let name = name.get(2..)?.get(..len)?;
    if of.get(TYPE_FLAGS)? & EXTRA_STAR != 0 { name.strip_prefix(b"*") } else { Some(name) }
}
