//! A stand-in for libcudart, loaded at run time as PyTorch loads the real one.
//!
//! Owns the two calls that a decode step consists of with CUDA graphs: `cudaGraphLaunch`, and `cudaStreamSynchronize`
//! that waits for it; and `cudaMalloc`. How long the launched work takes is told to the stand-in beforehand by `inferscope_fake_step`,
//! which no real library has: with one, loading fails, and nothing is launched on a real GPU.

#![expect(unsafe_code, reason = "loading a C library and calling into it have no safe wrapper")]

use std::{
    ffi::{CStr, CString, c_int, c_void},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    ptr,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

type FakeStep = unsafe extern "C" fn(u64);
type GraphLaunch = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;
type StreamSynchronize = unsafe extern "C" fn(*mut c_void) -> c_int;
type Malloc = unsafe extern "C" fn(*mut *mut c_void, usize) -> c_int;

/// The loaded library. It stays loaded as long as the process lives.
#[derive(Debug)]
pub struct Cudart {
    fake_step: FakeStep,
    graph_launch: GraphLaunch,
    stream_synchronize: StreamSynchronize,
    malloc: Malloc,
}

impl Cudart {
    /// Loads it.
    ///
    /// # Errors
    /// Where it cannot be loaded, or is not the stand-in.
    pub fn load(path: &Path) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the name is a C string; what the library's initialisers do is the operator's choice.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if handle.is_null() {
            bail!("cannot load {}: {}", path.display(), last_error());
        }
        let symbol = |name: &CStr| {
            // SAFETY: the handle is that of a library that is never unloaded; the name is a C string.
            let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
            let found = (!address.is_null()).then_some(address);
            found.with_context(|| format!("{} is no stand-in for libcudart: no {name:?}", path.display()))
        };
        let (step, launch) = (symbol(c"inferscope_fake_step")?, symbol(c"cudaGraphLaunch")?);
        let (synchronize, malloc) = (symbol(c"cudaStreamSynchronize")?, symbol(c"cudaMalloc")?);
        Ok(Self {
            // SAFETY: the stand-in's function of this name has this signature.
            fake_step: unsafe { std::mem::transmute::<*mut c_void, FakeStep>(step) },
            // SAFETY: cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t); both are pointers.
            graph_launch: unsafe { std::mem::transmute::<*mut c_void, GraphLaunch>(launch) },
            // SAFETY: cudaError_t cudaStreamSynchronize(cudaStream_t).
            stream_synchronize: unsafe { std::mem::transmute::<*mut c_void, StreamSynchronize>(synchronize) },
            // SAFETY: cudaError_t cudaMalloc(void **, size_t).
            malloc: unsafe { std::mem::transmute::<*mut c_void, Malloc>(malloc) },
        })
    }

    /// Launches work of this length and waits for its end.
    pub fn step(&self, length: Duration) -> Result<()> {
        let Self { fake_step, graph_launch, stream_synchronize, malloc: _ } = self;
        // SAFETY: it takes a number and keeps it.
        unsafe { fake_step(u64::try_from(length.as_nanos())?) };
        // SAFETY: the stand-in does not look into the graph or the stream.
        let launched = unsafe { graph_launch(ptr::null_mut(), ptr::null_mut()) };
        // SAFETY: as above; null is the default stream.
        let waited = unsafe { stream_synchronize(ptr::null_mut()) };
        if (launched, waited) != (0, 0) {
            bail!("cudaGraphLaunch returned {launched}, cudaStreamSynchronize {waited}");
        }
        Ok(())
    }

    /// Takes memory of the device, for good.
    ///
    /// # Errors
    /// Where the device has less.
    pub fn allocate(&self, bytes: usize) -> Result<()> {
        let mut address = ptr::null_mut();
        // SAFETY: it writes an address to the place that it is given.
        match unsafe { (self.malloc)(&raw mut address, bytes) } {
            0 => Ok(()),
            error => bail!("CUDA out of memory: cudaMalloc of {bytes} bytes returned {error}"),
        }
    }
}

fn last_error() -> String {
    // SAFETY: it takes nothing and returns null or a C string that lives until the thread's next call of this family.
    let error = unsafe { libc::dlerror() };
    if error.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: see above; there is no such call before the text is copied.
    unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_stand_in_is_refused_with_the_reason() {
        let missing = Cudart::load(Path::new("/nonexistent/libcudart.so")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/libcudart.so: "), "{missing}");
        // A library that is there on every machine that runs this, and has none of the functions.
        let other = Cudart::load(Path::new("libc.so.6")).unwrap_err().to_string();
        assert!(other.contains("inferscope_fake_step"), "{other}");
    }
}
