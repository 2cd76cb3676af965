//! OpenSSL without symbols, linked into a program.
//!
//! Since 3.0 an error in `ssl/ssl_lib.c` is reported with the name of its function, in 1.1.1 with the function's number: so
//! each says of itself which it is. The plain function says `SSL_read`; the internal one that it calls says so too, and
//! serves the extended one as well, which reports nothing. `SSL_free` reports no error and is not found.

use inferscope_common::{
    record::{READ, SOURCE_OPENSSL, WRITE},
    tls_cookie::{COUNT_FIFTH, COUNT_FOURTH, COUNT_RETURNED, pack},
};

use super::{
    chase::{self, WRAPPER_BYTES},
    finders::{Refusal, ShapeFinder},
    image::Image,
    library::{Evidence, Library},
    xref::{Function, Search, Site, Source as SourceFile},
};
use crate::record::Source;

/// The finder.
pub const FINDER: ShapeFinder = ShapeFinder {
    endings: &[SSL_LIB],
    functions: &["SSL_read", "SSL_read (inside)", "SSL_write", "SSL_write (inside)"],
    find,
};

/// Where the functions stand.
const SSL_LIB: &str = "ssl/ssl_lib.c";

/// The number of the TLS library among OpenSSL's, which 1.1.1 gives with each error.
const ERR_LIB_SSL: u64 = 20;

/// A function, as its errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    /// Since 3.0.
    text: &'static str,
    /// Up to 1.1.1.
    number: u64,
}

impl Name {
    /// Whether a report is one of this function.
    fn is_of(self, search: &Search<'_>, site: &Site) -> bool {
        let by_text = || site.after(2).and_then(|address| search.text(address)).is_some_and(|text| text == self.text);
        let by_number = || site.before(3) == Some(ERR_LIB_SSL) && site.before(2) == Some(self.number);
        by_number() || by_text()
    }
}

/// One direction's functions.
struct Direction {
    direction: u8,
    plain: Name,
    /// What the plain one calls, or has inside.
    inner: Name,
    /// For messages.
    inside: &'static str,
    /// What to say if the plain one is not certain.
    unclear: &'static str,
}

const DIRECTIONS: [Direction; 2] = [
    Direction {
        direction: READ,
        plain: Name { text: "SSL_read", number: 223 },
        inner: Name { text: "ssl_read_internal", number: 523 },
        inside: "SSL_read (inside)",
        unclear: "not exactly one function reports errors as SSL_read",
    },
    Direction {
        direction: WRITE,
        plain: Name { text: "SSL_write", number: 208 },
        inner: Name { text: "ssl_write_internal", number: 524 },
        inside: "SSL_write (inside)",
        unclear: "not exactly one function reports errors as SSL_write",
    },
];

fn find(search: &Search<'_>, image: &Image<'_, '_>) -> Result<Option<Library>, Refusal> {
    let refuse = |what| Err(Refusal::new("OpenSSL", what));
    let mut library = Library::tls(Source::OpenSsl, Evidence::Shape);
    for source in search.sources(SSL_LIB) {
        for direction in &DIRECTIONS {
            let Some(plain) = plain(search, source, direction) else { return refuse(direction.unclear) };
            if !add(&mut library, search, image, source, direction, plain) {
                return refuse("its functions have no code");
            }
        }
    }
    Ok(Some(library).filter(|library| !library.probes.is_empty()))
}

/// The one function that reports errors as the plain one, and none but those that it may have inside.
fn plain(search: &Search<'_>, source: &SourceFile, names: &Direction) -> Option<u64> {
    let is_plain = |function: &&Function| function.sites.iter().any(|site| names.plain.is_of(search, site));
    let mut candidates = source.functions.iter().filter(is_plain);
    let only = candidates.next().filter(|_| candidates.next().is_none())?;
    let known = |site: &Site| names.plain.is_of(search, site) || names.inner.is_of(search, site);
    only.start.filter(|_| only.sites.iter().all(known))
}

/// Adds the internal function if the plain one is proved to do nothing but call it, else the plain one.
fn add(
    library: &mut Library,
    search: &Search<'_>,
    image: &Image<'_, '_>,
    source: &SourceFile,
    names: &Direction,
    plain: u64,
) -> bool {
    let cookie = |count| pack(names.direction, count, SOURCE_OPENSSL);
    let call = image.code(plain, WRAPPER_BYTES).and_then(|code| chase::first_call(code, plain));
    if let Some(inner) = call.and_then(|call| chase::inner_of_plain(&call)) {
        let is_inner = |function: &Function| {
            function.start == Some(inner.target) && function.sites.iter().all(|site| names.inner.is_of(search, site))
        };
        let count = if inner.count_argument == 5 { COUNT_FIFTH } else { COUNT_FOURTH };
        if source.functions.iter().any(is_inner)
            && library.add_call(image, names.inside, inner.target, inner.count_argument, cookie(count))
        {
            return true;
        }
    }
    library.add_call(image, names.plain.text, plain, 3, cookie(COUNT_RETURNED))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::{
        discover::{
            fixture::{self, Error, Program},
            image::Cache,
            openssl,
        },
        kernel,
    };

    #[test]
    fn the_systems_libssl_is_found_as_by_its_symbols() {
        let Ok(file) = File::open("/usr/lib/x86_64-linux-gnu/libssl.so.3") else {
            eprintln!("SKIPPED: no libssl.so.3 on this machine");
            return;
        };
        let cache = Cache::new(&file);
        let mut by_symbols = openssl::find(&Image::parse(&cache).unwrap().unwrap()).unwrap().unwrap();
        by_symbols.probes.retain(|probe| probe.program != kernel::Program::TlsFree);
        let by_shape = fixture::searched(&file, FINDER.endings, |search, image| find(&search.unwrap(), image));
        let by_shape = by_shape.unwrap().unwrap().unwrap();
        assert_eq!(by_shape, Library { evidence: Evidence::Shape, ..by_symbols });
    }

    /// Version 1.1.1, whose functions have numbers. Neither calls anything that could be the internal one.
    #[test]
    fn functions_with_numbers_are_found() {
        let mut program = Program::new();
        let name = program.text("ssl/ssl_lib.c");
        let mut add = |function| {
            let errors = [Error { library: 20, function, reason: 271, line: 1 }];
            program.function(name, &errors, false)
        };
        let (_peek, read, write) = (add(270), add(223), add(208));
        let file = fixture::file(&program.bytes());
        fixture::searched(&file, FINDER.endings, |search, image| {
            let library = find(&search.unwrap(), image).unwrap().unwrap();
            let offsets: Vec<_> = library.probes.iter().map(|probe| (probe.function, probe.file_offset)).collect();
            let [read, write] = [read, write].map(|start| image.file_offset(start).unwrap());
            let expected = [("SSL_read", read), ("SSL_read", read), ("SSL_write", write), ("SSL_write", write)];
            assert_eq!(offsets, expected);
        })
        .unwrap();
    }

    #[test]
    fn two_of_one_name_are_refused() {
        let mut program = Program::new();
        let name = program.text("../ssl/ssl_lib.c");
        for function in [223, 223, 208] {
            program.function(name, &[Error { library: 20, function, reason: 271, line: 1 }], false);
        }
        let file = fixture::file(&program.bytes());
        let found = fixture::searched(&file, FINDER.endings, |search, image| find(&search.unwrap(), image));
        assert_eq!(found.unwrap(), Err(Refusal::new("OpenSSL", DIRECTIONS[0].unclear)));
    }
}
