//! rustls with aws-lc: the AEAD functions of the C library below it.
//!
//! rustls is Rust and generic: nothing of its own can be named, let alone found in a stripped file. Every record passes one of
//! four C functions. Their names carry the library's version as a prefix, so that several can be linked into one program;
//! without names, the errors that each of them reports tell it from every other function of its source file.
//!
//! What else uses them (QUIC, tickets) is left out by the kernel program, which looks at each call's additional data. A file
//! that has a TLS library of OpenSSL's API is none of this: its records are captured above the same functions.

use std::collections::BTreeSet;

use inferscope_common::{
    record::{READ, SOURCE_RUSTLS, WRITE},
    tls_cookie::{AEAD_OPEN, AEAD_OPEN_GATHER, AEAD_SEAL, AEAD_SEAL_SCATTER, pack},
};

use super::{
    boringssl,
    finders::{Refusal, ShapeFinder},
    image::Image,
    library::{Evidence, Library},
    xref::{self, Search},
};
use crate::record::Source;

/// A function, as it is found and probed.
struct Function {
    name: &'static str,
    /// Direction and shape.
    cookie: u64,
    /// Its plaintext is there at its return.
    opens: bool,
    /// Reasons of the errors that it reports (`openssl/cipher.h`).
    reasons: &'static [u64],
    /// The reason of a function that it calls, and that some compilers put into it.
    inner: Option<u64>,
}

impl Function {
    /// Whether a function with these errors can be it.
    fn reports(&self, reasons: &BTreeSet<u64>) -> bool {
        let own = reasons.iter().copied().filter(|&reason| self.inner != Some(reason));
        own.eq(self.reasons.iter().copied())
    }
}

/// `CIPHER_R_*`: BAD_DECRYPT, BUFFER_TOO_SMALL, CTRL_NOT_IMPLEMENTED, INVALID_OPERATION, OUTPUT_ALIASES_INPUT, TOO_LARGE.
mod reason {
    pub const BAD_DECRYPT: u64 = 101;
    pub const BUFFER_TOO_SMALL: u64 = 103;
    pub const CTRL_NOT_IMPLEMENTED: u64 = 104;
    pub const INVALID_OPERATION: u64 = 112;
    pub const OUTPUT_ALIASES_INPUT: u64 = 115;
    pub const TOO_LARGE: u64 = 117;
}

const FUNCTIONS: [Function; 4] = [
    Function {
        name: "EVP_AEAD_CTX_seal",
        cookie: pack(WRITE, AEAD_SEAL, SOURCE_RUSTLS),
        opens: false,
        reasons: &[reason::BUFFER_TOO_SMALL, reason::OUTPUT_ALIASES_INPUT, reason::TOO_LARGE],
        inner: None,
    },
    Function {
        name: "EVP_AEAD_CTX_seal_scatter",
        cookie: pack(WRITE, AEAD_SEAL_SCATTER, SOURCE_RUSTLS),
        opens: false,
        reasons: &[reason::INVALID_OPERATION, reason::OUTPUT_ALIASES_INPUT],
        inner: None,
    },
    Function {
        name: "EVP_AEAD_CTX_open",
        cookie: pack(READ, AEAD_OPEN, SOURCE_RUSTLS),
        opens: true,
        reasons: &[reason::BAD_DECRYPT, reason::BUFFER_TOO_SMALL, reason::OUTPUT_ALIASES_INPUT],
        inner: Some(reason::CTRL_NOT_IMPLEMENTED),
    },
    Function {
        name: "EVP_AEAD_CTX_open_gather",
        cookie: pack(READ, AEAD_OPEN_GATHER, SOURCE_RUSTLS),
        opens: true,
        reasons: &[reason::CTRL_NOT_IMPLEMENTED, reason::OUTPUT_ALIASES_INPUT],
        inner: None,
    },
];

/// What the names begin with: `aws_lc_0_31_0_`, `aws_lc_fips_0_13_7_`.
const PREFIX: &str = "aws_lc_";

/// A function of OpenSSL's API.
const OTHER: &str = "SSL_write";

/// The source file of the four.
const AEAD: &str = "aws-lc/crypto/fipsmodule/cipher/aead.c";

/// The finder of stripped files.
pub const FINDER: ShapeFinder = ShapeFinder {
    endings: &[AEAD],
    functions: &[FUNCTIONS[0].name, FUNCTIONS[1].name, FUNCTIONS[2].name, FUNCTIONS[3].name],
    find: find_stripped,
};

/// Integer arguments in registers; the others are on the stack.
const IN_REGISTERS: usize = 6;

