//! The `bpf` system call, for what aya 0.14 does not offer.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// What is not meant, for [`bpf`].
pub(super) fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers, for which the kernel demands that what is not meant is zero.
    unsafe { std::mem::zeroed() }
}

/// A call that answers with a new descriptor (bpf(2)).
pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let attr = std::ptr::from_mut(attr);
    // SAFETY: `attr` is a whole `bpf_attr`, and what it points to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, attr, size_of::<bpf_attr>()) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the commands of this module return a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
