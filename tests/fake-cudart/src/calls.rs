//! The symbols: CUDA's functions under their names, and one of the stand-in's own.
//!
//! Each is an entry of two instructions that do nothing, and a jump to what it does. The entry makes the first
//! instruction the one that the real library's functions begin with, whatever the compiler makes of the rest.

#![expect(unsafe_code, reason = "the functions are called from C, with pointers")]

use std::{
    ffi::{c_int, c_uint, c_void},
    time::Duration,
};

use crate::{
    memory,
    work::{self, Until},
};

/// `cudaError_t`
type Error = c_int;

const SUCCESS: Error = 0;
/// `cudaErrorInvalidValue`
const INVALID_VALUE: Error = 1;
/// `cudaErrorMemoryAllocation`
const MEMORY_ALLOCATION: Error = 2;
/// `cudaErrorInvalidDevice`
const INVALID_DEVICE: Error = 101;

/// Devices that there are, as in the largest of usual hosts.
const DEVICES: c_int = 8;

/// A pointer of which only the number matters.
type Opaque = *mut c_void;

/// `dim3`
#[repr(C)]
#[derive(Clone, Copy)]
struct Dim3 {
    x: c_uint,
    y: c_uint,
    z: c_uint,
}

macro_rules! export {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn $name($($arg: $type),*) $(-> $result)? {
            unsafe extern "C" fn body($($arg: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            std::arch::naked_asm!("push rbp", "mov rbp, rsp", "pop rbp", "jmp {}", sym body);
            #[cfg(target_arch = "aarch64")]
            std::arch::naked_asm!("stp x29, x30, [sp, #-16]!", "mov x29, sp", "ldp x29, x30, [sp], #16", "b {}", sym body);
        }
    )*};
}

fn allocate(out: *mut Opaque, size: usize) -> Error {
    if out.is_null() {
        return INVALID_VALUE;
    }
    let at = match size {
        0 => 0,
        size => match memory::allocate(size) {
            Some(at) => at,
            None => return MEMORY_ALLOCATION,
        },
    };
    // SAFETY: the caller gives a place for the address, and it is not null.
    unsafe { out.write(std::ptr::without_provenance_mut(at)) };
    SUCCESS
}

export! {
    /// Says how long the next launch of this thread takes, nanoseconds. No real library has this function.
    fn inferscope_fake_step(ns: u64) {
        work::next_takes(Duration::from_nanos(ns));
    }

    fn cudaGetDeviceCount(count: *mut c_int) -> Error {
        if count.is_null() {
            return INVALID_VALUE;
        }
        // SAFETY: the caller gives a place for the number, and it is not null.
        unsafe { count.write(DEVICES) };
        SUCCESS
    }

    fn cudaSetDevice(device: c_int) -> Error {
        if (0..DEVICES).contains(&device) { SUCCESS } else { INVALID_DEVICE }
    }

    fn cudaMalloc(out: *mut Opaque, size: usize) -> Error {
        allocate(out, size)
    }

    fn cudaMallocAsync(out: *mut Opaque, size: usize, _stream: Opaque) -> Error {
        allocate(out, size)
    }

    fn cudaFree(at: Opaque) -> Error {
        if at.is_null() || memory::free(at.addr()) { SUCCESS } else { INVALID_VALUE }
    }

    /// Copies nothing, as there is no memory of a device.
    fn cudaMemcpyAsync(_to: Opaque, _from: *const c_void, _size: usize, kind: c_int, _stream: Opaque) -> Error {
        // Host and device in either direction, or what the addresses say.
        if (0..=4).contains(&kind) { SUCCESS } else { INVALID_VALUE }
    }

    fn cudaLaunchKernel(
        function: *const c_void,
        _grid: Dim3,
        block: Dim3,
        _arguments: *mut Opaque,
        _shared: usize,
        stream: Opaque
    ) -> Error {
        if function.is_null() || block.x == 0 || block.y == 0 || block.z == 0 {
            return INVALID_VALUE;
        }
        work::launch(stream.addr());
        SUCCESS
    }

    fn cudaGraphLaunch(_graph: Opaque, stream: Opaque) -> Error {
        work::launch(stream.addr());
        SUCCESS
    }

    fn cudaStreamSynchronize(stream: Opaque) -> Error {
        work::wait(Until::Stream(stream.addr()));
        SUCCESS
    }

    fn cudaEventRecord(event: Opaque, stream: Opaque) -> Error {
        work::record(event.addr(), stream.addr());
        SUCCESS
    }

    fn cudaEventSynchronize(event: Opaque) -> Error {
        work::wait(Until::Event(event.addr()));
        SUCCESS
    }

    fn cudaDeviceSynchronize() -> Error {
        work::wait(Until::Device);
        SUCCESS
    }
}
