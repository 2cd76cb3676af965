//! GnuTLS, found by exported symbols.

use inferscope_common::{
    record::{READ, SOURCE_GNUTLS, WRITE},
    tls_cookie::{COUNT_RETURNED_LONG, pack},
};

use super::{
    image::Image,
    library::{Evidence, Library},
};
use crate::record::Source;

/// `ssize_t f(session, buffer, size_t)`
const RECEIVE: &str = "gnutls_record_recv";

/// `ssize_t f(session, buffer, size_t, size_t pad, unsigned flags)`, since 3.6.3. The older function jumps to it, so the two
/// are never probed together.
const SEND_2: &str = "gnutls_record_send2";

/// `ssize_t f(session, buffer, size_t)`
const SEND: &str = "gnutls_record_send";

/// Frees a session.
const FREE: &str = "gnutls_deinit";

/// Finds the functions.
pub fn find(image: &Image<'_, '_>) -> Result<Option<Library>, object::Error> {
    let mut library = Library::tls(Source::GnuTls, Evidence::Symbols);
    let Some(receive) = image.exported(RECEIVE)? else { return Ok(None) };
    let (name, send) = match (image.exported(SEND_2)?, image.exported(SEND)?) {
        (Some(address), _) => (SEND_2, address),
        (None, Some(address)) => (SEND, address),
        (None, None) => return Ok(None),
    };
    let cookie = |direction| pack(direction, COUNT_RETURNED_LONG, SOURCE_GNUTLS);
    if !library.add_call(image, RECEIVE, receive, 3, cookie(READ))
        || !library.add_call(image, name, send, 3, cookie(WRITE))
    {
        return Ok(None);
    }
    if let Some(address) = image.exported(FREE)? {
        library.add_free(image, FREE, address);
    }
    Ok(Some(library))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::discover::image::Cache;

    #[test]
    fn one_send_function_is_probed() {
        let Ok(file) = File::open("/usr/lib/x86_64-linux-gnu/libgnutls.so.30") else {
            eprintln!("SKIPPED: no libgnutls.so.30 on this machine");
            return;
        };
        let cache = Cache::new(&file);
        let library = find(&Image::parse(&cache).unwrap().unwrap()).unwrap().unwrap();
        let functions: Vec<_> = library.probes.iter().map(|probe| probe.function).collect();
        assert_eq!(functions, [RECEIVE, RECEIVE, SEND_2, SEND_2, FREE]);
    }
}
