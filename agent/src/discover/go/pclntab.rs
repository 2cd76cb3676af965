//! The table of functions that Go's linker puts into every program for its own stack traces. It survives stripping.
//!
//! Three layouts: of Go 1.16 (and 1.17), 1.18 and 1.20. Owns reading them; every number in them is the file's author's, so each
//! is checked before use, and a table that lies yields no function, never more work than its own length. Pure.

/// Layouts, by the table's first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Go 1.16 and 1.17: functions by address.
    Go116,
    /// Go 1.18 and 1.19: functions by their distance from the start of the text.
    Go118,
    /// Go 1.20 and later: the same.
    Go120,
}

impl Layout {
    /// All of them.
    const ALL: [Self; 3] = [Self::Go116, Self::Go118, Self::Go120];

    fn magic(self) -> u32 {
        match self {
            Self::Go116 => 0xffff_fffa,
            Self::Go118 => 0xffff_fff0,
            Self::Go120 => 0xffff_fff1,
        }
    }

    /// What a table begins with on x86-64: two zeroes, instructions of one byte at least, addresses of eight bytes.
    pub fn beginnings() -> [[u8; 8]; 3] {
        Self::ALL.map(|layout| {
            let [a, b, c, d] = layout.magic().to_le_bytes();
            [a, b, c, d, 0, 0, 1, 8]
        })
    }
}

/// Longest name that is read; the ones that are looked for are shorter.
const MAX_NAME: usize = 128;

/// A table.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    data: &'a [u8],
    layout: Layout,
    count: usize,
    text: u64,
    names: usize,
    functions: usize,
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Where it begins: an address, or a distance from the start of the text ([`Table::is_relative`]).
    pub start: u64,
    /// Where the next one begins.
    pub end: u64,
    /// Its name.
    pub name: &'a [u8],
}

