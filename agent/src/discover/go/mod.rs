//! Go's `crypto/tls`, in any program that Go has built, stripped or not.
//!
//! The functions are found by name in the table that Go keeps for its stack traces ([`pclntab`]), the places where their calls
//! end by decoding them ([`returns`]), and the method table that tells a TCP connection from everything else that can be
//! below TLS in the runtime's own list ([`module`]). Programs of before Go 1.17 have another calling convention and are refused
//! with that reason ([`version`]), as are those whose table leads nowhere.

mod module;
mod pclntab;
mod returns;
#[cfg(test)]
mod tests;
mod version;

use inferscope_common::{
    go_place::{GoPlace, PLACES_PER_FILE},
    record::{READ, WRITE},
    tls_cookie::pack_go,
};

use self::{
    module::Module,
    pclntab::{Layout, Table},
    returns::{ARGUMENTS, Body, End, GOROUTINE},
    version::Version,
};
use super::{
    image::Image,
    library::{Evidence, Library},
    site::{self, ENTRY_BYTES},
};
use crate::{
    kernel::{Probe, Program},
    record::Source,
};

const TLS_READ: &str = "crypto/tls.(*Conn).Read";
/// What every write comes down to, with a kind of record, once the handshake is done and no error stands.
const TLS_WRITE: &str = "crypto/tls.(*Conn).writeRecordLocked";
const TLS_CLOSE: &str = "crypto/tls.(*Conn).Close";
const DEFERRETURN: &str = "runtime.deferreturn";

/// Where the table is; the second in a position-independent program of before Go 1.26.
const TABLE_SECTIONS: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];

/// Longest function that is decoded: the longest `Write` that was seen has 2.3 KB.
const MAX_FUNCTION: u64 = 64 << 10;

/// Functions inside `Read`: one is seen.
const MAX_DEFERRED: usize = 16;

/// Finds the functions. A program that does not use TLS has none of them, because Go's linker leaves out what is not called.
pub fn find(image: &Image<'_, '_>) -> Result<Option<Library>, object::Error> {
    let Some((address, data)) = table(image) else { return Ok(None) };
    let Some(table) = Table::parse(data) else { return Ok(None) };
    let Some(names) = Names::of(&table) else { return Ok(None) };
    Ok(Some(match probe(image, address, &table, &names) {
        Ok(library) => library,
        Err(why) => Library { refused: Some(why), ..Library::tls(Source::Go, Evidence::Symbols) },
    }))
}

/// Address and contents of the table: by its section, or where there are no sections by its first bytes.
fn table<'d>(image: &Image<'d, '_>) -> Option<(u64, &'d [u8])> {
    if image.has_sections() {
        return image.section(&TABLE_SECTIONS);
    }
    image.constant().chain(image.writable()).find_map(|(address, bytes)| {
        let found = Layout::beginnings().into_iter().flat_map(|beginning| {
            let finder = memchr::memmem::Finder::new(&beginning).into_owned();
            finder.find_iter(bytes).collect::<Vec<_>>()
        });
        let mut tables = found.filter(|at| Table::parse(&bytes[*at..]).is_some());
        tables.next().map(|at| (address + at as u64, &bytes[at..]))
    })
}

/// A function's place as the table tells it.
type Range = (u64, u64);

/// What is looked for in the table.
struct Names {
    read: Range,
    write: Range,
    close: Option<Range>,
    deferreturn: Option<u64>,
    /// Functions inside the first.
    inside: Vec<Range>,
}

impl Names {
    /// One pass over the table; `None` if it lacks one of the two.
    fn of(table: &Table<'_>) -> Option<Self> {
        let (mut read, mut write, mut close, mut deferreturn) = (None, None, None, None);
        let mut inside = Vec::new();
        for function in table.iter() {
            let (name, range) = (function.name, (function.start, function.end));
            if name == DEFERRETURN.as_bytes() {
                deferreturn = Some(function.start);
            } else if !name.starts_with(b"crypto/tls.(*Conn).") {
            } else if name == TLS_READ.as_bytes() {
                read = Some(range);
            } else if name == TLS_WRITE.as_bytes() {
                write = Some(range);
            } else if name == TLS_CLOSE.as_bytes() {
                close = Some(range);
            } else if inside.len() < MAX_DEFERRED && is_inside(name) {
                inside.push(range);
            }
        }
        Some(Self { read: read?, write: write?, close, deferreturn, inside })
    }
}

/// Whether a function is one of those that the compiler makes of a deferred call: `Read.func1`, `Read·dwrap·1`,
/// `Read.deferwrap1`, depending on its version.
fn is_inside(name: &[u8]) -> bool {
    let rest = name.strip_prefix(TLS_READ.as_bytes());
    rest.is_some_and(|rest| rest.starts_with(b".") || rest.starts_with("·".as_bytes()))
}

