//! What may leave the parser, and in which form.
//!
//! Owns the content policy, what credentials and personal data look like, what is written in their place, and how text
//! is made safe for a terminal. Redaction runs where content is put together, before it is queued, stored or printed, so
//! that no later part of the pipeline has ever held a credential (invariant 7).
//!
//! Leaves to others: which headers are kept (an allow-list beside the HTTP parsers), and collecting the content
//! (`llm`).
//!
//! To add the shape of a credential:
//! 1. add a row to `SHAPES` in `shapes.rs`: its fixed prefix, the characters that follow and the fewest of them;
//! 2. mark it `edge` when the prefix is short enough to end an ordinary word;
//! 3. add a made-up example to the canaries in `canaries.rs`.
//!
//! To add a kind of personal data: a check in `personal.rs` that knows what only looks like it, its `Kind` in `hit.rs`,
//! its operator in `policy.rs`, the character that it is found by in `redact.rs`, its mark in `mark.rs`.

#[cfg(test)]
pub(crate) mod canaries;
mod credential;
mod hit;
mod json;
mod keyed;
mod mark;
mod personal;
mod policy;
mod printable;
mod redact;
mod shapes;
mod stream;

pub(crate) use json::{escape, is_json};
pub use keyed::HashKey;
pub use policy::{ContentPolicy, Operator, Pattern, Policy};
pub use printable::printable;
pub use redact::Redactor;
pub use stream::{End, Stream};
