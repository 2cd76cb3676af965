//! Reading a BPF ring buffer through a window.
//!
//! aya maps a ring whole and twice behind itself, so that a record which wraps around lies in one piece. Every page of that is
//! resident from the start: a ring of 32 MiB makes 64 MiB of the agent's memory, although a reader that keeps up looks at a
//! few kilobytes. Here a piece of the ring is mapped at a time and moves along with the reader; a record that crosses its end
//! is put together in a buffer. Owns the protocol of the two positions (`kernel/bpf/ringbuf.c`); what the records mean and
//! when the reader waits are [`super::rings`]' business.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, RawFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Bytes of a ring that are mapped at once. Mapping takes some 20 us: at a gigabyte a second, two percent of a core.
const WINDOW: u64 = 1 << 20;

/// Length word and page offset before each record.
const HEADER: u64 = 8;

/// Flag in the length word: the record is being written (`BPF_RINGBUF_BUSY_BIT`).
const BUSY: u32 = 1 << 31;

/// Flag in the length word: the record was given up (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARD: u32 = 1 << 30;

/// A ring and how far it has been read.
pub struct Ring<F> {
    fd: F,
    /// The reader's position, which the kernel reads.
    consumer: Pages,
    /// The writers' position.
    producer: Pages,
    window: Pages,
    /// Where in the ring the window begins.
    window_at: u64,
    window_len: u64,
    size: u64,
    page: u64,
    position: u64,
    /// Length of the record that was handed out last, header included; it is given back with the next.
    held: u64,
    joined: Vec<u8>,
}

impl<F: AsFd> Ring<F> {
    /// The ring behind a map's descriptor; `size` is its `max_entries`.
    pub fn open(fd: F, size: u32) -> io::Result<Self> {
        Self::with_window(fd, size.into(), WINDOW)
    }

