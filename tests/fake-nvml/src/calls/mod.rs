//! NVML's calls, one file per part of its interface. Each asks `driver` for leave, and answers from a `device`.
//!
//! To add a call: write it in the file of its part, in `getters!` if it is one value of a device; add its name to the
//! list of `tests/nvml.rs` if the agent uses it.

// The names are NVML's.
#![expect(non_snake_case, reason = "these are the names that a loader asks for")]
#![expect(unsafe_code, reason = "the functions are called from C, with pointers")]

mod board;
pub mod events;
mod fields;
pub mod gpm;
mod mig;
mod process;
mod system;

use std::ffi::{CStr, c_char, c_uint};

use crate::code::{self, Answer};

/// Writes an answer to where the caller wants it.
///
/// # Safety
///
/// `out` is null or may be written to.
unsafe fn put<T>(out: *mut T, answer: Answer<T>) -> Answer<()> {
    let answer = answer?;
    if out.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    // SAFETY: it is not null, and the caller vouches for the rest.
    unsafe { out.write(answer) };
    Ok(())
}

/// Writes a string with its end.
///
/// # Safety
///
/// `out` is null or has room for `length` bytes.
unsafe fn put_text(out: *mut c_char, length: c_uint, answer: Answer<String>) -> Answer<()> {
    let answer = answer?;
    if out.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    if answer.len() >= length as usize {
        return Err(code::INSUFFICIENT_SIZE);
    }
    // SAFETY: the text is shorter than the buffer, which is not the text.
    unsafe { out.copy_from_nonoverlapping(answer.as_ptr().cast(), answer.len()) };
    // SAFETY: so is its end.
    let end = unsafe { out.add(answer.len()) };
    // SAFETY: it lies in the buffer.
    unsafe { end.write(0) };
    Ok(())
}

/// Reads a string.
///
/// # Safety
///
/// `text` is null or a C string.
unsafe fn get_text<'a>(text: *const c_char) -> Answer<&'a str> {
    if text.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    // SAFETY: the caller vouches for it.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| code::INVALID_ARGUMENT)
}

/// Fills a list of the caller's, as NVML does: `count` says how much room there is, and then how much there was to say.
/// With too little room it says only that.
///
/// # Safety
///
/// `count` is null or may be read and written, and `list` is null or has room for `*count`.
unsafe fn put_list<T>(list: *mut T, count: *mut c_uint, answer: &[T]) -> Answer<()> {
    // SAFETY: the caller vouches for it.
    let Some(count) = (unsafe { count.as_mut() }) else { return Err(code::INVALID_ARGUMENT) };
    let room = std::mem::replace(count, answer.len() as c_uint) as usize;
    if answer.is_empty() {
        return Ok(());
    }
    if room < answer.len() || list.is_null() {
        return Err(code::INSUFFICIENT_SIZE);
    }
    // SAFETY: there is room, and the caller's list is not ours.
    unsafe { list.copy_from_nonoverlapping(answer.as_ptr(), answer.len()) };
    Ok(())
}

/// Calls that write one value of a device: `name: type = |at| answer`.
macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $answer:expr;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(device: sys::nvmlDevice_t, out: *mut $type) -> sys::nvmlReturn_t {
            let answer = crate::driver::device(stringify!($name), device, $answer);
            // SAFETY: the caller gives a place for the value.
            crate::driver::result(unsafe { super::put(out, answer) })
        }
    )*};
}
use getters;
