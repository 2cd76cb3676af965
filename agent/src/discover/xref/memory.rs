//! A file's segments, read in pieces: what a search goes through is never in memory as a whole.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, Ordering},
};

use super::Unsearchable;
use crate::discover::image::{Image, Segment};

/// Bytes that are searched at once.
const WINDOW: usize = 1 << 20;

/// Most of a file that is searched, by what its segments claim. The largest program that was seen has 180 MB of code and
/// constants; what is appended to it, as scripts are, is in no segment that counts.
const MAX_SEARCHED: u64 = 1 << 30;

/// Code that is kept for walking, by the piece.
const PIECE: u64 = 64 << 10;

/// Pieces that are kept. TLS functions lie close together; beyond this it starts over.
const MAX_PIECES: usize = 64;

/// Longest instruction.
const LONGEST: u64 = 15;

/// The segments of a file, with what of its code was read.
pub struct Memory<'f> {
    file: &'f File,
    stop: &'f AtomicBool,
    segments: Vec<Segment>,
    pieces: HashMap<u64, Vec<u8>>,
}

impl<'f> Memory<'f> {
    /// Takes the segments that a file has, cut to what is in it.
    pub fn new(file: &'f File, image: &Image<'_, '_>, stop: &'f AtomicBool) -> Result<Self, Unsearchable> {
        let len = file.metadata()?.len();
        let cut = |segment: Segment| Segment { len: segment.len.min(len.saturating_sub(segment.offset)), ..segment };
        let fits = |segment: &Segment| segment.len > 0 && segment.address.checked_add(segment.len).is_some();
        let segments: Vec<Segment> = image.segments().map(cut).filter(fits).collect();
        let constant = segments.iter().filter(|segment| !segment.writable);
        if constant.fold(0u64, |sum, segment| sum.saturating_add(segment.len)) > MAX_SEARCHED {
            return Err(Unsearchable::TooLarge);
        }
        Ok(Self { file, stop, segments, pieces: HashMap::new() })
    }

    /// Shows every piece of the segments that are `wanted` with the address of its first byte. Each begins with the last
    /// `overlap` bytes of the one before it. Ends early with what `look` returns.
    pub fn each_window(
        &self,
        wanted: impl Fn(&Segment) -> bool,
        overlap: usize,
        mut look: impl FnMut(u64, &[u8]) -> Result<(), Unsearchable>,
    ) -> Result<(), Unsearchable> {
        let mut window = vec![0; WINDOW];
        for segment in self.segments.iter().filter(|segment| wanted(segment)) {
            let mut done = 0;
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(Unsearchable::Stopped);
                }
                let len = (segment.len - done).min(WINDOW as u64) as usize;
                let window = &mut window[..len];
                self.file.read_exact_at(window, segment.offset + done)?;
                look(segment.address + done, window)?;
                if done + len as u64 == segment.len {
                    break;
                }
                done += (len - overlap) as u64;
            }
        }
        Ok(())
    }

    /// Code from an address on: at least one whole instruction, if there is one.
    pub fn code(&mut self, address: u64) -> Option<&[u8]> {
        let segment = self.segment(address, |segment| segment.executable)?.address;
        // A piece begins where its segment does, if that is later.
        let begin = (address - address % PIECE).max(segment);
        if !self.pieces.contains_key(&begin) {
            if self.pieces.len() >= MAX_PIECES {
                self.pieces.clear();
            }
            let bytes = self.read(address, begin, PIECE + LONGEST, |segment| segment.executable)?;
            self.pieces.insert(begin, bytes);
        }
        self.pieces.get(&begin)?.get((address - begin) as usize..).filter(|rest| !rest.is_empty())
    }

    /// The code before an address, at most `len` bytes, and the address of its first one.
    pub fn code_before(&self, address: u64, len: u64) -> Option<(u64, Vec<u8>)> {
        let segment = self.segment(address, |segment| segment.executable)?;
        let begin = address.saturating_sub(len).max(segment.address);
        Some((begin, self.read(address, begin, address - begin, |segment| segment.executable)?))
    }

    /// The NUL-terminated text at an address, if it has no more than `longest` bytes and is ASCII.
    pub fn text(&self, address: u64, longest: u64) -> Option<String> {
        let mut bytes = self.read(address, address, longest + 1, |segment| !segment.writable)?;
        bytes.truncate(memchr::memchr(0, &bytes)?);
        String::from_utf8(bytes).ok().filter(|text| text.is_ascii())
    }

    /// Reads `len` bytes from `begin` on, or as many as there are, of the segment that has `address` in it.
    fn read(&self, address: u64, begin: u64, len: u64, wanted: impl Fn(&Segment) -> bool) -> Option<Vec<u8>> {
        let segment = self.segment(address, wanted)?;
        let begin = begin.max(segment.address);
        let within = begin - segment.address;
        let mut bytes = vec![0; len.min(segment.len - within) as usize];
        self.file.read_exact_at(&mut bytes, segment.offset + within).ok()?;
        Some(bytes)
    }

    fn segment(&self, address: u64, wanted: impl Fn(&Segment) -> bool) -> Option<&Segment> {
        let holds =
            |segment: &&Segment| address.checked_sub(segment.address).is_some_and(|within| within < segment.len);
        self.segments.iter().filter(|segment| wanted(segment)).find(holds)
    }
}
