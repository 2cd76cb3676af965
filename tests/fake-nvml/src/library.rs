//! Finds the stand-in that cargo built beside a test, and makes copies of it: one per time line, or one of an older
//! driver, that lacks symbols.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use object::{Object as _, ObjectSection as _};

use crate::timeline;

/// File name of the stand-in.
const NAME: &str = concat!("lib", "inferscope_fake_nvml", ".so");

/// The library that cargo built with this program, which depends on this crate.
///
/// # Errors
///
/// If it is neither beside the program nor in the folder above (`deps` and `examples` are folders of their own), nor
/// in the folder of dependencies.
pub fn path() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folders = program.ancestors().skip(1).take(2);
    folders
        .flat_map(|folder| [folder.join("deps").join(NAME), folder.join(NAME)])
        .find(|path| path.exists())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{NAME} is not beside {}", program.display())))
}

/// A copy of the library in a folder. It follows the time line at [`beside`] its path if there is one, so that tests of one
/// process need not share a script: a loader takes every file for a library of its own.
///
/// # Errors
///
/// If it can't be found or copied.
pub fn copy(folder: &Path) -> io::Result<PathBuf> {
    let copy = folder.join(NAME);
    fs::copy(path()?, &copy)?;
    Ok(copy)
}

/// Where a copy of the library looks for its own time line.
pub fn beside(library: &Path) -> PathBuf {
    let mut path = library.as_os_str().to_owned();
    path.push(timeline::BESIDE);
    path.into()
}

/// A copy of a library, beside it, that has not the symbols named: as an older driver. Their names are overwritten in the
/// table that the loader looks them up in.
///
/// # Errors
///
/// If the library can't be read or the copy not written, or it never had one of the symbols.
pub fn without_symbols(library: &Path, names: &[&str]) -> io::Result<PathBuf> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = fs::read(library)?;
    let file = object::File::parse(&*bytes).map_err(|error| invalid(error.to_string()))?;
    let table = file.section_by_name(".dynstr").and_then(|section| section.file_range());
    let (start, length) = table.ok_or_else(|| invalid(format!("{} has no .dynstr", library.display())))?;
    let table = &mut bytes[start as usize..][..length as usize];
    for name in names {
        // Every name in the table stands between two ends, as the table begins with the empty name.
        let entry = [b"\0", name.as_bytes(), b"\0"].concat();
        let found = table.windows(entry.len()).position(|window| window == entry);
        let at = found.ok_or_else(|| invalid(format!("{} has no {name}", library.display())))?;
        // The loader compares names after it has found an entry by the old name's hash.
        table[at + 1] = b'-';
    }
    let copy = library.with_extension(format!("without-{}.so", names.len()));
    fs::write(&copy, &bytes)?;
    Ok(copy)
}
