//! The stand-in as a program loads it: from a file with the name of the real library.

#![expect(unsafe_code, reason = "the functions are C's")]

use std::{
    ffi::{c_int, c_void},
    process::Command,
    ptr::{null_mut, without_provenance_mut},
    time::{Duration, Instant},
};

use inferscope_fake_cudart::library;
use libloading::Library;
use object::{Object as _, ObjectSymbol as _};

type Opaque = *mut c_void;

/// Every function that is there.
const NAMES: [&str; 13] = [
    "cudaDeviceSynchronize",
    "cudaEventRecord",
    "cudaEventSynchronize",
    "cudaFree",
    "cudaGetDeviceCount",
    "cudaGraphLaunch",
    "cudaLaunchKernel",
    "cudaMalloc",
    "cudaMallocAsync",
    "cudaMemcpyAsync",
    "cudaSetDevice",
    "cudaStreamSynchronize",
    "inferscope_fake_step",
];

/// A library of its own for each test, as each file is to a loader.
struct Cuda {
    library: Library,
    _folder: tempfile::TempDir,
}

impl Cuda {
    fn load() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = library::copy(folder.path(), "libcudart.so.12").unwrap();
        // SAFETY: loading it runs nothing.
        Self { library: unsafe { Library::new(path) }.unwrap(), _folder: folder }
    }

    fn get<T: Copy>(&self, name: &str) -> T {
        // SAFETY: each caller names the function's type.
        *unsafe { self.library.get(name.as_bytes()) }.unwrap()
    }

    /// Calls a function of one pointer.
    fn one(&self, name: &str, pointer: usize) -> c_int {
        let function: unsafe extern "C" fn(Opaque) -> c_int = self.get(name);
        // SAFETY: it takes a pointer and does not look behind it.
        unsafe { function(without_provenance_mut(pointer)) }
    }

    /// Launches a graph of a length on a stream.
    fn graph(&self, length: Duration, stream: usize) {
        let step: unsafe extern "C" fn(u64) = self.get("inferscope_fake_step");
        let launch: unsafe extern "C" fn(Opaque, Opaque) -> c_int = self.get("cudaGraphLaunch");
        // SAFETY: it takes a number.
        unsafe { step(length.as_nanos() as u64) };
        // SAFETY: it takes pointers and does not look behind them.
        assert_eq!(unsafe { launch(null_mut(), without_provenance_mut(stream)) }, 0);
    }

    fn malloc(&self, size: usize) -> (c_int, usize) {
        let malloc: unsafe extern "C" fn(*mut Opaque, usize) -> c_int = self.get("cudaMalloc");
        let mut at = null_mut();
        // SAFETY: there is a place for the address.
        (unsafe { malloc(&raw mut at, size) }, at.addr())
    }
}

#[test]
fn every_function_can_be_probed() {
    let bytes = std::fs::read(library::path().unwrap()).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let functions = file.dynamic_symbols().filter(|symbol| symbol.is_definition() && symbol.is_global());
    let mut names: Vec<_> = functions.map(|symbol| symbol.name().unwrap().to_owned()).collect();
    names.retain(|name| name.starts_with("cuda") || name.starts_with("inferscope"));
    names.sort_unstable();
    assert_eq!(names, NAMES);
    let cuda = Cuda::load();
    for name in NAMES {
        let entry: *const u8 = cuda.get(name);
        // SAFETY: the address is of a function's code.
        let first = unsafe { entry.read() };
        if cfg!(target_arch = "x86_64") {
            assert_eq!(first, 0x55, "{name} does not begin with push %rbp");
        }
    }
}

#[test]
fn a_synchronise_waits_for_what_its_stream_has_launched() {
    let cuda = Cuda::load();
    let (short, long) = (Duration::from_millis(30), Duration::from_secs(600));
    let start = Instant::now();
    cuda.graph(short, 1);
    cuda.graph(long, 2);
    // Only one launch takes the time that was told.
    cuda.graph(Duration::ZERO, 1);
    assert_eq!(cuda.one("cudaStreamSynchronize", 3), 0);
    assert_eq!(cuda.one("cudaStreamSynchronize", 1), 0);
    assert!((short..long).contains(&start.elapsed()));
}

