//! OpenSSL, and what has its API, found by exported symbols: shared libraries have them, and so do programs that link
//! OpenSSL statically and export it, as Node does.

use inferscope_common::{
    record::{READ, SOURCE_OPENSSL, WRITE},
    tls_cookie::{COUNT_FIFTH, COUNT_FOURTH, COUNT_RETURNED, pack},
};

use super::{
    image::Image,
    library::{Evidence, Library},
};
use crate::{kernel::Program, record::Source};

/// Functions by symbol. SSL_peek is not here: the bytes come again.
const CALLS: [(&str, u64); 5] = [
    ("SSL_read", pack(READ, COUNT_RETURNED, SOURCE_OPENSSL)),
    ("SSL_write", pack(WRITE, COUNT_RETURNED, SOURCE_OPENSSL)),
    ("SSL_read_ex", pack(READ, COUNT_FOURTH, SOURCE_OPENSSL)),
    ("SSL_write_ex", pack(WRITE, COUNT_FOURTH, SOURCE_OPENSSL)),
    ("SSL_write_ex2", pack(WRITE, COUNT_FIFTH, SOURCE_OPENSSL)),
];

/// The function that frees a connection.
const FREE: &str = "SSL_free";

/// Finds the functions. A file without a read and a write function is none of ours, whatever else it exports.
pub fn find(image: &Image<'_, '_>) -> Result<Option<Library>, object::Error> {
    let mut library = Library::new(Source::OpenSsl, Evidence::Symbols);
    for (name, cookie) in CALLS {
        if let Some(place) = image.exported(name)?.and_then(|address| image.file_offset(address)) {
            library.add_call(name, place, cookie);
        }
    }
    let has = |wanted: &str| library.probes.iter().any(|probe| probe.function == wanted);
    if !has("SSL_read") || !has("SSL_write") {
        return Ok(None);
    }
    if let Some(place) = image.exported(FREE)?.and_then(|address| image.file_offset(address)) {
        library.add(FREE, Program::TlsFree, place, 0);
    }
    Ok(Some(library))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::discover::image::Cache;

    #[test]
    fn the_systems_libssl_has_both_apis() {
        let Ok(file) = File::open("/usr/lib/x86_64-linux-gnu/libssl.so.3") else {
            eprintln!("SKIPPED: no libssl.so.3 on this machine");
            return;
        };
        let cache = Cache::new(&file);
        let library = find(&Image::parse(&cache).unwrap().unwrap()).unwrap().unwrap();
        let names: Vec<&str> =
            library.probes.iter().filter(|p| p.program != Program::TlsReturn).map(|p| p.function).collect();
        assert_eq!(names[..4], ["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex"]);
        assert_eq!(names.last(), Some(&"SSL_free"));
    }
}
