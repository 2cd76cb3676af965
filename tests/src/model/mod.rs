//! The demo's server: OpenAI-compatible in form, and honest that no model is behind it.
//!
//! [`plan`] decides what is answered and counted, without any I/O; [`serve`] is the HTTP and TLS around it. The rules
//! are those of `python/canned.py`.

pub mod plan;
pub mod serve;

/// What this server says about itself wherever there is room for it.
pub const NOTE: &str = "not a language model: it streams canned words at a steady pace";
