//! Which file a file is in the eyes of the kernel's probes.
//!
//! A probe belongs to the inode that holds the bytes. A file of an overlay is another inode on top of that: each mount
//! shows it under a device number of its own, in `stat`, in `/proc/PID/maps` and in the stream of mappings alike, and the
//! probes of two such names are set on one inode. What names the inode below is the file handle that overlayfs gives
//! for watching (`AT_HANDLE_FID`, since 6.6): it has the handle below inside.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
};

/// Handles are this long at most (`MAX_HANDLE_SZ`).
const MAX_HANDLE: usize = 128;

/// `OVL_FILEID_V1` of fs/overlayfs/overlayfs.h: type of an overlay's handle.
const OVERLAY_HANDLE: i32 = 0xf8;

/// `struct ovl_fh`: three bytes of padding, version, magic, length from the version on, flags, type of the handle below,
/// 16 bytes of the file system's id, the handle below.
const BELOW_LEN: usize = 5;
const BELOW_TYPE: usize = 7;
const BELOW: usize = 24;

/// `AT_HANDLE_FID` of linux/fcntl.h: the handle need not be one that can be opened.
const AT_HANDLE_FID: libc::c_int = 0x200;

/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAYFS: i64 = 0x794c_7630;

/// A regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileId {
    /// As `stat` says it.
    pub device: u64,
    /// As `stat` says it.
    pub inode: u64,
    /// The name is one of an overlay's.
    is_overlay: bool,
    /// Handle of the inode that holds the bytes.
    handle: (i32, Vec<u8>),
    size: u64,
    /// When the inode changed last. With the handle, so that two file systems that count alike are told apart.
    changed: (i64, i64),
}

impl FileId {
    /// Of an open file. An error if it is no regular file.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let is_overlay = file_system(file)? == OVERLAYFS;
        let handle = match handle(file) {
            Ok(handle) if is_overlay => below(handle),
            Ok(handle) => handle,
            // An older kernel, or a file system without handles. An overlay hands the number of the inode below on.
            Err(_) => (0, metadata.ino().to_ne_bytes().to_vec()),
        };
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            is_overlay,
            handle,
            size: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether probes in the one are probes in the other. Where it is not certain, it is denied: probes that are set
    /// twice cost time, probes that are not set lose everything.
    pub fn is_same(&self, other: &Self) -> bool {
        if !self.is_overlay && !other.is_overlay {
            return (self.device, self.inode) == (other.device, other.inode);
        }
        self.handle == other.handle && self.size == other.size && self.changed == other.changed
    }
}

/// Type of the file system that a file is on.
fn file_system(file: &File) -> io::Result<i64> {
    let mut stats = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open and the pointer is to memory of the size that the call fills.
    if unsafe { libc::fstatfs(file.as_raw_fd(), stats.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so it has filled all of it.
    Ok(unsafe { stats.assume_init() }.f_type)
}

/// Type and bytes of a file's handle.
fn handle(file: &File) -> io::Result<(i32, Vec<u8>)> {
    /// `struct file_handle` with its bytes.
    #[repr(C)]
    struct Handle {
        len: u32,
        kind: i32,
        bytes: [u8; MAX_HANDLE],
    }
    let mut handle = Handle { len: MAX_HANDLE as u32, kind: 0, bytes: [0; MAX_HANDLE] };
    let mut mount = 0;
    // SAFETY: an empty path names the open descriptor itself; the kernel writes the handle up to the length that it
    // names, which is what follows it, and one int to `mount`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            file.as_raw_fd(),
            c"".as_ptr(),
            &raw mut handle,
            &raw mut mount,
            libc::AT_EMPTY_PATH | AT_HANDLE_FID,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = handle.bytes.get(..handle.len as usize).unwrap_or_default();
    Ok((handle.kind, bytes.to_vec()))
}

/// The handle inside an overlay's; what is of another form is left as it is.
fn below((kind, bytes): (i32, Vec<u8>)) -> (i32, Vec<u8>) {
    let inside = || {
        let end = BELOW_LEN - 2 + usize::from(*bytes.get(BELOW_LEN)?);
        Some((i32::from(*bytes.get(BELOW_TYPE)?), bytes.get(BELOW..end)?.to_vec()))
    };
    if kind == OVERLAY_HANDLE { inside().unwrap_or((kind, bytes)) } else { (kind, bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(device: u64, handle: &[u8]) -> FileId {
        let file = FileId::of(&File::open(std::env::current_exe().unwrap()).unwrap()).unwrap();
        FileId { device, is_overlay: true, handle: (1, handle.to_vec()), ..file }
    }

    #[test]
    fn names_of_one_inode_are_one_file() {
        assert!(overlay(1, b"x").is_same(&overlay(2, b"x")));
        assert!(!overlay(1, b"x").is_same(&overlay(1, b"y")));
        let upgraded = FileId { changed: (1, 2), ..overlay(1, b"x") };
        assert!(!overlay(1, b"x").is_same(&upgraded));
        let plain = FileId { is_overlay: false, ..overlay(3, b"x") };
        assert!(plain.is_same(&overlay(1, b"x")));
        let elsewhere = FileId { device: 4, ..plain.clone() };
        assert!(!plain.is_same(&elsewhere), "two file systems of one image");
    }

    #[test]
    fn the_handle_below_is_taken_out_of_the_overlays() {
        // As 6.18 gave it for a file on ext4.
        let mut bytes = vec![0, 0, 0, 0, 0xfb, 0x1d, 0, 1];
        bytes.extend([0; 16]);
        bytes.extend([0x13, 0x63, 0x98, 0, 0x55, 0x4b, 0x1f, 0xa5]);
        assert_eq!(below((OVERLAY_HANDLE, bytes.clone())), (1, bytes[24..].to_vec()));
        for len in 0..bytes.len() {
            let cut = (OVERLAY_HANDLE, bytes[..len].to_vec());
            assert_eq!(below(cut.clone()), cut, "cut at {len}");
        }
        assert_eq!(below((1, vec![7])), (1, vec![7]), "another file system's");
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        assert!(FileId::of(&File::open("/").unwrap()).is_err());
        assert!(FileId::of(&File::open("/dev/null").unwrap()).is_err());
    }
}
