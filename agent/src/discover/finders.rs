//! The finders, one file each, and the order in which they look at a file.
//!
//! CUDA's runtime is found in the same way, where the step clock asks for it. To add a TLS library that is found by symbols: a
//! file with a `find` of the same signature, its line in [`FINDERS`], its `SOURCE_*` value in `inferscope-common` and `Source`, and, if its calls have another shape, a program in
//! `agent-ebpf/src`. To add one that is found in stripped files: a file with a [`ShapeFinder`], and its line in [`SHAPES`].

use std::{borrow::Cow, fs::File, sync::atomic::AtomicBool};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    aws_lc, boringssl, cudart, gnutls, go,
    image::{Cache, Image},
    library::Library,
    openssl, openssl_static,
    xref::{Search, Unsearchable},
};

type Finder = fn(&Image<'_, '_>) -> Result<Option<Library>, object::Error>;

/// Cheapest first. A file can have several libraries in it; each finder looks.
const FINDERS: [Finder; 5] = [openssl::find, gnutls::find, cudart::find, go::find, aws_lc::find];

/// A finder of functions without symbols.
pub struct ShapeFinder {
    /// How the names of the source files end that it wants to be looked for.
    pub endings: &'static [&'static str],
    /// What its functions are called in messages, all that it may name.
    pub functions: &'static [&'static str],
    /// Looks at what was found; `None` if the file has nothing of its library in it.
    pub find: fn(&Search<'_>, &Image<'_, '_>) -> Result<Option<Library>, Refusal>,
}

/// Each looks, as with symbols: one program may have two libraries in it.
const SHAPES: [ShapeFinder; 3] = [boringssl::FINDER, openssl_static::FINDER, aws_lc::FINDER];

/// Code that a stripped file must have to be searched. A TLS library with its cryptography has a megabyte or more, and
/// most libraries of a system have less.
const MIN_CODE: u64 = 512 << 10;

/// Why a library that is in a file is not probed: its functions could not be told from others for certain.
#[derive(Clone, Debug, Error, PartialEq, Eq, Deserialize, Serialize)]
#[error("{library} is in it, but {what}")]
pub struct Refusal {
    /// Whose.
    pub library: Cow<'static, str>,
    /// What is missing, or what there is too much of.
    pub what: Cow<'static, str>,
}

impl Refusal {
    /// One of a library.
    pub fn new(library: &'static str, what: &'static str) -> Self {
        Self { library: library.into(), what: what.into() }
    }
}

/// What was found in a file without symbols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What can be probed.
    pub libraries: Vec<Library>,
    /// What cannot.
    pub refusals: Vec<Refusal>,
}

/// Why a file could not be searched.
#[derive(Debug, Error)]
pub enum NotSearched {
    /// It is no ELF file that can be read.
    #[error("it is no ELF file that can be read")]
    Elf(#[from] object::Error),
    /// The search gave up.
    #[error(transparent)]
    Search(#[from] Unsearchable),
}

/// Every library that a file has symbols of; none for a file that is no program of this machine.
pub fn libraries(file: &File) -> Result<Vec<Library>, object::Error> {
    let cache = Cache::new(file);
    let Some(image) = Image::parse(&cache)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for find in FINDERS {
        found.extend(find(&image)?);
    }
    Ok(found)
}

/// What functions that are found by their shape are called.
pub fn functions_by_shape() -> impl Iterator<Item = &'static str> {
    SHAPES.iter().flat_map(|finder| finder.functions).copied()
}

/// Whether a file without known symbols has so much code that a TLS library may be in it.
pub fn is_worth_searching(file: &File) -> bool {
    let cache = Cache::new(file);
    let Ok(Some(image)) = Image::parse(&cache) else { return false };
    let code = image.segments().filter(|segment| segment.executable);
    code.fold(0u64, |sum, segment| sum.saturating_add(segment.len)) >= MIN_CODE
}

/// Every TLS library that can be found in a file without symbols. Takes up to a second or two for the largest.
pub fn search(file: &File, image: &Image<'_, '_>, stop: &AtomicBool) -> Result<Findings, NotSearched> {
    let endings: Vec<&'static str> = SHAPES.iter().flat_map(|finder| finder.endings).copied().collect();
    let search = Search::run(file, image, &endings, stop)?;
    let mut findings = Findings::default();
    for finder in &SHAPES {
        match (finder.find)(&search, image) {
            Ok(library) => findings.libraries.extend(library),
            Err(refusal) => findings.refusals.push(refusal),
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn this_test_has_no_tls_library() {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(libraries(&file).unwrap(), []);
    }

    #[test]
    fn noise_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\x7fELF and nothing that follows from it").unwrap();
        assert!(libraries(&file).is_err());
    }
}
