//! An encoder for tests, which does whatever RFC 7541 allows.

use std::collections::VecDeque;

use super::{STATIC, huffman};

/// How a field is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    /// As an index, if the table has it.
    pub index: bool,
    /// With the name as an index, if the table has it.
    pub index_name: bool,
    /// Into the table.
    pub insert: bool,
    /// Never into any table, which is said so.
    pub never: bool,
    /// With the Huffman code.
    pub huffman: bool,
}

/// The encoder and its table.
pub(in crate::protocol::http2) struct Encoder {
    table: VecDeque<(String, String)>,
    max: usize,
}

impl Encoder {
    pub fn new() -> Self {
        Self { table: VecDeque::new(), max: 4096 }
    }

    /// Adds a change of the table's size to a block.
    pub fn resize(&mut self, max: usize, block: &mut Vec<u8>) {
        self.max = max;
        self.evict(max);
        integer(max, 5, 0x20, block);
    }

    /// Adds a field to a block.
    pub fn field(&mut self, name: &str, value: &str, style: Style, block: &mut Vec<u8>) {
        let dynamic = self.table.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let entries: Vec<_> = STATIC.iter().copied().chain(dynamic).collect();
        let whole = entries.iter().position(|&entry| entry == (name, value)).filter(|_| style.index);
        if let Some(at) = whole {
            integer(at + 1, 7, 0x80, block);
            return;
        }
        let named = entries.iter().position(|&(known, _)| known == name).filter(|_| style.index_name);
        let (prefix, bits) = if style.insert { (6, 0x40) } else { (4, if style.never { 0x10 } else { 0 }) };
        integer(named.map_or(0, |at| at + 1), prefix, bits, block);
        if named.is_none() {
            string(name, style.huffman, block);
        }
        string(value, style.huffman, block);
        if style.insert {
            let size = name.len() + value.len() + 32;
            self.evict(self.max.saturating_sub(size));
            if size <= self.max {
                self.table.push_front((name.to_owned(), value.to_owned()));
            }
        }
    }

    fn evict(&mut self, max: usize) {
        while self.size() > max {
            self.table.pop_back();
        }
    }

    pub fn size(&self) -> usize {
        self.table.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    }
}

fn integer(value: usize, prefix: u8, bits: u8, block: &mut Vec<u8>) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        block.push(bits | value as u8);
        return;
    }
    block.push(bits | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

fn string(text: &str, is_huffman: bool, block: &mut Vec<u8>) {
    let coded = if is_huffman { huffman::encode(text.as_bytes()) } else { text.into() };
    integer(coded.len(), 7, if is_huffman { 0x80 } else { 0 }, block);
    block.extend(coded);
}
