//! Places in the code that name a string's address.

use memchr::{memchr_iter, memmem};

use super::{Unsearchable, memory::Memory, texts::Text};

/// References that may be found. A TLS library has 30 to 70 to one of its files.
const MAX_REFERENCES: usize = 4096;

/// Longest instruction that counts, with the address at its end: prefix, operation, operand.
const LONGEST: usize = 7;

/// Bytes of an address in code.
const ADDRESS: usize = 4;

/// An instruction that names an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Address of the operand, which says it.
    pub operand: u64,
    /// What it says.
    pub target: u64,
}

/// Finds what may be a reference to one of the strings, by the bytes alone: the walk through the code tells which are.
pub fn find(memory: &Memory<'_>, texts: &[Text], fixed: bool) -> Result<Vec<Reference>, Unsearchable> {
    let mut found = Vec::new();
    // An address in code of a fixed address has its upper three bytes in common with its neighbours.
    let mut high: Vec<u32> = Vec::new();
    for text in texts.iter().filter(|_| fixed) {
        let (Ok(first), Ok(last)) = (u32::try_from(text.first), u32::try_from(text.last)) else { continue };
        high.extend((first >> 8)..=(last >> 8));
    }
    high.sort_unstable();
    high.dedup();
    let needles: Vec<[u8; 4]> = high.iter().map(|high| (high << 8).to_le_bytes()).collect();
    let finders: Vec<_> = needles.iter().map(|needle| memmem::Finder::new(&needle[1..])).collect();
    memory.each_window(
        |segment| segment.executable,
        LONGEST,
        |address, bytes| {
            let mut add = |at: usize, target: u64| {
                if names(texts, target).is_some() {
                    found.push(Reference { operand: address + at as u64, target });
                }
                if found.len() > MAX_REFERENCES { Err(Unsearchable::TooMany) } else { Ok(()) }
            };
            for finder in &finders {
                for at in finder.find_iter(bytes).filter_map(|at| at.checked_sub(1)) {
                    if let Some(value) = value(bytes, at).filter(|_| is_immediate(&bytes[..at])) {
                        add(at, u64::from(value as u32))?;
                    }
                }
            }
            // lea disp(%rip), register
            for at in memchr_iter(0x8d, bytes) {
                let before = at.checked_sub(1).map(|at| bytes[at]);
                let Some(&kind) = bytes.get(at + 1) else { continue };
                if matches!(before, Some(0x48 | 0x4c))
                    && kind & 0xc7 == 0x05
                    && let Some(value) = value(bytes, at + 2)
                {
                    let next = address.wrapping_add((at + 2 + ADDRESS) as u64);
                    add(at + 2, next.wrapping_add_signed(i64::from(value)))?;
                }
            }
            Ok(())
        },
    )?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Which of the strings an address is in.
pub fn names(texts: &[Text], address: u64) -> Option<usize> {
    texts.iter().position(|text| (text.first..=text.last).contains(&address))
}

/// Whether what ends here takes four bytes as they are: `mov $x,%r32`, `push $x`, `mov $x,%r64`.
fn is_immediate(before: &[u8]) -> bool {
    matches!(before, [.., 0xb8..=0xbf | 0x68] | [.., 0x48 | 0x49, 0xc7, 0xc0..=0xc7])
}

fn value(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..at + ADDRESS)?.first_chunk().map(|bytes| i32::from_le_bytes(*bytes))
}
