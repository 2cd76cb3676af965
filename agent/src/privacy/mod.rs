//! What may leave the parser, and in which form.
//!
//! Owns the content policy, the shapes of credentials and how text is made safe for a terminal. Redaction runs
//! where content is put together, before it is queued, stored or printed, so that no later part of the pipeline
//! has ever held a credential (invariant 7).
//!
//! Leaves to others: which headers are kept (an allow-list beside the HTTP parsers), and collecting the content
//! (`llm`).
//!
//! To add the shape of a credential:
//! 1. add a row to `SHAPES` in `shapes.rs`: its fixed prefix, the characters that follow and the fewest of them;
//! 2. mark it `edge` when the prefix is short enough to end an ordinary word;
//! 3. add a made-up example to the canaries in `redact_tests.rs`.

mod policy;
mod printable;
mod redact;
mod shapes;

pub use policy::ContentPolicy;
pub use printable::printable;
pub use redact::Redactor;