    fn with_window(fd: F, size: u64, window: u64) -> io::Result<Self> {
        // SAFETY: takes a number and gives one.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = u64::try_from(page).map_err(|_| io::Error::last_os_error())?;
        if !size.is_power_of_two() || size < page {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let window_len = window.clamp(page, size);
        let consumer = Pages::map(fd.as_fd(), 0, page, true)?;
        let producer = Pages::map(fd.as_fd(), page, page, false)?;
        let window = Pages::map(fd.as_fd(), 2 * page, window_len, false)?;
        let position = consumer.u64_at_start().load(Ordering::Relaxed);
        Ok(Self {
            fd,
            consumer,
            producer,
            window,
            window_at: 0,
            window_len,
            size,
            page,
            position,
            held: 0,
            joined: Vec::new(),
        })
    }

    /// The next record, if one is written. The one before is given back to the writers.
    pub fn next(&mut self) -> Option<&[u8]> {
        self.give_back(self.held);
        self.held = 0;
        loop {
            let unread = self.producer.u64_at_start().load(Ordering::Acquire).wrapping_sub(self.position);
            if unread == 0 || unread > self.size {
                return None;
            }
            let at = self.position & (self.size - 1);
            // Without memory for the mapping the ring is read later, and what does not fit meanwhile is counted as lost.
            self.show(at).ok()?;
            let word = self.window.u32_at(at - self.window_at).load(Ordering::Acquire);
            if word & BUSY != 0 {
                return None;
            }
            let len = u64::from(word & !DISCARD);
            let whole = (len + HEADER).next_multiple_of(HEADER);
            if whole > unread {
                return None;
            }
            if word & DISCARD != 0 {
                self.give_back(whole);
                continue;
            }
            self.held = whole;
            return self.bytes((at + HEADER) & (self.size - 1), len);
        }
    }

    fn give_back(&mut self, bytes: u64) {
        if bytes > 0 {
            self.position = self.position.wrapping_add(bytes);
            self.consumer.u64_at_start().store(self.position, Ordering::Release);
        }
    }

    /// `len` bytes from `at` on, in one piece.
    fn bytes(&mut self, at: u64, len: u64) -> Option<&[u8]> {
        if at >= self.window_at && at + len <= self.window_at + self.window_len {
            return Some(self.window.bytes(at - self.window_at, len));
        }
        self.joined.clear();
        let mut done = 0;
        while done < len {
            let from = (at + done) & (self.size - 1);
            if self.show(from).is_err() {
                self.held = 0;
                return None;
            }
            let within = from - self.window_at;
            let n = (len - done).min(self.window_len - within);
            self.joined.extend_from_slice(self.window.bytes(within, n));
            done += n;
        }
        Some(&self.joined)
    }

    /// Moves the window to where `at` is in it.
    fn show(&mut self, at: u64) -> io::Result<()> {
        if at < self.window_at || at >= self.window_at + self.window_len {
            let begin = at - at % self.window_len;
            self.window = Pages::map(self.fd.as_fd(), 2 * self.page + begin, self.window_len, false)?;
            self.window_at = begin;
        }
        Ok(())
    }

    /// For waiting: readable while there is anything unread.
    pub fn as_raw_fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}

/// Shared pages of a descriptor.
struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process and not to the thread that made it.
unsafe impl Send for Pages {}

impl Pages {
    /// `offset` and `len` are multiples of a page.
    fn map(fd: BorrowedFd<'_>, offset: u64, len: u64, writable: bool) -> io::Result<Self> {
        let (Ok(len), Ok(offset)) = (usize::try_from(len), libc::off_t::try_from(offset)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at a place that the kernel chooses; the result is checked before it is used.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    fn u64_at_start(&self) -> &AtomicU64 {
        // SAFETY: a mapping begins at a page and is at least one long; the kernel accesses the position atomically too.
        unsafe { self.start.cast::<AtomicU64>().as_ref() }
    }

    /// `at` is a multiple of 8 inside the mapping: records are aligned to that.
    fn u32_at(&self, at: u64) -> &AtomicU32 {
        let at = at as usize;
        assert!(at + 4 <= self.len && at.is_multiple_of(8), "a record's header lies outside the window");
        // SAFETY: inside the mapping and aligned, as was just asserted.
        let word = unsafe { self.start.add(at) };
        // SAFETY: as above; the kernel writes the word atomically.
        unsafe { word.cast::<AtomicU32>().as_ref() }
    }

    /// The kernel does not touch a record that is written until it is given back.
    fn bytes(&self, at: u64, len: u64) -> &[u8] {
        let (at, len) = (at as usize, len as usize);
        assert!(at + len <= self.len, "a record lies outside the window");
        // SAFETY: inside the mapping, as was just asserted.
        let start = unsafe { self.start.add(at) };
        // SAFETY: as above; nobody writes there while the slice is borrowed, because it is given back only afterwards.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own, and no reference to it outlives it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 4096;
    const SIZE: u64 = 4 * PAGE;

    /// Writes as the kernel does, into a file that is laid out like a ring.
    struct Writer {
        file: File,
        position: u64,
    }

    impl Writer {
        fn new() -> Self {
            let file = tempfile::tempfile().unwrap();
            file.set_len(2 * PAGE + SIZE).unwrap();
            Self { file, position: 0 }
        }

        fn ring(&self) -> Ring<File> {
            Ring::with_window(self.file.try_clone().unwrap(), SIZE, PAGE).unwrap()
        }

        fn consumed(&self) -> u64 {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, 0).unwrap();
            u64::from_ne_bytes(bytes)
        }

        fn put(&self, position: u64, bytes: &[u8]) {
            for (i, byte) in bytes.iter().enumerate() {
                let at = (position + i as u64) % SIZE;
                self.file.write_all_at(&[*byte], 2 * PAGE + at).unwrap();
            }
        }

        /// False if it does not fit.
        fn write(&mut self, record: &[u8], flags: u32) -> bool {
            let whole = (record.len() as u64 + HEADER).next_multiple_of(HEADER);
            if self.position + whole - self.consumed() > SIZE {
                return false;
            }
            self.put(self.position + HEADER, record);
            self.put(self.position, &(record.len() as u32 | flags).to_ne_bytes());
            self.position += whole;
            self.file.write_all_at(&self.position.to_ne_bytes(), PAGE).unwrap();
            true
        }
    }

    #[test]
    fn a_record_that_is_being_written_is_waited_for() {
        let mut writer = Writer::new();
        let mut ring = writer.ring();
        assert_eq!(ring.next(), None);
        writer.write(b"first", 0);
        writer.write(b"later", BUSY);
        assert_eq!(ring.next(), Some(b"first".as_slice()));
        assert_eq!(writer.consumed(), 0, "it is still being looked at");
        assert_eq!(ring.next(), None);
        assert_eq!(writer.consumed(), 16);
        writer.put(16, &5u32.to_ne_bytes());
        assert_eq!(ring.next(), Some(b"later".as_slice()));
    }

    #[test]
    fn sizes_that_no_ring_has_are_refused() {
        for size in [0, 100, 4095, 12_288] {
            assert!(Ring::open(tempfile::tempfile().unwrap(), size).is_err(), "{size}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever lengths are written, given up and read in whatever turns: what was written is what is read.
        #[test]
        fn what_is_written_is_read(turns in prop::collection::vec((0usize..6000, any::<bool>(), 0usize..3), 1..80)) {
            let mut writer = Writer::new();
            let mut ring = writer.ring();
            let (mut written, mut read) = (Vec::new(), Vec::new());
            for (i, (len, given_up, reads)) in turns.into_iter().enumerate() {
                let record: Vec<u8> = (0..len).map(|at| (at + i) as u8).collect();
                if writer.write(&record, if given_up { DISCARD } else { 0 }) && !given_up {
                    written.push(record);
                }
                for _ in 0..reads {
                    read.extend(ring.next().map(<[u8]>::to_vec));
                }
            }
            while let Some(record) = ring.next() {
                read.push(record.to_vec());
            }
            prop_assert_eq!(read, written);
            prop_assert_eq!(writer.consumed(), writer.position);
        }
    }
}
