//! BoringSSL without symbols, as Bun and programs made with it carry it.
//!
//! `ssl/ssl_lib.cc` has one function with the errors of `SSL_write`. Right before it in the source stands `SSL_peek`, whose
//! only error is one that `SSL_write` has too; `SSL_read` calls it, and compilers put its body there. The two are told
//! apart by what they do: who reads takes the bytes away, who peeks changes nothing. Only `SSL_read` is probed, so that no
//! byte is seen twice. `SSL_free` reports no error and is not found.

use std::collections::BTreeSet;

use inferscope_common::{
    record::{READ, SOURCE_BORINGSSL, WRITE},
    tls_cookie::{COUNT_RETURNED, pack},
};

use super::{
    finders::{Refusal, ShapeFinder},
    image::Image,
    library::{Evidence, Library},
    xref::{Function, Search, Source as SourceFile},
};
use crate::record::Source;

/// The finder.
pub const FINDER: ShapeFinder = ShapeFinder { endings: &[SSL_LIB], functions: &["SSL_read", "SSL_write"], find };

/// Where the functions stand.
pub const SSL_LIB: &str = "ssl/ssl_lib.cc";

/// `ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED`: the connection is one of QUIC.
const NOT_TO_BE_CALLED: u64 = 66;

/// What `SSL_write` reports: that, `SSL_R_BAD_LENGTH`, `SSL_R_SSL_HANDSHAKE_FAILURE`, `SSL_R_UNINITIALIZED`.
const WRITE_REASONS: [u64; 4] = [NOT_TO_BE_CALLED, 111, 215, 226];

/// What `SSL_peek` reports, and `SSL_read` with it inside.
const READ_REASONS: [u64; 1] = [NOT_TO_BE_CALLED];

fn find(search: &Search<'_>, image: &Image<'_, '_>) -> Result<Option<Library>, Refusal> {
    let mut library = Library::tls(Source::BoringSsl, Evidence::Shape);
    let refuse = |what| Err(Refusal::new("BoringSSL", what));
    for source in search.sources(SSL_LIB) {
        let (read, write) = match functions(source) {
            Ok(found) => found,
            Err(what) => return refuse(what),
        };
        let cookie = |direction| pack(direction, COUNT_RETURNED, SOURCE_BORINGSSL);
        if !library.add_call(image, "SSL_read", read, 3, cookie(READ))
            || !library.add_call(image, "SSL_write", write, 3, cookie(WRITE))
        {
            return refuse("its functions have no code");
        }
    }
    Ok(Some(library).filter(|library| !library.probes.is_empty()))
}

