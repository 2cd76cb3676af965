//! Where members of kernel structures are, from the running kernel's own type information.
//!
//! Owns a reader of the BTF format (Documentation/bpf/btf.rst) that does one thing: the offset of a named member
//! of a named structure, through anonymous members. rustc emits no CO-RE relocations, and aya keeps its parsed
//! members private.

use std::collections::HashMap;

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// Anonymous members nest a handful deep in practice; the bound keeps a damaged file from recursing forever.
const MAX_NESTING: u32 = 16;

/// Why a blob is no type information.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The file ends early.
    #[error("type information is cut off at byte {0}")]
    Short(usize),
    /// Not BTF, or of the other byte order.
    #[error("type information begins with {0:#x} instead of 0xeb9f")]
    Magic(u16),
    /// A kind whose length is not known, so that what follows cannot be found.
    #[error("type {id} has unknown kind {kind}")]
    Kind {
        /// Type id.
        id: u32,
        /// Kind.
        kind: u32,
    },
}

/// Parsed type information.
pub struct Btf<'a> {
    strings: &'a [u8],
    types: &'a [u8],
    /// Byte position of each type in `types`, by id - 1.
    positions: Vec<u32>,
    structs: HashMap<&'a [u8], u32>,
}

impl<'a> Btf<'a> {
    /// Indexes a blob as found in `/sys/kernel/btf/vmlinux`.
    pub fn parse(blob: &'a [u8]) -> Result<Self, BtfError> {
        let magic = u16_at(blob, 0)?;
        if magic != MAGIC {
            return Err(BtfError::Magic(magic));
        }
        let header = u32_at(blob, 4)? as usize;
        let section = |offset: usize, len: usize| {
            let start = header.checked_add(offset).ok_or(BtfError::Short(blob.len()))?;
            let end = start.checked_add(len).ok_or(BtfError::Short(blob.len()))?;
            blob.get(start..end).ok_or(BtfError::Short(blob.len()))
        };
        let types = section(u32_at(blob, 8)? as usize, u32_at(blob, 12)? as usize)?;
        let strings = section(u32_at(blob, 16)? as usize, u32_at(blob, 20)? as usize)?;
        let mut btf = Self { strings, types, positions: Vec::new(), structs: HashMap::new() };
        btf.index()?;
        Ok(btf)
    }

    /// Offset of `member` in `structure`, in bytes; `None` if this kernel has no such thing or the member is a bit
    /// field.
    pub fn offset_of(&self, structure: &str, member: &str) -> Option<u32> {
        let id = *self.structs.get(structure.as_bytes())?;
        let (bits, width) = self.member(id, member.as_bytes(), 0)?;
        (width == 0 && bits % 8 == 0).then_some(bits / 8)
    }

    /// Offset of the byte in which `member` begins, which may be a bit field; `None` if this kernel has no such thing or the
    /// bit field begins within a byte.
    pub fn byte_of(&self, structure: &str, member: &str) -> Option<u32> {
        let id = *self.structs.get(structure.as_bytes())?;
        let (bits, _width) = self.member(id, member.as_bytes(), 0)?;
        (bits % 8 == 0).then_some(bits / 8)
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.types.len() {
            let id = self.positions.len() as u32 + 1;
            let (name, info) = (u32_at(self.types, at)?, u32_at(self.types, at + 4)?);
            let (kind, vlen) = (kind_of(info), (info & 0xffff) as usize);
            self.positions.push(at as u32);
            if kind == KIND_STRUCT
                && let Some(name) = self.string(name)
                && !name.is_empty()
            {
                self.structs.entry(name).or_insert(id);
            }
            // Sizes of what follows the common twelve bytes.
            at += 12
                + match kind {
                    2 | 7..=12 | 16 | 18 => 0,
                    1 | 14 | 17 => 4,
                    3 => 12,
                    KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * vlen,
                    6 | 13 => 8 * vlen,
                    _ => return Err(BtfError::Kind { id, kind }),
                };
        }
        Ok(())
    }

