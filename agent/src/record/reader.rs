//! Reading the members of a record one after the other. Owns no layout: which member comes next is the parser's to know.

use super::{ObjectId, RecordError};

/// A record's bytes, and how far they are read.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let chunk = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let chunk = chunk.ok_or(RecordError::Short { need: self.at + N, have: self.bytes.len() })?;
        self.at += N;
        Ok(*chunk)
    }

    pub(super) fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_ne_bytes)
    }

    pub(super) fn object(&mut self) -> Result<ObjectId, RecordError> {
        Ok(ObjectId { address: self.u64()?, generation: self.u64()? })
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }
}
