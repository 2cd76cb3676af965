//! The central collector: receives what agents ship, stores it once, and answers questions about it.

pub mod store;