/// Where `SSL_read` and `SSL_write` begin, or why that is not certain.
fn functions(source: &SourceFile) -> Result<(u64, u64), &'static str> {
    let has =
        |function: &&Function, reasons: &[u64]| function.reasons() == BTreeSet::from_iter(reasons.iter().copied());
    let only = |mut candidates: Vec<u64>| match (candidates.pop(), candidates.is_empty()) {
        (Some(only), true) => Some(only),
        _ => None,
    };
    let writes: Vec<&Function> = source.functions.iter().filter(|function| has(function, &WRITE_REASONS)).collect();
    let Some(write) = only(writes.iter().filter_map(|function| function.start).collect()) else {
        return Err("not exactly one function has the errors of SSL_write");
    };
    let lines =
        |function: &Function| function.sites.iter().filter_map(|site| Some((site.reason()?, site.line()?))).collect();
    let write_lines: Vec<(u64, u64)> = lines(writes[0]);
    let Some(&(_, first)) = write_lines.iter().find(|(reason, _)| *reason == NOT_TO_BE_CALLED) else {
        return Err("SSL_write's errors have no line");
    };
    // What stands next before it in the source, whatever function it ended up in.
    let all = source.functions.iter().flat_map(|function| lines(function) as Vec<(u64, u64)>);
    let Some(before) = all.map(|(_, line)| line).filter(|&line| line < first).max() else {
        return Err("nothing stands before SSL_write in its source");
    };
    let near = |function: &&Function| function.sites.iter().any(|site| site.line() == Some(before));
    let near: Vec<&Function> = source.functions.iter().filter(near).collect();
    if near.iter().any(|function| !has(function, &READ_REASONS)) {
        return Err("what stands before SSL_write in its source has other errors than SSL_peek");
    }
    let takes: Vec<u64> =
        near.iter().filter(|function| function.stores).filter_map(|function| function.start).collect();
    match only(takes) {
        Some(read) => Ok((read, write)),
        None => Err("not exactly one function with the error of SSL_peek takes bytes away as SSL_read does"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::fixture::{self, Error, Program};

    fn errors(of: &[(u32, u32)]) -> Vec<Error> {
        of.iter().map(|&(reason, line)| Error { library: 16, function: 0, reason, line }).collect()
    }

    /// A program with a function for each of these, and what the finder makes of it: the functions by their places.
    fn found(functions: &[(&[(u32, u32)], bool)]) -> Result<Option<(usize, usize)>, String> {
        let mut program = Program::new();
        let name = program.text("../../vendor/boringssl/ssl/ssl_lib.cc");
        let mut starts = Vec::new();
        for (of, stores) in functions {
            starts.push(program.function(name, &errors(of), *stores));
        }
        let file = fixture::file(&program.bytes());
        let place = |image: &Image<'_, '_>, library: &Library, name| {
            let probe = library.probes.iter().find(|probe| probe.function == name).unwrap();
            starts.iter().position(|start| image.file_offset(*start) == Some(probe.file_offset)).unwrap()
        };
        fixture::searched(&file, FINDER.endings, |search, image| match find(&search.unwrap(), image) {
            Ok(Some(library)) => Ok(Some((place(image, &library, "SSL_read"), place(image, &library, "SSL_write")))),
            Ok(None) => Ok(None),
            Err(refusal) => Err(refusal.to_string()),
        })
        .unwrap()
    }

    const IMPL: (&[(u32, u32)], bool) = (&[(226, 837), (215, 870)], true);
    const READ_FUNCTION: (&[(u32, u32)], bool) = (&[(66, 931)], true);
    const PEEK: (&[(u32, u32)], bool) = (&[(66, 931)], false);
    const WRITE_FUNCTION: (&[(u32, u32)], bool) = (&[(66, 953), (226, 958), (215, 973), (111, 979)], true);
    const QUIC: (&[(u32, u32)], bool) = (&[(66, 810)], true);

    #[test]
    fn both_are_found_whatever_their_order() {
        assert_eq!(found(&[QUIC, IMPL, READ_FUNCTION, WRITE_FUNCTION]), Ok(Some((2, 3))));
        assert_eq!(found(&[WRITE_FUNCTION, READ_FUNCTION, IMPL, QUIC]), Ok(Some((1, 0))));
    }

    #[test]
    fn who_peeks_is_not_taken_for_who_reads() {
        assert_eq!(found(&[PEEK, IMPL, READ_FUNCTION, WRITE_FUNCTION]), Ok(Some((2, 3))));
        let refused = found(&[PEEK, IMPL, WRITE_FUNCTION]).unwrap_err();
        assert!(refused.contains("SSL_peek"), "{refused}");
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        for decoys in [
            &[IMPL, READ_FUNCTION, READ_FUNCTION, WRITE_FUNCTION][..],
            &[IMPL, READ_FUNCTION, WRITE_FUNCTION, WRITE_FUNCTION],
            // Something else stands between the two.
            &[IMPL, READ_FUNCTION, (&[(66, 931), (99, 940)], true), WRITE_FUNCTION],
            &[IMPL, READ_FUNCTION, (&[(99, 940)], true), WRITE_FUNCTION],
            // One error less, one more.
            &[IMPL, READ_FUNCTION, (&[(66, 953), (226, 958), (215, 973)], true)],
            &[IMPL, READ_FUNCTION, (&[(66, 953), (226, 958), (215, 973), (111, 979), (1, 980)], true)],
            &[IMPL, QUIC, WRITE_FUNCTION],
            &[WRITE_FUNCTION],
        ] {
            assert!(found(decoys).is_err(), "{decoys:?}");
        }
    }

    #[test]
    fn a_name_that_no_code_names_is_no_library() {
        assert_eq!(found(&[]), Ok(None));
    }
}
