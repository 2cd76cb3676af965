//! OpenSSL, and what has its API (LibreSSL, BoringSSL with symbols).
//!
//! Found by symbols: shared libraries export them, programs that link OpenSSL statically either export them too, as Node
//! does, or keep them in their symbol table, as python-build-standalone does. Where the plain and the extended function of a
//! direction lead to one internal function, that one is probed in place of both ([`chase`]).

use inferscope_common::{
    record::{READ, SOURCE_OPENSSL, WRITE},
    tls_cookie::{COUNT_FIFTH, COUNT_FOURTH, COUNT_RETURNED, pack},
};

use super::{
    chase::{self, WRAPPER_BYTES},
    image::Image,
    library::{Evidence, Library},
};
use crate::record::Source;

/// One direction's functions. SSL_peek is not here: the bytes come again.
struct Direction {
    direction: u8,
    /// `int f(SSL *, buffer, int number)`
    plain: &'static str,
    /// `int f(SSL *, buffer, size_t number, size_t *count)`, since OpenSSL 1.1.1.
    extended: &'static str,
    /// `int f(SSL *, buffer, size_t number, uint64_t flags, size_t *count)`, since OpenSSL 3.3.
    flagged: Option<&'static str>,
    /// What both lead to, for messages.
    inner: &'static str,
}

const DIRECTIONS: [Direction; 2] = [
    Direction {
        direction: READ,
        plain: "SSL_read",
        extended: "SSL_read_ex",
        flagged: None,
        inner: "SSL_read (inside)",
    },
    Direction {
        direction: WRITE,
        plain: "SSL_write",
        extended: "SSL_write_ex",
        flagged: Some("SSL_write_ex2"),
        inner: "SSL_write (inside)",
    },
];

/// The function that frees a connection.
const FREE: &str = "SSL_free";

/// Every name, in the order in which [`Addresses`] keeps them.
const NAMES: [&str; 6] = ["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_write_ex2", FREE];

/// Virtual addresses by name.
struct Addresses([Option<u64>; NAMES.len()]);

impl Addresses {
    fn of(image: &Image<'_, '_>) -> Result<Self, object::Error> {
        let mut exported = [None; NAMES.len()];
        for (name, slot) in NAMES.iter().zip(&mut exported) {
            *slot = image.exported(name)?;
        }
        // A file that exports one of the two is not searched further: its own symbols would be the same.
        if exported[0].is_some() || exported[1].is_some() { Ok(Self(exported)) } else { Ok(Self(image.local(NAMES)?)) }
    }

    fn get(&self, name: &str) -> Option<u64> {
        NAMES.iter().position(|known| *known == name).and_then(|place| self.0.get(place).copied().flatten())
    }
}

/// Finds the functions. A file without a read and a write function is none of ours, whatever else it has.
pub fn find(image: &Image<'_, '_>) -> Result<Option<Library>, object::Error> {
    let addresses = Addresses::of(image)?;
    let mut library = Library::tls(Source::OpenSsl, Evidence::Symbols);
    for direction in &DIRECTIONS {
        let Some(plain) = addresses.get(direction.plain) else { return Ok(None) };
        if !add_direction(&mut library, image, &addresses, direction, plain) {
            return Ok(None);
        }
    }
    if let Some(address) = addresses.get(FREE) {
        library.add_free(image, FREE, address);
    }
    Ok(Some(library))
}

/// Adds one direction; false if its plain function has no code.
fn add_direction(
    library: &mut Library,
    image: &Image<'_, '_>,
    addresses: &Addresses,
    names: &Direction,
    plain: u64,
) -> bool {
    let extended = addresses.get(names.extended);
    let flagged = names.flagged.and_then(|name| Some((name, addresses.get(name)?)));
    let cookie = |count| pack(names.direction, count, SOURCE_OPENSSL);
    let first_call = |address| chase::first_call(image.code(address, WRAPPER_BYTES)?, address);
    let inner = extended.and_then(|extended| chase::inner(&first_call(plain)?, &first_call(extended)?));
    if let Some(inner) = inner {
        let count = if inner.count_argument == 5 { COUNT_FIFTH } else { COUNT_FOURTH };
        if library.add_call(image, names.inner, inner.target, inner.count_argument, cookie(count)) {
            // It leads to the same place, or it is another way in.
            if let Some((name, address)) = flagged
                && first_call(address).is_none_or(|call| call.target != inner.target)
            {
                library.add_call(image, name, address, 5, cookie(COUNT_FIFTH));
            }
            return true;
        }
    }
    if let Some(address) = extended {
        library.add_call(image, names.extended, address, 4, cookie(COUNT_FOURTH));
    }
    if let Some((name, address)) = flagged {
        library.add_call(image, name, address, 5, cookie(COUNT_FIFTH));
    }
    library.add_call(image, names.plain, plain, 3, cookie(COUNT_RETURNED))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::{
        discover::image::Cache,
        kernel::{Program, SiteClass},
    };

    #[test]
    fn the_systems_libssl_is_probed_inside() {
        let Ok(file) = File::open("/usr/lib/x86_64-linux-gnu/libssl.so.3") else {
            eprintln!("SKIPPED: no libssl.so.3 on this machine");
            return;
        };
        let cache = Cache::new(&file);
        let library = find(&Image::parse(&cache).unwrap().unwrap()).unwrap().unwrap();
        let functions: Vec<_> = library.probes.iter().map(|probe| (probe.function, probe.program)).collect();
        assert_eq!(
            functions,
            [
                ("SSL_read (inside)", Program::TlsReturn),
                ("SSL_read (inside)", Program::TlsEntry),
                ("SSL_write (inside)", Program::TlsReturn),
                ("SSL_write (inside)", Program::TlsEntry),
                ("SSL_free", Program::TlsFree),
            ]
        );
        assert!(library.probes.iter().all(|probe| probe.class == SiteClass::Emulated), "{:?}", library.probes);
    }
}
