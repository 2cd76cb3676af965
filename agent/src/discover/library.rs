//! What a finder says of a file: whose TLS it has, or that it is CUDA's runtime, and where its functions are to be probed.

use inferscope_common::{go_place::GoPlace, tls_cookie::with_file};

use super::{
    image::Image,
    site::{self, ENTRY_BYTES},
};
use crate::{
    kernel::{Probe, Program},
    record::Source,
};

/// How the functions were found, which says how far they are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// By their symbols.
    Symbols,
    /// By the shape of the code: the probes are kept only if what they deliver proves them right.
    Shape,
}

/// Whose functions they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Functions {
    /// A TLS library's.
    Tls(Source),
    /// CUDA's runtime's, for the step clock.
    Cudart,
}

impl Functions {
    /// For reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls(source) => source.as_str(),
            Self::Cudart => "cudart",
        }
    }

    /// Whether they read the inside of TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

/// The functions of a library in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Whose functions they are.
    pub functions: Functions,
    /// How they were found.
    pub evidence: Evidence,
    /// Where to probe, in the order of attaching.
    pub probes: Vec<Probe>,
    /// What the programs must know of the places in Go functions, by the number in the cookie.
    pub places: Vec<GoPlace>,
    /// Why it is not probed, if it cannot be.
    pub refused: Option<String>,
}

impl Library {
    /// One without probes yet.
    pub fn new(functions: Functions, evidence: Evidence) -> Self {
        Self { functions, evidence, probes: Vec::new(), places: Vec::new(), refused: None }
    }

    /// One of TLS.
    pub fn tls(source: Source, evidence: Evidence) -> Self {
        Self::new(Functions::Tls(source), evidence)
    }

    /// Adds the entry and the return of the function at a virtual address that takes `arguments` integer arguments; false
    /// if there is no code. The return goes first: an entry without it would be remembered for nothing.
    pub fn add_call(
        &mut self,
        image: &Image<'_, '_>,
        function: &'static str,
        address: u64,
        arguments: usize,
        cookie: u64,
    ) -> bool {
        let Some(mut probe) = place(image, address, arguments, true) else { return false };
        (probe.function, probe.cookie) = (function, cookie);
        self.add(Probe { program: Program::TlsReturn, ..probe.clone() });
        self.add(Probe { program: Program::TlsEntry, ..probe });
        true
    }

    /// Adds the entry of a function that seals or opens a record, and the return of one that opens: the return goes first here
    /// too. The arguments beyond those in registers are on the stack, so the place must leave it as it is. False if there is
    /// no code.
    pub fn add_aead(
        &mut self,
        image: &Image<'_, '_>,
        function: &'static str,
        address: u64,
        arguments: usize,
        opens: bool,
        cookie: u64,
    ) -> bool {
        let Some(mut probe) = place(image, address, arguments, true) else { return false };
        (probe.function, probe.cookie) = (function, cookie);
        if opens {
            self.add(Probe { program: Program::AeadReturn, ..probe.clone() });
        }
        self.add(Probe { program: Program::AeadEntry, ..probe });
        true
    }

    /// Adds the entry of the function that frees the connection object, its first argument.
    pub fn add_free(&mut self, image: &Image<'_, '_>, function: &'static str, address: u64) {
        if let Some(probe) = place(image, address, 1, false) {
            self.add(Probe { function, program: Program::TlsFree, ..probe });
        }
    }

    /// Adds the entry of a function of CUDA's runtime, and the return of one that is waited for; false if there is no code.
    pub fn add_cuda(
        &mut self,
        image: &Image<'_, '_>,
        function: &'static str,
        address: u64,
        arguments: usize,
        returns: bool,
        what: u8,
    ) -> bool {
        let Some(mut probe) = place(image, address, arguments, returns) else { return false };
        (probe.function, probe.cookie) = (function, u64::from(what));
        if returns {
            self.add(Probe { program: Program::CudaReturn, ..probe.clone() });
        }
        self.add(Probe { program: Program::CudaEntry, ..probe });
        true
    }

    /// Adds one probe, unless it is there already: two names may mean one function.
    pub fn add(&mut self, probe: Probe) {
        let same = |known: &Probe| known.program == probe.program && known.file_offset == probe.file_offset;
        if !self.probes.iter().any(same) {
            self.probes.push(probe);
        }
    }

    /// Puts the file's slot into every cookie.
    pub fn assign(&mut self, slot: u32) {
        for probe in &mut self.probes {
            probe.cookie = with_file(probe.cookie, slot);
        }
    }
}

/// The cheapest place in a function, without a name and a cookie yet.
fn place(image: &Image<'_, '_>, address: u64, arguments: usize, wants_return: bool) -> Option<Probe> {
    let site = site::choose(image.code(address, ENTRY_BYTES)?, arguments, wants_return);
    let file_offset = image.file_offset(address.checked_add(site.offset)?)?;
    Some(Probe { function: "", program: Program::TlsEntry, file_offset, class: site.class, cookie: 0 })
}
