//! The stand-in as its users load it: through `nvml-wrapper`, from the library that cargo built.

#![expect(unsafe_code, reason = "some calls have no wrapper, or have it only without what is tested")]

mod board;
mod calls;
mod events;
mod fields;
mod parts;
mod process;

use std::path::PathBuf;

use inferscope_fake_nvml::{
    library,
    timeline::{Device, Header, Line, Timeline},
};
use nvml_wrapper::Nvml;

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// A loaded library with its time line.
struct Fake {
    nvml: Nvml,
    timeline: Timeline,
    library: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fake {
    fn new(header: &Header) -> Self {
        Self::with(header, &[])
    }

    /// With lines that are there before the library is loaded.
    fn with(header: &Header, lines: &[Line]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = library::copy(folder.path()).unwrap();
        let mut timeline = Timeline::create(library::beside(&library), header).unwrap();
        timeline.write(lines).unwrap();
        let nvml = load(&library).unwrap();
        Self { nvml, timeline, library, _folder: folder }
    }

    /// One H100, and a clock that the test turns.
    fn one() -> Self {
        Self::new(&Header::new([Device::h100(0)]).manual())
    }

    fn write(&mut self, lines: &[Line]) {
        self.timeline.write(lines).unwrap();
    }

    fn now(&mut self, now_ns: u64) {
        self.write(&[Line::now(now_ns)]);
    }

    fn device(&self, index: u32) -> nvml_wrapper::Device<'_> {
        self.nvml.device_by_index(index).unwrap()
    }
}

fn load(library: &std::path::Path) -> Result<Nvml, nvml_wrapper::error::NvmlError> {
    Nvml::builder().lib_path(library.as_os_str()).init()
}

/// The library's symbols, for those that the wrapper does not load.
fn symbols(fake: &Fake) -> libloading::Library {
    // SAFETY: it is loaded already, so that nothing is run.
    unsafe { libloading::Library::new(&fake.library) }.unwrap()
}
