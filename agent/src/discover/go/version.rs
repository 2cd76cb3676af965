//! Which Go built a file: `.go.buildinfo`.
//!
//! Since 1.18 the version stands in the section itself, before that the section points to a string. Pure.

/// What the section begins with.
const MAGIC: &[u8] = b"\xff Go buildinf:";

/// Set in the byte of flags where the version stands in the section.
const INLINE: u8 = 2;

/// Where the version stands, or the pointer to it.
const FLAGS_AT: usize = 15;
const POINTER_AT: usize = 16;
const INLINE_AT: usize = 32;

/// Longest version that is believed; `go1.26.8 X:boringcrypto` and the like are shorter.
const MAX_VERSION: usize = 128;

/// A version of Go, for example 1.26 for `go1.26.8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1.
    pub major: u32,
    /// 26.
    pub minor: u32,
}

impl Version {
    /// The first with the register calling convention on x86-64.
    pub const REGISTERS: Self = Self { major: 1, minor: 17 };

    fn parse(text: &str) -> Option<Self> {
        // `go1.26.8`, `go1.27rc1`, `devel go1.27-ab12cd34 ...`
        let text = text.strip_prefix("devel ").unwrap_or(text).strip_prefix("go")?;
        let (major, rest) = text.split_once('.')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self { major: major.parse().ok()?, minor: rest[..digits].parse().ok()? })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Go {}.{}", self.major, self.minor)
    }
}

/// The version that a section names; `read` gives the file's bytes at an address.
pub fn of<'a>(section: &'a [u8], read: impl Fn(u64, u64) -> Option<&'a [u8]>) -> Option<Version> {
    if !section.starts_with(MAGIC) {
        return None;
    }
    let text = if section.get(FLAGS_AT)? & INLINE != 0 {
        // An unsigned varint; versions are shorter than 128 bytes, so it is one byte.
        let len = usize::from(*section.get(INLINE_AT)?);
        section.get(INLINE_AT + 1..)?.get(..len)?
    } else {
        let pointer = u64::from_le_bytes(*section.get(POINTER_AT..)?.first_chunk()?);
        let string = read(pointer, 16)?;
        let [address, len] = [0, 8].map(|at| string.get(at..).and_then(<[u8]>::first_chunk).copied());
        read(u64::from_le_bytes(address?), u64::from_le_bytes(len?).min(MAX_VERSION as u64))?
    };
    Version::parse(std::str::from_utf8(text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(version: &str) -> Vec<u8> {
        let mut section = [MAGIC, &[8, INLINE]].concat();
        section.resize(INLINE_AT, 0);
        section.push(version.len() as u8);
        section.extend(version.as_bytes());
        section
    }

    #[test]
    fn versions_are_read_where_they_stand() {
        for (text, expected) in [
            ("go1.26.8", Some((1, 26))),
            ("go1.18", Some((1, 18))),
            ("go1.27rc1", Some((1, 27))),
            ("devel go1.28-ab12cd34ef Thu", Some((1, 28))),
            ("go1.22.3 X:boringcrypto", Some((1, 22))),
            ("unknown", None),
            ("", None),
        ] {
            let found = of(&inline(text), |_, _| None);
            assert_eq!(found.map(|version| (version.major, version.minor)), expected, "{text}");
        }
    }

    #[test]
    fn before_1_18_the_section_points_to_it() {
        let mut section = [MAGIC, &[8, 0]].concat();
        section.extend(0x1000u64.to_le_bytes());
        let memory: Vec<u8> = [0x1010u64.to_le_bytes(), 8u64.to_le_bytes()].concat();
        let memory = [memory.as_slice(), b"go1.16.9"].concat();
        let read = |address: u64, len: u64| {
            let at = address.checked_sub(0x1000)? as usize;
            memory.get(at..)?.get(..len as usize)
        };
        assert_eq!(of(&section, read), Some(Version { major: 1, minor: 16 }));
        assert!(of(&section, read) < Some(Version::REGISTERS));
    }

    #[test]
    fn a_section_that_is_cut_names_none() {
        let whole = inline("go1.26.8");
        assert!((0..whole.len()).all(|len| of(&whole[..len], |_, _| None).is_none()));
    }
}
