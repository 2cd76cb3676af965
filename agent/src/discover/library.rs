//! What a finder says of a file: whose TLS it has, and where its functions are to be probed.

use inferscope_common::tls_cookie::with_file;

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

/// The TLS functions of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Whose functions they are.
    pub source: Source,
    /// How they were found.
    pub evidence: Evidence,
    /// Where to probe, in the order of attaching.
    pub probes: Vec<Probe>,
}

impl Library {
    /// One without probes yet.
    pub fn new(source: Source, evidence: Evidence) -> Self {
        Self { source, evidence, probes: Vec::new() }
    }

    /// Adds the entry and the return of a function. The return goes first: an entry without it would be remembered
    /// for nothing.
    pub fn add_call(&mut self, function: &'static str, file_offset: u64, cookie: u64) {
        self.add(function, Program::TlsReturn, file_offset, cookie);
        self.add(function, Program::TlsEntry, file_offset, cookie);
    }

    /// Adds one probe, unless it is there already: two names may mean one function.
    pub fn add(&mut self, function: &'static str, program: Program, file_offset: u64, cookie: u64) {
        if !self.probes.iter().any(|probe| probe.program == program && probe.file_offset == file_offset) {
            self.probes.push(Probe { function, program, file_offset, cookie });
        }
    }

    /// Puts the file's slot into every cookie.
    pub fn assign(&mut self, slot: u32) {
        for probe in &mut self.probes {
            probe.cookie = with_file(probe.cookie, slot);
        }
    }
}
