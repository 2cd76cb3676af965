//! CUDA's runtime library, for the step clock: the functions that launch graphs, wait for them, and allocate.
//!
//! Found by exported symbols, whatever the file is called and wherever it is: PyTorch brings its own. Of a program that links
//! it statically nothing is found. Functions that launch single kernels are not probed: without graphs a step has hundreds.

use inferscope_common::cuda_cookie::{ALLOCATE, LAUNCH, WAIT};

use super::{
    image::Image,
    library::{Evidence, Functions, Library},
};

/// `cudaError_t f(cudaGraphExec_t, cudaStream_t)`. The second of each pair is what programs call that are built for a default
/// stream of each thread.
const LAUNCHES: [&str; 2] = ["cudaGraphLaunch", "cudaGraphLaunch_ptsz"];

/// `cudaError_t f(cudaStream_t)`, of an event, and of nothing.
const WAITS: [&str; 4] =
    ["cudaEventSynchronize", "cudaStreamSynchronize", "cudaStreamSynchronize_ptsz", "cudaDeviceSynchronize"];

/// `cudaError_t f(void **, size_t)`, and the same with a stream.
const ALLOCATIONS: [&str; 3] = ["cudaMalloc", "cudaMallocAsync", "cudaMallocAsync_ptsz"];

/// Finds the functions. A file that does not both launch and wait is none of ours.
pub fn find(image: &Image<'_, '_>) -> Result<Option<Library>, object::Error> {
    let mut library = Library::new(Functions::Cudart, Evidence::Symbols);
    for (names, what) in [(&LAUNCHES[..], LAUNCH), (&WAITS[..], WAIT)] {
        if !add(&mut library, image, names, what)? {
            return Ok(None);
        }
    }
    add(&mut library, image, &ALLOCATIONS, ALLOCATE)?;
    Ok(Some(library))
}

/// Adds those of the functions that there are; false if there are none.
fn add(library: &mut Library, image: &Image<'_, '_>, names: &[&'static str], what: u8) -> Result<bool, object::Error> {
    let mut found = false;
    for &name in names {
        if let Some(address) = image.exported(name)? {
            // A launch's stream and graph are of no interest, and its return neither.
            found |= library.add_cuda(image, name, address, if what == ALLOCATE { 2 } else { 0 }, what != LAUNCH, what);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, path::PathBuf};

    use super::*;
    use crate::{
        discover::image::Cache,
        kernel::{Program, SiteClass},
    };

    /// The stand-in that the workspace builds for tests, if it is there: unit tests do not depend on it.
    fn stand_in() -> Option<PathBuf> {
        let test = std::env::current_exe().ok()?;
        let folders = test.ancestors().skip(1).take(2);
        folders.map(|folder| folder.join("libinferscope_fake_cudart.so")).find(|path| path.exists())
    }

    #[test]
    fn a_runtime_is_probed_where_it_is_cheap() {
        let Some(path) = stand_in() else {
            eprintln!("SKIPPED: the stand-in for libcudart is not built");
            return;
        };
        let file = File::open(path).unwrap();
        let cache = Cache::new(&file);
        let library = find(&Image::parse(&cache).unwrap().unwrap()).unwrap().unwrap();
        let entries = library.probes.iter().filter(|probe| probe.program == Program::CudaEntry);
        let functions: Vec<&str> = entries.map(|probe| probe.function).collect();
        assert_eq!(
            functions,
            [
                "cudaGraphLaunch",
                "cudaEventSynchronize",
                "cudaStreamSynchronize",
                "cudaDeviceSynchronize",
                "cudaMalloc",
                "cudaMallocAsync",
            ]
        );
        let returns = library.probes.iter().filter(|probe| probe.program == Program::CudaReturn);
        assert!(returns.count() == 5 && library.probes.iter().all(|probe| probe.class == SiteClass::Emulated));
    }

    #[test]
    fn a_program_without_it_is_none() {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        let cache = Cache::new(&file);
        assert_eq!(find(&Image::parse(&cache).unwrap().unwrap()).unwrap(), None);
    }
}