#[test]
fn a_device_synchronises_when_every_stream_has() {
    let cuda = Cuda::load();
    let start = Instant::now();
    cuda.graph(Duration::from_millis(60), 1);
    cuda.graph(Duration::from_millis(30), 2);
    let device: unsafe extern "C" fn() -> c_int = cuda.get("cudaDeviceSynchronize");
    // SAFETY: it takes nothing.
    assert_eq!(unsafe { device() }, 0);
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[test]
fn an_event_is_reached_when_what_was_before_it_is_done() {
    let cuda = Cuda::load();
    let record: unsafe extern "C" fn(Opaque, Opaque) -> c_int = cuda.get("cudaEventRecord");
    let (short, long) = (Duration::from_millis(30), Duration::from_secs(600));
    let start = Instant::now();
    cuda.graph(short, 1);
    // SAFETY: it takes pointers and does not look behind them.
    assert_eq!(unsafe { record(without_provenance_mut(9), without_provenance_mut(1)) }, 0);
    cuda.graph(long, 1);
    assert_eq!(cuda.one("cudaEventSynchronize", 8), 0);
    assert_eq!(cuda.one("cudaEventSynchronize", 9), 0);
    assert!((short..long).contains(&start.elapsed()));
}

#[test]
fn kernels_are_launched_with_all_their_arguments() {
    #[repr(C)]
    struct Dim3(u32, u32, u32);
    type Launch = unsafe extern "C" fn(*const c_void, Dim3, Dim3, *mut Opaque, usize, Opaque) -> c_int;
    let cuda = Cuda::load();
    let launch: Launch = cuda.get("cudaLaunchKernel");
    let step: unsafe extern "C" fn(u64) = cuda.get("inferscope_fake_step");
    let kernel = without_provenance_mut::<c_void>(1).cast_const();
    let start = Instant::now();
    // SAFETY: it takes a number.
    unsafe { step(30_000_000) };
    // The last argument is on the stack: that the right stream waits shows that it came through.
    // SAFETY: nothing looks behind the pointers.
    let code = unsafe { launch(kernel, Dim3(1, 1, 1), Dim3(32, 1, 1), null_mut(), 0, without_provenance_mut(5)) };
    assert_eq!(code, 0);
    assert_eq!(cuda.one("cudaStreamSynchronize", 5), 0);
    assert!(start.elapsed() >= Duration::from_millis(30));
    // SAFETY: as above.
    let code = unsafe { launch(kernel, Dim3(1, 1, 1), Dim3(0, 1, 1), null_mut(), 0, null_mut()) };
    assert_eq!(code, 1);
}

#[test]
fn memory_is_given_and_taken_back() {
    let cuda = Cuda::load();
    let (code, at) = cuda.malloc(1 << 40);
    assert_eq!(code, 0);
    assert_ne!(at, 0);
    assert_eq!(cuda.one("cudaFree", at), 0);
    assert_eq!(cuda.one("cudaFree", at), 1);
    assert_eq!(cuda.one("cudaFree", 0), 0);
    let asynchronous: unsafe extern "C" fn(*mut Opaque, usize, Opaque) -> c_int = cuda.get("cudaMallocAsync");
    let mut at = null_mut();
    // SAFETY: there is a place for the address.
    assert_eq!(unsafe { asynchronous(&raw mut at, 64, null_mut()) }, 0);
    assert_eq!(cuda.one("cudaFree", at.addr()), 0);
    let copy: unsafe extern "C" fn(Opaque, Opaque, usize, c_int, Opaque) -> c_int = cuda.get("cudaMemcpyAsync");
    // SAFETY: it copies nothing.
    assert_eq!([1, 9].map(|kind| unsafe { copy(at, at, 64, kind, null_mut()) }), [0, 1]);
}

#[test]
fn there_are_eight_devices() {
    let cuda = Cuda::load();
    let count: unsafe extern "C" fn(*mut c_int) -> c_int = cuda.get("cudaGetDeviceCount");
    let set: unsafe extern "C" fn(c_int) -> c_int = cuda.get("cudaSetDevice");
    let mut n = 0;
    // SAFETY: there is a place for the number.
    assert_eq!((unsafe { count(&raw mut n) }, n), (0, 8));
    // SAFETY: it takes a number.
    assert_eq!([0, 7, 8, -1].map(|device| unsafe { set(device) }), [0, 0, 101, 101]);
}

/// In a process of its own, as a process has one environment.
#[test]
fn more_than_the_limit_is_out_of_memory() {
    if std::env::var_os(library::LIMIT).is_none() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "more_than_the_limit_is_out_of_memory"]).env(library::LIMIT, "1000");
        let output = again.output().unwrap();
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    let cuda = Cuda::load();
    let (code, at) = cuda.malloc(600);
    assert_eq!(code, 0);
    assert_eq!(cuda.malloc(401), (2, 0));
    assert_eq!(cuda.one("cudaFree", at), 0);
    assert_eq!(cuda.malloc(401).0, 0);
}