/// Where to probe; an error says why nowhere.
fn probe(image: &Image<'_, '_>, address: u64, table: &Table<'_>, names: &Names) -> Result<Library, String> {
    let built_by = image
        .section(&[b".go.buildinfo"])
        .and_then(|(_, section)| version::of(section, |address, len| image.bytes(address, len)));
    if let Some(version) = built_by.filter(|version| *version < Version::REGISTERS) {
        return Err(format!("built by {version}, whose calling convention is not supported; 1.17 and later are"));
    }
    let module = Module::find(image, address, table.len());
    let text = text(image, table, module.as_ref(), names.read)
        .ok_or("its function table does not lead to code of Go 1.17 or later")?;
    let itab = module.as_ref().and_then(|module| module.itab(image, b"net.Conn", b"*net.TCPConn"));
    let mut library = Library::tls(Source::Go, Evidence::Symbols);
    let inside: Vec<_> = names.inside.iter().filter_map(|range| code(image, text, *range)).collect();
    let deferreturn = names.deferreturn.map(|start| text.wrapping_add(start));
    let unreadable = |name: &str| format!("{name} cannot be decoded");
    let mut add = |name: &'static str, program: Program, direction: u8, end: End| {
        let number = u8::try_from(library.places.len()).ok().filter(|n| u32::from(*n) < PLACES_PER_FILE);
        let number = number.ok_or_else(|| format!("{name} returns in too many places"))?;
        let itab = itab.map_or(0, |itab| itab.wrapping_sub(end.address) as i64);
        library.places.push(GoPlace { itab, ..end.place });
        let file_offset = image.file_offset(end.address).ok_or_else(|| unreadable(name))?;
        let cookie = pack_go(direction, number);
        library.add(Probe { function: name, program, file_offset, class: end.class, cookie });
        Ok::<_, String>(())
    };
    let read = code(image, text, names.read).and_then(|(address, code)| Body::decode(address, code));
    let read = read.ok_or_else(|| unreadable(TLS_READ))?;
    for end in read.ends(&inside, deferreturn) {
        add(TLS_READ, Program::GoReturn, READ, end)?;
    }
    let write = code(image, text, names.write).and_then(|(address, code)| returns::past_check(address, code));
    add(TLS_WRITE, Program::GoWrite, WRITE, write.ok_or_else(|| unreadable(TLS_WRITE))?)?;
    // Behind the ends: an entry without them would be remembered for nothing.
    if !read.keeps_arguments() {
        let address = text.wrapping_add(names.read.0);
        library.add(entry(image, TLS_READ, Program::GoEntry, address).ok_or_else(|| unreadable(TLS_READ))?);
    }
    if let Some((address, _)) = names.close.and_then(|range| code(image, text, range))
        && let Some(probe) = entry(image, TLS_CLOSE, Program::GoClose, address)
    {
        library.add(probe);
    }
    Ok(library)
}

/// The start of the text: what makes the table lead to a function that begins as Go's do.
fn text(image: &Image<'_, '_>, table: &Table<'_>, module: Option<&Module>, read: Range) -> Option<u64> {
    if !table.is_relative() {
        return is_go(image, 0, read).then_some(0);
    }
    let section = image.section(&[b".text"]).map(|(address, _)| address);
    let candidates = [Some(table.text()), module.map(Module::text), section];
    candidates.into_iter().flatten().filter(|text| *text != 0).find(|text| is_go(image, *text, read))
}

fn is_go(image: &Image<'_, '_>, text: u64, range: Range) -> bool {
    let body = code(image, text, range).and_then(|(address, code)| Body::decode(address, code));
    body.is_some_and(|body| body.uses_registers())
}

/// Address and code of a function.
fn code<'d>(image: &Image<'d, '_>, text: u64, (start, end): Range) -> Option<(u64, &'d [u8])> {
    let address = text.checked_add(start)?;
    let len = end.checked_sub(start).filter(|len| *len <= MAX_FUNCTION)?;
    let code = image.code(address, len)?;
    (code.len() as u64 == len).then_some((address, code))
}

/// The cheapest place where a function has begun and its arguments are as they came.
fn entry(image: &Image<'_, '_>, function: &'static str, program: Program, address: u64) -> Option<Probe> {
    let [object, buffer, len] = ARGUMENTS;
    let site = site::choose_for(image.code(address, ENTRY_BYTES)?, &[object, buffer, len, GOROUTINE], true);
    let file_offset = image.file_offset(address.checked_add(site.offset)?)?;
    Some(Probe { function, program, file_offset, class: site.class, cookie: pack_go(READ, 0) })
}
