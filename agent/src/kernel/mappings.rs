//! The stream of new executable mappings: exec, the dynamic linker, dlopen.
//!
//! Owns one perf ring per processor that carries PERF_RECORD_MMAP2 (perf_event_open(2)). It needs no program in
//! the kernel, sees every process, and names the file by device and inode. Opened before `/proc` is scanned, so
//! that nothing falls between the two.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::rings::Waker;

/// Pages of each ring behind the control page: 128 KiB, about 1,000 mappings.
const DATA_PAGES: usize = 32;

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_DUMMY: u64 = 9;
const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_MMAP2: u32 = 10;

/// Bits of `perf_event_attr`'s flag word.
const FLAG_MMAP: u64 = 1 << 8;
const FLAG_WATERMARK: u64 = 1 << 14;
const FLAG_MMAP2: u64 = 1 << 23;

/// Positions in `struct perf_event_mmap_page`.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// `struct perf_event_attr` up to PERF_ATTR_SIZE_VER0.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_watermark: u32,
    bp_type: u32,
    config1: u64,
}

/// An executable mapping of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Thread group.
    pub pid: u32,
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Device of the file, major and minor.
    pub device: (u32, u32),
    /// Inode of the file.
    pub inode: u64,
    /// Path as the process saw it; only for messages and as a last resort.
    pub path: String,
}

/// What the stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingEvent {
    /// A new mapping.
    Mapped(Mapping),
    /// Events were lost: `/proc` must be scanned again.
    Lost(u64),
}

/// The stream.
pub struct MappingEvents {
    rings: Vec<PerfRing>,
}

impl MappingEvents {
    /// Opens it on every processor that is online.
    pub fn open() -> io::Result<Self> {
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
        let rings = cpu_list(&online).into_iter().map(PerfRing::open).collect::<io::Result<_>>()?;
        Ok(Self { rings })
    }

    /// Waits for events, a wake-up or the time-out.
    pub fn wait(&self, waker: &Waker, timeout: Duration) {
        let rings: Vec<RawFd> = self.rings.iter().map(|ring| ring.fd.as_raw_fd()).collect();
        waker.wait_with(&rings, timeout);
    }

    /// Takes everything that is there.
    pub fn drain(&mut self, mut sink: impl FnMut(MappingEvent)) {
        for ring in &mut self.rings {
            ring.drain(&mut sink);
        }
    }
}

struct PerfRing {
    fd: OwnedFd,
    base: *mut u8,
    page: usize,
    buffer: Vec<u8>,
}

// SAFETY: the mapping belongs to this value alone; nothing in it is bound to a thread.
unsafe impl Send for PerfRing {}

impl PerfRing {
    fn open(cpu: u32) -> io::Result<Self> {
        let attr = PerfEventAttr {
            kind: PERF_TYPE_SOFTWARE,
            size: size_of::<PerfEventAttr>() as u32,
            config: PERF_COUNT_SW_DUMMY,
            flags: FLAG_MMAP | FLAG_MMAP2 | FLAG_WATERMARK,
            wakeup_watermark: 1,
            ..Default::default()
        };
        const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
        // SAFETY: the attribute is a valid structure of the size that it names; every process (-1) on one processor.
        let fd = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, cpu as i32, -1, PERF_FLAG_FD_CLOEXEC)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // SAFETY: no pointers; a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; checked before it is used.
        let base = unsafe {
            libc::mmap(ptr::null_mut(), page * (1 + DATA_PAGES), protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd, base: base.cast(), page, buffer: Vec::new() })
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the control page is mapped for the life of `self`; the field is eight bytes long and aligned, and the
        // kernel uses it as an atomic too.
        unsafe { AtomicU64::from_ptr(self.base.wrapping_add(offset).cast()) }
    }

    fn drain(&mut self, sink: &mut impl FnMut(MappingEvent)) {
        let size = (self.page * DATA_PAGES) as u64;
        let head = self.position(DATA_HEAD).load(Ordering::Acquire);
        let mut tail = self.position(DATA_TAIL).load(Ordering::Relaxed);
        while tail < head {
            let mut header = [0u8; 8];
            self.copy_out(tail % size, &mut header);
            let kind = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            let len = u64::from(u16::from_ne_bytes([header[6], header[7]]));
            if len < 8 || len > head - tail {
                // Not a record: give up what is there rather than read on out of step.
                tail = head;
                sink(MappingEvent::Lost(1));
                break;
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(len as usize, 0);
            self.copy_out(tail % size, &mut buffer);
            if let Some(event) = decode(kind, &buffer) {
                sink(event);
            }
            self.buffer = buffer;
            tail += len;
        }
        self.position(DATA_TAIL).store(tail, Ordering::Release);
    }

    /// Copies from a position of the data area, around its end if need be.
    fn copy_out(&self, at: u64, out: &mut [u8]) {
        let size = self.page * DATA_PAGES;
        let at = at as usize;
        let first = out.len().min(size - at);
        // SAFETY: `at` lies in the data area behind the control page and `first` does not reach beyond it.
        unsafe { ptr::copy_nonoverlapping(self.base.wrapping_add(self.page + at), out.as_mut_ptr(), first) };
        let rest = &mut out[first..];
        // SAFETY: a record is shorter than the area, so what is left lies at its beginning.
        unsafe { ptr::copy_nonoverlapping(self.base.wrapping_add(self.page), rest.as_mut_ptr(), rest.len()) };
    }
}

impl Drop for PerfRing {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping, which nobody uses any more.
        unsafe { libc::munmap(self.base.cast(), self.page * (1 + DATA_PAGES)) };
    }
}

fn decode(kind: u32, record: &[u8]) -> Option<MappingEvent> {
    let u32_at = |at: usize| record.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b));
    let u64_at = |at: usize| record.get(at..)?.first_chunk().map(|b| u64::from_ne_bytes(*b));
    match kind {
        PERF_RECORD_LOST => Some(MappingEvent::Lost(u64_at(16)?)),
        PERF_RECORD_MMAP2 => {
            let start = u64_at(16)?;
            let path = record.get(72..)?;
            let path = path.split(|&b| b == 0).next().unwrap_or_default();
            Some(MappingEvent::Mapped(Mapping {
                pid: u32_at(8)?,
                start,
                end: start.checked_add(u64_at(24)?)?,
                device: (u32_at(40)?, u32_at(44)?),
                inode: u64_at(48)?,
                path: String::from_utf8_lossy(path).into_owned(),
            }))
        }
        _ => None,
    }
}

/// A list of processors as sysfs prints it: `0-3,8`.
fn cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse()) {
            cpus.extend(first..=last);
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_of_processors() {
        assert_eq!(cpu_list("0-1\n"), [0, 1]);
        assert_eq!(cpu_list("0,2-4"), [0, 2, 3, 4]);
        assert_eq!(cpu_list(""), [0u32; 0]);
    }

    #[test]
    fn a_record_that_is_cut_off_is_none() {
        for len in 0..72 {
            assert_eq!(decode(PERF_RECORD_MMAP2, &vec![1; len]), None);
        }
        assert_eq!(decode(99, &[0; 100]), None);
    }
}
