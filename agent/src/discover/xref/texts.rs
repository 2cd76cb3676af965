//! The strings of a file that end in what is looked for.

use memchr::memmem::Finder;

use super::{Unsearchable, memory::Memory};

/// Longest path before the ending. Build folders are long.
const MAX_PREFIX: usize = 200;

/// Strings that may match. A program has one or two copies of a TLS library.
const MAX_TEXTS: usize = 32;

/// A string that ends in one of the endings. Where it begins cannot be told from itself: strings of some compilers are not
/// separated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Which ending, by its place.
    pub ending: usize,
    /// The lowest address at which it may begin.
    pub first: u64,
    /// The highest: its ending's first byte.
    pub last: u64,
}

/// Finds them, in the order of their addresses.
pub fn find(memory: &Memory<'_>, endings: &[&str]) -> Result<Vec<Text>, Unsearchable> {
    let needles: Vec<Vec<u8>> = endings.iter().map(|ending| [ending.as_bytes(), b"\0"].concat()).collect();
    let finders: Vec<Finder<'_>> = needles.iter().map(Finder::new).collect();
    let longest = needles.iter().map(Vec::len).max().unwrap_or_default();
    let mut found: Vec<Text> = Vec::new();
    memory.each_window(
        |segment| !segment.writable,
        longest + MAX_PREFIX,
        |address, bytes| {
            for (ending, finder) in finders.iter().enumerate() {
                for at in finder.find_iter(bytes) {
                    let prefix = bytes[..at].iter().rev().take(MAX_PREFIX).take_while(|byte| byte.is_ascii_graphic());
                    let last = address + at as u64;
                    let text = Text { ending, first: last - prefix.count() as u64, last };
                    // What lies in the overlap of two windows is found twice, and may be seen cut in the second.
                    if !found.iter().any(|known| (known.ending, known.last) == (text.ending, text.last)) {
                        found.push(text);
                    }
                    if found.len() > MAX_TEXTS {
                        return Err(Unsearchable::TooMany);
                    }
                }
            }
            Ok(())
        },
    )?;
    found.sort_by_key(|text| text.last);
    Ok(found)
}
