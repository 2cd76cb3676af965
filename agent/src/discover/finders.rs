//! The finders, one file each, and the order in which they look at a file.
//!
//! To add a TLS library: a file with a `find` of the same signature, its line in [`FINDERS`], its `SOURCE_*` value in
//! `inferscope-common` and `Source`, and, if its calls have another shape, a program in `agent-ebpf/src`.

use std::fs::File;

use super::{
    gnutls, go,
    image::{Cache, Image},
    library::Library,
    openssl,
};

type Finder = fn(&Image<'_, '_>) -> Result<Option<Library>, object::Error>;

/// Cheapest first, and surest first: what has symbols is not searched for code. A file can have several libraries in
/// it; each finder looks.
const FINDERS: [Finder; 3] = [openssl::find, gnutls::find, go::find];

/// Every TLS library in a file; none for a file that has none or that is no program of this machine.
pub fn libraries(file: &File) -> Result<Vec<Library>, object::Error> {
    let cache = Cache::new(file);
    let Some(image) = Image::parse(&cache)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for find in FINDERS {
        found.extend(find(&image)?);
    }
    Ok(found)
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