    /// Where a member begins, in bits, and its width if it is a bit field, else 0.
    fn member(&self, id: u32, wanted: &[u8], nesting: u32) -> Option<(u32, u32)> {
        if nesting > MAX_NESTING {
            return None;
        }
        let at = *self.positions.get(id.checked_sub(1)? as usize)? as usize;
        let info = u32_at(self.types, at + 4).ok()?;
        if !matches!(kind_of(info), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        let has_bit_fields = info >> 31 == 1;
        (0..(info & 0xffff) as usize).find_map(|i| {
            let member = at + 12 + 12 * i;
            let name = self.string(u32_at(self.types, member).ok()?)?;
            let kind = u32_at(self.types, member + 4).ok()?;
            let raw = u32_at(self.types, member + 8).ok()?;
            let (bits, width) = if has_bit_fields { (raw & 0xff_ffff, raw >> 24) } else { (raw, 0) };
            if name == wanted {
                return Some((bits, width));
            }
            if name.is_empty() {
                let (within, width) = self.member(kind, wanted, nesting + 1)?;
                return Some((bits + within, width));
            }
            None
        })
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(offset as usize..)?;
        rest.get(..rest.iter().position(|&b| b == 0)?)
    }
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, BtfError> {
    let chunk = bytes.get(at..).and_then(|b| b.first_chunk()).ok_or(BtfError::Short(at))?;
    Ok(u16::from_ne_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let chunk = bytes.get(at..).and_then(|b| b.first_chunk()).ok_or(BtfError::Short(at))?;
    Ok(u32::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A blob with `struct outer { int a; struct { int b; int c; }; }` and `struct flags { int x : 2 at bit 8; int y : 1; }`.
    fn blob() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0flags\0x\0y\0";
        let words: &[u32] = &[
            1,
            1 << 24,
            4,
            32, // 1: int
            0,
            4 << 24 | 2,
            8,
            13,
            1,
            0,
            15,
            1,
            32, // 2: anonymous { b at 0; c at 4 }
            5,
            4 << 24 | 2,
            12,
            11,
            1,
            0,
            0,
            2,
            32, // 3: outer { a at 0; anonymous at 4 }
            17,
            1 << 31 | 4 << 24 | 2,
            4,
            23,
            1,
            2 << 24 | 8,
            25,
            1,
            1 << 24 | 10, // 4: flags { x at bit 8, two wide; y at bit 10, one wide }
        ];
        let types: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut blob = Vec::new();
        blob.extend_from_slice(&MAGIC.to_ne_bytes());
        blob.extend_from_slice(&[1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            blob.extend_from_slice(&word.to_ne_bytes());
        }
        blob.extend_from_slice(&types);
        blob.extend_from_slice(strings);
        blob
    }

    #[test]
    fn finds_members_directly_and_through_anonymous_ones() {
        let blob = blob();
        let btf = Btf::parse(&blob).unwrap();
        assert_eq!(btf.offset_of("outer", "a"), Some(0));
        assert_eq!(btf.offset_of("outer", "c"), Some(8));
        assert_eq!(btf.offset_of("outer", "d"), None);
        assert_eq!(btf.offset_of("inner", "a"), None);
    }

    #[test]
    fn a_bit_field_has_a_byte_where_it_begins_with_one_and_no_offset() {
        let blob = blob();
        let btf = Btf::parse(&blob).unwrap();
        assert_eq!((btf.offset_of("flags", "x"), btf.byte_of("flags", "x")), (None, Some(1)));
        assert_eq!((btf.offset_of("flags", "y"), btf.byte_of("flags", "y")), (None, None));
        assert_eq!(btf.byte_of("outer", "c"), Some(8));
    }

    #[test]
    fn a_cut_off_blob_is_an_error_or_has_less_but_never_panics() {
        let blob = blob();
        for len in 0..blob.len() {
            if let Ok(btf) = Btf::parse(&blob[..len]) {
                let _ = btf.offset_of("outer", "c");
            }
        }
    }

    #[test]
    fn the_running_kernel_has_what_is_needed() {
        let Ok(blob) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            eprintln!("SKIPPED: this kernel has no BTF");
            return;
        };
        let btf = Btf::parse(&blob).unwrap();
        assert!(btf.offset_of("task_struct", "files").is_some());
        assert!(btf.offset_of("sock_common", "skc_dport").is_some());
    }
}
