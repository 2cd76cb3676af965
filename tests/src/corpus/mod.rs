//! Exchanges with LLM APIs, and what a span of each must say.
//!
//! Owns: exchanges as test data ([`Row`]), reading the recorded ones ([`recorded`]), what a recording states of its call
//! ([`Want`]), and the comparison of spans with it ([`Tally`]). How a row travels is for the scenarios in `e2e/corpus/`.
//!
//! The recordings are of real services. They are test data only and no part of the repository: they are looked for in
//! `INFERSCOPE_CORPUS` (the file), then in `shared/corpus` in and beside the repository.
//!
//! To add an API: its usage in [`want`], if it counts tokens in another way than OpenAI, and one exchange in [`own`].

mod judge;
pub mod own;
mod row;
pub mod want;

pub use judge::{Area, Miss, Tally};
pub use row::{Message, Row, missing, recorded};
pub use want::Want;