/// Finds the functions by their symbols.
pub fn find(image: &Image<'_, '_>) -> Result<Option<Library>, object::Error> {
    let ends = FUNCTIONS.each_ref().map(|function| function.name);
    let [seal, seal_scatter, open, open_gather, other] = image.local_by(&ends, |name| {
        let own = own_name(name);
        FUNCTIONS.iter().position(|function| function.name == own).or((name == OTHER).then_some(FUNCTIONS.len()))
    })?;
    if other.is_some() || image.exported(OTHER)?.is_some() {
        return Ok(None);
    }
    Ok(library(image, Evidence::Symbols, [seal, seal_scatter, open, open_gather]))
}

/// Finds the functions of a file without symbols by the errors that they report. All four, because nothing tells which of
/// them a program uses: a call whose answer could not be seen would say that it had none. A file may have several versions
/// of the library in it.
///
/// None where BoringSSL's TLS functions are: its records pass them, and would be captured twice.
fn find_stripped(search: &Search<'_>, image: &Image<'_, '_>) -> Result<Option<Library>, Refusal> {
    if search.sources(boringssl::SSL_LIB).next().is_some() {
        return Ok(None);
    }
    let mut found = Library::tls(Source::Rustls, Evidence::Shape);
    for source in search.sources(AEAD) {
        let addresses = by_reasons(&source.functions);
        let library = library(image, Evidence::Shape, addresses).filter(|_| addresses.iter().all(Option::is_some));
        let Some(library) = library else {
            return Err(Refusal::new("aws-lc", "not exactly one function has the errors of each that seals and opens"));
        };
        library.probes.into_iter().for_each(|probe| found.add(probe));
    }
    Ok(Some(found).filter(|library| !library.probes.is_empty()))
}

/// Where each of the four is. One that two functions could be is neither of them.
fn by_reasons(functions: &[xref::Function]) -> [Option<u64>; 4] {
    FUNCTIONS.each_ref().map(|wanted| {
        let same = |function: &&xref::Function| wanted.reports(&function.reasons());
        let mut starts = functions.iter().filter(same).map(|function| function.start);
        match (starts.next(), starts.next()) {
            (Some(start), None) => start,
            _ => None,
        }
    })
}

/// A name without the library's prefix and its version.
fn own_name(name: &str) -> &str {
    let is_of_version = |letter: char| letter.is_ascii_digit() || letter.is_ascii_lowercase() || letter == '_';
    name.strip_prefix(PREFIX).map_or(name, |rest| rest.trim_start_matches(is_of_version))
}

/// The library whose functions are at these addresses; `None` if a direction has none.
fn library(image: &Image<'_, '_>, evidence: Evidence, addresses: [Option<u64>; 4]) -> Option<Library> {
    let mut library = Library::tls(Source::Rustls, evidence);
    let mut directions = [false; 2];
    for (function, address) in FUNCTIONS.iter().zip(addresses) {
        let Some(address) = address else { continue };
        directions[usize::from(function.opens)] |=
            library.add_aead(image, function.name, address, IN_REGISTERS, function.opens, function.cookie);
    }
    (directions == [true; 2]).then_some(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks names up as [`find`] does.
    fn place(name: &str) -> Option<usize> {
        let own = own_name(name);
        FUNCTIONS.iter().position(|function| function.name == own)
    }

    #[test]
    fn names_are_found_whatever_their_prefix() {
        assert_eq!(place("aws_lc_0_31_0_EVP_AEAD_CTX_seal_scatter"), Some(1));
        assert_eq!(place("aws_lc_fips_0_13_7_EVP_AEAD_CTX_open"), Some(2));
        assert_eq!(place("EVP_AEAD_CTX_seal"), Some(0));
        assert_eq!(place("aws_lc_0_31_0_EVP_AEAD_CTX_seal_scatter_other"), None);
        assert_eq!(place("ring_core_0_17_EVP_AEAD_CTX_seal"), None);
    }

    #[test]
    fn each_function_has_errors_of_its_own() {
        for (errors, place) in [
            (&[103, 115, 117][..], Some(0)),
            (&[112, 115], Some(1)),
            (&[101, 103, 115], Some(2)),
            // Codex: the function below it is inside.
            (&[101, 103, 104, 115], Some(2)),
            (&[104, 115], Some(3)),
            (&[115], None),
            (&[120, 124], None),
        ] {
            let errors = BTreeSet::from_iter(errors.iter().copied());
            let same: Vec<usize> = (0..4).filter(|&at| FUNCTIONS[at].reports(&errors)).collect();
            assert_eq!(same, Vec::from_iter(place), "{errors:?}");
        }
    }
}
