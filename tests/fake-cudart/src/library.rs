//! Finds the stand-in that cargo built beside a test.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

pub use crate::memory::LIMIT;

/// File name of the stand-in.
const NAME: &str = "libinferscope_fake_cudart.so";

/// The library that cargo built with this program, which depends on this crate.
///
/// # Errors
///
/// If it is not where cargo puts it: in `deps`, beside tests, or in the folder above.
pub fn path() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folders = program.ancestors().skip(1).take(2);
    folders
        .flat_map(|folder| [folder.join("deps").join(NAME), folder.join(NAME)])
        .find(|path| path.exists())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{NAME} is not beside {}", program.display())))
}

/// A copy of the library with another name, as `libcudart.so.12`: what loaders, and those who look at what was loaded,
/// know the real one by.
///
/// # Errors
///
/// If it can't be found or copied.
pub fn copy(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let copy = folder.join(name);
    fs::copy(path()?, &copy)?;
    Ok(copy)
}
