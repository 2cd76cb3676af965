//! Functions of a file without symbols, found by the errors that they report.
//!
//! Every error of the OpenSSL family names the source file, the line and the reason where it is raised. The compiler puts
//! them into the code as constants, whatever its version and whatever was stripped: so the code that names a source file's
//! string is that file's code, and the set of reasons of a function tells which it is. Owns the search: strings, code that
//! names them, the functions around that code, and the constants at each call that gets such a string. Leaves to the
//! finders which strings to look for and what the constants mean. Bounded in time and memory whatever the file says.
//!
//! One search serves all finders: each names its endings, [`Search::run`] goes through the file once.

mod calls;
mod flow;
mod memory;
mod references;
mod registers;
mod texts;

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io,
    sync::atomic::AtomicBool,
};

use thiserror::Error;

use self::{memory::Memory, references::Reference, texts::Text};
use super::image::Image;

/// How far before a reference its function may begin.
const MAX_BACK: u64 = 16 << 10;

/// Functions before one that is not called directly that are looked at for whether it is a part of theirs.
const MAX_OTHERS: usize = 4;

/// Instructions that are walked for a file in all: about a second of them.
const MAX_WALKED: u64 = 8 << 20;

/// Reasons have twelve bits. What is more is an address: assertions name their file too.
const MAX_REASON: u64 = 0xfff;

/// Longest name of a function that is compared.
const MAX_NAME: u64 = 64;

/// Why a file cannot be searched.
#[derive(Debug, Error)]
pub enum Unsearchable {
    /// It could not be read.
    #[error("reading it failed")]
    Io(#[from] io::Error),
    /// Its code and constants are larger than any program's.
    #[error("its code and constants are larger than any program's")]
    TooLarge,
    /// The program is about to end.
    #[error("there was no time left")]
    Stopped,
    /// It names the strings more often than any program does.
    #[error("it has more matching strings, or more references to them, than any program")]
    TooMany,
}

/// A call that is given the name of a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Which of its six arguments is the name, counted from 0.
    name: usize,
    /// Constants in the argument registers.
    arguments: [Option<u64>; 6],
}

impl Site {
    /// The constant that is given `places` arguments before the name. Compilers drop arguments that a function does not
    /// use, so places are counted from the name.
    pub fn before(&self, places: usize) -> Option<u64> {
        self.arguments[self.name.checked_sub(places)?]
    }

    /// The reason of the error that is reported, which stands before the name.
    pub fn reason(&self) -> Option<u64> {
        self.before(1).filter(|reason| (1..=MAX_REASON).contains(reason))
    }

    /// The line, which stands after it.
    pub fn line(&self) -> Option<u64> {
        self.after(1)
    }

    /// The constant that is given `places` arguments after it.
    pub fn after(&self, places: usize) -> Option<u64> {
        self.arguments.get(self.name + places).copied().flatten()
    }
}

/// A function that names a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Virtual address of its first instruction; `None` where it could not be proved which that is.
    pub start: Option<u64>,
    /// Its calls that are given the name.
    pub sites: Vec<Site>,
    /// Functions that it calls directly.
    pub calls: Vec<u64>,
    /// Whether it writes to memory that is not on its stack.
    pub stores: bool,
}

impl Function {
    /// The reasons of the errors that it reports.
    pub fn reasons(&self) -> BTreeSet<u64> {
        self.sites.iter().filter_map(Site::reason).collect()
    }
}

/// One string with one of the endings, and the functions that name it: one copy of a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The ending.
    pub ending: &'static str,
    /// The functions, in the order of their code. Those whose start is not proved are one entry without sites.
    pub functions: Vec<Function>,
}

/// What was found in a file.
pub struct Search<'f> {
    memory: Memory<'f>,
    sources: Vec<Source>,
}

impl<'f> Search<'f> {
    /// Looks for code that names strings with these endings. A file without such strings costs one pass over its
    /// constants, one without references to them another over its code.
    pub fn run(
        file: &'f File,
        image: &Image<'_, '_>,
        endings: &[&'static str],
        stop: &'f AtomicBool,
    ) -> Result<Self, Unsearchable> {
        let mut memory = Memory::new(file, image, stop)?;
        let texts = texts::find(&memory, endings)?;
        if texts.is_empty() {
            return Ok(Self { memory, sources: Vec::new() });
        }
        let references = references::find(&memory, &texts, image.is_at_fixed_address())?;
        let (texts, references) = settle(&texts, &references);
        let around = |reference: &Reference| reference.operand.saturating_sub(MAX_BACK)..reference.operand;
        let called = calls::targets(&memory, references.iter().map(around))?;
        let sources = functions(&mut memory, &texts, &references, &called, endings);
        Ok(Self { memory, sources })
    }

    /// The copies of source files with an ending.
    pub fn sources(&self, ending: &str) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(move |source| source.ending == ending)
    }

    /// The text that a constant points to, if it does.
    pub fn text(&self, address: u64) -> Option<String> {
        self.memory.text(address, MAX_NAME)
    }
}

