//! What tests, benches and fuzz targets of the agent share: traffic that the project makes itself, a pipeline to put it
//! through, and an account of the memory that this takes.
//!
//! Owns how programs speak ([`wire`]), what kernel programs would say of it ([`Host`]), recordings of whole calls with
//! what must come of them ([`calls`]), and [`alloc`]. Nothing here is taken from recordings of real services.

pub mod alloc;
pub mod calls;
pub mod fuzz;
mod host;
pub mod streams;
pub mod wire;

pub use host::{End, Host};
pub use wire::Coding;