impl<'a> Table<'a> {
    /// Reads the header; `None` for anything that is no table.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let beginning = data.get(..8)?;
        let place = Layout::beginnings().iter().position(|known| known == beginning)?;
        let layout = Layout::ALL[place];
        let word = |n: usize| u64_at(data, 8 + 8 * n);
        // Behind the numbers of functions and files comes, since 1.18, the start of the text.
        let (text, first) = if layout == Layout::Go116 { (0, 2) } else { (word(2)?, 3) };
        let count = usize::try_from(word(0)?).ok()?;
        let names = usize::try_from(word(first)?).ok()?;
        let functions = usize::try_from(word(first + 4)?).ok()?;
        let table = Self { data, layout, count, text, names, functions };
        // One entry more than functions, of which only the first half counts: the end of the last one.
        let length = count.checked_mul(table.entry_size())?.checked_add(table.entry_size() / 2)?;
        (functions.checked_add(length)? <= data.len()).then_some(table)
    }

    /// Whether functions are told by their distance from the start of the text.
    pub fn is_relative(&self) -> bool {
        self.layout != Layout::Go116
    }

    /// Start of the text as the header says it; 0 where it does not (Go 1.26, or a file that is relocated).
    pub fn text(&self) -> u64 {
        self.text
    }

    /// Functions in the table.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Every function that can be read.
    pub fn iter(&self) -> impl Iterator<Item = Function<'a>> {
        (0..self.count).filter_map(|n| self.function(n))
    }

    fn function(&self, n: usize) -> Option<Function<'a>> {
        let at = self.functions + n * self.entry_size();
        let half = self.entry_size() / 2;
        let start = self.number(at)?;
        let end = self.number(at + self.entry_size())?;
        let info = self.functions.checked_add(usize::try_from(self.number(at + half)?).ok()?)?;
        // The function's own data repeat where it begins; the name comes next.
        let name = u32_at(self.data, info.checked_add(half)?)?;
        let name = self.data.get(self.names.checked_add(name as usize)?..)?;
        let len = memchr::memchr(0, name.get(..MAX_NAME.min(name.len()))?)?;
        (start < end).then_some(Function { start, end, name: &name[..len] })
    }

    fn entry_size(&self) -> usize {
        if self.is_relative() { 8 } else { 16 }
    }

    /// A number of the table of entries, which has half an entry's size.
    fn number(&self, at: usize) -> Option<u64> {
        if self.is_relative() { u32_at(self.data, at).map(u64::from) } else { u64_at(self.data, at) }
    }
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    data.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table as the linker writes it, of functions given by start and name, and the end of the last one.
    pub fn table(layout: Layout, text: u64, functions: &[(u64, &str)], end: u64) -> Vec<u8> {
        let (mut names, mut infos, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        let relative = layout != Layout::Go116;
        let number = |value: u64, into: &mut Vec<u8>| {
            if relative { into.extend((value as u32).to_le_bytes()) } else { into.extend(value.to_le_bytes()) }
        };
        let entries_len = if relative { 8 * functions.len() + 4 } else { 16 * functions.len() + 8 };
        for (start, name) in functions {
            number(*start, &mut entries);
            number((entries_len + infos.len()) as u64, &mut entries);
            number(*start, &mut infos);
            infos.extend((names.len() as u32).to_le_bytes());
            names.extend(name.as_bytes());
            names.push(0);
        }
        number(end, &mut entries);
        let header = if relative { 72 } else { 64 };
        let mut table = layout.magic().to_le_bytes().to_vec();
        table.extend([0, 0, 1, 8]);
        let mut words = vec![functions.len() as u64, 1];
        if relative {
            words.push(text);
        }
        let behind_names = (header + names.len()) as u64;
        words.extend([header as u64, behind_names, behind_names, behind_names, behind_names]);
        words.iter().for_each(|word| table.extend(word.to_le_bytes()));
        assert_eq!(table.len(), header);
        [table, names, entries, infos].concat()
    }

    const FUNCTIONS: [(u64, &str); 3] =
        [(0x10, "runtime.main"), (0x40, "crypto/tls.(*Conn).Read"), (0x90, "main.main")];

    #[test]
    fn every_layout_gives_its_functions() {
        for layout in Layout::ALL {
            let data = table(layout, 0x40_1000, &FUNCTIONS, 0xa0);
            let table = Table::parse(&data).unwrap();
            assert_eq!(table.is_relative(), layout != Layout::Go116);
            assert_eq!(table.text(), if table.is_relative() { 0x40_1000 } else { 0 });
            let found: Vec<_> = table.iter().map(|f| (f.start, f.end, std::str::from_utf8(f.name).unwrap())).collect();
            assert_eq!(
                found,
                [(0x10, 0x40, FUNCTIONS[0].1), (0x40, 0x90, FUNCTIONS[1].1), (0x90, 0xa0, FUNCTIONS[2].1)],
                "{layout:?}"
            );
        }
    }

    #[test]
    fn a_table_that_is_cut_anywhere_gives_at_most_what_it_has() {
        for layout in Layout::ALL {
            let data = table(layout, 0, &FUNCTIONS, 0xa0);
            for len in 0..data.len() {
                assert!(Table::parse(&data[..len]).is_none_or(|table| table.iter().count() <= FUNCTIONS.len()));
            }
        }
    }

    #[test]
    fn a_count_that_the_table_cannot_hold_is_refused() {
        for count in [u64::MAX, u64::MAX / 8, u64::MAX / 16 + 1, 1 << 32, 1000] {
            for layout in Layout::ALL {
                let mut data = table(layout, 0, &FUNCTIONS, 0xa0);
                data[8..16].copy_from_slice(&count.to_le_bytes());
                assert!(Table::parse(&data).is_none(), "{count} {layout:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn flipped_bytes_never_panic(layout in 0usize..3, flips in prop::collection::vec((0usize..260, any::<u8>()), 1..12)) {
            let mut data = table(Layout::ALL[layout], 0x40_1000, &FUNCTIONS, 0xa0);
            for (at, to) in flips {
                let len = data.len();
                // The beginning stays, or nothing is looked at.
                data[8 + at % (len - 8)] = to;
            }
            if let Some(table) = Table::parse(&data) {
                prop_assert!(table.len() <= data.len() / 8);
                prop_assert!(table.iter().all(|function| function.start < function.end));
            }
        }
    }
}
