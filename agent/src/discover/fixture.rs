//! Programs for the finders' tests, made byte by byte: what a finder must not take for a TLS function cannot be had from a
//! real program.

use std::{fs::File, io::Write as _, sync::atomic::AtomicBool};

use super::{
    image::{Cache, Image},
    xref::{Search, Unsearchable},
};

/// Where the constants are, with the headers before them.
pub const CONSTANTS: u64 = 0x40_0000;

/// Where the code is: first a function that reports errors.
pub const CODE: u64 = 0x40_1000;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// A program under construction.
pub struct Program {
    constants: Vec<u8>,
    code: Vec<u8>,
}

/// An error that a function reports: library and number of the function where the version has one, reason, line.
#[derive(Clone, Copy)]
pub struct Error {
    pub library: u32,
    pub function: u32,
    pub reason: u32,
    pub line: u32,
}

impl Program {
    pub fn new() -> Self {
        let mut code = vec![0xc3];
        code.resize(16, 0xcc);
        Self { constants: vec![0; HEADER + 3 * PROGRAM_HEADER], code }
    }

    /// Adds a string; gives its address.
    pub fn text(&mut self, text: &str) -> u64 {
        let at = self.constants.len() as u64;
        self.constants.extend(text.as_bytes());
        self.constants.push(0);
        CONSTANTS + at
    }

    /// Adds a build id. To be called once.
    pub fn build_id(&mut self, id: [u8; 20]) {
        let at = self.constants.len().next_multiple_of(4);
        self.constants.resize(at, 0);
        for word in [4u32, 20, 3] {
            self.constants.extend(word.to_le_bytes());
        }
        self.constants.extend(b"GNU\0");
        self.constants.extend(id);
        let note = [4u64 << 32 | 4, at as u64, CONSTANTS + at as u64, 0, 36, 36, 4];
        let header = HEADER + 2 * PROGRAM_HEADER;
        put(&mut self.constants, header, &note);
    }

    /// Adds a function; gives its address.
    pub fn function(&mut self, file: u64, errors: &[Error], stores: bool) -> u64 {
        let start = CODE + self.code.len() as u64;
        // push %rbp; mov %rsp,%rbp
        self.code.extend([0x55, 0x48, 0x89, 0xe5]);
        if stores {
            // mov %rsi,(%rdi)
            self.code.extend([0x48, 0x89, 0x37]);
        }
        for Error { library, function, reason, line } in errors {
            // mov to %edi, %esi, %edx, %ecx, %r8d
            let values = [(0xbf, library), (0xbe, function), (0xba, reason), (0xb9, &(file as u32))];
            for (operation, value) in values {
                self.code.push(operation);
                self.code.extend(value.to_le_bytes());
            }
            self.code.extend([0x41, 0xb8]);
            self.code.extend(line.to_le_bytes());
            self.code.push(0xe8);
            let back = -(self.code.len() as i32 + 4);
            self.code.extend(back.to_le_bytes());
        }
        // pop %rbp; ret
        self.code.extend([0x5d, 0xc3]);
        let aligned = self.code.len().next_multiple_of(16);
        self.code.resize(aligned, 0xcc);
        start
    }

    /// Adds code as it is.
    pub fn raw(&mut self, code: &[u8]) -> u64 {
        let start = CODE + self.code.len() as u64;
        self.code.extend(code);
        start
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.constants.clone();
        let len = bytes.len() as u64;
        bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        // ET_EXEC, EM_X86_64, version, entry; program headers; sizes and counts.
        put(&mut bytes, 16, &[1 << 32 | 62 << 16 | 2, CODE, HEADER as u64, 0]);
        put(&mut bytes, 48, &[(PROGRAM_HEADER as u64) << 48 | (HEADER as u64) << 32, 3]);
        let code = self.code.len() as u64;
        let at = (CODE - CONSTANTS) as usize;
        put(&mut bytes, HEADER, &[4 << 32 | 1, 0, CONSTANTS, 0, len, len, 0x1000]);
        put(&mut bytes, HEADER + PROGRAM_HEADER, &[5 << 32 | 1, at as u64, CODE, 0, code, code, 0x1000]);
        bytes.resize(at, 0);
        bytes.extend(&self.code);
        bytes
    }
}

fn put(bytes: &mut [u8], at: usize, words: &[u64]) {
    for (place, word) in words.iter().enumerate() {
        bytes[at + 8 * place..][..8].copy_from_slice(&word.to_le_bytes());
    }
}

/// A file with these bytes.
pub fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Searches a file, and hands over what was found.
pub fn searched<T>(
    file: &File,
    endings: &[&'static str],
    look: impl FnOnce(Result<Search<'_>, Unsearchable>, &Image<'_, '_>) -> T,
) -> Option<T> {
    static NEVER: AtomicBool = AtomicBool::new(false);
    let cache = Cache::new(file);
    let image = Image::parse(&cache).ok()??;
    Some(look(Search::run(file, &image, endings, &NEVER), &image))
}