/// Where each string begins: where most references point. What points elsewhere into it is some other string's, or no
/// reference at all.
fn settle(texts: &[Text], references: &[Reference]) -> (Vec<Text>, Vec<Reference>) {
    let mut settled = Vec::new();
    for text in texts {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        for reference in references.iter().filter(|reference| (text.first..=text.last).contains(&reference.target)) {
            *counts.entry(reference.target).or_default() += 1;
        }
        if let Some((&begin, _)) = counts.iter().max_by_key(|&(&address, &count)| (count, std::cmp::Reverse(address))) {
            settled.push(Text { first: begin, last: begin, ..text.clone() });
        }
    }
    let kept = references.iter().copied().filter(|reference| references::names(&settled, reference.target).is_some());
    let kept = kept.collect();
    (settled, kept)
}

/// The functions around the references.
fn functions(
    memory: &mut Memory<'_>,
    texts: &[Text],
    references: &[Reference],
    called: &[u64],
    endings: &[&'static str],
) -> Vec<Source> {
    let mut budget = MAX_WALKED;
    let mut found: Vec<(u64, flow::Walked)> = Vec::new();
    let mut unproven: Vec<Reference> = Vec::new();
    for reference in references {
        if found.iter().any(|(_, walked)| walked.operands.contains(&reference.operand)) {
            continue;
        }
        let mut enclosing = |sign| enclosing(memory, texts, reference, called, sign, &mut budget);
        match enclosing(Sign::Certain).or_else(|| enclosing(Sign::Habit)) {
            Some(function) => found.push(function),
            None => unproven.push(*reference),
        }
    }
    // What was not reached from the start that is nearest to it may have been from a later one.
    unproven.retain(|reference| !found.iter().any(|(_, walked)| walked.operands.contains(&reference.operand)));
    let mut sources = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        let mut functions: Vec<Function> = Vec::new();
        for (start, walked) in &found {
            let of_text = walked.sites.iter().filter(|(named, _)| *named == place);
            let name = |arguments: &[Option<u64>; 6]| arguments.iter().position(|value| *value == Some(text.first));
            let sites =
                of_text.filter_map(|(_, arguments)| Some(Site { name: name(arguments)?, arguments: *arguments }));
            let sites: Vec<Site> = sites.collect();
            if !sites.is_empty() {
                functions.push(Function {
                    start: Some(*start),
                    sites,
                    calls: walked.calls.clone(),
                    stores: walked.stores,
                });
            }
        }
        functions.sort_by_key(|function| function.start);
        if unproven.iter().any(|reference| reference.target == text.first) {
            functions.push(Function { start: None, sites: Vec::new(), calls: Vec::new(), stores: false });
        }
        sources.push(Source { ending: endings[text.ending], functions });
    }
    sources
}

/// What says that a function may begin somewhere. One byte further on an instruction of the same effect on the stack may
/// begin, so the proof alone does not tell the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// It is called, or it is where compilers align functions and something ends before it.
    Certain,
    /// What compilers begin functions with, and something ends before it.
    Habit,
}

/// The function that a reference is in: the nearest place before it with such a sign where one is proved to begin.
fn enclosing(
    memory: &mut Memory<'_>,
    texts: &[Text],
    reference: &Reference,
    called: &[u64],
    sign: Sign,
    budget: &mut u64,
) -> Option<(u64, flow::Walked)> {
    let (begin, code) = memory.code_before(reference.operand, MAX_BACK)?;
    let mut found: Option<(u64, flow::Walked)> = None;
    let mut others = 0;
    for within in (0..code.len()).rev() {
        let start = begin + within as u64;
        let (before, after) = code.split_at(within);
        let is_called = called.binary_search(&start).is_ok();
        let may_begin = match sign {
            Sign::Certain => is_called || (start.is_multiple_of(16) && ends(before)),
            Sign::Habit => begins(after) && ends(before),
        };
        if !may_begin || *budget == 0 {
            continue;
        }
        let Some(walked) = flow::prove(memory, start, texts, budget) else { continue };
        let holds_found = found.as_ref().is_some_and(|(inner, _)| walked.jumps.contains(inner));
        match &found {
            None if walked.operands.contains(&reference.operand) => {}
            // A part of a function that has a frame of its own looks like a function, but is jumped to from another.
            Some(_) if holds_found => {}
            _ => {
                others += 1;
                if found.is_some() && others >= MAX_OTHERS {
                    break;
                }
                continue;
            }
        }
        found = Some((start, walked));
        others = 0;
        if is_called {
            break;
        }
    }
    found
}

/// Whether a function can end here: with a return, a jump, a trap, a call that does not return, or what fills up.
fn ends(before: &[u8]) -> bool {
    matches!(
        before,
        [] | [.., 0xc3 | 0xcc | 0xf4 | 0x90]
            // The forms of `nop` that have an operand.
            | [.., 0x0f, 0x1f, 0x00]
            | [.., 0x0f, 0x1f, 0x40, 0]
            | [.., 0x0f, 0x1f, 0x44, 0, 0]
            | [.., 0x0f, 0x1f, 0x80, 0, 0, 0, 0]
            | [.., 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]
            | [.., 0x0f, 0x0b]
            | [.., 0xff, 0xe0..=0xe7]
            | [.., 0xe9 | 0xe8, _, _, _, _]
            | [.., 0xeb, _]
    )
}

/// Whether a function usually begins like this: `push %rbp; mov %rsp,%rbp`, `endbr64`.
fn begins(after: &[u8]) -> bool {
    matches!(after, [0x55, 0x48, 0x89, 0xe5, ..] | [0xf3, 0x0f, 0x1e, 0xfa, ..])
}

#[cfg(test)]
mod tests;
